package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/auditstore"
)

// archived is a story with two archived months: the last one, and one two
// months before it without a partition.
func archived(t *testing.T, db database) (s *story, file []byte) {
	t.Helper()
	s = newStory(t, db)
	old := newTrail(t, db, audit.Config{Keyring: s.ring})
	e := reveal("old")
	e.At = s.lastMonth.From.Add(-40 * 24 * time.Hour)
	do(t, old.Add(t.Context(), e))
	do(t, old.Close(t.Context()))
	if _, _, err := audit.SignHeads(t.Context(), db.DB, db.dialect, s.ring); err != nil {
		t.Fatal(err)
	}
	var to bytes.Buffer
	months, err := audit.Archive(t.Context(), db.DB, db.dialect, s.ring,
		audit.ArchiveOptions{Before: time.Now(), To: &to})
	do(t, err)
	if len(months) != 2 || months[0].Entries != 1 || months[1].Entries != 3 || !months[1].From.Equal(s.lastMonth.From) {
		t.Fatalf("archived %+v", months)
	}
	end := s.lastMonth.To.Format(time.DateOnly)
	if n := db.number(t, "SELECT count(*) FROM credent_audit WHERE at < '"+end+"'"); n != 0 {
		t.Fatalf("%d entries are still there", n)
	}
	return s, to.Bytes()
}

// TestArchive archives months repeatedly and verifies.
func TestArchive(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db database) {
		s, file := archived(t, db)
		if n := bytes.Count(file, []byte("\n")); n != 6 {
			t.Errorf("the file has %d lines:\n%s", n, file)
		}
		report := sound(t, db, s.ring)
		if len(report.Archived) != 2 || report.Archived[0].Entries+report.Archived[1].Entries != 4 {
			t.Errorf("got %+v", report.Archived)
		}
		with := audit.VerifyOptions{Checkpoints: s.checkpoints, Archives: []io.Reader{bytes.NewReader(file)}}
		if report := verify(t, db, s.ring, with); report.Err() != nil {
			t.Error(report.Err())
		}
		months, err := audit.Archive(t.Context(), db.DB, db.dialect, s.ring,
			audit.ArchiveOptions{Before: time.Now(), To: io.Discard})
		if err != nil || len(months) != 0 {
			t.Errorf("again: %v, %v", months, err)
		}
		// The triggers against changes are back.
		for _, stmt := range []string{"DELETE FROM credent_audit", "UPDATE credent_audit SET note = ''"} {
			if _, err := db.ExecContext(t.Context(), stmt); err == nil || !strings.Contains(err.Error(), refusal) {
				t.Errorf("%s: %v", stmt, err)
			}
		}
		// An archive's own entries can be archived too.
		db.unprotect(t)
		trail := newTrail(t, db, audit.Config{Keyring: s.ring})
		do(t, trail.Add(t.Context(), reveal("new")))
		do(t, trail.Close(t.Context()))
		sound(t, db, s.ring)
	})
}

// TestArchiveTampering damages what archives leave in the trail.
func TestArchiveTampering(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, do string
		file     func(file string) string
		want     audit.FindingKind
		text     string
	}{
		{
			name: "an entry of the file is changed",
			file: func(f string) string { return strings.Replace(f, "ada", "bob", 1) },
			want: audit.BadArchive, text: "is not what was archived",
		},
		{
			name: "an entry of the file is missing",
			file: func(f string) string { _, rest, _ := strings.Cut(f, "\n"); return rest },
			want: audit.BadArchive, text: "is not what was archived",
		},
		{
			name: "a month of the file is missing",
			file: func(f string) string { _, rest, _ := strings.Cut(f, "}}\n"); return rest },
			want: audit.BadArchive, text: "no archive file has",
		},
		{
			name: "the file is cut",
			file: func(f string) string { return f[:len(f)-300] },
			want: audit.BadArchive, text: "at its end are not of an archived month",
		},
		{
			name: "the file is empty",
			file: func(string) string { return "" },
			want: audit.BadArchive, text: "no archive file has",
		},
		{
			name: "the archive's entry is removed",
			do:   "DELETE FROM credent_audit WHERE action = 'archive'",
			want: audit.Removed, text: "are missing",
		},
		{
			name: "the archive's entry is edited",
			do:   "UPDATE credent_audit SET note = replace(note, ' 3 ', ' 2 ') WHERE action = 'archive'",
			want: audit.Changed, text: "is not what was signed",
		},
		{
			name: "the archive's chain is removed",
			do: "DELETE FROM credent_audit WHERE writer IN (SELECT writer FROM credent_audit WHERE action = " +
				"'archive')",
			want: audit.Removed, text: "of {writer} are missing",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, db database) {
				s, file := archived(t, db)
				db.unprotect(t)
				if test.do != "" {
					db.exec(t, test.do)
				}
				opt := audit.VerifyOptions{}
				if test.file != nil {
					opt.Archives = []io.Reader{strings.NewReader(test.file(string(file)))}
				}
				expect(t, verify(t, db, s.ring, opt), test.want, strings.ReplaceAll(test.text, "{writer}", s.writer))
			})
		})
	}
}

