package tenancy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/testdb"
)

const (
	ofAccount  = "user_credentials_user_id_user_account_id_fkey"
	notNull    = "not-null constraint"
	insertByID = "INSERT INTO user_credentials (user_account_id, user_id, credential_type, api_key, secret_key) " +
		"VALUES ($1, $2, 'alpaca', 'gAAAA-not-opened', 'gAAAA-not-opened')"
	insertTwoByID = insertByID + ", ($1, $2, 'alpaca', 'gAAAA-not-opened', 'gAAAA-not-opened')"
)

// refused fails the test unless a statement of the owner's fails with the text.
func refused(t *testing.T, env *testdb.Env, text, query string, args ...any) {
	t.Helper()
	if _, err := env.DB.ExecContext(t.Context(), query, args...); err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v", query, err)
	}
}

// mismatches counts the credentials with a user_id other than their account's.
func mismatches(t *testing.T, env *testdb.Env) (n int) {
	t.Helper()
	env.Value(t, &n, "SELECT count(*) FROM user_credentials c JOIN user_accounts a ON a.id = c.user_account_id WHERE "+
		"a.user_id <> c.user_id")
	return n
}

// What the database keeps true for every writer, here the owner with SQL of
// their own.
func TestAccountKeyForTheOwner(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		first, second := env.Account(t, "u1"), env.Account(t, "u2")
		credential := env.Credential(t, first, "PK1", "s1")

		refused(t, env, ofAccount, insertByID, first.ID, "u2")
		refused(t, env, ofAccount, insertByID, first.ID, "U1")
		refused(t, env, ofAccount, insertByID, first.ID, "")
		refused(t, env, ofAccount, insertByID, uuid.New(), "u1")
		refused(t, env, notNull, insertByID, first.ID, nil) // nothing fills it in
		env.Exec(t, insertByID, first.ID, "u1")
		refused(t, env, ofAccount, "UPDATE user_credentials SET user_id = 'u2'")
		refused(t, env, notNull, "UPDATE user_credentials SET user_id = NULL")
		refused(t, env, ofAccount, "UPDATE user_credentials SET user_id = 'u9' WHERE id = $1", credential.ID)
		refused(t, env, ofAccount, "UPDATE user_credentials SET user_account_id = $1, user_id = 'u9' WHERE id = $2",
			second.ID, credential.ID)
		refused(t, env, ofAccount, "UPDATE user_credentials SET user_account_id = $1", uuid.New())
		// A credential is moved with both, since nothing takes user_id along.
		refused(t, env, ofAccount, "UPDATE user_credentials SET user_account_id = $1 WHERE id = $2",
			second.ID, credential.ID)
		env.Exec(t, "UPDATE user_credentials SET user_account_id = $1, user_id = 'u2' WHERE id = $2",
			second.ID, credential.ID)
		env.Exec(t, "UPDATE user_credentials SET user_account_id = $1, user_id = 'u1' WHERE id = $2",
			first.ID, credential.ID)
		if n := mismatches(t, env); n != 0 {
			t.Errorf("%d credentials differ from their account", n)
		}
	})
}

func TestAccountKeyThroughEnt(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		first, second := env.Account(t, "u1"), env.Account(t, "u2")
		credential := env.Credential(t, first, "PK1", "s1")
		for name, err := range map[string]error{
			"create":     testdb.NewCredential(env.Client, first.ID).SetUserID("u2").Exec(ctx),
			"no account": testdb.NewCredential(env.Client, uuid.New()).SetUserID("u1").Exec(ctx),
			"bulk": env.Client.UserCredential.CreateBulk(testdb.NewCredential(env.Client, first.ID),
				testdb.NewCredential(env.Client, second.ID).SetUserID("u1")).Exec(ctx),
			"update":     credential.Update().SetUserID("u2").Exec(ctx),
			"update all": env.Client.UserCredential.Update().SetUserID("u2").Exec(ctx),
			"move":       credential.Update().SetAccount(second).SetUserID("u3").Exec(ctx),
			"upsert": testdb.NewCredential(env.Client, first.ID).SetUserID("u2").SetID(credential.ID).
				OnConflictColumns("id").UpdateNewValues().Exec(ctx),
		} {
			if !errors.Is(err, credent.ErrTenantMismatch) || !ent.IsConstraintError(err) {
				t.Errorf("%s: %v", name, err)
			}
			if n := strings.Count(fmt.Sprint(err), credent.ErrTenantMismatch.Error()); n != 1 {
				t.Errorf("%s: it is said %d times: %v", name, n, err)
			}
		}
		if n := env.Client.UserCredential.Query().CountX(ctx); n != 1 {
			t.Errorf("%d credentials", n)
		}
	})
}

