package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/load"
	"github.com/credent-go/credent/internal/retry"
	"github.com/credent-go/credent/keyring"
)

// importer is the state of one credential import call.
type importer struct {
	*app
	path, format string
	batch        int
	dryRun       bool
	formats      bool
	skipExisting bool
	resume       string // ID of the import to continue
	retryFor     retryFlag
	quarantine   quarantineFlag

	ring    *keyring.Keyring
	client  *ent.Client
	again   retry.Policy // for reading the database
	in      *countingReader
	size    int64     // file size in bytes, or -1
	id      uuid.UUID // the import's ID
	begun   bool      // a row has been identified
	withIDs bool      // the file has an id column
	rows    int64     // rows read
	there   int64     // rows already in the database
	lines   []int     // lines of the latest rows passed to Copy, indexed by number modulo the length
	given   int64     // rows passed to Copy
	bad     []badRow  // first rows refused in a dry run or with --quarantine
	nBad    int
	unread  string // what of the file wasn't read, in words, as a refused row has no end
}

func (a *app) credentialImport() *cobra.Command {
	m := &importer{app: a}
	cmd := &cobra.Command{
		Use:   "import FILE|- [flags]",
		Short: "Store the credentials of a CSV or JSON lines file",
		Long: `Store a file's credentials, with their secrets encrypted. The file is CSV with column names in its first line, or
has a JSON object on each line. FILE may be - for standard input.

Columns: user_id, credential_type, api_key, secret_key; and optionally expires_at, is_active, created_at, updated_at and id. The
accounts must exist. A file from "credent credential export --reveal" can be read back.

Rows are stored in transactions of --batch rows. At the first refused row it stops, and says the line, the reason, and how many
rows are in; --dry-run finds all such rows and stores nothing. An import that was stopped, by an error or by force, resumes with
--continue and the ID that it printed when it began: it skips the rows that it stored, whatever was printed last. If the file
has the column id, --skip-existing skips rows with an id that is in the database.

With --quarantine, refused rows are left out and listed, each as a JSON object on a line, with the line in FILE and the reason
and nothing else from the row, and the others are stored; the exit code is then 3. Correct them in the file and continue as
after an error. A row that only the database refuses, such as an existing id, still stops it.

If the database fails for a while (a fail-over, a lost connection, a deadlock, a lock, no free connection), it says so and
resumes where it was as soon as it can, for at most --retry-for. If it got no answer to a commit, it checks whether the rows are
in: none is stored twice.`,
		Example: `  credent credential import credentials.csv --dry-run
  credent credential import credentials.csv
  credent credential import credentials.csv --quarantine refused.jsonl
  credent credential import --format jsonl - < credentials.jsonl`,
	}
	cmd.Args = arguments(1, "file, or - for standard input")
	cmd = a.action(cmd, m.run)
	cmd.Flags().StringVar(&m.format, "format", "", "`csv or jsonl`; by the extension of the file if not given")
	cmd.Flags().BoolVar(&m.dryRun, "dry-run", false, "check every row, list those that would be refused, and "+
		"store nothing")
	cmd.Flags().StringVar(&m.resume, "continue", "", "the `ID` of an import of the same file that was stopped")
	cmd.Flags().BoolVar(&m.skipExisting, "skip-existing", false, "leave out rows whose id is in the database")
	cmd.Flags().IntVar(&m.batch, "batch", 0, "rows in a transaction; 5000 if not given")
	m.quarantine.add(cmd, "each row that is refused")
	m.retryFor.add(cmd)
	cmd.Flags().BoolVar(&m.formats, "check-formats", false, "refuse keys that do not look like their provider's")
	return cmd
}

