package audit_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/auditstore"
	"github.com/credent-go/credent/keyring"
)

// story is a trail with entries of two months and two writers. The first writer
// has 12 entries in its chain and one of a transaction.
type story struct {
	database
	ring        *keyring.Keyring
	writer      string
	lastMonth   auditstore.Month
	checkpoints []audit.Checkpoint
}

func newStory(t *testing.T, db database) *story {
	t.Helper()
	s := &story{database: db, ring: newRing(t)}
	s.lastMonth = auditstore.MonthOf(auditstore.MonthOf(time.Now()).From.Add(-time.Hour))
	s.partition(t, s.lastMonth)
	trail := newTrail(t, db, audit.Config{Keyring: s.ring})
	for i := range 10 {
		e := audit.Entry{
			Action: audit.ActionUpdate, Actor: "ada", Tenant: fmt.Sprintf("user-%d", i%2), Row: fmt.Sprint(i),
		}
		if i >= 2 && i < 5 {
			e.At = s.lastMonth.From.Add(time.Duration(i) * time.Hour)
		}
		do(t, trail.Add(t.Context(), e))
	}
	done, err := trail.AddTx(t.Context(), db.DB, audit.Entry{Action: audit.ActionCreate, Row: "tx"})
	do(t, err)
	do(t, trail.Flush(t.Context()))
	done(true)
	do(t, trail.Flush(t.Context()))
	other := newTrail(t, db, audit.Config{Keyring: s.ring})
	do(t, other.Add(t.Context(), reveal("1")))
	do(t, other.Close(t.Context()))
	s.writer = list(t, db, audit.Filter{Action: audit.ActionUpdate})[0].Writer.String()
	s.checkpoints, _, err = audit.Checkpoints(t.Context(), db.DB, db.dialect, s.ring)
	do(t, err)
	sound(t, db, s.ring)
	return s
}

// partition creates a past month's partition.
func (s *story) partition(t *testing.T, m auditstore.Month) {
	t.Helper()
	if s.dialect == dialect.Postgres {
		s.exec(t, fmt.Sprintf("CREATE TABLE %s PARTITION OF credent_audit FOR VALUES FROM ('%s') TO ('%s')",
			m.Partition(),
			m.From.Format(time.DateOnly), m.To.Format(time.DateOnly)))
	}
}

