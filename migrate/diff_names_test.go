package migrate_test

import (
	"os"
	"strings"
	"testing"

	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/dialect/sql/schema"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

// The columns of the release before the renames.
func init() { //nolint:gochecknoinits // as in lint_names_test.go
	scanner := column.NewField("email", 500)
	encrypted.Register(encrypted.Binding{
		Column: encrypted.Column{
			Client: "former names", Entity: "Person", Table: "patients", Name: "email", Size: 500,
			Index: "email_index",
		},
		Scanner: func() any { return scanner },
	})
}

// persons returns the table of one release.
func persons(table, name string) func() *schema.Table {
	return func() *schema.Table {
		id := &schema.Column{Name: "id", Type: field.TypeInt}
		text, digest := schema.Column{Name: name, Type: field.TypeBytes}, schema.Column{
			Name: name + "_index",
			Type: field.TypeBytes, Nullable: true,
		}
		text.SchemaType = map[string]string{"postgres": "varchar(500)", "sqlite3": "varchar(500)"}
		digest.SchemaType = map[string]string{"postgres": "bytea", "sqlite3": "blob"}
		t := &schema.Table{
			Name: table, PrimaryKey: []*schema.Column{id}, Columns: []*schema.Column{id, &text, &digest},
			Annotation: &entsql.Annotation{Checks: map[string]string{table + "_" + name + "_encrypted": name + ` LIKE 'gAAAA%'`}},
		}
		t.Indexes = []*schema.Index{{
			Name: "person_" + name + "_index", Unique: true,
			Columns: []*schema.Column{&digest},
		}}
		return t
	}
}

// TestDiffNames writes declared renames and their consequences into one file:
// no row loses its token or digest, and only the current name's triggers
// remain.
func TestDiffNames(t *testing.T) {
	t.Parallel()
	for _, d := range devDatabases(t) {
		for name, byHand := range map[string]string{
			"by diff": "", "the table by hand": "ALTER TABLE patients RENAME TO people;\n",
			"all by hand": "ALTER TABLE patients RENAME TO people;\nALTER TABLE people RENAME email TO mail;\n" +
				"ALTER TABLE people RENAME email_index TO mail_index;\n",
		} {
			t.Run(d.name+", "+name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				d.diff(t, dir, persons("patients", "email"))
				db := d.open(t)
				apply := func() {
					t.Helper()
					if err := testopt.Apply(t.Context(), db, testopt.WithDir(os.DirFS(dir))); err != nil {
						t.Fatal(err)
					}
				}
				apply()
				run(t, db, "INSERT INTO patients (id, email, email_index) VALUES (1, 'gAAAA1', 'A')")
				if byHand != "" {
					write(t, dir, "20991231000000_renames.sql", byHand)
					if err := migrate.Hash(dir); err != nil {
						t.Fatal(err)
					}
				}
				text := d.diff(t, dir, persons("people", "mail"))
				if strings.Contains(text, "DROP COLUMN") || strings.Contains(text, `RENAME TO "people"`) != (byHand == "") {
					t.Errorf("wrote %s", text)
				}
				for _, f := range d.lint(t, dir) {
					if strings.Contains(f, "CT1") {
						t.Errorf("lint: %s\n%s", f, text)
					}
				}
				apply()
				var token, digest string
				if err := db.QueryRowContext(t.Context(), "SELECT mail, mail_index FROM people").
					Scan(&token, &digest); err != nil || token+digest != "gAAAA1A" {
					t.Errorf("got %q and %q, %v", token, digest, err)
				}
				if got := check(t, db, dir); got != nil {
					t.Errorf("check: %q", got)
				}
				query := "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'"
				if d.name == "postgres" {
					query = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'people'::regclass AND NOT tgisinternal"
				}
				var n int
				if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil || n != 2 {
					t.Errorf("%d triggers, %v\n%s", n, err, text)
				}
				run(t, db, "UPDATE people SET mail = 'gAAAA2'")
				if err := db.QueryRowContext(t.Context(), "SELECT count(mail_index) FROM people").
					Scan(&n); err != nil || n != 0 {
					t.Errorf("%d digests outlive their token, %v", n, err)
				}
			})
		}
	}
}
