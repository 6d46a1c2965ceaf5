package tenancy

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
)

// A user creates, changes and deletes the user's own rows, on every path.
func TestWritesOfAUser(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		s.Unchanged(t, "u2")
		ctx, account := testdb.As(t, "u1"), s.Accounts["u1"]
		created, err := testdb.NewCredential(s.App, account.ID).Save(ctx)
		if err != nil || created.UserID != "u1" {
			t.Fatalf("create: %v, %v", created, err)
		}
		bulk, err := s.App.UserCredential.CreateBulk(testdb.NewCredential(s.App, account.ID),
			testdb.NewCredential(s.App, account.ID)).Save(ctx)
		if err != nil || len(bulk) != 2 {
			t.Fatalf("bulk: %v, %v", bulk, err)
		}
		if err := testdb.NewCredential(s.App, account.ID).SetID(created.ID).SetCredentialType("polygon").
			OnConflictColumns("id").UpdateNewValues().Exec(ctx); err != nil {
			t.Errorf("upsert: %v", err)
		}
		if got := s.App.UserCredential.GetX(ctx, created.ID).CredentialType; got != "polygon" {
			t.Errorf("upserted to %q", got)
		}
		if _, err := created.Update().SetAPIKey(credent.NewSecret("PKNEW")).Save(ctx); err != nil {
			t.Errorf("update one: %v", err)
		}
		if n, err := s.App.UserCredential.Update().SetIsActive(false).Save(ctx); n != 5 || err != nil {
			t.Errorf("update: %d, %v", n, err)
		}
		if n, err := s.App.UserAccount.Update().SetAccountName("renamed").Save(ctx); n != 1 || err != nil {
			t.Errorf("update accounts: %d, %v", n, err)
		}
		if err := s.App.UserCredential.DeleteOne(created).Exec(ctx); err != nil {
			t.Errorf("delete one: %v", err)
		}
		if n, err := s.App.UserCredential.Delete().Where(usercredential.CredentialType("alpaca")).
			Exec(ctx); n != 4 || err != nil {
			t.Errorf("delete: %d, %v", n, err)
		}
		testdb.NewCredential(s.App, account.ID).ExecX(ctx)
		if n, err := s.App.UserAccount.Delete().Exec(ctx); n != 1 || err != nil {
			t.Errorf("delete accounts: %d, %v", n, err)
		}
		var left int
		if s.Value(t, &left, "SELECT count(*) FROM user_credentials WHERE user_id = 'u1'"); left != 0 {
			t.Errorf("%d credentials after their account was deleted", left)
		}
		own := s.App.UserAccount.Create().SetUserID("u3").SetAccountName("n").SaveX(testdb.As(t, "u3"))
		testdb.NewCredential(s.App, own.ID).ExecX(testdb.As(t, "u3"))
	})
}