// TestTampering changes a trail as a database owner without the key could.
func TestTampering(t *testing.T) {
	t.Parallel()
	const (
		columns = "writer, seq, prev, row_count, action, actor, tenant, table_name, column_name, row_id, key_id, " +
			"outcome, " +
			"request, note, signer"
		insert = "INSERT INTO credent_audit (at, id, mac, " + columns + ") "
		chain  = " WHERE writer = '{writer}' AND seq "
	)
	for _, test := range []struct {
		name string
		do   []string
		want audit.FindingKind // "" if the trail alone shows nothing
		text string
		// checkpoint is the finding with checkpoints, if it differs.
		checkpoint audit.FindingKind
	}{
		{name: "nothing"},
		{
			name: "delete the first", do: []string{"DELETE FROM credent_audit" + chain + "= 1"},
			want: audit.Removed, text: "entry 1 of {writer} is missing",
		},
		{
			name: "delete from the middle", do: []string{"DELETE FROM credent_audit" + chain + "IN (6, 7)"},
			want: audit.Removed, text: "entries 6 to 7 of {writer} are missing",
		},
		{
			name: "delete the last", do: []string{"DELETE FROM credent_audit" + chain + "= 12"},
			checkpoint: audit.Removed, text: "the chain of {writer} ends at entry 11, and a checkpoint signed entry 12",
		},
		{
			name: "delete a chain", do: []string{"DELETE FROM credent_audit WHERE writer <> '{writer}'"},
			checkpoint: audit.Removed, text: "ends at entry 0",
		},
		{
			name: "swap", do: []string{"UPDATE credent_audit SET seq = 13 - seq" + chain + "IN (6, 7)"},
			want: audit.Reordered, text: "was written as entry 7",
		},
		{
			name: "move to the other end", do: []string{
				"UPDATE credent_audit SET seq = CASE seq WHEN 12 THEN 2 ELSE seq + 1 END" + chain + "> 1",
			},
			want: audit.Reordered, text: "was written as entry",
		},
		{
			name: "swap what rows say",
			do: []string{"UPDATE credent_audit SET row_id = CASE seq WHEN 6 THEN '5' ELSE '4' END" +
				chain + "IN (6, 7)"},
			want: audit.Changed, text: "entry 6 of {writer}",
		},
		{
			name: "edit", do: []string{"UPDATE credent_audit SET actor = 'bob'" + chain + "= 5"},
			want: audit.Changed, text: "entry 5 of {writer}",
		},
		{
			name: "edit a time",
			do:   []string{"UPDATE credent_audit SET at = '2026-01-02 03:04:05.000006'" + chain + "= 5"},
			want: audit.Changed, text: "entry 5 of {writer}",
		},
		{
			name: "give to another tenant", do: []string{"UPDATE credent_audit SET tenant = 'user-7'" + chain + "= 5"},
			want: audit.Changed, text: "entry 5 of {writer}",
		},
		{
			name: "insert", do: []string{insert + "SELECT '{now}', '{id}', " +
				"prev, writer, NULL, NULL, 1, action, 'mallory', tenant, table_name, column_name, row_id, key_id, " +
				"outcome, " +
				"request, note, signer FROM credent_audit" + chain + "= 6"},
			want: audit.Inserted, text: "entry {id}",
		},
		{
			name: "insert into the chain",
			do: []string{insert + "SELECT '{now}', '{id}', " +
				"prev, " + columns + " FROM credent_audit" + chain + "= 6"},
			want: audit.Inserted, text: "there is another entry 6 of {writer}",
		},
		{
			name: "insert under an unknown key",
			do: []string{insert + "SELECT '{now}', '{id}', " +
				"prev, '{id}', 1, prev, 1, action, 'mallory', tenant, table_name, column_name, row_id, key_id, " +
				"outcome, " +
				"request, note, 'ffffffff' FROM credent_audit" + chain + "= 6"},
			want: "look", text: "ffffffff",
		},
		{
			name: "copy from another tenant", do: []string{insert + "SELECT '{now}', '{id}', " +
				"mac, writer, NULL, NULL, row_count, action, actor, 'mallory', table_name, column_name, row_id, " +
				"key_id, outcome, " +
				"request, note, signer FROM credent_audit" + chain + "= 6"},
			want: audit.Copied, text: "entry {id} is a copy of",
		},
		{
			name: "truncate a partition", do: []string{"DELETE FROM credent_audit WHERE at < '{month}'"},
			want: audit.Removed, text: "entries 4 to 6 of {writer} are missing",
		},
		{
			name: "rewrite the newest", do: []string{"UPDATE credent_audit SET note = 'x'" + chain + "= 12"},
			want: audit.Changed, text: "entry 12 of {writer}",
		},
		{
			name: "rewrite the newest, and its signature",
			do:   []string{"UPDATE credent_audit SET note = 'x', mac = prev" + chain + "= 12"},
			want: audit.Changed, text: "entry 12 of {writer}",
		},
		{
			name: "restore an old backup", do: []string{
				"DELETE FROM credent_audit WHERE writer <> '{writer}' OR seq > 8 OR seq IS NULL",
			},
			checkpoint: audit.Removed, text: "the newest were removed, or an older backup was restored",
		},
		{
			name: "delete an entry of a transaction", do: []string{"DELETE FROM credent_audit WHERE seq IS NULL"},
			want: audit.Removed, text: "of a transaction is missing",
		},
		{
			name: "edit an entry of a transaction", do: []string{"UPDATE credent_audit SET actor = 'x' WHERE seq IS " +
				"NULL"},
			want: audit.Changed, text: "of a transaction is not what was signed",
		},
		{
			name: "edit a link",
			do:   []string{"UPDATE credent_audit SET row_id = replace(row_id, '1', '2') WHERE action = 'link'"},
			want: audit.Changed, text: "of {writer}",
		},
		{
			name: "take a chain's tail for another", do: []string{"UPDATE credent_audit SET writer = '{id}'" +
				chain + "> 6"},
			want: audit.Changed, text: "of {id}",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, db database) {
				s := newStory(t, db)
				db.unprotect(t)
				id := "019a0000-0000-7000-8000-00000000000a"
				fill := strings.NewReplacer("{writer}", s.writer, "{now}", time.Now().UTC().Format("2006-01-02 "+
					"15:04:05.000000"),
					"{id}", id, "{month}", s.lastMonth.To.Format(time.DateOnly)).Replace
				for _, stmt := range test.do {
					if test.name == "truncate a partition" && db.dialect == dialect.Postgres {
						stmt = "TRUNCATE " + s.lastMonth.Partition()
					}
					db.exec(t, fill(stmt))
				}
				report := verify(t, db, s.ring, audit.VerifyOptions{})
				if test.want == "look" {
					if len(report.CouldNotLook) != 1 || !strings.Contains(report.CouldNotLook[0], test.text) ||
						report.Err() == nil {
						t.Errorf("got %+v", report)
					}
					return
				}
				expect(t, report, test.want, fill(test.text))
				report = verify(t, db, s.ring, audit.VerifyOptions{Checkpoints: s.checkpoints})
				if test.want == "" {
					expect(t, report, test.checkpoint, fill(test.text))
				} else if report.Err() == nil {
					t.Error("nothing is found with the checkpoints")
				}
			})
		})
	}
}