// A change of an account's user_id reaches its credentials and is no change of
// theirs.
func TestRenamedAccount(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		first := env.Account(t, "u1")
		env.Credential(t, first, "PK1", "s1")
		env.Credential(t, first, "PK2", "s2")
		other := env.Credential(t, env.Account(t, "u2"), "PK3", "s3")
		var before, after string
		const rest = "SELECT md5(string_agg((to_jsonb(c) - 'user_id')::text, ' ' ORDER BY id)) FROM user_credentials c"
		env.Value(t, &before, rest)

		first.Update().SetUserID("renamed").ExecX(ctx)
		for _, c := range env.Client.UserCredential.Query().AllX(ctx) {
			want := "renamed"
			if c.ID == other.ID {
				want = "u2"
			}
			if c.UserID != want {
				t.Errorf("user_id %s, want %s", c.UserID, want)
			}
		}
		if env.Value(t, &after, rest); before != after {
			t.Error("more than user_id was changed, updated_at perhaps")
		}
		// All at once.
		env.Exec(t, "UPDATE user_accounts SET user_id = user_id || '-new'")
		if n := mismatches(t, env); n != 0 {
			t.Errorf("%d credentials differ from their account", n)
		}
		if !ent.IsConstraintError(first.Update().SetUserID("u2-new").Exec(ctx)) {
			t.Error("two accounts of one user")
		}
	})
}

// A temporary table is found before all others, and so is an operator that fits
// exactly. A foreign key looks for neither.
func TestAccountKeyRefersToOurTable(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		account := env.Account(t, "u1")
		env.Credential(t, account, "PK1", "s1")
		conn := testdb.Session(t, env.DB)
		exec := func(query string, args ...any) error {
			_, err := conn.ExecContext(ctx, query, args...)
			return err
		}
		missing := uuid.New()
		for _, stmt := range []string{
			"CREATE TEMP TABLE user_accounts (id uuid, user_id varchar(255))",
			"INSERT INTO pg_temp.user_accounts VALUES ('" + account.ID.String() + "', 'u2'), ('" +
				missing.String() + "', 'u2')",
			"CREATE TEMP TABLE user_credentials (user_account_id uuid, user_id varchar(255))",
			// Says of any two texts that they are equal.
			"CREATE FUNCTION pg_temp.never(varchar, varchar) RETURNS bool LANGUAGE sql AS 'SELECT false'",
			"CREATE FUNCTION public.never(varchar, varchar) RETURNS bool LANGUAGE sql AS 'SELECT false'",
			"CREATE OPERATOR public.<> (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = public.never)",
		} {
			if err := exec(stmt); err != nil {
				t.Fatalf("%s: %v", stmt, err)
			}
		}
		insert := strings.Replace(insertByID, "INTO ", "INTO public.", 1)
		if err := exec(insert, account.ID, "u2"); err == nil || !strings.Contains(err.Error(), ofAccount) {
			t.Errorf("another user_id: %v", err)
		}
		if err := exec(insert, missing, "u2"); err == nil || !strings.Contains(err.Error(), ofAccount) {
			t.Errorf("an account that is in the temporary table only: %v", err)
		}
		if err := exec("UPDATE public.user_accounts SET user_id = 'u3'"); err != nil {
			t.Error(err)
		}
		if n := mismatches(t, env); n != 0 {
			t.Errorf("%d credentials differ from their account", n)
		}
	})
}