// TestArchiveRefuses checks that Archive refuses a trail that doesn't verify,
// unless told otherwise, and that a failing file changes nothing.
func TestArchiveRefuses(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db database) {
		s := newStory(t, db)
		opt := audit.ArchiveOptions{Before: time.Now(), To: failing{}}
		before := db.number(t, "SELECT count(*) FROM credent_audit")
		months, err := audit.Archive(t.Context(), db.DB, db.dialect, s.ring, opt)
		if !errors.Is(err, errFound) || len(months) != 0 {
			t.Errorf("a full disk: %v, %v", months, err)
		}
		if n := db.number(t, "SELECT count(*) FROM credent_audit"); n != before {
			t.Errorf("it changed %d entries", n-before)
		}
		sound(t, db, s.ring)
		db.unprotect(t)
		db.exec(t, "UPDATE credent_audit SET actor = 'x' WHERE at < '"+s.lastMonth.To.Format(time.DateOnly)+"' AND "+
			"seq = 5")
		opt.To = io.Discard
		if _, err := audit.Archive(t.Context(), db.DB, db.dialect, s.ring, opt); !errors.Is(err, audit.ErrTampered) {
			t.Errorf("a trail that doesn't verify: %v", err)
		}
		opt.DespiteFindings = true
		if db.dialect == dialect.SQLite {
			db.exec(t,
				"CREATE TRIGGER credent_audit_delete BEFORE DELETE ON credent_audit BEGIN SELECT RAISE(ABORT, "+
					"'no'); END")
		}
		if months, err := audit.Archive(t.Context(), db.DB, db.dialect, s.ring, opt); err != nil || len(months) != 1 {
			t.Errorf("despite findings: %v, %v", months, err)
		}
	})
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFound }

// TestArchiveOfArchives moves the whole trail into the past with an old clock,
// and archives what the first archive left.
func TestArchiveOfArchives(t *testing.T) {
	t.Parallel()
	db := engines["modernc"](t)
	ring := newRing(t)
	this := auditstore.MonthOf(time.Now())
	trail := newTrail(t, db, audit.Config{Keyring: ring})
	for i := range 30 {
		e := reveal(fmt.Sprint(i))
		e.At = this.From.AddDate(0, i%3-3, i)
		do(t, trail.Add(t.Context(), e))
	}
	do(t, trail.Flush(t.Context()))
	var file bytes.Buffer
	for i := range 3 {
		months, err := audit.Archive(t.Context(), db.DB, db.dialect, ring,
			audit.ArchiveOptions{Before: this.From.AddDate(0, i-2, 0), To: &file})
		if err != nil || len(months) > 2 {
			t.Fatalf("%d: %+v, %v", i, months, err)
		}
		report := verify(t, db, ring, audit.VerifyOptions{Archives: []io.Reader{bytes.NewReader(file.Bytes())}})
		if report.Err() != nil || report.Verified != report.Entries {
			t.Fatalf("%d: %v", i, report)
		}
	}
	if got := list(t, db, audit.Filter{To: this.From}); len(got) != 0 {
		t.Errorf("%d entries are left", len(got))
	}
}

