package rotate

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	_ "github.com/lib/pq"
	_ "modernc.org/sqlite"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/pgserver"
)

// A page is written only if the database still has the tenants' keys that it
// was encrypted with: a fail-over may have led to another server since they
// were read.
func TestWriteNeedsTheTenantsKey(t *testing.T) {
	t.Parallel()
	url := pgserver.DatabaseForTest(t, pgserver.Shared())
	for name, dsn := range map[string]string{"postgres": url, "sqlite": "file:" + filepath.Join(t.TempDir(), "x.db")} {
		db, err := sql.Open(name, dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		exec := func(query string, args ...any) {
			t.Helper()
			if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
				t.Fatal(err)
			}
		}
		ring := keyring.Of(mustKey(t))
		token, next := encrypt(t, ring, "text"), encrypt(t, ring, "text")
		exec("CREATE TABLE credent_tenant_keys (tenant varchar(255) PRIMARY KEY, wrapped varchar(500))")
		exec("CREATE TABLE held (id integer PRIMARY KEY, org varchar(255), secret varchar(500))")
		exec("INSERT INTO held VALUES (1, 'a', $1), (2, 'a', $1), (3, 'b', $1), (4, 'none', $1)", token)
		exec("INSERT INTO credent_tenant_keys VALUES ('a', 'now'), ('b', NULL)")
		var s store = postgres{db}
		if name == "sqlite" {
			s = sqlite{db}
		}
		held := table{
			name: "held", key: "id", keyType: "integer", tenant: "org", sources: make([]source, 1),
			columns: []column.Column{{Table: "held", Name: "secret", Size: 500, Tenant: "org", ID: "id"}},
		}
		page, _, _, err := s.page(context.Background(), held, span{}, 10)
		if err != nil || len(page) != 4 {
			t.Fatalf("%s: %d rows, %v", name, len(page), err)
		}
		var changes []change
		for i, under := range []string{"now", "before", "now", ""} {
			changes = append(changes, change{
				row: page[i], under: sql.NullString{String: under, Valid: under != ""},
				cells: []cell{{changed: true, value: sql.NullString{String: next, Valid: true}, bound: under != ""}},
			})
		}
		done, err := s.write(t.Context(), held, changes)
		if done.rows != 2 || len(done.refused) > 0 || err != nil {
			t.Errorf("%s: %d are written, %d refused, %v", name, done.rows, len(done.refused), err)
		}
		after, _, _, err := s.page(t.Context(), held, span{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{next, token, token, next} {
			if after[i].values[0].String != want {
				t.Errorf("%s: row %d isn't as wanted", name, i+1)
			}
		}
	}
}

func mustKey(t *testing.T) *fernet.Key {
	t.Helper()
	key, err := fernet.ParseKey(fernet.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	return key
}
