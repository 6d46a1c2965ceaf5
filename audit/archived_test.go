package audit_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/auditrow"
	"github.com/credent-go/credent/internal/auditstore"
	ring "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/keyring"
)

// backdate rewrites the chains of this month's archives as if they had been
// made earlier.
func backdate(t *testing.T, db database, k *keyring.Keyring, at time.Time) {
	t.Helper()
	const where = "WHERE writer IN (SELECT writer FROM credent_audit WHERE action = 'archive' AND at >= $1)"
	this := []any{auditstore.Time(db.dialect, auditstore.MonthOf(time.Now()).From)}
	var rows []auditrow.Row
	keys, err := auditrow.NewKeys((*ring.Ring)(k))
	do(t, err)
	chain := auditrow.NewChain()
	do(t, auditstore.Select(t.Context(), db, db.dialect, where+" ORDER BY seq", this, func(r *auditrow.Row) error {
		again := auditrow.Row{At: at.UnixMicro(), Rows: r.Rows, Texts: r.Texts}
		chain.Append(keys, &again)
		rows = append(rows, again)
		return nil
	}))
	if db.dialect == dialect.Postgres {
		db.unprotect(t)
		_, err = db.ExecContext(t.Context(), "DELETE FROM credent_audit "+where, this...)
		do(t, err)
	} else {
		var trigger string
		do(t, db.QueryRowContext(t.Context(), "SELECT sql FROM sqlite_master WHERE name = 'credent_audit_delete'").
			Scan(&trigger))
		db.exec(t, "DROP TRIGGER credent_audit_delete")
		_, err = db.ExecContext(t.Context(), "DELETE FROM credent_audit "+where, this...)
		do(t, err)
		db.exec(t, trigger)
	}
	do(t, auditstore.Insert(t.Context(), db, db.dialect, rows))
}

// TestArchiveOfArchiveEntry archives months that contain archive entries. The
// trail still knows the archive files and their number.
func TestArchiveOfArchiveEntry(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db database) {
		ring := newRing(t)
		this := auditstore.MonthOf(time.Now())
		var files [3]bytes.Buffer
		for i := range files {
			trail := newTrail(t, db, audit.Config{Keyring: ring})
			e := reveal(fmt.Sprint(i))
			e.At = this.From.AddDate(0, i-4, 1)
			do(t, trail.Add(t.Context(), e))
			do(t, trail.Close(t.Context()))
			months, err := audit.Archive(t.Context(), db.DB, db.dialect, ring,
				audit.ArchiveOptions{Before: this.From.AddDate(0, i-3, 0), To: &files[i]})
			if err != nil || len(months) != 1 {
				t.Fatalf("%d: %+v, %v", i, months, err)
			}
			backdate(t, db, ring, this.From.AddDate(0, i-3, 2)) // within the month archived next
		}
		with := func(changed int, given ...int) audit.Report {
			var opt audit.VerifyOptions
			for _, i := range given {
				text := files[i].String()
				if i == changed {
					text = strings.Replace(text, "ada", "bob", 1)
				}
				opt.Archives = append(opt.Archives, strings.NewReader(text))
			}
			return verify(t, db, ring, opt)
		}
		if report := with(-1, 0, 1, 2); report.Err() != nil || len(report.Archived) != 3 ||
			report.Verified != report.Entries {
			t.Errorf("with each file: %v, %+v", report.Err(), report)
		}
		expect(t, with(-1, 1, 2), audit.BadArchive, "no archive file has "+this.From.AddDate(0, -4, 0).
			Format("2006-01"))
		expect(t, with(0, 0, 1, 2), audit.BadArchive, "is not what was archived")
	})
}

// TestCheckpointOfRetiredKey verifies checkpoints under a key that has left the
// keyring, for running, ended and archived chains.
func TestCheckpointOfRetiredKey(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db database) {
		first, second := keyring.GenerateKey(), keyring.GenerateKey()
		old := newRing(t, first)
		this := auditstore.MonthOf(time.Now())
		keys, err := auditrow.NewKeys((*ring.Ring)(old))
		do(t, err)
		gone, rows := auditrow.NewChain(), make([]auditrow.Row, 3)
		for i, action := range []audit.Action{audit.ActionOpen, audit.ActionUpdate, audit.ActionClose} {
			rows[i] = auditrow.Row{
				At:    this.From.AddDate(0, -2, 1).UnixMicro(),
				Texts: auditrow.Texts{Action: string(action)},
			}
			gone.Append(keys, &rows[i])
		}
		do(t, auditstore.Insert(t.Context(), db, db.dialect, rows))
		running := newTrail(t, db, audit.Config{Keyring: old, Mode: audit.Sync})
		do(t, running.Add(t.Context(), reveal("1")))
		checkpoints, _, err := audit.Checkpoints(t.Context(), db.DB, db.dialect, old)
		if err != nil || len(checkpoints) != 2 {
			t.Fatal(checkpoints, err)
		}
		both, only := newRing(t, second, first), newRing(t, second)
		if _, err := audit.Archive(t.Context(), db.DB, db.dialect, both,
			audit.ArchiveOptions{Before: this.From, To: io.Discard}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := audit.SignHeads(t.Context(), db.DB, db.dialect, both); err != nil {
			t.Fatal(err)
		}
		opt := audit.VerifyOptions{Checkpoints: checkpoints}
		if report := verify(t, db, only, opt); report.Err() != nil || report.Verified != report.Entries {
			t.Errorf("got %v, %+v", report.Err(), report)
		}
		forged := checkpoints[0]
		forged.Seq += 7
		opt.Checkpoints = append(opt.Checkpoints, forged)
		if report := verify(t, db, only, opt); len(report.Findings) != 0 || len(report.CouldNotLook) != 1 {
			t.Errorf("beyond the trail: got %+v", report)
		}
		db.unprotect(t)
		db.exec(t, "DELETE FROM credent_audit WHERE row_id = '1'")
		if report := verify(t, db, only, audit.VerifyOptions{Checkpoints: checkpoints}); report.Err() == nil {
			t.Error("nothing was found")
		}
	})
}
