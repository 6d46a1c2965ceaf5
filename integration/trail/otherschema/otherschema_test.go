// Package otherschema tests the audit trail of a client of another schema,
// which shares the database.
package otherschema

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/encrypted"
	notes "github.com/credent-go/credent/integration/sequence/ent"
	_ "github.com/credent-go/credent/integration/sequence/ent/runtime"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testdb/bare"
)

// TestMain can be the command credent.
func TestMain(m *testing.M) { testdb.Main(m) }

// told returns the entries in the database, without the chain's own.
func told(t *testing.T, env *testdb.Env, trail *audit.Trail) (all []audit.Entry) {
	t.Helper()
	if err := trail.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows, err := env.DB.QueryContext(t.Context(), "SELECT action, table_name, row_id, key_id FROM credent_audit "+
		"WHERE action NOT IN ('open', 'close', 'link', 'checkpoint') ORDER BY at, id")
	if err != nil {
		t.Fatal(err)
	}
	defer testdb.CloseAll(t, rows)
	for rows.Next() {
		var e audit.Entry
		if err := rows.Scan(&e.Action, &e.Table, &e.Row, &e.KeyID); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// A schema of your own is recorded like Credent's: what its rows are, and what
// is read of them, with the primary keys that the database makes.
func TestTrailOfAnotherSchema(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		trail, err := audit.Open(t.Context(), env.Pool(t), env.Dialect(), audit.Config{Keyring: env.Ring})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := trail.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		drv, err := encrypted.NewDriver(env.EntDriver(), encrypted.Config{
			Keyring: env.Ring, Columns: notes.EncryptedColumns(), Trail: trail,
		})
		if err != nil {
			t.Fatal(err)
		}
		client := notes.NewClient(notes.Driver(drv))
		bare.CreateTables(t, client.Schema.Create)
		ctx := t.Context()
		owner, err := client.Owner.Create().SetID("o-1").Save(ctx)
		if err != nil {
			t.Fatal(err)
		}
		body := func(text string) *notes.NoteCreate {
			return client.Note.Create().SetTitle(text).SetOwnerID(owner.ID).SetBody(credent.NewSecret(text))
		}
		one, err := body("one").Save(ctx)
		if err != nil {
			t.Fatal(err)
		}
		bulk, err := client.Note.CreateBulk(body("two"), body("three")).Save(ctx)
		if err != nil {
			t.Fatal(err)
		}
		all := told(t, env, trail)
		var rows []string
		for _, e := range all {
			if e.Table == "owners" { // the notes' tenant is copied from it
				continue
			}
			if e.Action != audit.ActionCreate || e.Table != "notes" || e.KeyID != env.Ring.Primary().ID() {
				t.Errorf("got %+v", e)
			}
			rows = append(rows, e.Row)
		}
		slices.Sort(rows)
		want := []string{fmt.Sprint(one.ID), fmt.Sprint(bulk[0].ID), fmt.Sprint(bulk[1].ID)}
		slices.Sort(want)
		if !slices.Equal(rows, want) {
			t.Errorf("got the rows %v, want %v", rows, want)
		}
		read, err := client.Note.Get(ctx, one.ID)
		if err != nil {
			t.Fatal(err)
		}
		_ = testdb.Reveal(t, read.Body)
		if n, err := client.Note.Delete().Exec(ctx); err != nil || n != 3 {
			t.Fatal(n, err)
		}
		var actions []audit.Action
		for _, e := range told(t, env, trail) {
			actions = append(actions, e.Action)
		}
		slices.Sort(actions)
		if !slices.Equal(actions, []audit.Action{
			"create", "create", "create", "delete", "delete", "delete", "reveal",
		}) {
			t.Errorf("got %v", actions)
		}
	})
}
