package migrate_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/dialect/sql/schema"
	"entgo.io/ent/schema/field"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

// Registers columns as the generated package of a user's schema does.
func init() { //nolint:gochecknoinits // see above
	scanner := column.NewField("secret", 500)
	encrypted.Register(encrypted.Binding{
		Column: encrypted.Column{
			Table: "vaults", Name: "secret", Size: 500, Type: "string", ID: "serial",
			Index: "secret_index",
		},
		Scanner: func() any { return scanner },
	})
}

// vaults returns that schema's table. Each test has its own, because ent writes
// to it.
func vaults(columns ...string) *schema.Table {
	serial := &schema.Column{Name: "serial", Type: field.TypeInt}
	t := &schema.Table{Name: "vaults", PrimaryKey: []*schema.Column{serial}, Columns: []*schema.Column{
		serial,
		{
			Name: "secret", Type: field.TypeBytes, Nullable: true,
			SchemaType: map[string]string{"postgres": "varchar(500)", "sqlite3": "varchar(500)"},
		},
	}}
	for _, name := range columns {
		c := &schema.Column{Name: name, Type: field.TypeString, Nullable: true}
		if name == "secret_index" {
			c.Type, c.SchemaType = field.TypeBytes, map[string]string{"postgres": "bytea", "sqlite3": "blob"}
		}
		t.Columns = append(t.Columns, c)
	}
	return t
}

// devDatabase creates empty databases of one dialect.
type devDatabase struct {
	name string
	open func(t *testing.T) *sql.DB
}

