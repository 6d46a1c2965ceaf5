// Package integration runs the vault's tests on a Postgres server that they
// start.
package integration

import (
	"database/sql"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"example.com/oauth/ent"
	entmigrate "example.com/oauth/ent/migrate"
	"example.com/oauth/migrations"
	"example.com/oauth/vault"
	"example.com/oauth/vault/vaulttest"
	"example.com/oauth/webhook"
	_ "github.com/lib/pq" // a database driver

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/credenttest"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

func TestMain(m *testing.M) { os.Exit(credenttest.Main(m)) }

func open(t *testing.T, driver string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, credenttest.EmptyURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestPostgres(t *testing.T) {
	for name, driver := range map[string]string{"pq": "postgres", "pgx": "pgx"} {
		t.Run(name, func(t *testing.T) {
			vaulttest.Run(t, func(t *testing.T) (*sql.DB, string) {
				t.Helper()
				return open(t, driver), dialect.Postgres
			})
		})
	}
}

// A service that also uses credent's entities can share one driver.
func TestWrapDriver(t *testing.T) {
	ctx := t.Context()
	db, ring := open(t, "postgres"), vaulttest.Keyring(t, keyring.GenerateKey())
	if _, err := vault.Open(ctx, db, dialect.Postgres, ring); err != nil {
		t.Fatal(err)
	}
	drv, err := client.WrapDriver(entsql.OpenDB(dialect.Postgres, db), client.Config{Keyring: ring})
	if err != nil {
		t.Fatal(err)
	}
	client := ent.NewClient(ent.Driver(drv))
	err = client.Integration.Create().SetUserID("u").SetProvider("p").SetRefreshToken(credent.NewSecret("text")).
		SetWebhook(credent.NewValue(webhook.Config{Secret: "s"})).Exec(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var token, hook string
	row := db.QueryRowContext(ctx, "SELECT refresh_token, webhook FROM integrations")
	if err := row.Scan(&token, &hook); err != nil {
		t.Fatal(err)
	}
	for _, c := range ent.EncryptedColumns() {
		stored, ok := map[string][2]string{"refresh_token": {token, "text"}, "webhook": {hook, `{"url":"","secret":"s"}`}}[c.Name]
		if !ok {
			continue
		}
		bound, err := encrypted.BoundKeyring(ring, c, "u")
		if err != nil {
			t.Fatal(err)
		}
		if text, err := bound.Decrypt(stored[0]); err != nil || text != stored[1] {
			t.Errorf("%s: got %q, %v", c, text, err)
		}
	}
	i := client.Integration.Query().OnlyX(ctx)
	if config, err := i.Webhook.Reveal(); err != nil || config.Secret != "s" {
		t.Errorf("got %+v, %v", config, err)
	}
}

// A new key takes over. This process also knows credent's columns, which the
// database lacks.
func TestRotate(t *testing.T) {
	ctx := t.Context()
	db := open(t, "postgres")
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	v, err := vault.Open(ctx, db, dialect.Postgres, vaulttest.Keyring(t, oldKey))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Connect(ctx, "u", "github", "token"); err != nil {
		t.Fatal(err)
	}
	if err := v.Grant(ctx, "u", "github", "access", time.Unix(1, 0), "repo"); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range ent.EncryptedColumns() {
		names = append(names, c.String())
	}
	report, err := rotate.Run(ctx, db, vaulttest.Keyring(t, newKey, oldKey), rotate.Config{Columns: names})
	if err != nil || report.Rewritten() != 2 {
		t.Fatalf("got %+v, %v", report, err)
	}
	if v, err = vault.Open(ctx, db, dialect.Postgres, vaulttest.Keyring(t, newKey)); err != nil {
		t.Fatal(err)
	}
	if token, err := v.AccessToken(ctx, "u", "github", time.Unix(0, 0)); err != nil || token != "access" {
		t.Errorf("got %q, %v", token, err)
	}
}

// The migration files create the schema of package ent, and contain nothing
// dangerous.
func TestMigrations(t *testing.T) {
	files, err := migrations.Files("postgres")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "postgres")
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	written, err := migrate.Diff(t.Context(), open(t, "postgres"), dir, "missing", entmigrate.Tables...)
	if err != nil || written {
		t.Errorf("got %v, %v, want nothing to write", written, err)
	}
	found, err := migrate.Lint(t.Context(), open(t, "postgres"), os.DirFS(dir), migrate.LintOptions{})
	if err != nil || len(found) > 0 {
		t.Errorf("got %v, %v", found, err)
	}
	if names, err := fs.Glob(files, "*.sql"); err != nil || len(names) == 0 {
		t.Errorf("got %v, %v", names, err)
	}
	db := open(t, "postgres")
	if err := migrate.Apply(t.Context(), db, migrate.Config{Dir: files}); err != nil {
		t.Fatal(err)
	}
	if report, err := migrate.Check(t.Context(), db, migrate.Config{Dir: files}); err != nil || report.Err() != nil {
		t.Errorf("got %+v, %v", report, err)
	}
}
