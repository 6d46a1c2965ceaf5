package bound

import (
	"errors"
	"strings"
	"testing"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/rotate"
)

// TestTenantTriggers uses its own schema with the triggers: another writer
// can't give a row another tenant and leave tokens behind. The schema binds
// tokens of orders, and the database may bind tokens of devices.
func TestTenantTriggers(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *database, one, other any) {
		ctx := t.Context()
		for range 2 { // they can be run twice
			for _, stmt := range append(encrypted.StatesTable(db.dialect), encrypted.TenantTriggers(db.dialect,
				columns...)...) {
				db.exec(t, stmt)
			}
		}
		move := func(table string) error {
			t.Helper()
			_, err := db.ExecContext(ctx, db.placeholders("UPDATE "+table+" SET owner = $1 WHERE id = 1"), other)
			if err != nil && !strings.Contains(err.Error(), "would be left behind") {
				t.Errorf("%s: %v", table, err)
			}
			return err
		}
		back := func(table string) {
			t.Helper()
			if _, err := db.ExecContext(ctx, db.placeholders("UPDATE "+table+" SET owner = $1 WHERE id = 1"),
				one); err != nil {
				t.Fatal(err)
			}
		}
		client := db.client(t)
		for _, table := range []string{"devices", "orders"} {
			db.insert(t, client, table, 1, one)
		}
		if move("orders") == nil {
			t.Error("bound by the schema: accepted")
		}
		if move("devices") != nil {
			t.Error("not bound: refused")
		}
		back("devices")
		for _, s := range []encrypted.State{encrypted.Accept, encrypted.Write} {
			for _, c := range columns[:2] {
				if _, err := rotate.SetState(ctx, db.DB, db.ring, rotate.StateChange{
					Column: c, Protection: rotate.Binding, To: s, InUse: true,
				}); err != nil && !errors.Is(err, rotate.ErrState) {
					t.Fatal(err)
				}
			}
			if move("devices") == nil {
				t.Errorf("%s: accepted", s)
			}
			client := db.client(t)
			for _, owner := range []any{other, one} {
				if err := update(ctx, client, map[string]any{
					"owner": owner, "key": "moved",
					"pin": "moved",
				}); err != nil {
					t.Errorf("%s: with new secrets: %v", s, err)
				}
			}
			if got, err := db.read(t, client, "devices", "key", 1, one); err != nil || got != "moved" {
				t.Errorf("%s: got %q, %v", s, got, err)
			}
		}
		// A NULL token depends on no tenant.
		db.exec(t, `UPDATE devices SET "key" = NULL, pin = NULL`)
		if move("devices") != nil {
			t.Error("without tokens: refused")
		}
	})
}