func (m *importer) run(ctx context.Context, args []string) (err error) {
	if m.path = args[0]; m.path == "" {
		return usageError("which one? Give the file, or - for standard input")
	}
	if m.batch > load.MaxBatch {
		return usageError(fmt.Sprintf("--batch can be at most %d, since that many rows are held in memory",
			load.MaxBatch))
	}
	if m.batch < 0 {
		return usageError("--batch cannot be negative")
	}
	if err := m.retryFor.check(); err != nil {
		return err
	}
	if m.format, err = formatOf(m.format, m.path); err != nil {
		return err
	}
	m.id = uuid.New()
	if m.resume != "" {
		if m.id, err = uuid.Parse(m.resume); err != nil {
			return usageError("--continue: it is not the ID of an import")
		}
	}
	if m.ring, err = keyring.FromEnv(); err != nil {
		return err
	}
	file, err := m.openFile(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // read only
	if m.app, err = m.quarantine.open(m.app); err != nil {
		return err
	}
	defer func() { _ = m.quarantine.close() }() // the report includes its error
	return withDatabase(ctx, func(db *database) error {
		if err := db.checkMigrations(ctx); err != nil {
			return err
		}
		if err := db.checkKey(ctx, m.ring); err != nil {
			return err
		}
		if !m.dryRun {
			if _, err := db.trail(ctx); err != nil {
				return err
			}
		}
		if m.client, err = client.New(db.DB, db.dialect, client.Config{}); err != nil {
			return err
		}
		return m.load(ctx, db)
	})
}

func (m *importer) openFile(ctx context.Context) (io.Closer, error) {
	if m.path == "-" {
		m.in, m.size = &countingReader{in: interruptibleReader{ctx, m.app.in}}, -1
		return io.NopCloser(nil), nil
	}
	file, err := os.Open(m.path)
	if err != nil {
		return nil, messagef("%s: %v", m.path, errors.Unwrap(err))
	}
	m.in, m.size = &countingReader{in: file}, -1
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		m.size = info.Size()
	}
	return file, nil
}

// interruptibleReader ends with its context, even while waiting for input.
type interruptibleReader struct {
	ctx context.Context
	in  io.Reader
}

// Read implements io.Reader. Data read after the context ends is lost.
func (r interruptibleReader) Read(p []byte) (int, error) {
	data, err := interruptible(r.ctx, func() ([]byte, error) {
		own := make([]byte, len(p))
		n, err := r.in.Read(own)
		return own[:n], err
	})
	return copy(p, data), err
}

// countingReader counts the bytes read from a file.
type countingReader struct {
	in io.Reader
	n  int64
}

// Read implements io.Reader.
func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	r.n += int64(n)
	return n, err
}

func (m *importer) load(ctx context.Context, db *database) error {
	show, done := m.progress()
	waiting := func(err error, pause time.Duration) { show(waitingStep(err, pause, m.retryFor.limit())) }
	m.again = retry.Policy{Limit: m.retryFor.limit(), DB: db.DB, Notify: func(w retry.Wait) { waiting(w.Err, w.Pause) }}
	cfg := credent.CopyConfig{
		Batch: m.batch, DryRun: m.dryRun, RetryFor: m.retryFor.limit(), Waiting: waiting,
		Progress: func(n int64) {
			line := count(int(n), "row") + " in"
			if m.dryRun {
				line = count(int(n), "row") + " checked"
			}
			show(step{task: "import", done: m.in.n, total: m.size, bytes: true, line: line})
		},
	}
	if m.dryRun || m.quarantine.out != nil {
		cfg.Refused = m.note
	}
	of, err := db.clientConfig(ctx, m.ring)
	if err != nil {
		return err
	}
	if m.formats {
		of.Formats = credent.BrokerFormats()
	}
	if cfg.Batch == 0 {
		cfg.Batch = load.DefaultBatch
	}
	m.batch = cfg.Batch
	m.lines = make([]int, 2*cfg.Batch+2*probeRows) // a waiting batch, with rows refused meanwhile
	stored, err := credent.Copy(ctx, db.DB, m.wanted(ctx), cfg, of)
	done()
	return m.report(ctx, stored, err)
}

