package audit_test

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/dberror"
)

// forged returns an INSERT of an entry that no trail wrote, with values in SQL.
func forged(db database, at, id, seq, action, rows, signer string) string {
	digest := "x'" + strings.Repeat("00", 32) + "'"
	if db.dialect == dialect.Postgres {
		digest = "decode(repeat('00', 32), 'hex')"
	}
	prev := digest
	if seq == "NULL" {
		prev = "NULL"
	}
	return "INSERT INTO credent_audit (at, id, writer, seq, prev, row_count, action, actor, tenant, table_name, " +
		"column_name, row_id, key_id, outcome, request, note, signer, mac) VALUES (" + at + ", " + id + ", '" +
		uuid.NewString() + "', " + seq + ", " + prev + ", " + rows + ", " + action +
		", '', '', '', '', '', '', 'ok', '', '', '" + signer + "', " + digest + ")"
}

func quoted(text string) string { return "'" + text + "'" }

// The table refuses times that no trail writes, even from a service's role.
func TestTimesThatAreNone(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db database) {
		times := []string{"'infinity'", "'-infinity'", "'4713-01-01 00:00:00 BC'", "'1999-12-31 23:59:59.999999'"}
		role := db
		if db.dialect == dialect.SQLite {
			times = append(times, "'now'", "'2026-02-30 00:00:00.000000'",
				"'2026-01-01 24:00:00.000000'", "'2026-01-01'",
				"20260101", "x'00'", "''", "'2026-01-01 00:00:00.000000 '", "'2026-01-01 00:00:00.0000000'")
		} else {
			times = append(times, "'10000-01-01'")
			role = db.as(t, "credent_app", "")
		}
		for _, at := range times {
			_, err := role.ExecContext(t.Context(), forged(db, at, quoted(uuid.NewString()), "NULL",
				"'update'", "1", ""))
			if db.dialect == dialect.Postgres && dberror.State(err) != "23514" ||
				db.dialect == dialect.SQLite && dberror.SQLite(err) != dberror.SQLiteConstraint {
				t.Errorf("%s: %v", at, err)
			}
		}
		// The trail refuses them before writing.
		trail := newTrail(t, db, audit.Config{Keyring: newRing(t), Mode: audit.Sync})
		e := reveal("1")
		e.At = time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC)
		do(t, trail.Add(t.Context(), e))
		if got := list(t, db, audit.Filter{}); len(got) != 1 || time.Since(got[0].At) > time.Hour {
			t.Errorf("got %+v", got)
		}
	})
}

// A malformed entry is a finding, and doesn't stop the others from being read.
func TestMalformedEntries(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db database) {
		s := newStory(t, db)
		id := func() string { return quoted(uuid.NewString()) }
		const at = "'2026-01-01 00:00:00.000000'"
		const most = "9223372036854775807"
		key := s.ring.Primary().ID()
		queries := map[string]string{
			`at "infinity"`: forged(db, "'infinity'", id(), "NULL", "'update'", "1", key),
			"was not made":  forged(db, at, id(), "NULL", "'link'", most, key),
			"is not what":   forged(db, at, id(), most, "'link'", most, key),
		}
		if db.dialect == dialect.SQLite {
			queries[`at "nowhen"`] = forged(db, "'nowhen'", id(), "1", "'archive'", "1", key)
			queries[`id "none"`] = forged(db, at, "'none'", "NULL", "'update'", "1", key)
			queries[`seq "many"`] = forged(db, at, id(), "'many'", "'link'", "1", key)
			queries[`row_count "few"`] = forged(db, at, id(), "7", "'checkpoint'", "'few'", key)
		}
		conn, err := db.Conn(t.Context())
		do(t, err)
		defer func() { _ = conn.Close() }()
		unchecked := "PRAGMA ignore_check_constraints = 1"
		if db.dialect == dialect.Postgres {
			unchecked = "ALTER TABLE credent_audit DROP CONSTRAINT credent_audit_at"
		}
		for _, query := range append([]string{unchecked}, slices.Collect(maps.Values(queries))...) {
			if _, err := conn.ExecContext(t.Context(), query); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
		}
		do(t, conn.Close())

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		report, err := audit.Verify(ctx, db.DB, db.dialect, s.ring, audit.VerifyOptions{Checkpoints: s.checkpoints})
		do(t, err)
		for part := range queries {
			found := false
			for _, f := range report.Findings {
				found = found || strings.Contains(f.Text, part)
			}
			if !found {
				t.Errorf("no finding contains %s: %v", part, report.Findings)
			}
		}
		if whole := report.Entries - int64(len(queries)); report.Verified != whole {
			t.Errorf("%d of %d genuine entries verified", report.Verified, whole)
		}
		noted, want := 0, 0
		for part := range queries {
			if strings.HasPrefix(part, `at "inf`) || strings.HasPrefix(part, "id") {
				want++
			}
		}
		for _, e := range list(t, db, audit.Filter{Action: audit.ActionUpdate}) {
			if strings.HasPrefix(e.Note, "malformed: ") {
				noted++
			}
		}
		if noted != want {
			t.Errorf("%d entries are listed as malformed, want %d", noted, want)
		}
		if _, _, err := audit.Checkpoints(ctx, db.DB, db.dialect, s.ring); err != nil {
			t.Errorf("checkpoints: %v", err)
		}
		if _, _, err := audit.SignHeads(ctx, db.DB, db.dialect, s.ring); err != nil {
			t.Errorf("sign the heads: %v", err)
		}
	})
}

// Many entries under unknown keys are counted, but not all named.
func TestManyUnknownKeys(t *testing.T) {
	t.Parallel()
	db := engines["modernc"](t)
	ring := newRing(t)
	const at = "'2026-01-01 00:00:00.000000'"
	tx, err := db.BeginTx(t.Context(), nil)
	do(t, err)
	for range 1200 {
		_, err := tx.ExecContext(t.Context(), forged(db, at, quoted(uuid.NewString()), "NULL", "'update'", "1", "0000"))
		do(t, err)
	}
	do(t, tx.Commit())
	report := verify(t, db, ring, audit.VerifyOptions{})
	if len(report.CouldNotLook) != 1000 || report.MoreCouldNotLook != 200 || report.Err() == nil {
		t.Errorf("%d are named, and %d are not", len(report.CouldNotLook), report.MoreCouldNotLook)
	}
}

// Waiting entries take as much memory as stored ones, however long the texts
// that a service received.
func TestLongTextsWaitCut(t *testing.T) { //nolint:paralleltest // measures the process's memory
	db := engines["modernc"](t)
	trail := newTrail(t, db, audit.Config{Keyring: newRing(t), Flush: time.Hour})
	used := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := used()
	const entries, size = 128, 1 << 20
	for i := range entries {
		long := strings.Repeat(string(rune('a'+i%26)), size)
		var err error
		switch i % 4 {
		case 0:
			err = trail.Add(t.Context(), audit.Entry{Action: audit.ActionUpdate, Request: long})
		case 1:
			err = trail.Add(t.Context(), audit.Entry{Action: audit.ActionReveal, Row: "1", Request: long})
		case 2:
			err = trail.Add(t.Context(), audit.Entry{Action: audit.ActionReveal, Row: long})
		case 3:
			err = trail.Reveals(audit.Entry{Actor: long}).Add(t.Context(), long)
		}
		do(t, err)
	}
	if waiting := trail.Stats().Waiting; waiting < entries {
		t.Fatalf("%d entries wait", waiting)
	}
	if now := used(); now > before+entries*size/4 {
		t.Errorf("%d entries take %d bytes", entries, now-before)
	}
}
