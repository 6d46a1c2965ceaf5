package migrations

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/migrate"
)

const noTx = "-- atlas:txmode none\n\n"

// blockingCases are files after ours with the findings about blocked readers or
// writers: line, code and severity, and the finding's steps if given.
var blockingCases = map[string]struct {
	file  string
	want  []string
	steps []string
}{
	"CHECK at once": {
		"ALTER TABLE user_accounts ADD CONSTRAINT c CHECK (account_name <> '');",
		[]string{"1 CT301 error"},
		[]string{
			"ALTER TABLE user_accounts ADD CONSTRAINT c CHECK (((account_name)::text <> ''::text)) NOT VALID;",
			"-- in the next file:", "ALTER TABLE user_accounts VALIDATE CONSTRAINT c;",
		},
	},
	"CHECK in steps, first": {
		"ALTER TABLE user_accounts ADD CONSTRAINT c CHECK (account_name <> '') NOT VALID;",
		nil, nil,
	},
	"CHECK and VALIDATE, one": {
		"ALTER TABLE user_accounts ADD CONSTRAINT c CHECK (account_name <> '') NOT " +
			"VALID;\nALTER TABLE user_accounts VALIDATE CONSTRAINT c;",
		[]string{"2 CT303 error"},
		[]string{"-- in the next file:", "ALTER TABLE user_accounts VALIDATE CONSTRAINT c;"},
	},
	"CHECK and VALIDATE, no tx": {noTx + "ALTER TABLE user_accounts ADD CONSTRAINT c CHECK (account_name <> '') NOT " +
		"VALID;\nALTER TABLE user_accounts VALIDATE CONSTRAINT c;", nil, nil},
	"CHECK of a new column": {
		"ALTER TABLE user_accounts ADD COLUMN n int CHECK (n > 0);",
		[]string{"1 CT301 error"},
		[]string{
			"ALTER TABLE user_accounts ADD COLUMN n integer;",
			"ALTER TABLE user_accounts ADD CONSTRAINT user_accounts_n_check CHECK ((n > 0)) NOT VALID;",
			"-- in the next file:", "ALTER TABLE user_accounts VALIDATE CONSTRAINT user_accounts_n_check;",
		},
	},
	"CHECK in a DO block": {"DO $$ BEGIN\n  EXECUTE 'ALTER TABLE user_accounts ADD ' || 'CONSTRAINT c CHECK " +
		"(true)';\nEND $$;", []string{"1 CT301 error"}, nil},
	"CHECK of a new table": {"CREATE TABLE n (id int);\nALTER TABLE n ADD CONSTRAINT c CHECK (id > 0);\nALTER " +
		"TABLE n ALTER COLUMN id SET NOT NULL;\nALTER TABLE n ADD PRIMARY KEY (id);\nALTER TABLE n ALTER COLUMN id " +
		"TYPE bigint;", nil, nil},
	"NOT VALID in a string": {"ALTER TABLE user_accounts ADD CONSTRAINT c CHECK (account_name <> 'NOT VALID'); " +
		"-- NOT VALID", []string{"1 CT301 error"}, nil},
	"foreign key at once": {
		"ALTER TABLE user_accounts ADD COLUMN p uuid;\nALTER TABLE user_accounts ADD " +
			"CONSTRAINT f FOREIGN KEY (p) REFERENCES user_accounts;",
		[]string{"2 CT301 error"},
		[]string{
			"ALTER TABLE user_accounts ADD CONSTRAINT f FOREIGN KEY (p) REFERENCES user_accounts(id) NOT VALID;",
			"-- in the next file:", "ALTER TABLE user_accounts VALIDATE CONSTRAINT f;",
		},
	},
	"foreign key in steps": {"ALTER TABLE user_accounts ADD COLUMN p uuid;\nALTER TABLE user_accounts ADD " +
		"CONSTRAINT f FOREIGN KEY (p) REFERENCES user_accounts NOT VALID;", nil, nil},
	"foreign key of a column": {
		"ALTER TABLE user_accounts ADD COLUMN p uuid REFERENCES user_accounts;",
		[]string{"1 CT301 error"},
		nil,
	},
	"table that refers to ours": {"CREATE TABLE n (p uuid REFERENCES user_accounts);", nil, nil},
	"SET NOT NULL": {
		"-- atlas:nolint data_depend\nALTER TABLE user_credentials ALTER COLUMN expires_at SET NOT NULL;",
		[]string{"2 CT302 error"},
		[]string{
			`ALTER TABLE user_credentials ADD CONSTRAINT "user_credentials_expires_at_not_null" CHECK (expires_at IS NOT NULL) NOT VALID;`,
			"-- in the next file:",
			`ALTER TABLE user_credentials VALIDATE CONSTRAINT "user_credentials_expires_at_not_null";`,
			"ALTER TABLE user_credentials ALTER COLUMN expires_at SET NOT NULL;",
			`ALTER TABLE user_credentials DROP CONSTRAINT "user_credentials_expires_at_not_null";`,
		},
	},
	"constant default": {"ALTER TABLE user_accounts ADD COLUMN n int NOT NULL DEFAULT 7;", nil, nil},
	"default now()":    {"ALTER TABLE user_accounts ADD COLUMN n timestamptz NOT NULL DEFAULT now();", nil, nil},
	"volatile default": {
		"ALTER TABLE user_accounts ADD COLUMN n uuid DEFAULT gen_random_uuid();",
		[]string{"1 CT304 error"},
		[]string{
			"ALTER TABLE user_accounts ADD COLUMN n uuid;",
			"ALTER TABLE user_accounts ALTER COLUMN n SET DEFAULT gen_random_uuid();",
			"-- then fill in the old rows in batches of some thousand, each in a transaction of its own:",
			"UPDATE user_accounts SET n = gen_random_uuid() WHERE n IS NULL AND …;",
		},
	},
	"default set later": {"ALTER TABLE user_accounts ADD COLUMN n uuid;\nALTER TABLE user_accounts ALTER COLUMN n " +
		"SET DEFAULT gen_random_uuid();", nil, nil},
	"serial": {
		"ALTER TABLE user_accounts ADD COLUMN n bigserial;",
		[]string{"1 MF103 warning", "1 CT304 error"},
		nil,
	},
	"identity": {
		"ALTER TABLE user_accounts ADD COLUMN n bigint GENERATED ALWAYS AS IDENTITY;",
		[]string{"1 MF103 warning", "1 CT304 error"},
		nil,
	},
	"generated": {
		"ALTER TABLE user_accounts ADD COLUMN n text GENERATED ALWAYS AS (lower(account_name)) STORED;",
		[]string{"1 CT304 error"},
		nil,
	},
	"type, rewritten": {"ALTER TABLE user_credentials ALTER COLUMN expires_at TYPE timestamptz;", []string{"1 CT304 error"}, []string{`ALTER TABLE user_credentials ADD COLUMN "expires_at_new" timestamp with time zone;`}},
	"type, scanned": {
		"ALTER TABLE user_credentials ALTER COLUMN api_key TYPE varchar(1000);",
		[]string{"1 CT301 error"},
		[]string{
			"ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_api_key_encrypted, ALTER COLUMN api_key " +
				"TYPE character varying(1000), ADD CONSTRAINT user_credentials_api_key_encrypted CHECK " +
				"(((api_key)::text ~~ 'gAAAA%'::text)) NOT VALID;",
			"-- in the next file:", "ALTER TABLE user_credentials VALIDATE CONSTRAINT " +
				"user_credentials_api_key_encrypted;",
		},
	},
	"type, not rewritten": {"ALTER TABLE user_accounts ALTER COLUMN account_name TYPE text;", nil, nil},
	"primary key": {"ALTER TABLE user_accounts DROP CONSTRAINT user_accounts_pkey CASCADE;\nALTER TABLE " +
		"user_accounts ADD PRIMARY KEY (user_id);", []string{"2 CT305 error"}, nil},
	"UNIQUE": {
		"-- atlas:nolint data_depend\nALTER TABLE user_accounts ADD CONSTRAINT u UNIQUE (account_name);",
		[]string{"2 CT305 error"},
		[]string{
			"-- in a file of its own, which begins with \"-- atlas:txmode none\" and a blank line:",
			"CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS u ON public.user_accounts USING btree (account_name);",
			"-- in the next file:", "ALTER TABLE user_accounts ADD CONSTRAINT u UNIQUE USING INDEX u;",
		},
	},
	"index, with steps": {
		"CREATE INDEX n ON user_accounts (account_name) WHERE is_active;",
		[]string{"1 CT201 error"},
		[]string{"-- in a file of its own, which begins with \"-- atlas:txmode none\" and " +
			"a blank line:", "CREATE INDEX CONCURRENTLY IF NOT EXISTS n ON public.user_accounts USING btree " +
			"(account_name) WHERE is_active;"},
	},
	"index in a DO block": {
		"DO $$ BEGIN CREATE INDEX n ON user_accounts (account_name); END $$;",
		[]string{"1 CT201 error"},
		nil,
	},
	"VACUUM FULL": {
		noTx + "VACUUM FULL user_accounts;",
		[]string{"3 CT304 error"},
		[]string{"VACUUM user_accounts;"},
	},
	"VACUUM":  {noTx + "VACUUM user_accounts;", nil, nil},
	"CLUSTER": {"CLUSTER user_accounts USING user_accounts_pkey;", []string{"1 CT304 error"}, nil},
	"REINDEX": {
		"REINDEX INDEX user_accounts_pkey;",
		[]string{"1 CT307 error"},
		[]string{
			"-- in a file of its own, which begins with \"-- atlas:txmode none\" and a blank line:",
			"REINDEX INDEX CONCURRENTLY user_accounts_pkey;",
		},
	},
	"REINDEX, beside":   {noTx + "REINDEX INDEX CONCURRENTLY user_accounts_pkey;", nil, nil},
	"LOCK":              {"LOCK TABLE user_accounts;", []string{"1 CT306 error"}, nil},
	"LOCK, for reading": {"LOCK TABLE user_accounts IN ACCESS SHARE MODE;", nil, nil},
	"two tables": {"ALTER TABLE user_accounts ADD COLUMN n int;\nALTER TABLE user_credentials ADD COLUMN n " +
		"int;", []string{"2 CT308 warning"}, []string{"-- in the next file:", "ALTER TABLE user_credentials ADD " +
		"COLUMN n int;"}},
	"two tables, no tx": {noTx + "ALTER TABLE user_accounts ADD COLUMN n int;\nALTER TABLE user_credentials ADD " +
		"COLUMN n int;", nil, nil},
	"one table twice": {
		"ALTER TABLE user_accounts ADD COLUMN n int;\nALTER TABLE user_accounts ADD COLUMN m int;",
		nil, nil,
	},
	"nolint by name": {"-- atlas:nolint blocking\nALTER TABLE user_accounts ADD COLUMN n uuid DEFAULT " +
		"gen_random_uuid();", nil, nil},
	"nolint by code": {"-- atlas:nolint CT301\nALTER TABLE user_accounts ADD COLUMN n uuid DEFAULT " +
		"gen_random_uuid() CHECK (true);", []string{"2 CT304 error"}, nil},
	"nolint for the file": {"-- atlas:nolint blocking\n\nLOCK TABLE user_accounts;\nALTER TABLE user_accounts ADD " +
		"CHECK (true);", nil, nil},
}