// probeRows is the number of rows per lookup query.
const probeRows = 500

// wanted returns the file's rows that aren't in the database yet, each with its
// ID.
func (m *importer) wanted(ctx context.Context) iter.Seq2[credent.CopyRow, error] {
	return func(yield func(credent.CopyRow, error) bool) {
		give := func(row fileRow, err error) bool {
			m.lines[m.given%int64(len(m.lines))] = row.line
			m.given++
			var end fatalError
			return yield(row.CopyRow, err) && !errors.As(err, &end)
		}
		chunk := make([]fileRow, 0, probeRows)
		flush := func() bool {
			fresh, err := m.withoutExisting(ctx, chunk)
			for _, row := range fresh {
				if !give(row, nil) {
					return false
				}
			}
			chunk = chunk[:0]
			if err != nil {
				give(fileRow{}, fatalError{err})
				return false
			}
			return true
		}
		for row, err := range readRows(m.in, m.format) {
			if ctx.Err() != nil {
				give(row, fatalError{ctx.Err()})
				return
			}
			m.rows++
			if err == nil {
				err = m.identify(&row)
			}
			if err != nil {
				if !flush() || !give(row, err) {
					return
				}
				continue
			}
			if chunk = append(chunk, row); len(chunk) == probeRows && !flush() {
				return
			}
		}
		flush()
	}
}

// identify sets a row's primary key: the row's own, or one derived from the
// import and the row's position in the file, so that a continued import finds
// the rows it has stored, however it was stopped.
func (m *importer) identify(row *fileRow) error {
	has := row.ID != uuid.Nil
	if !m.begun {
		m.begun, m.withIDs = true, has
		if err := m.begin(); err != nil {
			return fatalError{err}
		}
	}
	switch {
	case has != m.withIDs:
		return rowError("some rows have an id, and some have none")
	case !has:
		row.ID = uuid.NewSHA1(m.id, fmt.Appendf(nil, "row %d", m.rows))
	}
	return nil
}

// begin checks the flags against the first row, and prints the import's ID
// before anything is stored.
func (m *importer) begin() error {
	switch {
	case m.withIDs && m.resume != "":
		return messagef("--continue is for files without the column id; use --skip-existing")
	case !m.withIDs && m.skipExisting:
		return messagef("--skip-existing is for files with the column id; use --continue with the ID that the " +
			"import printed")
	case !m.withIDs && m.resume == "" && !m.dryRun:
		m.notef("credent: import %s begins; if it is stopped, go on with --continue %s\n", m.id, m.id)
	}
	return nil
}

// withoutExisting returns the rows of a chunk that aren't in the database yet,
// or all of them if existing rows may not be skipped.
func (m *importer) withoutExisting(ctx context.Context, chunk []fileRow) ([]fileRow, error) {
	if len(chunk) == 0 || !m.skipExisting && m.resume == "" {
		return chunk, nil
	}
	ids := make([]uuid.UUID, len(chunk))
	for i, row := range chunk {
		ids[i] = row.ID
	}
	var found []*ent.UserCredential
	err := m.again.Do(ctx, func() (err error) {
		found, err = m.client.UserCredential.Query().Where(usercredential.IDIn(ids...)).
			Select(usercredential.FieldID, usercredential.FieldUserID, usercredential.FieldCredentialType).All(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	existing := make(map[uuid.UUID]*ent.UserCredential, len(found))
	for _, row := range found {
		existing[row.ID] = row
	}
	var fresh []fileRow
	for _, row := range chunk {
		stored := existing[row.ID]
		if stored == nil {
			fresh = append(fresh, row)
			continue
		}
		if m.resume != "" && (stored.UserID != row.UserID || stored.CredentialType != row.CredentialType) {
			return nil, messagef("line %d: that import stored another user or type for this row: "+
				"the file is not the one it had, or was changed", row.line)
		}
		m.there++
	}
	return fresh, nil
}