// TestArchiveOfOtherPartitions checks that Archive doesn't drop a partition
// with entries of other months, and that it reports a month in another
// partition.
func TestArchiveOfOtherPartitions(t *testing.T) {
	t.Parallel()
	this := auditstore.MonthOf(time.Now())
	for name, test := range map[string]struct{ partition, want string }{
		"named like its first month": {
			auditstore.MonthOf(this.From.AddDate(0, -3, 0)).Partition(),
			"has entries of other months",
		},
		"named like nothing": {"credent_audit_quarter", "in a partition of another name"},
		"named like the month between": {
			auditstore.MonthOf(this.From.AddDate(0, -2, 0)).Partition(),
			"in a partition of another name",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := engines["pgx"](t)
			ring := newRing(t)
			db.exec(t, fmt.Sprintf("CREATE TABLE %s PARTITION OF credent_audit FOR VALUES FROM ('%s') TO ('%s')",
				test.partition, this.From.AddDate(0, -3, 0).Format(time.DateOnly), this.From.Format(time.DateOnly)))
			trail := newTrail(t, db, audit.Config{Keyring: ring})
			for i := range 3 {
				e := reveal(fmt.Sprint(i))
				e.At = this.From.AddDate(0, i-3, 1)
				do(t, trail.Add(t.Context(), e))
			}
			do(t, trail.Close(t.Context()))
			before := db.number(t, "SELECT count(*) FROM credent_audit")
			months, err := audit.Archive(t.Context(), db.DB, db.dialect, ring,
				audit.ArchiveOptions{Before: this.From, To: io.Discard})
			if err == nil || !strings.Contains(err.Error(), test.want) || len(months) != 0 {
				t.Errorf("got %v, %v; want %s", months, err, test.want)
			}
			if n := db.number(t, "SELECT count(*) FROM credent_audit"); n != before {
				t.Errorf("%d entries are gone", before-n)
			}
			sound(t, db, ring)
		})
	}
}

// during is a file that calls a function when its first line is written.
type during func()

func (f *during) Write(line []byte) (int, error) {
	if *f != nil {
		do := *f
		*f = nil
		do()
	}
	return len(line), nil
}

// TestArchiveOfUnverified checks that nothing is archived that changed after
// the verification, whatever the change.
func TestArchiveOfUnverified(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"an entry of a transaction is edited":  "UPDATE {part} SET actor = 'bob' WHERE seq IS NULL",
		"an entry of a transaction is removed": "DELETE FROM {part} WHERE seq IS NULL",
		"the last entry of a chain is edited":  "UPDATE {part} SET actor = 'bob' WHERE seq = 3",
		"the last entry of a chain is removed": "DELETE FROM {part} WHERE seq = 3",
		"an entry is inserted": "INSERT INTO {part} SELECT at, gen_random_uuid(), writer, " +
			"NULL, NULL, row_count, action, actor, tenant, table_name, column_name, row_id, key_id, outcome, " +
			"request, note, signer, mac FROM {part} WHERE seq IS NULL",
		"one is edited, and another is removed": "UPDATE {part} SET at = at + interval '1 microsecond' WHERE " +
			"seq = 3",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := engines["pgx"](t)
			ring := newRing(t)
			this := auditstore.MonthOf(time.Now())
			s := &story{database: db}
			for i := range 2 {
				s.partition(t, auditstore.MonthOf(this.From.AddDate(0, i-3, 0)))
			}
			trail := newTrail(t, db, audit.Config{Keyring: ring})
			first, second := reveal("1"), reveal("2")
			first.At, second.At = this.From.AddDate(0, -3, 1), this.From.AddDate(0, -2, 1)
			do(t, trail.Add(t.Context(), first))
			do(t, trail.Flush(t.Context()))
			do(t, trail.Add(t.Context(), second))
			done, err := trail.AddTx(t.Context(), db.DB, second)
			do(t, err)
			do(t, trail.Flush(t.Context()))
			done(true)
			do(t, trail.Close(t.Context()))
			sound(t, db, ring)
			db.unprotect(t)
			to := during(func() {
				db.exec(t, "SET lock_timeout = '10s'; "+strings.ReplaceAll(change, "{part}",
					auditstore.MonthOf(second.At).Partition()))
			})
			months, err := audit.Archive(t.Context(), db.DB, db.dialect, ring,
				audit.ArchiveOptions{Before: this.From, To: &to, DespiteFindings: true})
			if !errors.Is(err, audit.ErrTampered) || len(months) != 1 {
				t.Errorf("got %v, %v, want the first month and ErrTampered", months, err)
			}
		})
	}
}
