package migrations

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

// The foreign key of a credential, and Postgres's text for it.
const (
	accountKey = "user_credentials_user_id_user_account_id_fkey"
	twoColumns = "FOREIGN KEY (user_id, user_account_id) REFERENCES public.user_accounts(user_id, id) " +
		"ON UPDATE CASCADE ON DELETE CASCADE"
)

// findings formats a report's findings for people.
func findings(report *migrate.Report) []string {
	var all []string
	for _, f := range report.Findings {
		all = append(all, f.String())
	}
	return all
}

// checkClean fails the test on any finding.
func checkClean(t *testing.T, env *testdb.Env) {
	t.Helper()
	report, err := testopt.Check(t.Context(), env.DB)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Err(); err != nil {
		t.Errorf("a freshly migrated database: %v\n%s", err, strings.Join(findings(report), "\n"))
	}
}

// A restored database equals the dumped one, including the lists of its CHECKs,
// which Postgres prints differently after a restore.
func TestCheckAfterRestore(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		restored := env.Backup(t)(t)
		restored.DB = testdb.OpenDB(t, restored.URL)
		checkClean(t, restored)
		if restored.IsSQLite() {
			return
		}
		restored.Exec(t, "ALTER TABLE credent_states DROP CONSTRAINT credent_states_state, "+
			"ADD CONSTRAINT credent_states_state CHECK (state IN ('off', 'accept', 'write', 'anything'))")
		report, err := testopt.Check(t.Context(), restored.DB)
		if err != nil {
			t.Fatal(err)
		}
		if got := findings(report); len(got) != 1 || !strings.Contains(got[0], "'anything'::text") {
			t.Errorf("another list is found as %q", got)
		}
	})
}

