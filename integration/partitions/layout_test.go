package partitions

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

// empty returns a database without tables.
func empty(t *testing.T) *testdb.Env {
	t.Helper()
	env := &testdb.Env{URL: testdb.NewDatabase(t, "")}
	env.DB = testdb.OpenDB(t, env.URL)
	return env
}

func checkLayout(t *testing.T, env *testdb.Env, want migrate.Layout) {
	t.Helper()
	status, err := migrate.ReadStatus(t.Context(), env.DB, migrate.Config{})
	if err != nil || status.Err() != nil || status.Layout != want {
		t.Errorf("status %+v, %v", status, err)
	}
	report, err := migrate.Check(t.Context(), env.DB, migrate.Config{})
	if err != nil || report.Err() != nil || report.Layout != want {
		t.Errorf("check %+v, %v", report, err)
	}
	kind := map[migrate.Layout]string{migrate.Single: "r", migrate.Partitioned: "p"}[want]
	for _, table := range []string{"user_accounts", "user_credentials"} {
		if got := testdb.Lines(t, env.DB, "SELECT relkind::text FROM pg_class WHERE oid = to_regclass($1)",
			table)[0]; got != kind {
			t.Errorf("%s is a %q, want a %q", table, got, kind)
		}
	}
}

// The first Apply chooses the layout. Later ones keep it, with or without its
// name, and the stock command's history has the common files only.
func TestLayoutIsRemembered(t *testing.T) {
	t.Parallel()
	env := empty(t)
	ctx := t.Context()
	var planned []string
	err := migrate.Apply(ctx, env.DB, migrate.Config{
		Layout: migrate.Partitioned,
		DryRun: func(p migrate.Planned) { planned = append(planned, p.Name) },
	})
	if err != nil || !strings.HasSuffix(planned[len(planned)-1], "_partitions.sql") {
		t.Errorf("planned %v, %v", planned, err)
	}
	if n := testdb.Lines(t, env.DB, "SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public'")[0]; n != "0" {
		t.Errorf("a dry run made %s tables", n)
	}
	for _, layout := range []migrate.Layout{migrate.Partitioned, "", migrate.Partitioned} {
		if err := migrate.Apply(ctx, env.DB, migrate.Config{Layout: layout}); err != nil {
			t.Fatalf("%q: %v", layout, err)
		}
		checkLayout(t, env, migrate.Partitioned)
	}
	if err := migrate.Apply(ctx, env.DB, migrate.Config{Layout: migrate.Single}); !errors.Is(err,
		migrate.ErrLayoutMismatch) {
		t.Errorf("another layout: %v", err)
	}
	history := testdb.Lines(t, env.DB, "SELECT version FROM atlas_schema_revisions.atlas_schema_revisions WHERE "+
		"version NOT LIKE '.%' ORDER BY 1")
	if !slices.Equal(history, testdb.Versions(t)) {
		t.Errorf("the history has %v", history)
	}
	restored := env.Backup(t)(t)
	restored.DB = testdb.OpenDB(t, restored.URL)
	status, err := migrate.ReadStatus(t.Context(), restored.DB, migrate.Config{})
	if err != nil || status.Err() != nil || status.Layout != migrate.Partitioned {
		t.Errorf("restored: %+v, %v", status, err)
	}
}

