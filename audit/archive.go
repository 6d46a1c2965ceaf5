package audit

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/auditrow"
	"github.com/credent-go/credent/internal/auditstore"
	"github.com/credent-go/credent/internal/nilarg"
	"github.com/credent-go/credent/keyring"
)

// ArchiveOptions says what [Archive] takes out.
type ArchiveOptions struct {
	// Before is the moment before which months must have ended. The current
	// month stays in any case.
	Before time.Time
	// To gets the entries: a line of JSON each and, after each month, a line
	// that closes it. It is required. If it has a method Sync() error, as
	// *os.File has, that is called before anything is dropped.
	To io.Writer
	// DespiteFindings archives a trail that doesn't verify, which is otherwise
	// an [ErrTampered]. What was found before isn't found again when its month
	// is archived.
	DespiteFindings bool
}

// Archive takes the entries of whole months out of the database, the oldest
// first, after it has verified the whole trail. A month with other entries by
// then is an [ErrTampered] in any case. Each month is written to
// opt.To; then one transaction stores signed entries that say what was taken
// out, and drops the month's partition. [Verify] knows by them which entries
// are not missing, and compares the file with them.
//
// On Postgres the connection's role must own the table. A statement waits for
// locks for 10 seconds at most. On SQLite, and for entries that had no
// partition, the trigger against deletions is off within the transaction.
//
// It returns the months that it took out, also beside an error. Errors:
// [Verify]'s, [ErrTampered], the writer's, and the database's.
func Archive(
	ctx context.Context, db *sql.DB, entDialect string, ring *keyring.Keyring, opt ArchiveOptions,
) (months []ArchivedMonth, err error) {
	if err := nilarg.Check("To", opt.To); err != nil {
		return nil, fmt.Errorf("audit: archive: %w", err)
	}
	v, err := verify(ctx, db, entDialect, ring, newMonthSums(), VerifyOptions{})
	if err != nil {
		return nil, err
	}
	if err := v.report.tampered(); err != nil && !opt.DespiteFindings {
		return nil, fmt.Errorf("audit: archive: %w", err)
	}
	a := &archiver{db: db, dialect: entDialect, to: opt.To, v: v}
	w := newClosedChain(v.keys, "audit archive")
	for {
		month, some, err := auditstore.First(ctx, db, entDialect)
		switch {
		case err != nil:
			return months, named(err)
		case !some || month.To.After(opt.Before) || month.To.After(time.Now()):
			return months, a.close(ctx, w, len(months) > 0)
		}
		taken, err := a.month(ctx, w, month)
		if err != nil {
			return months, named(err)
		}
		months = append(months, taken)
	}
}

// archiver is one call of [Archive].
type archiver struct {
	db      *sql.DB
	dialect string
	to      io.Writer
	v       *verifier
}

func (a *archiver) close(ctx context.Context, w *closedChain, some bool) error {
	if !some {
		return nil
	}
	for _, rows := range w.end() {
		if err := auditstore.Insert(ctx, a.db, a.dialect, rows); err != nil {
			return named(err)
		}
	}
	return nil
}

// taking is a month that is being archived.
type taking struct {
	ArchivedMonth
	sum    hash.Hash
	ranges []auditrow.Range
	last   map[uuid.UUID]int // the index of a writer's range
	links  []auditrow.Link   // to entries that stay
	months []string          // what earlier archives say of theirs
}

// closing is the last line of a month in an archive.
type closing struct {
	Archive ArchivedMonth `json:"archive"`
}