func TestWritesAcrossUsers(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		s.Unchanged(t, "u1", "u2", "u3")
		ctx := testdb.As(t, "u1")
		mine, theirs := s.Credentials["u1"][0], s.Credentials["u2"][0]
		theirAccount := s.Accounts["u2"]
		const rls = "row-level security"
		for write, test := range map[string]struct {
			err  error
			text string
		}{
			"account of another": {s.App.UserAccount.Create().SetUserID("u3").SetAccountName("n").Exec(ctx), rls},
			"account that is there": {s.App.UserAccount.Create().SetUserID("u2").SetAccountName("n").
				OnConflictColumns("user_id").UpdateNewValues().Exec(ctx), rls},
			"credential of another": {
				testdb.NewCredential(s.App, theirAccount.ID).Exec(ctx),
				"user_account not found",
			},
			"credential of another, own user_id": {testdb.NewCredential(s.App,
				theirAccount.ID).SetUserID("u1").Exec(ctx), "foreign key"},
			"credential of another, their user": {testdb.NewCredential(s.App,
				theirAccount.ID).SetUserID("u2").Exec(ctx), rls},
			"own account, their user_id": {testdb.NewCredential(s.App,
				s.Accounts["u1"].ID).SetUserID("u2").Exec(ctx), rls},
			"own credential, their user_id": {s.App.UserCredential.UpdateOneID(mine.ID).SetUserID("u2").
				Exec(ctx), rls},
			"own account to another's user_id": {s.App.UserAccount.UpdateOneID(s.Accounts["u1"].ID).SetUserID("u3").
				Exec(ctx), rls},
			"own account to their user_id": {s.App.UserAccount.UpdateOneID(s.Accounts["u1"].ID).SetUserID("u2").
				Exec(ctx), rls},
			"update theirs": {s.App.UserCredential.UpdateOneID(theirs.ID).SetIsActive(false).
				Exec(ctx), "not found"},
			"take theirs": {s.App.UserCredential.UpdateOneID(theirs.ID).SetAccount(s.Accounts["u1"]).
				Exec(ctx), "not found"},
			"delete theirs":        {s.App.UserCredential.DeleteOneID(theirs.ID).Exec(ctx), "not found"},
			"delete their account": {s.App.UserAccount.DeleteOneID(theirAccount.ID).Exec(ctx), "not found"},
			"upsert theirs": {testdb.NewCredential(s.App,
				s.Accounts["u1"].ID).SetID(theirs.ID).OnConflictColumns("id").UpdateNewValues().Exec(ctx), rls},
			"add theirs to the own account": {s.App.UserAccount.UpdateOneID(s.Accounts["u1"].ID).
				AddCredentials(theirs).Exec(ctx), ""},
			"remove theirs from their account": {s.App.UserAccount.UpdateOneID(theirAccount.ID).
				RemoveCredentials(theirs).Exec(ctx), "not found"},
			"clear their account": {s.App.UserAccount.UpdateOneID(theirAccount.ID).ClearCredentials().
				Exec(ctx), "not found"},
			"one of a bulk": {s.App.UserCredential.CreateBulk(testdb.NewCredential(s.App, s.Accounts["u1"].ID).
				SetUserID("u1"), testdb.NewCredential(s.App, theirAccount.ID).SetUserID("u2")).Exec(ctx), rls},
		} {
			if test.err == nil || !strings.Contains(test.err.Error(), test.text) {
				t.Errorf("%s: %v", write, test.err)
			}
		}
		for write, affect := range map[string]func(ctx context.Context) (int, error){
			"update": func(ctx context.Context) (int, error) {
				return s.App.UserCredential.Update().Where(usercredential.UserID("u2")).SetIsActive(false).Save(ctx)
			},
			"update by edge": func(ctx context.Context) (int, error) {
				return s.App.UserCredential.Update().Where(usercredential.HasAccountWith(useraccount.UserID("u2"))).
					SetIsActive(false).Save(ctx)
			},
			"delete": func(ctx context.Context) (int, error) {
				return s.App.UserCredential.Delete().Where(usercredential.ID(theirs.ID)).Exec(ctx)
			},
			"delete account": func(ctx context.Context) (int, error) {
				return s.App.UserAccount.Delete().Where(useraccount.UserIDNEQ("u1")).Exec(ctx)
			},
			"remove": func(ctx context.Context) (int, error) {
				return s.App.UserAccount.Update().Where(useraccount.UserID("u2")).RemoveCredentials(theirs).Save(ctx)
			},
		} {
			if n, err := affect(ctx); n != 0 || err != nil {
				t.Errorf("%s affected %d rows, %v", write, n, err)
			}
		}
	})
}

var anyUUID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// The client's answers don't reveal whether an account is missing or another
// user's.
func TestAnotherUsersAccountLooksMissing(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		s.Unchanged(t, "u1", "u2")
		ctx, mine := testdb.As(t, "u1"), s.Credentials["u1"][0]
		move := func(id uuid.UUID) *ent.UserCredentialUpdateOne {
			return s.App.UserCredential.UpdateOneID(mine.ID).SetUserAccountID(id)
		}
		for name, write := range map[string]func(account uuid.UUID) error{
			"move":                func(id uuid.UUID) error { return move(id).Exec(ctx) },
			"move, own user_id":   func(id uuid.UUID) error { return move(id).SetUserID("u1").Exec(ctx) },
			"move, their user_id": func(id uuid.UUID) error { return move(id).SetUserID("u2").Exec(ctx) },
			"move all": func(id uuid.UUID) error {
				return s.App.UserCredential.Update().SetUserAccountID(id).SetUserID("u2").Exec(ctx)
			},
			"create": func(id uuid.UUID) error { return testdb.NewCredential(s.App, id).Exec(ctx) },
			"create, own user_id": func(id uuid.UUID) error {
				return testdb.NewCredential(s.App,
					id).SetUserID("u1").Exec(ctx)
			},
			"create, their user_id": func(id uuid.UUID) error {
				return testdb.NewCredential(s.App,
					id).SetUserID("u2").Exec(ctx)
			},
			"update account": func(id uuid.UUID) error {
				return s.App.UserAccount.UpdateOneID(id).SetAccountName("x").Exec(ctx)
			},
			"delete account": func(id uuid.UUID) error { return s.App.UserAccount.DeleteOneID(id).Exec(ctx) },
			"SQL": func(id uuid.UUID) error {
				_, err := s.App.ExecContext(ctx, "UPDATE user_credentials SET user_account_id = $1 WHERE id = $2", id,
					mine.ID)
				return err
			},
		} {
			theirs, missing := write(s.Accounts["u2"].ID), write(uuid.New())
			if theirs == nil || missing == nil {
				t.Errorf("%s: %v; %v", name, theirs, missing)
				continue
			}
			if got, want := anyUUID.ReplaceAllString(theirs.Error(), "ID"), anyUUID.ReplaceAllString(missing.Error(),
				"ID"); got != want {
				t.Errorf("%s: %q for another user's account, %q for a missing one", name, got, want)
			}
			if ent.IsNotFound(theirs) != ent.IsNotFound(missing) ||
				ent.IsConstraintError(theirs) != ent.IsConstraintError(missing) ||
				errors.Is(theirs, credent.ErrTenantMismatch) != errors.Is(missing, credent.ErrTenantMismatch) {
				t.Errorf("%s: the errors are of different kinds: %v; %v", name, theirs, missing)
			}
		}
	})
}

