package windows

import (
	"database/sql"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/integration/sequence/ent"
	"github.com/credent-go/credent/rotate"
)

// TestDuplicateBesideRotate has a writer that holds a row that rotate waits
// for, and stores a value in it that another row of rotate's page has. The
// duplicate is refused at once, without a deadlock with rotate.
func TestDuplicateBesideRotate(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t, 500)
	w.exec("INSERT INTO owners (id) VALUES ('o')")
	unbound, bound := set(require, accept, off), set(require, write, off)
	var last *ent.Note
	for _, text := range []string{"first", "second"} {
		var err error
		last, err = w.client("pgx", unbound).Note.Create().SetTitle(text).SetOwnerID("o").
			SetCode(bytesOf(&text)).Save(ctx)
		if err != nil {
			t.Fatal(err)
		}
	}
	// The writer's server process is the first to check for deadlocks.
	separator := "?"
	if strings.Contains(w.url, "?") {
		separator = "&"
	}
	db, err := sql.Open("pgx", w.url+separator+"deadlock_timeout=10ms")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	client := ent.NewClient(ent.Driver(must(encrypted.NewDriver(entsql.OpenDB(dialect.Postgres, db), encrypted.Config{
		Keyring: w.ring, Columns: noteColumns, States: given(bound),
	}))))
	tx, err := client.Tx(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Note.UpdateOneID(last.ID).SetTitle("held").Exec(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		report, err := rotate.Run(ctx, w.dbs["pgx"], w.ring, w.config(bound))
		if err == nil && report.Rewritten() != 2 {
			t.Errorf("rotate has rewritten %d rows", report.Rewritten())
		}
		done <- err
	}()
	for waiting := false; !waiting; {
		if err := db.QueryRowContext(ctx, "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = "+
			"current_database() AND wait_event_type = 'Lock'").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	text := "first"
	if err := tx.Note.UpdateOneID(last.ID).SetCode(bytesOf(&text)).Exec(ctx); !ent.IsConstraintError(err) {
		t.Errorf("a duplicate: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
