package cli

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/entcrypt/record"
	"github.com/credent-go/credent/internal/recorder"
	"github.com/credent-go/credent/internal/retry"
	"github.com/credent-go/credent/keyring"
)

// exportPage is the number of rows read at once and held in memory.
const exportPage = 1000

// exporter is the state of one credential export call.
type exporter struct {
	*app
	user, format, path string
	reveal             bool
	retryFor           retryFlag

	db       *database
	client   *ent.Client
	key      credentialKey
	show     func(step)
	rows     int64 // rows written
	shredded int
}

func (a *app) credentialExport() *cobra.Command {
	x := &exporter{app: a}
	cmd := a.action(&cobra.Command{
		Use:   "export [flags]",
		Short: "Write the credentials as CSV or JSON lines; their secrets only with --reveal",
		Long: `Write all credentials to standard output, as CSV or with a JSON object in each line, in the order of their
primary key. It needs little memory, however long the table is. On Postgres it shows the table as of one moment.

With --output it writes to a file, which only its owner can read, and which appears once it is complete.

If the database fails for a while (a fail-over, a lost connection, a lock, no free connection), it says so and continues as soon
as it can, for at most --retry-for: with --output from the beginning, and on standard output with the row after the last one, as
of a later moment.

The secrets are written as [REDACTED], which needs no key and cannot be imported. With --reveal the output has them in
plaintext: keep it off disks that others read, and delete it after use.`,
		Example: `  credent credential export > credentials.csv
  credent credential export --output credentials.csv
  credent credential export --reveal --format jsonl | ssh host credent credential import --format jsonl -`,
	}, x.run)
	cmd.Flags().StringVar(&x.format, "format", formatCSV, "`csv or jsonl`")
	cmd.Flags().StringVar(&x.user, "user", "", "only credentials of the user with this `ID`")
	cmd.Flags().BoolVar(&x.reveal, "reveal", false, "decrypt the secrets and write them")
	cmd.Flags().StringVarP(&x.path, "output", "o", "", "write to this `file` in place of standard output")
	x.retryFor.add(cmd)
	cmd.Annotations = map[string]string{again: beginsAnew}
	return cmd
}

func (x *exporter) run(ctx context.Context, _ []string) error {
	if x.format != formatCSV && x.format != formatJSONL {
		return usageError("--format: use csv or jsonl")
	}
	if err := x.retryFor.check(); err != nil {
		return err
	}
	var ring *keyring.Keyring
	if x.reveal {
		var err error
		if ring, err = keyring.FromEnv(); err != nil {
			return err
		}
	}
	return x.withClientOf(ctx, ring, func(db *database, client *ent.Client) (err error) {
		if x.user != "" {
			if _, err := accountOf(ctx, client.UserAccount, x.user); err != nil {
				return err
			}
		}
		key, err := db.credentialKey(ctx)
		if err != nil {
			return err
		}
		x.db, x.client, x.key = db, client, key
		if err := x.tell(ctx, "begins", nil); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, x.tell(ctx, "ends", err)) }()
		ctx := record.Silent(ctx) // the trail gets one entry for the whole export
		var done func()
		x.show, done = x.progress()
		write := x.toOutput
		if x.path != "" {
			write = x.toFile
		}
		err = write(ctx)
		done()
		switch {
		case err != nil && ctx.Err() != nil && x.path == "":
			return messagef("stopped after %s; the output lacks the rest, and the next run begins anew",
				count(int(x.rows), "row"))
		case err != nil && ctx.Err() != nil:
			return messagef("stopped after %s; %s was not written, and the next run begins anew", count(int(x.rows),
				"row"), x.path)
		case err != nil:
			return err
		}
		if x.shredded > 0 {
			x.notef("credent: note: left out %s of users with a destroyed key\n", count(x.shredded, "credential"))
		}
		return nil
	})
}