func devDatabases(t *testing.T) []devDatabase {
	t.Helper()
	open := func(t *testing.T, url string) *sql.DB {
		t.Helper()
		db, _, err := testopt.OpenDB(url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	return []devDatabase{
		{"sqlite", func(t *testing.T) *sql.DB {
			t.Helper()
			return open(t, "sqlite:"+filepath.Join(t.TempDir(), "dev.db")+"?_pragma=synchronous(0)")
		}},
		{"postgres", func(t *testing.T) *sql.DB {
			t.Helper()
			return open(t, pgserver.DatabaseForTest(t, pgserver.Shared()))
		}},
	}
}

// diff runs Diff, checks that a second run writes nothing, and returns the text
// of the new files.
func (d devDatabase) diff(t *testing.T, dir string, tables func() *schema.Table) string {
	t.Helper()
	before := files(t, dir)
	written, err := migrate.Diff(t.Context(), d.open(t), dir, "next", tables())
	if err != nil {
		t.Fatal(err)
	}
	after := files(t, dir)
	if written != (len(after) > len(before)) {
		t.Fatalf("written %v, %d files after %d", written, len(after), len(before))
	}
	if again, err := migrate.Diff(t.Context(), d.open(t), dir, "again", tables()); again || err != nil {
		t.Errorf("again: %v, %v", again, err)
	}
	if !written {
		return ""
	}
	var all strings.Builder
	for _, path := range after[len(before):] {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.sql"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func (d devDatabase) lint(t *testing.T, dir string) (lines []string) {
	t.Helper()
	found, err := migrate.Lint(t.Context(), d.open(t), os.DirFS(dir), migrate.LintOptions{Latest: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		lines = append(lines, fmt.Sprintf("%s:%d %s %s", f.Name, f.Line, f.Code, f.Severity))
	}
	return lines
}

// applied returns a database with a directory's migrations and one row.
func (d devDatabase) applied(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db := d.open(t)
	if err := testopt.Apply(t.Context(), db, testopt.WithDir(os.DirFS(dir))); err != nil {
		t.Fatal(err)
	}
	run(t, db, "INSERT INTO vaults (serial, secret, secret_index) VALUES (1, 'a', 'A')")
	return db
}

func run(t *testing.T, db *sql.DB, stmt string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), stmt); err != nil {
		t.Fatalf("%s: %v", stmt, err)
	}
}

// checkEmptied checks that changing a token clears the digest.
func checkEmptied(t *testing.T, db *sql.DB) {
	t.Helper()
	run(t, db, "UPDATE vaults SET secret = 'x'")
	var n int
	if err := db.QueryRowContext(t.Context(), "SELECT count(secret_index) FROM vaults").Scan(&n); err != nil || n != 0 {
		t.Errorf("the digest is there: %d, %v", n, err)
	}
}

// check returns Check's findings without the details.
func check(t *testing.T, db *sql.DB, dir string) (lines []string) {
	t.Helper()
	report, err := testopt.Check(t.Context(), db, testopt.WithDir(os.DirFS(dir)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		lines = append(lines, fmt.Sprintf("%s %s", f.Object, f.Kind))
		if f.String() == "" {
			t.Errorf("%+v has no words", f)
		}
	}
	return lines
}

const trigger1, trigger2 = "credent_vaults__secret_1", "credent_vaults__secret_2"

var missing = []string{"trigger " + trigger1 + " on vaults missing", "trigger " + trigger2 + " on vaults missing"}

func TestDiffTriggers(t *testing.T) {
	t.Parallel()
	for _, d := range devDatabases(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			indexed := func() *schema.Table { return vaults("secret_index") }

			// A table and its triggers are in one file.
			text := d.diff(t, dir, indexed)
			if strings.Count(text, "CREATE TRIGGER") != 2 || strings.Count(text, "CREATE TABLE") != 1 ||
				len(files(t, dir)) != 1 {
				t.Errorf("wrote %s", text)
			}
			if strings.HasPrefix(text, "-- atlas:delimiter \\n\\n\n\n") != (d.name == "sqlite") {
				t.Errorf("delimiter: %s", text)
			}
			if got := d.lint(t, dir); got != nil {
				t.Errorf("lint: %q", got)
			}
			db := d.applied(t, dir)
			if got := check(t, db, dir); got != nil {
				t.Errorf("check: %q", got)
			}
			checkEmptied(t, db)

			// A later file may drop the triggers.
			drop := "DROP TRIGGER " + trigger2
			if d.name == "postgres" {
				drop += " ON vaults"
			}
			write(t, dir, "20991231000000_drop.sql", drop+";\n")
			if err := migrate.Hash(dir); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"index_trigger:1 CT107 error"}, d.lint(t, dir)); diff != "" {
				t.Error(diff)
			}
			lost := d.applied(t, dir)
			if diff := cmp.Diff(missing[1:], check(t, lost, dir)); diff != "" {
				t.Error(diff)
			}
			if text = d.diff(t, dir, indexed); strings.Count(text, "CREATE TRIGGER") != 2 ||
				strings.Contains(text, "TABLE") {
				t.Errorf("wrote %s", text)
			}
			// Pending triggers aren't missing.
			if got := check(t, lost, dir); len(got) != 1 || !strings.HasSuffix(got[0], " file_pending") {
				t.Errorf("check: %q", got)
			}
			if err := testopt.Apply(t.Context(), lost, testopt.WithDir(os.DirFS(dir))); err != nil {
				t.Fatal(err)
			}
			checkEmptied(t, lost)

			// A column becomes NOT NULL, for which Atlas recreates an SQLite
			// table.
			text = d.diff(t, dir, func() *schema.Table {
				table := vaults("secret_index", "other")
				table.Columns[1].Nullable = false
				return table
			})
			if strings.Count(text, "CREATE TRIGGER") != map[string]int{"sqlite": 2}[d.name] {
				t.Errorf("wrote %s", text)
			}
			checkEmptied(t, d.applied(t, dir))

			// Without the index, the triggers are dropped first.
			text = d.diff(t, dir, func() *schema.Table { return vaults("other") })
			if i, j := strings.LastIndex(text, "DROP TRIGGER"), strings.Index(text, "TABLE"); i < 0 || j < i ||
				strings.Contains(text, "CREATE TRIGGER") {
				t.Errorf("wrote %s", text)
			}
			db = d.open(t)
			if err := testopt.Apply(t.Context(), db, testopt.WithDir(os.DirFS(dir))); err != nil {
				t.Fatal(err)
			}
			run(t, db, "INSERT INTO vaults (serial, secret) VALUES (1, 'a')")
			run(t, db, "UPDATE vaults SET secret = 'x'")
		})
	}
}