// Each statement is a plausible change by hand.
var drifts = []struct {
	name string
	sql  string
	want []string
}{
	{"dropped table", "DROP TABLE user_credentials", []string{
		"table user_credentials: missing",
	}},
	{"extra column", "ALTER TABLE user_accounts ADD COLUMN note text", []string{
		"column user_accounts.note: not of the migrations",
	}},
	{"dropped column", "ALTER TABLE user_credentials DROP COLUMN expires_at", []string{
		"column user_credentials.expires_at: missing",
	}},
	{"narrower column", "ALTER TABLE user_credentials ALTER COLUMN api_key TYPE varchar(200)", []string{
		"column user_credentials.api_key: narrower than it should be: type is character varying(200), should be " +
			"character varying(500)",
	}},
	{"wider column", "ALTER TABLE user_accounts ALTER COLUMN account_name TYPE text", []string{
		"column user_accounts.account_name: changed: type is text, should be character varying(255)",
	}},
	{"other type", "ALTER TABLE user_credentials ALTER COLUMN expires_at TYPE timestamptz", []string{
		"column user_credentials.expires_at: changed: type is timestamp with time zone, should be timestamp without " +
			"time zone",
	}},
	{"other default", "ALTER TABLE user_accounts ALTER COLUMN is_active SET DEFAULT false", []string{
		"column user_accounts.is_active: changed: default is false, should be true",
	}},
	// Check never computes the value of a default: this one can't be compared
	// with a time.
	{
		"strange default", "ALTER TABLE user_accounts ALTER COLUMN created_at SET DEFAULT ('now'::text)::timestamp",
		[]string{
			"column user_accounts.created_at: changed: default is ('now'::text)::timestamp without time zone, should " +
				"be timezone('utc'::text, now())",
		},
	},
	{"no default", "ALTER TABLE user_accounts ALTER COLUMN id DROP DEFAULT", []string{
		"column user_accounts.id: changed: default is none, should be gen_random_uuid()",
	}},
	{"nullable", "ALTER TABLE user_credentials ALTER COLUMN secret_key DROP NOT NULL", []string{
		"column user_credentials.secret_key: changed: nullability is NULL, should be NOT NULL",
	}},
	{"other collation", `ALTER TABLE user_accounts ALTER COLUMN account_name TYPE varchar(255) COLLATE "POSIX"`, []string{
		"column user_accounts.account_name: changed: collation is POSIX, should be none",
	}},
	{"unlogged", "ALTER TABLE user_credentials SET UNLOGGED", []string{
		"table user_credentials: changed: storage is unlogged, should be permanent",
	}},
	{"dropped index", "DROP INDEX idx_user_credentials_user_id", []string{
		"index idx_user_credentials_user_id on user_credentials: missing",
	}},
	{"extra index", "CREATE INDEX api_key_index ON user_credentials (api_key)", []string{
		"index api_key_index on user_credentials: not of the migrations",
	}},
	{"other index", "DROP INDEX idx_user_accounts_user_id; CREATE UNIQUE INDEX idx_user_accounts_user_id ON " +
		"user_accounts (user_id, id)", []string{
		"index idx_user_accounts_user_id on user_accounts: changed: uniqueness is unique, should be not unique; " +
			"definition is btree (user_id, id), should be btree (user_id)",
	}},
	{"invalid index", "UPDATE pg_index SET indisvalid = false WHERE indexrelid = " +
		"'idx_user_credentials_user_id'::regclass", []string{
		"index idx_user_credentials_user_id on user_credentials: changed: state is invalid, should be valid",
	}},
	{"dropped check", "ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_api_key_encrypted", []string{
		"constraint user_credentials_api_key_encrypted on user_credentials: missing",
	}},
	{
		"weaker check", "ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_api_key_encrypted; " +
			"ALTER TABLE user_credentials ADD CONSTRAINT user_credentials_api_key_encrypted CHECK (true) NOT VALID",
		[]string{
			"constraint user_credentials_api_key_encrypted on user_credentials: changed: definition is CHECK (true) " +
				"NOT VALID, should be CHECK (((api_key)::text ~~ 'gAAAA%'::text))",
		},
	},
	{"extra constraint", "ALTER TABLE user_accounts ADD CONSTRAINT short CHECK (length(user_id) < 10)", []string{
		"constraint short on user_accounts: not of the migrations",
	}},
	{"dropped unique", "ALTER TABLE user_accounts DROP CONSTRAINT user_accounts_user_id_key", []string{
		"constraint user_accounts_user_id_key on user_accounts: missing",
	}},
	{"other foreign key", "ALTER TABLE user_credentials DROP CONSTRAINT " + accountKey + ", " +
		"ADD CONSTRAINT " + accountKey + " FOREIGN KEY (user_account_id) REFERENCES user_accounts (id)", []string{
		"constraint " + accountKey + " on user_credentials: changed: definition is " +
			"FOREIGN KEY (user_account_id) REFERENCES public.user_accounts(id), should be " + twoColumns,
	}},
	{"foreign key that was not validated", "ALTER TABLE user_credentials DROP CONSTRAINT " + accountKey + ", " +
		"ADD CONSTRAINT " + accountKey + " " + twoColumns + " NOT VALID", []string{
		"constraint " + accountKey + " on user_credentials: changed: definition is " + twoColumns + " NOT VALID",
	}},
	{"dropped key", "DROP INDEX user_accounts_user_id_id_key CASCADE", []string{
		"index user_accounts_user_id_id_key on user_accounts: missing",
		"constraint " + accountKey + " on user_credentials: missing",
	}},
	{"users that a collation takes for one", "CREATE COLLATION nocase " +
		"(provider = icu, locale = 'und-u-ks-level2', deterministic = false); " +
		"DROP POLICY user_accounts_tenant ON user_accounts; " +
		"ALTER TABLE user_accounts ALTER COLUMN user_id TYPE varchar(255) COLLATE nocase", []string{
		"column user_accounts.user_id: changed: collation is nocase, should be none",
		"policy user_accounts_tenant on user_accounts: missing",
	}},
	{"dropped policy", "DROP POLICY user_credentials_tenant ON user_credentials", []string{
		"policy user_credentials_tenant on user_credentials: missing",
	}},
	{"wider policy", "ALTER POLICY user_accounts_tenant ON user_accounts USING (true)", []string{
		"policy user_accounts_tenant on user_accounts: changed: USING is true, should be ",
	}},
	{"extra policy", "CREATE POLICY everything ON user_credentials FOR SELECT USING (true)", []string{
		"policy everything on user_credentials: not of the migrations",
	}},
	{"disabled row-level security", "ALTER TABLE user_credentials DISABLE ROW LEVEL SECURITY", []string{
		"row-level security of user_credentials: changed: state is disabled, should be enabled",
	}},
	{"keys of tenants that every user sees", "ALTER TABLE credent_tenant_keys DISABLE ROW LEVEL SECURITY", []string{
		"row-level security of credent_tenant_keys: changed: state is disabled, should be enabled",
	}},
	{"keys of tenants that services change", "GRANT UPDATE (wrapped) ON credent_tenant_keys TO credent_app", []string{
		"grant to credent_app (wrapped) on credent_tenant_keys: changed: privileges is INSERT, UPDATE, should be " +
			"INSERT",
	}},
	{"verifications that services see", "GRANT SELECT ON credent_verifications TO credent_app", []string{
		"grant to credent_app on credent_verifications: not of the migrations",
	}},
	{"canaries that services change", "GRANT UPDATE ON credent_canary TO credent_app", []string{
		"grant to credent_app on credent_canary: changed: privileges is SELECT, UPDATE, should be SELECT",
	}},
	{"no table of canaries", "DROP TABLE credent_canary", []string{"table credent_canary: missing"}},
	{"no table of keys", "DROP TABLE credent_tenant_keys", []string{"table credent_tenant_keys: missing"}},
	{"forced row-level security", "ALTER TABLE user_accounts FORCE ROW LEVEL SECURITY", []string{
		"row-level security of user_accounts: changed: for the owner is forced, should be not forced",
	}},
	{"disabled foreign key", "ALTER TABLE user_accounts DISABLE TRIGGER ALL; ALTER TABLE user_accounts ENABLE " +
		"TRIGGER USER", []string{
		"constraint " + accountKey + " on user_credentials: changed: enforcement is disabled, should be enabled",
	}},
	{"extra trigger", "CREATE TRIGGER other BEFORE DELETE ON user_accounts FOR EACH ROW EXECUTE FUNCTION " +
		"suppress_redundant_updates_trigger()", []string{
		"trigger other on user_accounts: not of the migrations",
	}},
	{"dropped index trigger", "DROP TRIGGER credent_user_credentials__api_key_1 ON user_credentials", []string{
		"trigger credent_user_credentials__api_key_1 on user_credentials: missing",
	}},
	{
		"disabled index trigger", "ALTER TABLE user_credentials DISABLE TRIGGER credent_user_credentials__api_key_2",
		[]string{
			"trigger credent_user_credentials__api_key_2 on user_credentials: changed: state is disabled, should be " +
				"enabled",
		},
	},
	{"replaced function of index triggers", "CREATE OR REPLACE FUNCTION credent_user_credentials__api_key() RETURNS " +
		"trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'", []string{"function " +
		"credent_user_credentials__api_key(): changed: another body"}},
	{"INHERITS child without index triggers", "CREATE TABLE child () INHERITS (user_credentials)", []string{
		"trigger credent_child__api_key_1 on child: missing: an INHERITS child does not get the triggers of " +
			"user_credentials",
		"trigger credent_child__api_key_2 on child: missing: an INHERITS child does not get the triggers of " +
			"user_credentials",
	}},
	{"rule", "CREATE RULE keep AS ON DELETE TO user_credentials DO INSTEAD NOTHING", []string{
		"rule keep on user_credentials: not of the migrations",
	}},
	{"replaced trigger function", "CREATE OR REPLACE FUNCTION credent_user_credentials__user_id_move() " +
		"RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN " +
		"NULL; END'", []string{
		"function credent_user_credentials__user_id_move(): changed: another body",
	}},
	{
		"function without search_path", "ALTER FUNCTION credent_user_credentials__user_id_move() RESET search_path",
		[]string{
			"function credent_user_credentials__user_id_move(): changed: " +
				"settings is none, should be search_path=pg_catalog, pg_temp",
		},
	},
	{"function as the writer", "ALTER FUNCTION credent_user_credentials__user_id_move() SECURITY INVOKER", []string{
		"function credent_user_credentials__user_id_move(): changed: " +
			"security is SECURITY INVOKER, should be SECURITY DEFINER",
	}},
	{"dropped function", "DROP FUNCTION credent_user_credentials__user_id_move() CASCADE", []string{
		"trigger credent_user_credentials__user_id_move on user_credentials: missing",
		"function credent_user_credentials__user_id_move(): missing",
	}},
	{"trigger of before", "CREATE TRIGGER user_accounts_tenant BEFORE UPDATE ON user_accounts FOR EACH ROW " +
		"EXECUTE FUNCTION suppress_redundant_updates_trigger()", []string{
		"trigger user_accounts_tenant on user_accounts: not of the migrations",
	}},
	{"revoked grant", "REVOKE DELETE ON user_accounts FROM credent_app", []string{
		"grant to credent_app on user_accounts: changed: privileges is ",
	}},
	{
		"no grant", "REVOKE ALL ON SCHEMA public FROM credent_app; REVOKE ALL ON user_credentials FROM credent_app",
		[]string{
			"grant to credent_app on the schema: missing",
			"grant to credent_app on user_credentials: missing",
		},
	},
	{"extra grants", "GRANT TRUNCATE ON user_accounts TO credent_app; GRANT SELECT (api_key) ON user_credentials TO " +
		"PUBLIC", []string{
		"grant to credent_app on user_accounts: changed: privileges is ",
		"grant to PUBLIC (api_key) on user_credentials: not of the migrations",
	}},
	{"service owns a table", "ALTER TABLE user_accounts OWNER TO credent_app", nil},
}

func TestCheckFindsDrift(t *testing.T) {
	t.Parallel()
	checkClean(t, testdb.New(t)) // all are copies of one database
	for _, test := range drifts {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			env := testdb.New(t)
			env.Exec(t, "SET allow_system_table_mods = on")
			env.Exec(t, test.sql)
			report, err := testopt.Check(t.Context(), env.DB)
			if err != nil {
				t.Fatal(err)
			}
			got := findings(report)
			t.Log(strings.Join(got, "\n"))
			for i := range test.want {
				if len(got) != len(test.want) || !strings.HasPrefix(got[i], test.want[i]) {
					t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
					break
				}
			}
			if err := report.Err(); !errors.Is(err, migrate.ErrDrift) || errors.Is(err, migrate.ErrPending) ||
				!strings.Contains(err.Error(), got[0]) {
				t.Error(err)
			}
			// The other driver gives the same findings.
			other, err := testopt.Check(t.Context(), testdb.OpenDB(t, env.URL, testdb.Drivers["pq"]...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(report, other); diff != "" {
				t.Error(diff)
			}
		})
	}
}