// tell adds an audit entry when the export begins, before the first row is
// written, and when it ends.
func (x *exporter) tell(ctx context.Context, what string, failed error) error {
	note := "export " + what + ", secrets redacted"
	if x.reveal {
		note = "export " + what + ", --reveal"
	}
	if x.path != "" {
		note += ", to a file"
	}
	if x.shredded > 0 {
		note += fmt.Sprintf(", %d left out", x.shredded)
	}
	return x.db.tell(ctx, audit.Entry{
		Action: audit.ActionExport, Tenant: x.user, Table: usercredential.Table, Rows: x.rows,
		Outcome: recorder.OutcomeOf(failed), Note: note,
	})
}

// policy says how to retry when the database fails temporarily.
func (x *exporter) policy() retry.Policy {
	return retry.Policy{Limit: x.retryFor.limit(), DB: x.db.DB, Notify: func(w retry.Wait) {
		x.show(waitingStep(w.Err, w.Pause, x.retryFor.limit()))
	}}
}

// toOutput writes to standard output. Output can't be taken back, so a retry
// continues with the next row.
func (x *exporter) toOutput(ctx context.Context) error {
	out := bufio.NewWriter(x.out)
	s := &snapshot{exporter: x}
	defer s.close()
	err := x.export(ctx, newRowWriter(out, x.format),
		func(last *ent.UserCredential) (page []*ent.UserCredential, err error) {
			err = x.policy().Do(ctx, func() error {
				page, err = s.page(ctx, last)
				return err
			})
			return page, err
		})
	// The rows that can still be flushed are valid despite the error.
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	if err == nil && s.opened > 1 {
		x.notef("credent: note: the connection was lost; the rows are of %d moments, each later than the one "+
			"before\n", s.opened)
	}
	return err
}