// The role can't turn row-level security off or bypass it.
func TestServiceRoleCannotGetAround(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		s.Unchanged(t, "u1", "u2")
		db := testdb.OpenDB(t, s.ServiceURL, s.Opts...)
		s.Exec(t, "ANALYZE")
		for _, stmt := range []string{
			"ALTER TABLE user_credentials DISABLE ROW LEVEL SECURITY",
			"DROP POLICY user_credentials_tenant ON user_credentials",
			"ALTER TABLE user_credentials DISABLE TRIGGER ALL",
			"CREATE POLICY all_of_it ON user_credentials USING (true)",
			"DROP TRIGGER credent_user_credentials__user_id_move ON user_credentials",
			"ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_user_id_user_account_id_fkey",
			"SET session_replication_role = replica",
			"TRUNCATE user_credentials",
			"SET ROLE " + owner(t, s.Env),
			"SET SESSION AUTHORIZATION " + owner(t, s.Env),
			"ALTER ROLE " + s.Role + " BYPASSRLS",
			"SELECT * FROM atlas_schema_revisions.atlas_schema_revisions",
			"CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
		} {
			if _, err := db.ExecContext(t.Context(), stmt); err == nil {
				t.Errorf("%s: succeeded", stmt)
			}
		}
		// Postgres then refuses the query instead of showing more.
		conn := testdb.Session(t, db)
		if _, err := conn.ExecContext(t.Context(), "SET row_security = off"); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := conn.QueryRowContext(t.Context(), "SELECT count(*) FROM user_credentials").Scan(&n); err == nil {
			t.Errorf("with row_security off: %d rows", n)
		}
		// The statistics contain column values.
		if err := conn.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_stats WHERE tablename IN "+
			"('user_accounts', 'user_credentials')").
			Scan(&n); err != nil || n != 0 {
			t.Errorf("%d lines of the statistics, %v", n, err)
		}
		if err := s.DB.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_stats WHERE tablename IN "+
			"('user_accounts', 'user_credentials')").
			Scan(&n); err != nil || n == 0 {
			t.Errorf("the owner sees %d lines of the statistics, %v", n, err)
		}
	})
}

// owner returns the tables' owner.
func owner(t *testing.T, env *testdb.Env) string {
	t.Helper()
	var name string
	env.Value(t, &name, "SELECT quote_ident(tableowner) FROM pg_tables WHERE tablename = 'user_accounts'")
	return name
}

// The policies also apply to a role that isn't a member of credent_app but was
// granted rights by hand.
func TestPoliciesBindEveryRole(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		s.Exec(t, "REVOKE credent_app FROM "+s.Role)
		db := testdb.OpenDB(t, s.ServiceURL, s.Opts...)
		if _, err := db.ExecContext(t.Context(), "SELECT 1 FROM user_accounts"); err == nil {
			t.Error("a role without grants reads user_accounts")
		}
		s.Exec(t, "GRANT SELECT ON user_accounts, user_credentials TO "+s.Role)
		if n := s.App.UserCredential.Query().CountX(t.Context()); n != 0 {
			t.Errorf("without a user: %d rows", n)
		}
		var got []string
		for _, c := range s.App.UserCredential.Query().AllX(testdb.As(t, "u2")) {
			got = append(got, c.UserID)
		}
		if !slices.Equal(got, []string{"u2"}) {
			t.Errorf("u2 sees %v", got)
		}
	})
}
