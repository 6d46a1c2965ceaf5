package trail

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/migrate"
)

// A migration is recorded before it begins, so that none is applied that the
// trail can't record, and again when it has ended.
func TestTrailOfMigrations(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		files, err := migrate.Files(env.Dialect())
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := os.CopyFS(dir, files); err != nil {
			t.Fatal(err)
		}
		const name = "20270101000000_more.sql"
		if err := os.WriteFile(filepath.Join(dir, name), []byte("CREATE TABLE more (id integer);\n"),
			0o600); err != nil {
			t.Fatal(err)
		}
		if err := migrate.Hash(dir); err != nil {
			t.Fatal(err)
		}
		cfg := migrate.Config{Dir: os.DirFS(dir), Trail: openTrail(t, env, audit.Config{})}
		if err := cfg.Trail.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := migrate.Apply(as(t), env.DB, cfg); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
		status, err := migrate.ReadStatus(t.Context(), env.DB, cfg)
		if err != nil || len(status.Pending) != 1 {
			t.Fatalf("the file was applied: %+v, %v", status, err)
		}
		cfg.Trail = w.trail
		if err := migrate.Apply(as(t), env.DB, cfg); err != nil {
			t.Fatal(err)
		}
		w.want(t, "migrate",
			audit.Entry{Action: audit.ActionState, Note: "migrate apply begins: " + name},
			audit.Entry{Action: audit.ActionState, Note: "migrate apply: " + name})
	})
}