// toFile writes a temporary file and renames it when it is complete. It starts
// over when the database fails temporarily.
func (x *exporter) toFile(ctx context.Context) (err error) {
	if info, err := os.Stat(x.path); err == nil && !info.Mode().IsRegular() {
		return messagef("%s is no file; leave --output out to write to standard output", x.path)
	}
	file, err := os.CreateTemp(filepath.Dir(x.path), "."+filepath.Base(x.path)+"-*") // accessible only to its owner
	if err != nil {
		return fileError(x.path, err)
	}
	defer func() {
		_ = file.Close() // a second close after success
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	err = x.policy().Do(ctx, func() error {
		x.rows, x.shredded = 0, 0
		if err := file.Truncate(0); err != nil {
			return fileError(x.path, err)
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return fileError(x.path, err)
		}
		s := &snapshot{exporter: x}
		defer s.close()
		out := &fileWriter{file: file}
		buffered := bufio.NewWriter(out)
		err := x.export(ctx, newRowWriter(buffered, x.format),
			func(last *ent.UserCredential) ([]*ent.UserCredential, error) {
				return s.page(ctx, last)
			})
		if flushed := buffered.Flush(); err == nil {
			err = flushed
		}
		if out.err != nil {
			return fileError(x.path, out.err)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err = file.Sync(); err == nil {
		err = file.Close()
	}
	if err == nil {
		err = os.Rename(file.Name(), x.path)
	}
	if err != nil {
		return fileError(x.path, err)
	}
	return nil
}

// fileWriter remembers a write error, so that it isn't taken for a database
// error.
type fileWriter struct {
	file *os.File
	err  error
}

// Write implements io.Writer.
func (f *fileWriter) Write(p []byte) (n int, err error) {
	n, err = f.file.Write(p)
	f.err = err
	return n, err
}

// fileError is an error about the output file, which isn't retried.
func fileError(path string, err error) error {
	var of *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &of):
		err = of.Err
	case errors.As(err, &link):
		err = link.Err
	}
	return messagef("%s could not be written, and is as it was: %v", path, err)
}

// snapshot reads the database as of its first page. SQLite's driver has no such
// transaction that lets writers through, so on SQLite each page is as of its
// own reading.
type snapshot struct {
	*exporter
	tx     *ent.Tx // begun on first use
	opened int
}

func (s *snapshot) close() {
	if s.tx != nil {
		_ = s.tx.Rollback() // nothing to commit
		s.tx = nil
	}
}

// page reads a page. After an error, the next page is from a new snapshot.
func (s *snapshot) page(ctx context.Context, last *ent.UserCredential) (page []*ent.UserCredential, err error) {
	client := s.client
	if s.db.isPostgres() {
		if s.tx == nil {
			s.tx, err = s.client.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
			if err != nil {
				s.tx = nil
				return nil, err
			}
			s.opened++
		}
		client = s.tx.Client()
	}
	query := s.key.page(client, s.user, last, exportPage)
	if s.reveal {
		page, err = query.All(ctx)
	} else {
		page, err = query.Select(withoutSecrets...).All(ctx)
	}
	if err != nil {
		s.close()
	}
	return page, err
}

// export writes the rows page by page. With --reveal, it skips shredded rows.
func (x *exporter) export(
	ctx context.Context, out rowWriter, read func(last *ent.UserCredential) ([]*ent.UserCredential, error),
) error {
	if err := out.head(); err != nil {
		return err
	}
	var last *ent.UserCredential // nil for the first page
	for {
		page, err := read(last)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		for _, row := range page {
			apiKey, secretKey := row.APIKey.String(), row.SecretKey.String()
			if x.reveal {
				apiKey, secretKey, err = revealed(row)
				if errors.Is(err, credent.ErrShredded) {
					x.shredded++
					continue
				}
				if err != nil {
					return err
				}
			}
			if err := out.row(row, apiKey, secretKey); err != nil {
				return err
			}
			x.rows++
		}
		if len(page) < exportPage {
			return nil
		}
		last = page[len(page)-1]
	}
}

// rowWriter writes credentials in one format.
type rowWriter interface {
	head() error
	row(row *ent.UserCredential, apiKey, secretKey string) error
}

func newRowWriter(out io.Writer, format string) rowWriter {
	if format == formatCSV {
		return csvWriter{csv.NewWriter(out)}
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return jsonlWriter{enc}
}

type csvWriter struct{ w *csv.Writer }

func (c csvWriter) head() error { return c.write(fileColumns) }

func (c csvWriter) write(record []string) error {
	if err := c.w.Write(record); err != nil {
		return err
	}
	c.w.Flush()
	return c.w.Error()
}

func (c csvWriter) row(row *ent.UserCredential, apiKey, secretKey string) error {
	for column, text := range map[string]string{
		columnUser: row.UserID, columnType: row.CredentialType, columnAPIKey: apiKey, columnSecretKey: secretKey,
	} {
		if strings.Contains(text, "\r") {
			return messagef("%s of %s has a carriage return, which CSV does not keep; use --format jsonl", column,
				row.ID)
		}
	}
	expires := ""
	if row.ExpiresAt != nil {
		expires = exact(*row.ExpiresAt)
	}
	return c.write([]string{
		row.ID.String(), row.UserID, row.CredentialType, apiKey, secretKey, expires, strconv.FormatBool(row.IsActive),
		exact(row.CreatedAt), exact(row.UpdatedAt),
	})
}

// exact formats a time with Postgres' full precision.
func exact(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }

type jsonlWriter struct{ enc *json.Encoder }

func (jsonlWriter) head() error { return nil }

func (j jsonlWriter) row(row *ent.UserCredential, apiKey, secretKey string) error {
	for column, secret := range map[string]string{columnAPIKey: apiKey, columnSecretKey: secretKey} {
		if !utf8.ValidString(secret) {
			return fmt.Errorf("%s of %s is not UTF-8 text, which JSON must be", column, row.ID)
		}
	}
	return j.enc.Encode(struct { //nolint:gosec // G117: --reveal asks for it; otherwise they are redacted
		ID        uuid.UUID  `json:"id"`
		UserID    string     `json:"user_id"`
		Type      string     `json:"credential_type"`
		APIKey    string     `json:"api_key"`
		SecretKey string     `json:"secret_key"`
		ExpiresAt *time.Time `json:"expires_at"`
		IsActive  bool       `json:"is_active"`
		CreatedAt time.Time  `json:"created_at"`
		UpdatedAt time.Time  `json:"updated_at"`
	}{
		row.ID, row.UserID, row.CredentialType, apiKey, secretKey, utc(row.ExpiresAt), row.IsActive,
		row.CreatedAt.UTC(), row.UpdatedAt.UTC(),
	})
}
