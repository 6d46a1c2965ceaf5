package migrate_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/dialect/sql/schema"
	"entgo.io/ent/schema/field"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

// items returns tables before and after a change with every blocking step.
func items(after bool) []*schema.Table {
	id := &schema.Column{Name: "id", Type: field.TypeInt}
	owners := &schema.Table{Name: "owners", PrimaryKey: []*schema.Column{id}, Columns: []*schema.Column{id}}
	own := &schema.Column{Name: "id", Type: field.TypeInt}
	name := &schema.Column{Name: "name", Type: field.TypeString, Nullable: true}
	token := &schema.Column{
		Name: "token", Type: field.TypeString, Nullable: true,
		SchemaType: map[string]string{"postgres": "varchar(500)"},
	}
	owner := &schema.Column{Name: "owner", Type: field.TypeInt, Nullable: true}
	t := &schema.Table{Name: "items", PrimaryKey: []*schema.Column{own}, Columns: []*schema.Column{
		own,
		name, token, owner,
	}}
	t.Annotation = &entsql.Annotation{Checks: map[string]string{"items_token_check": "token LIKE 'gAAAA%'"}}
	if !after {
		return []*schema.Table{owners, t}
	}
	name.Nullable = false
	token.SchemaType = map[string]string{"postgres": "varchar(900)"}
	t.Annotation.Checks["items_name_check"] = "name <> ''"
	t.Indexes = []*schema.Index{
		{Name: "items_name", Columns: []*schema.Column{name}},
		{Name: "items_owner", Unique: true, Columns: []*schema.Column{owner}},
	}
	t.ForeignKeys = []*schema.ForeignKey{{
		Symbol: "items_owner_fk", Columns: []*schema.Column{owner},
		RefColumns: []*schema.Column{id}, RefTable: owners,
	}}
	made := &schema.Column{Name: "id", Type: field.TypeInt}
	other := &schema.Table{Name: "others", PrimaryKey: []*schema.Column{made}, Columns: []*schema.Column{made}}
	other.Indexes = []*schema.Index{{Name: "others_id", Columns: []*schema.Column{made}}}
	return []*schema.Table{owners, t, other}
}

// Diff writes a change to tables with rows as steps that block nobody.
func TestDiffInSteps(t *testing.T) {
	t.Parallel()
	for _, dev := range devDatabases(t) {
		if dev.name != "postgres" {
			continue
		}
		dir := t.TempDir()
		if err := migrate.Hash(dir); err != nil {
			t.Fatal(err)
		}
		diff := func(name string, after bool) bool {
			t.Helper()
			written, err := migrate.Diff(t.Context(), dev.open(t), dir, name, items(after)...)
			if err != nil {
				t.Fatal(err)
			}
			return written
		}
		if !diff("first", false) {
			t.Fatal("nothing was written")
		}
		first := files(t, dir)
		db := dev.open(t)
		if err := testopt.Apply(t.Context(), db, testopt.WithDir(os.DirFS(dir))); err != nil {
			t.Fatal(err)
		}
		for _, stmt := range []string{"INSERT INTO owners VALUES (1)", "INSERT INTO items (id, name, token, owner) " +
			"VALUES (1, 'n', 'gAAAA1', 1)"} {
			if _, err := db.ExecContext(t.Context(), stmt); err != nil {
				t.Fatal(err)
			}
		}
		if !diff("change", true) || diff("again", true) {
			t.Fatal("written once is what it should be")
		}
		all := files(t, dir)
		var got []string
		for _, path := range all[len(first):] {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, name, _ := strings.Cut(filepath.Base(path), "_")
			got = append(got, name+"\n"+string(text))
		}
		want := []string{
			`change.sql
-- Create "others" table
CREATE TABLE "others" (
  "id" bigint NOT NULL,
  PRIMARY KEY ("id")
);
-- Create index "others_id" to table: "others"
CREATE INDEX "others_id" ON "others" ("id");
-- Modify "items" table
ALTER TABLE "items" DROP CONSTRAINT "items_token_check", ` +
				`ADD CONSTRAINT "items_name_check" CHECK ((name)::text <> ''::text) NOT VALID, ` +
				`ADD CONSTRAINT "items_name_not_null" CHECK ("name" IS NOT NULL) NOT VALID, ` +
				`ADD CONSTRAINT "items_token_check" CHECK ((token)::text ~~ 'gAAAA%'::text) NOT VALID, ` +
				`ALTER COLUMN "token" TYPE character varying(900), ` +
				"ADD\n" + `CONSTRAINT "items_owner_fk" FOREIGN KEY ("owner") REFERENCES "owners" ("id") ON UPDATE NO ACTION ON DELETE NO ACTION NOT VALID;
`,
			`change_validate.sql
-- Validate "items_name_check" of "items", while others read and write
ALTER TABLE "items" VALIDATE CONSTRAINT "items_name_check";
-- Validate "items_name_not_null" of "items", while others read and write
ALTER TABLE "items" VALIDATE CONSTRAINT "items_name_not_null";
-- Validate "items_token_check" of "items", while others read and write
ALTER TABLE "items" VALIDATE CONSTRAINT "items_token_check";
-- Validate "items_owner_fk" of "items", while others read and write
ALTER TABLE "items" VALIDATE CONSTRAINT "items_owner_fk";
-- No row of "items" may have NULL in "name": fill them in before this file
ALTER TABLE "items" ALTER COLUMN "name" SET NOT NULL, DROP CONSTRAINT "items_name_not_null";
`,
			`change_index.sql
-- atlas:txmode none

-- Create index "items_name" to table: "items"
CREATE INDEX CONCURRENTLY IF NOT EXISTS "items_name" ON "items" ("name");
`,
			`change_index_2.sql
-- atlas:txmode none

-- Create index "items_owner" to table: "items"
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS "items_owner" ON "items" ("owner");
`,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		version, _, _ := strings.Cut(filepath.Base(first[0]), "_")
		found, err := migrate.Lint(t.Context(), dev.open(t), os.DirFS(dir), migrate.LintOptions{Since: version})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range found {
			if d.Severity == migrate.SeverityError {
				t.Error(d)
			}
		}
		if err := testopt.Apply(t.Context(), db, testopt.WithDir(os.DirFS(dir))); err != nil {
			t.Error(err)
		}
	}
}