// A file older than triggers gets them in a new file, and an INHERITS child
// gets its own.
func TestDiffOlderDirectory(t *testing.T) {
	t.Parallel()
	for _, d := range devDatabases(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			create := "CREATE TABLE vaults (serial integer NOT NULL PRIMARY KEY AUTOINCREMENT, secret varchar(500) " +
				"NULL, secret_index blob NULL);\n"
			if d.name == "postgres" {
				create = "CREATE TABLE vaults (serial bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY, secret " +
					"varchar(500) NULL, secret_index bytea NULL, PRIMARY KEY (serial));\n"
			}
			write(t, dir, "20200101000000_old.sql", create)
			if err := migrate.Hash(dir); err != nil {
				t.Fatal(err)
			}
			db := d.applied(t, dir)
			if diff := cmp.Diff(missing, check(t, db, dir)); diff != "" {
				t.Error(diff)
			}
			indexed := func() *schema.Table {
				table := vaults("secret_index")
				table.Columns[0].Increment = true
				table.Schema = "billing" // ent omits it from the files
				return table
			}
			if text := d.diff(t, dir, indexed); strings.Count(text, "CREATE TRIGGER") != 2 ||
				strings.Contains(text, "billing") || strings.Contains(text, "TABLE") {
				t.Errorf("wrote %s", text)
			}
			if err := testopt.Apply(t.Context(), db, testopt.WithDir(os.DirFS(dir))); err != nil {
				t.Fatal(err)
			}
			if got := check(t, db, dir); got != nil {
				t.Errorf("check: %q", got)
			}
			if d.name == "sqlite" {
				return
			}
			run(t, db, "CREATE TABLE child () INHERITS (vaults)")
			want := []string{
				"trigger credent_child__secret_1 on child missing",
				"trigger credent_child__secret_2 on child missing",
			}
			if diff := cmp.Diff(want, check(t, db, dir)); diff != "" {
				t.Error(diff)
			}
			for _, stmt := range encrypted.IndexTriggers("postgres", encrypted.Column{
				Table: "child", Name: "secret",
				Index: "secret_index",
			}) {
				run(t, db, stmt)
			}
			if got := check(t, db, dir); got != nil {
				t.Errorf("check: %q", got)
			}
			run(t, db, "ALTER TABLE child DISABLE TRIGGER ALL")
			if got := check(t, db, dir); len(got) != 2 || !strings.HasSuffix(got[0], "on child changed") {
				t.Errorf("check: %q", got)
			}
		})
	}
}

// A user's table beside the module's own is checked, whatever the files.
func TestCheckOtherTables(t *testing.T) {
	t.Parallel()
	for _, d := range devDatabases(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			db := d.open(t)
			if err := testopt.Apply(t.Context(), db); err != nil {
				t.Fatal(err)
			}
			run(t, db, "CREATE TABLE vaults (serial integer PRIMARY KEY, secret varchar(500), secret_index "+
				map[string]string{"sqlite": "blob", "postgres": "bytea"}[d.name]+")")
			report, err := testopt.Check(t.Context(), db)
			if err != nil || len(report.Findings) != 2 || !errors.Is(report.Err(), migrate.ErrDrift) {
				t.Errorf("got %+v, %v", report, err)
			}
			dialect := map[string]string{"sqlite": "sqlite3", "postgres": "postgres"}[d.name]
			for _, stmt := range encrypted.IndexTriggers(dialect) {
				if strings.Contains(stmt, "vaults") || strings.Contains(stmt, "user_credentials") {
					run(t, db, stmt)
				}
			}
			if report, err = testopt.Check(t.Context(), db); err != nil || report.Err() != nil {
				t.Errorf("got %+v, %v", report, err)
			}
			// A missing trigger of the module's own is reported once.
			run(t, db, "DROP TRIGGER credent_user_credentials__api_key_1"+
				map[string]string{"postgres": " ON user_credentials"}[d.name])
			if report, err = testopt.Check(t.Context(), db); err != nil || len(report.Findings) != 1 ||
				report.Findings[0].Kind != migrate.DriftMissing {
				t.Errorf("got %+v, %v", report, err)
			}
		})
	}
}

// Tables without a generated package in the process may have blind indexes.
func TestDiffUnknownTables(t *testing.T) {
	t.Parallel()
	table := vaults("secret_index")
	table.Name = "others"
	table.Annotation = &entsql.Annotation{Checks: map[string]string{"others_secret_encrypted": "secret LIKE 'gAAAA%'"}}
	db, _, err := testopt.OpenDB("sqlite::memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	dir := t.TempDir()
	written, err := migrate.Diff(context.Background(), db, dir, "next", table)
	if !errors.Is(err, migrate.ErrUnknownColumn) || written || !slices.Equal(files(t, dir), nil) {
		t.Errorf("got %v, %v", written, err)
	}
	table.Columns = table.Columns[:2]
	if written, err = migrate.Diff(context.Background(), db, dir, "next", table); err != nil || !written {
		t.Errorf("without a column for digests: %v, %v", written, err)
	}
}