// Whoever may make things in a schema can put it before pg_catalog, and there
// give the functions and operators that foreign keys and the triggers of
// digests use another meaning.
func TestAccountKeyUsesNothingOfTheSession(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		account := env.Account(t, "u1")
		env.Exec(t, "CREATE SCHEMA evil")
		env.Exec(t, "CREATE TABLE evil.user_accounts (LIKE public.user_accounts)")
		env.Exec(t, "INSERT INTO evil.user_accounts SELECT * FROM public.user_accounts")
		env.Exec(t, "UPDATE evil.user_accounts SET user_id = 'u2'")
		env.Exec(t, "CREATE DOMAIN evil.text AS varchar(1)")
		env.Exec(t, "CREATE FUNCTION evil.current_setting(text, bool) RETURNS text LANGUAGE sql AS $$ SELECT 'u2' $$")
		env.Exec(t, "CREATE FUNCTION evil.row_security_active(text) RETURNS bool LANGUAGE sql AS 'SELECT true'")
		for _, of := range []string{"pg_catalog.uuid", "pg_catalog.text", "pg_catalog.varchar", "pg_catalog.bytea"} {
			env.Exec(t, fmt.Sprintf("CREATE FUNCTION evil.never(%s, %[1]s) RETURNS bool LANGUAGE sql AS 'SELECT false'",
				of))
			for _, operator := range []string{"=", "<>"} {
				env.Exec(t, fmt.Sprintf("CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %[2]s, FUNCTION = "+
					"evil.never)", operator, of))
			}
		}
		conn := testdb.Session(t, env.DB)
		var equal bool
		if _, err := conn.ExecContext(ctx, "SET search_path = evil, pg_catalog, public"); err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRowContext(ctx, "SELECT 'a'::pg_catalog.text = 'a'::pg_catalog.text").
			Scan(&equal); err != nil || equal {
			t.Fatalf("the operator of the session is not in force: %v", err)
		}
		insert := strings.Replace(insertByID, "INTO ", "INTO public.", 1)
		const update = "UPDATE public.user_credentials SET user_account_id = $1, user_id = $2"
		for _, c := range []struct {
			stmt    string
			account uuid.UUID
			user    any
			refusal string
		}{
			{insert, account.ID, "u1", ""},
			{insert, account.ID, nil, notNull},
			{insert, account.ID, "u2", ofAccount},
			{insert, uuid.New(), "u1", ofAccount},
			{insert, uuid.New(), nil, notNull},
			{update, account.ID, "u1", ""},
			{update, account.ID, "u2", ofAccount},
			{update, uuid.New(), "u1", ofAccount},
		} {
			_, err := conn.ExecContext(ctx, c.stmt, c.account, c.user)
			if c.refusal == "" && err != nil || c.refusal != "" && (err == nil ||
				!strings.Contains(err.Error(), c.refusal)) {
				t.Errorf("%s with %v: %v, want %q", c.stmt, c.user, err, c.refusal)
			}
		}
		if n := mismatches(t, env); n != 0 {
			t.Errorf("%d credentials differ from their account", n)
		}
	})
}

// The Python application connects as the owner, and knows of none of this.
func TestPythonMovesAndDeletes(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		write := func(user string) {
			testdb.Twin(t, env.URL, env.Key, []testdb.TwinAccount{{
				UserID: user, AccountName: user,
				Credentials: []testdb.TwinCredential{
					{CredentialType: "alpaca", APIKey: "PK " + user, SecretKey: "s", IsActive: true},
					{CredentialType: "polygon", APIKey: "P " + user, SecretKey: "s", IsActive: true},
				},
			}}, "write")
		}
		write("py")
		write("other")
		account := env.Client.UserAccount.Query().Where().WithCredentials().AllX(t.Context())[0]
		moved := account.Edges.Credentials[0]
		for _, other := range env.Client.UserAccount.Query().AllX(t.Context()) {
			if other.ID != account.ID {
				moved.Update().SetAccount(other).ExecX(t.Context())
			}
		}
		var accounts []testdb.TwinAccount
		if err := json.Unmarshal(testdb.Twin(t, env.URL, env.Key, nil, "read"), &accounts); err != nil {
			t.Fatal(err)
		}
		if len(accounts) != 2 || len(accounts[0].Credentials)+len(accounts[1].Credentials) != 4 ||
			len(accounts[0].Credentials) == 2 {
			t.Errorf("Python reads %+v", accounts)
		}
		if n := mismatches(t, env); n != 0 {
			t.Errorf("%d credentials differ from their account", n)
		}
		testdb.Twin(t, env.URL, env.Key, nil, "remove-credential", moved.ID.String())
		testdb.Twin(t, env.URL, env.Key, nil, "delete-account", "py")
		testdb.Twin(t, env.URL, env.Key, nil, "delete-account", "other")
		if n := env.Client.UserCredential.Query().CountX(t.Context()); n != 0 {
			t.Errorf("%d credentials left", n)
		}
	})
}