func TestLintBlocking(t *testing.T) {
	t.Parallel()
	all := testdb.Versions(t)
	for name, tt := range blockingCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found, err := migrate.Lint(t.Context(), testdb.OpenDB(t, testdb.NewDatabase(t, ""),
				testdb.Drivers[[]string{"pq", "pgx"}[len(name)%2]]...),
				directory(t, map[string]string{next: tt.file}), migrate.LintOptions{Since: all[len(all)-1]})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range found {
				got = append(got, fmt.Sprintf("%d %s %s", d.Line, d.Code, d.Severity))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Fatalf("%s\n%v", diff, found)
			}
			if tt.steps != nil {
				if diff := cmp.Diff(tt.steps, found[len(found)-1].Steps); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// A finding's steps run as printed, and have no findings.
func TestLintStepsRun(t *testing.T) {
	t.Parallel()
	all := testdb.Versions(t)
	for _, name := range []string{
		"CHECK at once", "foreign key of a column", "SET NOT NULL", "UNIQUE",
		"index, with steps", "REINDEX", "serial", "identity", "volatile default", "VACUUM FULL", "type, scanned",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lint := func(files map[string]string) []migrate.Diagnostic {
				t.Helper()
				found, err := migrate.Lint(t.Context(), testdb.OpenDB(t, testdb.NewDatabase(t, "")),
					directory(t, files),
					migrate.LintOptions{Since: all[len(all)-1]})
				if err != nil {
					t.Fatal(err)
				}
				return found
			}
			found := lint(map[string]string{next: blockingCases[name].file})
			if len(found) == 0 || len(found[len(found)-1].Steps) == 0 {
				t.Fatalf("no steps: %v", found)
			}
			files, number, text, head := make(map[string]string), 0, "", ""
			add := func() {
				if text != "" {
					files[fmt.Sprintf("2099123100000%d_step.sql", number)] = head + text
					number++
				}
				text, head = "", ""
			}
			for _, step := range found[len(found)-1].Steps {
				switch {
				case strings.Contains(step, "atlas:txmode none"):
					add()
					head = noTx
				case step == "-- in the next file:":
					add()
				case strings.HasPrefix(step, "VACUUM"):
					head, text = noTx, text+step+"\n"
				default:
					text += strings.ReplaceAll(step, " AND …", "") + "\n"
				}
			}
			add()
			if again := slices.DeleteFunc(lint(files),
				func(d migrate.Diagnostic) bool { return d.Code[:2] != "CT" }); len(again) > 0 {
				t.Errorf("%v\n%v", files, again)
			}
		})
	}
}