// An Apply that is stopped before the layout's file has chosen it.
func TestLayoutIsChosenAtOnce(t *testing.T) {
	t.Parallel()
	env := empty(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := migrate.Apply(ctx, env.DB, migrate.Config{Layout: migrate.Partitioned, Progress: func(string) { cancel() }})
	if err == nil {
		t.Fatal("it went on")
	}
	if err := migrate.Apply(t.Context(), env.DB, migrate.Config{Layout: migrate.Single}); !errors.Is(err,
		migrate.ErrLayoutMismatch) {
		t.Errorf("another layout: %v", err)
	}
	status, err := migrate.ReadStatus(t.Context(), env.DB, migrate.Config{})
	if err != nil || status.Layout != migrate.Partitioned || !strings.HasSuffix(status.Pending[len(status.Pending)-1],
		"_partitions.sql") {
		t.Errorf("%+v, %v", status, err)
	}
	if err := migrate.Apply(t.Context(), env.DB, migrate.Config{}); err != nil {
		t.Fatal(err)
	}
	checkLayout(t, env, migrate.Partitioned)
}

// A database with empty tables moves to the layout. One with rows is refused,
// and isn't changed.
func TestLayoutOfExistingTables(t *testing.T) {
	t.Parallel()
	env := testdb.New(t)
	account := env.Account(t, "u1")
	partitions := migrate.Config{Layout: migrate.Partitioned}
	if err := migrate.Apply(t.Context(), env.DB, partitions); !errors.Is(err, migrate.ErrLayoutRefused) ||
		!strings.Contains(err.Error(), "user_accounts has rows") {
		t.Errorf("got %v", err)
	}
	checkLayout(t, env, migrate.Single)
	if err := migrate.Apply(t.Context(), env.DB, migrate.Config{Layout: migrate.Single}); err != nil {
		t.Error(err)
	}
	env.Client.UserAccount.DeleteOne(account).ExecX(t.Context())
	if err := migrate.Apply(t.Context(), env.DB, partitions); err != nil {
		t.Fatal(err)
	}
	checkLayout(t, env, migrate.Partitioned)
	env.Account(t, "u1")
}

func TestLayoutsThatAreRefused(t *testing.T) {
	t.Parallel()
	db := testdb.OpenDB(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
	if err := migrate.Apply(t.Context(), db, migrate.Config{Layout: migrate.Partitioned}); !errors.Is(err,
		migrate.ErrLayoutRefused) {
		t.Errorf("SQLite: %v", err)
	}
	if err := migrate.Apply(t.Context(), db, migrate.Config{Layout: "sharded"}); !errors.Is(err,
		migrate.ErrLayoutRefused) {
		t.Errorf("an unknown name: %v", err)
	}
	if err := migrate.Apply(t.Context(), db, migrate.Config{Layout: migrate.Single}); err != nil {
		t.Error(err)
	}
	files, err := migrate.Files("postgres")
	if err != nil {
		t.Fatal(err)
	}
	if err := migrate.Apply(t.Context(), db, migrate.Config{Layout: migrate.Partitioned, Dir: files}); err == nil {
		t.Error("a layout of another directory's tables")
	}
}

// Check looks at partitions too.
func TestLayoutDrift(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ change, want string }{
		{
			"ALTER TABLE user_credentials_p03 DISABLE ROW LEVEL SECURITY",
			"row-level security of user_credentials_p03",
		},
		{
			"ALTER TABLE user_credentials DETACH PARTITION user_credentials_p04",
			"table user_credentials_p04",
		},
		{
			"DROP TRIGGER credent_user_credentials__user_id_part ON user_credentials",
			"trigger credent_user_credentials__user_id_part on user_credentials",
		},
		{
			"ALTER TABLE user_accounts_p05 DISABLE TRIGGER ALL; GRANT SELECT ON user_accounts_p05 TO PUBLIC",
			"grant to PUBLIC on user_accounts_p05",
		},
		{
			"UPDATE credent_layout SET hash = 'x' WHERE version <> ''",
			"_partitions.sql",
		},
		{
			"DELETE FROM credent_layout WHERE version <> ''",
			"_partitions.sql",
		},
	} {
		t.Run(test.want, func(t *testing.T) {
			t.Parallel()
			env := &testdb.Env{URL: partitioned(t)}
			env.DB = testdb.OpenDB(t, env.URL)
			env.Exec(t, test.change)
			report, err := migrate.Check(t.Context(), env.DB, migrate.Config{})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(report.Findings,
				func(f migrate.Finding) bool { return strings.Contains(f.Object, test.want) }) {
				t.Errorf("found %v", report.Findings)
			}
		})
	}
}

// Several that migrate at once end with one layout.
func TestLayoutAtOnce(t *testing.T) {
	t.Parallel()
	env := empty(t)
	errs := make(chan error)
	for _, layout := range []migrate.Layout{migrate.Partitioned, migrate.Partitioned, migrate.Partitioned} {
		db := testdb.OpenDB(t, env.URL)
		go func() { errs <- testopt.Apply(t.Context(), db, func(cfg *migrate.Config) { cfg.Layout = layout }) }()
	}
	for range 3 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	checkLayout(t, env, migrate.Partitioned)
}

// Lint runs the module's files on the layout, and finds a file that its tables
// refuse.
func TestLintOfLayout(t *testing.T) {
	t.Parallel()
	files, err := migrate.Files("postgres")
	if err != nil {
		t.Fatal(err)
	}
	dev := empty(t)
	opts := migrate.LintOptions{Layout: migrate.Partitioned, Latest: 1}
	if _, err := migrate.Lint(t.Context(), dev.DB, files, opts); err != nil {
		t.Fatal(err)
	}
	for text, refused := range map[string]bool{
		"ALTER TABLE user_credentials ADD COLUMN note text;":                                             false,
		"CREATE UNIQUE INDEX one_key ON user_credentials (user_account_id);":                             true,
		"-- atlas:txmode none\n\nCREATE INDEX CONCURRENTLY a_key ON user_credentials (credential_type);": true,
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, files); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "20991231000000_next.sql"), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := migrate.Hash(dir); err != nil {
			t.Fatal(err)
		}
		_, err := migrate.Lint(t.Context(), dev.DB, os.DirFS(dir), opts)
		var failed *migrate.StatementError
		if errors.As(err, &failed) != refused || !refused && err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// The rows of a database in one piece come to one in partitions as
// docs/schema.md says, and back, without a key.
func TestRowsComeToAnotherLayout(t *testing.T) {
	t.Parallel()
	from := &world{Env: testdb.New(t), layout: layout{name: migrate.Single}}
	from.fill(t, 3)
	before := testdb.Opened(t, from.Ring, from.Tokens(t))
	for _, l := range []migrate.Layout{migrate.Partitioned, migrate.Single} {
		to := empty(t)
		to.Key, to.Ring = from.Key, from.Ring
		if err := migrate.Apply(t.Context(), to.DB, migrate.Config{Layout: l}); err != nil {
			t.Fatal(err)
		}
		dump := testdb.PgDump(t, from.URL, "--data-only", "--load-via-partition-root", "-t", "user_accounts*", "-t",
			"user_credentials*", "-t", "credent_*", "-T", "credent_layout")
		cmd := exec.CommandContext(t.Context(), filepath.Join(testdb.Server(t).BinDir(), "psql"), "--quiet", "-1",
			"--set=ON_ERROR_STOP=1", "--dbname", to.URL)
		cmd.Stdin = strings.NewReader(dump)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("psql: %v\n%s", err, out)
		}
		if diff := cmp.Diff(before, testdb.Opened(t, from.Ring, to.Tokens(t))); diff != "" {
			t.Errorf("in %s:\n%s", l, diff)
		}
		to.CheckIndex(t, from.Ring)
		checkLayout(t, to, l)
		from = &world{Env: to}
	}
}
