package migrate_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/migrate"
)

// Registers columns like a generated package: the first column's renames are
// declared, the second's aren't.
func init() { //nolint:gochecknoinits // see above
	for _, c := range []encrypted.Column{
		{
			Client: "names", Entity: "Person", Table: "people", Name: "mail", Size: 500, Index: "mail_index",
			Was: "people.email,patients.mail,patients.email",
		},
		{Client: "names", Entity: "Clinic", Table: "clinics", Name: "mail", Size: 500, Index: "mail_index"},
	} {
		scanner := column.NewField(c.Name, c.Size)
		encrypted.Register(encrypted.Binding{Column: c, Scanner: func() any { return scanner }})
	}
}

// named creates the tables to rename. The last one is known only by its CHECK.
const named = `CREATE TABLE patients (id int PRIMARY KEY, email varchar(500), email_index BYTES, note varchar(255),
  CONSTRAINT patients_email_encrypted CHECK (email LIKE 'gAAAA%'));
CREATE TABLE clinics (id int PRIMARY KEY, email varchar(500), email_index BYTES, note varchar(255),
  CONSTRAINT clinics_email_encrypted CHECK (email LIKE 'gAAAA%'));
CREATE TABLE drawers (id int PRIMARY KEY, pin varchar(500), pin_index BYTES, note varchar(255), "Label" varchar(10),
  CONSTRAINT drawers_pin_encrypted CHECK (pin LIKE 'gAAAA%'));
`