// month archives a month in a transaction.
func (a *archiver) month(ctx context.Context, w *closedChain, m auditstore.Month) (_ ArchivedMonth, err error) {
	tx, err := auditstore.BeginRemoval(ctx, a.db, a.dialect, m)
	if err != nil {
		return ArchivedMonth{}, err
	}
	defer func() { _ = tx.Rollback() }()
	t := &taking{
		ArchivedMonth: ArchivedMonth{From: m.From, To: m.To}, sum: sha256.New(), last: make(map[uuid.UUID]int),
	}
	var read monthSum
	err = auditstore.Select(ctx, tx, a.dialect, "WHERE at >= $1 AND at < $2 ORDER BY writer, seq, at, id",
		[]any{auditstore.Time(a.dialect, m.From), auditstore.Time(a.dialect, m.To)}, func(r *auditrow.Row) error {
			if r.Malformed != "" {
				return fmt.Errorf("audit: archive: there is an entry that no trail writes: its %s", r.Malformed)
			}
			read.add(a.v.sums.key, r)
			a.note(t, m, r)
			line, err := json.Marshal(auditstore.ToJSON(r))
			if err != nil {
				return fmt.Errorf("audit: archive: %w", err)
			}
			return a.write(io.MultiWriter(t.sum, a.to), line)
		})
	if err != nil {
		return ArchivedMonth{}, err
	}
	if read != a.v.sums.of(m) {
		return ArchivedMonth{}, fmt.Errorf("audit: archive: the entries of %s are not the ones that were verified: "+
			"%w; verify it, and archive again", m.From.Format("2006-01"), ErrTampered)
	}
	t.SHA256 = hex.EncodeToString(t.sum.Sum(nil))
	line, err := json.Marshal(closing{t.ArchivedMonth})
	if err != nil {
		return ArchivedMonth{}, fmt.Errorf("audit: archive: %w", err)
	}
	if err := a.write(a.to, line); err != nil {
		return ArchivedMonth{}, err
	}
	if file, ok := a.to.(interface{ Sync() error }); ok {
		if err := file.Sync(); err != nil {
			return ArchivedMonth{}, fmt.Errorf("audit: archive: %w", err)
		}
	}
	saved := *w.chain
	defer func() {
		if err != nil {
			*w.chain = saved
		}
	}()
	w.append(auditrow.Lines(auditrow.Texts{Action: string(ActionArchive), Note: t.text()}, t.ranges)...)
	for _, text := range t.months {
		w.append(auditrow.Row{Texts: auditrow.Texts{Action: string(ActionArchive), Note: text}})
	}
	if len(t.links) > 0 {
		w.append(auditrow.Lines(auditrow.Texts{Action: string(ActionLink)}, t.links)...)
	}
	for _, rows := range w.batches() {
		if err := auditstore.Insert(ctx, tx, a.dialect, rows); err != nil {
			return ArchivedMonth{}, err
		}
	}
	if err := auditstore.Remove(ctx, tx, a.dialect, m); err != nil {
		return ArchivedMonth{}, err
	}
	if err := tx.Commit(); err != nil {
		return ArchivedMonth{}, fmt.Errorf("audit: archive %s: whether it was committed is not known; verify, and "+
			"archive to another file: %w", m.From.Format("2006-01"), err)
	}
	return t.ArchivedMonth, nil
}

func (a *archiver) write(to io.Writer, line []byte) error {
	if _, err := to.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("audit: write the archive: %w", err)
	}
	return nil
}

// note takes an entry into the account of the month: its place in its chain,
// and what it says that is still needed, if it is genuine.
func (a *archiver) note(t *taking, m auditstore.Month, r *auditrow.Row) {
	t.Entries++
	if r.Seq == 0 {
		return
	}
	if i, ok := t.last[r.Writer]; ok && t.ranges[i].To+1 == r.Seq && t.ranges[i].Hash == r.Prev {
		t.ranges[i].To, t.ranges[i].Hash = r.Seq, r.Hash()
	} else {
		t.last[r.Writer] = len(t.ranges)
		t.ranges = append(t.ranges,
			auditrow.Range{Writer: r.Writer, From: r.Seq, To: r.Seq, Prev: r.Prev, Hash: r.Hash()})
	}
	switch {
	case a.v.bad[r.ID] || a.v.isPending(r):
	case r.Action == string(ActionArchive): // what an earlier archive took out
		ranges, _ := auditrow.Ranges(r.Row)
		t.ranges = append(t.ranges, ranges...)
		if !slices.Contains(t.months, r.Note) {
			t.months = append(t.months, r.Note)
		}
	case r.Action == string(ActionLink):
		links, _ := auditrow.Links(r.Row)
		for _, l := range links {
			if !m.Has(l.At) && l.At >= m.To.UnixMicro() {
				t.links = append(t.links, l)
			}
		}
	}
}

// text is what the entry says about its month.
func (m *ArchivedMonth) text() string {
	return fmt.Sprintf("%s %s %d %s", m.From.Format(time.DateOnly), m.To.Format(time.DateOnly), m.Entries, m.SHA256)
}

// month takes what an entry says about a month.
func (v *verifier) month(text string, by *bearer) {
	var (
		m        ArchivedMonth
		from, to string
	)
	if _, err := fmt.Sscanf(text, "%s %s %d %s", &from, &to, &m.Entries, &m.SHA256); err != nil {
		return
	}
	var err1, err2 error
	m.From, err1 = time.Parse(time.DateOnly, from)
	m.To, err2 = time.Parse(time.DateOnly, to)
	if errors.Join(err1, err2) != nil {
		return
	}
	for _, known := range v.months {
		if known.ArchivedMonth == m && known.by.writer == by.writer {
			return // one month may take several entries
		}
	}
	v.months = append(v.months, &archive{ArchivedMonth: m, by: by})
}