// expect checks for a finding, or for none if kind is "".
func expect(t *testing.T, report audit.Report, kind audit.FindingKind, text string) {
	t.Helper()
	if kind == "" {
		if err := report.Err(); err != nil {
			t.Errorf("found %v", report.Findings)
		}
		return
	}
	for _, f := range report.Findings {
		if f.Kind == kind && strings.Contains(f.Text, text) {
			return
		}
	}
	t.Errorf("want %s: %s; got %v, %v", kind, text, report.Findings, report.CouldNotLook)
}

// TestSignHeads signs the heads of ended chains, so that a missing newest entry
// is noticed without an external checkpoint.
func TestSignHeads(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db database) {
		s := newStory(t, db)
		sign := func(want int, entries int64) {
			t.Helper()
			before := db.number(t, "SELECT count(*) FROM credent_audit")
			n, report, err := audit.SignHeads(t.Context(), db.DB, db.dialect, s.ring)
			if err != nil || n != want || report.Err() != nil {
				t.Fatalf("got %d, %v, %v", n, err, report.Err())
			}
			if more := db.number(t, "SELECT count(*) FROM credent_audit") - before; more != entries {
				t.Fatalf("it stored %d entries, want %d", more, entries)
			}
		}
		sign(2, 3)
		sign(0, 0) // only its own chain is new
		idle := newTrail(t, db, audit.Config{Keyring: s.ring})
		do(t, idle.Close(t.Context()))
		sign(2, 3) // signed by the next call
		sign(0, 0)
		sound(t, db, s.ring)
		db.unprotect(t)
		db.exec(t, "DELETE FROM credent_audit WHERE writer = '"+s.writer+"' AND seq = 12")
		expect(t, verify(t, db, s.ring, audit.VerifyOptions{}), audit.Removed, "the chain of "+s.writer+" ends at "+
			"entry 11")
	})
}

// TestRetiredKey verifies entries under keys that have left the keyring, with
// and without a head signed before.
func TestRetiredKey(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db database) {
		first, second, third := keyring.GenerateKey(), keyring.GenerateKey(), keyring.GenerateKey()
		ring := newRing(t, first)
		running := newTrail(t, db, audit.Config{Keyring: ring, Mode: audit.Sync})
		ended := newTrail(t, db, audit.Config{Keyring: newRing(t, first), Mode: audit.Sync})
		do(t, running.Add(t.Context(), reveal("1")))
		do(t, ended.Add(t.Context(), reveal("2")))
		_, err := ended.AddTx(t.Context(), db.DB, reveal("a process was killed before its link"))
		do(t, err)
		do(t, ended.Close(t.Context()))
		_, err = ring.Replace(newRing(t, second, first))
		do(t, err)
		do(t, running.Add(t.Context(), reveal("3")))
		report := verify(t, db, newRing(t, second), audit.VerifyOptions{})
		if len(report.Findings) != 0 || len(report.CouldNotLook) != 2 || report.Err() == nil || report.Verified != 3 {
			t.Errorf("without a signed head: %+v", report)
		}
		if n, _, err := audit.SignHeads(t.Context(), db.DB, db.dialect, ring); err != nil || n != 2 {
			t.Errorf("got %d, %v", n, err)
		}
		if n, _, err := audit.SignHeads(t.Context(), db.DB, db.dialect, ring); err != nil || n != 0 {
			t.Errorf("again: got %d, %v", n, err)
		}
		sound(t, db, newRing(t, second))
		// A chain of signed heads vouches for the previous one.
		if n, _, err := audit.SignHeads(t.Context(), db.DB, db.dialect, newRing(t, third, second)); err != nil ||
			n != 3 {
			t.Errorf("got %d, %v", n, err)
		}
		sound(t, db, newRing(t, third))
		db.unprotect(t)
		db.exec(t, "UPDATE credent_audit SET actor = 'x' WHERE seq = 2 AND signer = '"+newRing(t,
			first).Primary().ID()+"'")
		if report := verify(t, db, newRing(t, third), audit.VerifyOptions{}); len(report.Findings) < 2 {
			t.Errorf("edited: got %+v", report)
		}
	})
}