// TestLintNames covers renames of encrypted columns, their tables and their
// blind indexes.
func TestLintNames(t *testing.T) {
	t.Parallel()
	databases := devDatabases(t)
	for name, tt := range map[string]struct {
		file string
		want []string // for each finding: its line and a part of its text
	}{
		"declared column": {"ALTER TABLE patients RENAME COLUMN email TO mail;", nil},
		"declared table":  {"ALTER TABLE patients RENAME TO people;", nil},
		"declared both, in any order": {
			"ALTER TABLE patients RENAME TO people;\nALTER TABLE people RENAME email TO mail;\nALTER TABLE people " +
				"RENAME email_index TO mail_index;", nil,
		},
		"there and back": {
			"ALTER TABLE drawers RENAME pin TO code;\nALTER TABLE drawers RENAME code TO pin;",
			nil,
		},
		"what isn't encrypted": {"ALTER TABLE drawers RENAME COLUMN note TO remark;", nil},
		"another table": {"CREATE TABLE boxes (id int PRIMARY KEY, code varchar(500));\nALTER TABLE boxes " +
			"RENAME TO chests;", nil},
		"left out by directive": {
			"-- atlas:nolint encrypted_column\nALTER TABLE drawers RENAME COLUMN pin TO code;",
			nil,
		},
		"column": {
			"ALTER TABLE drawers RENAME COLUMN pin TO code;", []string{`1 "drawers.pin" becomes "drawers.code"`, `WasNamed("pin") to the field of column "code"`},
		},
		"column of a known entity": {
			"ALTER TABLE clinics RENAME COLUMN email TO mail;", []string{`1 WasNamed("email") to the field of column "mail", of Clinic in the ent schema`},
		},
		"column without the word, in quotes and another case": {
			"/* a note */ ALTER TABLE \"drawers\"\n  RENAME PIN TO \"Code\";", []string{`1 "drawers.pin" becomes "drawers.Code"`},
		},
		"table": {
			"ALTER TABLE drawers RENAME TO cupboards;",
			[]string{`1 "drawers.pin" becomes "cupboards.pin"`, `encrypted.TableWasNamed("drawers") to the Annotations of the entity, of table "cupboards"`},
		},
		"both": {
			"ALTER TABLE drawers RENAME TO cupboards;\nALTER TABLE cupboards RENAME pin TO code;",
			[]string{`2 "drawers.pin" becomes "cupboards.code"`, `WasNamed("drawers.pin")`},
		},
		"swapped": {
			"ALTER TABLE drawers ADD COLUMN puk varchar(500) CHECK (puk LIKE 'gAAAA%');\nALTER TABLE drawers RENAME " +
				"pin TO x;\nALTER TABLE drawers RENAME puk TO pin;\nALTER TABLE drawers RENAME x TO puk;",
			[]string{`4 "drawers.pin" becomes "drawers.puk"`},
		},
		"drop and add": {
			"ALTER TABLE drawers ADD COLUMN code varchar(500) CHECK (code LIKE 'gAAAA%');\nUPDATE drawers SET code = " +
				"pin;\nALTER TABLE drawers DROP CONSTRAINT drawers_pin_encrypted;\nALTER TABLE drawers DROP COLUMN " +
				"pin;", []string{`4 "drawers.pin" becomes "drawers.code"`},
		},
		"drop alone": {"ALTER TABLE drawers DROP CONSTRAINT drawers_pin_encrypted;\nALTER TABLE drawers DROP COLUMN " +
			"pin;", nil},
		"table made anew": {
			"CREATE TABLE new_drawers (id int PRIMARY KEY, pin varchar(500), pin_index BYTES, CONSTRAINT " +
				"drawers_pin_encrypted CHECK (pin LIKE 'gAAAA%'));\nINSERT INTO new_drawers (id, pin) SELECT id, pin " +
				"FROM drawers;\nDROP TABLE drawers;\nALTER TABLE new_drawers RENAME TO drawers;", nil,
		},
		"table made anew with another column": {
			"CREATE TABLE new_drawers (id int PRIMARY KEY, code varchar(500), pin_index BYTES, CONSTRAINT " +
				"drawers_code_encrypted CHECK (code LIKE 'gAAAA%'));\nINSERT INTO new_drawers (id, code) SELECT id, " +
				"pin FROM drawers;\nDROP TABLE drawers;\nALTER TABLE new_drawers RENAME TO drawers;",
			[]string{`"drawers.pin" becomes "drawers.code"`},
		},
		"table made anew under another name": {
			"CREATE TABLE new_cupboards (id int PRIMARY KEY, code varchar(500) CHECK (code LIKE 'gAAAA%'));\n" +
				"INSERT INTO new_cupboards (id, code) SELECT id, pin FROM drawers;\nDROP TABLE drawers;\nALTER TABLE " +
				"new_cupboards RENAME TO cupboards;", []string{`3 "drawers.pin" becomes "cupboards.code"`},
		},
		"table put aside": {
			"ALTER TABLE drawers RENAME TO old_drawers;\nCREATE TABLE drawers (id int PRIMARY KEY, code varchar(500) " +
				"CHECK (code LIKE 'gAAAA%'));\nINSERT INTO drawers (id, code) SELECT id, pin FROM old_drawers;\nDROP " +
				"TABLE old_drawers;", []string{`4 "drawers.pin" becomes "drawers.code"`},
		},
		"declared, by a table made anew": {
			"CREATE TABLE people (id int PRIMARY KEY, mail varchar(500), mail_index BYTES, CHECK (mail LIKE " +
				"'gAAAA%'));\nINSERT INTO people (id, mail, mail_index) SELECT id, email, email_index FROM " +
				"patients;\nDROP TABLE patients;", nil,
		},
		"postgres: in a block": {
			"DO $$ BEGIN\n  ALTER TABLE drawers RENAME pin TO code;\nEND $$;", []string{`1 "drawers.pin" becomes "drawers.code"`},
		},
		"postgres: a copy of the table": {
			"CREATE TABLE cupboards (LIKE drawers INCLUDING ALL);\nINSERT INTO cupboards SELECT * FROM " +
				"drawers;\nDROP TABLE drawers;", []string{`3 "drawers.pin" becomes "cupboards.pin"`},
		},
		"postgres: the table's schema": {
			"CREATE SCHEMA ward;\nALTER TABLE drawers SET SCHEMA ward;\nALTER SCHEMA ward RENAME TO clinic;", nil,
		},
		"postgres: a table of another schema": {
			"CREATE SCHEMA ward;\nCREATE TABLE ward.drawers (id int PRIMARY KEY, pin varchar(500) CHECK (pin LIKE " +
				"'gAAAA%'));\nALTER TABLE IF EXISTS ONLY ward.drawers RENAME TO boxes;\nALTER TABLE public.drawers " +
				"RENAME TO cupboards;", []string{`4 "drawers.pin" becomes "cupboards.pin"`},
		},
		"digests dropped": {
			"ALTER TABLE patients RENAME COLUMN email TO mail;\nALTER TABLE patients ADD COLUMN mail_index " +
				"BYTES;\nALTER TABLE patients DROP COLUMN email_index;",
			[]string{`3 column "email_index" has the digests of encrypted column "email", and is dropped where "mail_index" is added: rename it`},
		},
		"digests elsewhere": {
			"ALTER TABLE patients RENAME TO people;\nALTER TABLE people RENAME email TO mail;\nALTER TABLE people " +
				"RENAME email_index TO mail_digest;",
			[]string{`3 becomes "mail_digest", where the ent schema has "mail_index"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, d := range databases {
				if strings.HasPrefix(name, "postgres: ") && d.name != "postgres" {
					continue
				}
				bytes := strings.NewReplacer("BYTES", map[string]string{"sqlite": "blob", "postgres": "bytea"}[d.name])
				dir := t.TempDir()
				write(t, dir, "20260101000000_tables.sql", bytes.Replace(named))
				write(t, dir, "20260101000001_next.sql", bytes.Replace(tt.file))
				if err := migrate.Hash(dir); err != nil {
					t.Fatal(err)
				}
				found, err := migrate.Lint(t.Context(), d.open(t), os.DirFS(dir), migrate.LintOptions{Latest: 1})
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, f := range found {
					if f.Code == "CT108" && f.Severity == migrate.SeverityError {
						got = append(got, fmt.Sprint(f.Line, " ", f.Text))
					}
				}
				if len(got) > 1 || len(got) == 0 != (len(tt.want) == 0) {
					t.Errorf("%s: %s\n%v", d.name, cmp.Diff(tt.want, got), found)
					continue
				}
				for _, want := range tt.want {
					line, text, ok := strings.Cut(want, " ")
					if _, err := fmt.Sscan(line, new(int)); err != nil || !ok {
						line, text = "", want
					}
					if !strings.HasPrefix(got[0], line) || !strings.Contains(got[0], text) {
						t.Errorf("%s: %q is not in %q", d.name, want, got[0])
					}
				}
			}
		})
	}
}

// A chain of renames in two files is declared if each name is.
func TestLintNamesInARow(t *testing.T) {
	t.Parallel()
	for _, d := range devDatabases(t) {
		dir := t.TempDir()
		write(t, dir, "20260101000000_tables.sql", strings.ReplaceAll(named, "BYTES",
			map[string]string{"sqlite": "blob", "postgres": "bytea"}[d.name]))
		write(t, dir, "20260101000001_column.sql", "ALTER TABLE patients RENAME COLUMN email TO mail;\nALTER TABLE "+
			"clinics RENAME COLUMN email TO x;\n")
		write(t, dir, "20260101000002_table.sql", "ALTER TABLE patients RENAME TO people;\nALTER TABLE clinics "+
			"RENAME COLUMN x TO mail;\n")
		if err := migrate.Hash(dir); err != nil {
			t.Fatal(err)
		}
		found, err := migrate.Lint(t.Context(), d.open(t), os.DirFS(dir), migrate.LintOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range found {
			if f.Code == "CT108" {
				got = append(got, fmt.Sprintf("%s:%d", f.File, f.Line))
			}
		}
		if diff := cmp.Diff([]string{"20260101000001_column.sql:2", "20260101000002_table.sql:2"}, got); diff != "" {
			t.Errorf("%s: %s", d.name, diff)
		}
	}
}
