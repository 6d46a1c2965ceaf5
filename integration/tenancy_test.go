package integration

import (
	"context"
	"crypto/rand"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testopt"
)

// service is a database with the rows of two users, u1 and u2, and a client
// that is connected as a service's role, which is a member of credent_app. The
// environment's own client is connected as the owner of the tables.
type service struct {
	*environment
	role       string
	serviceURL string
	opts       []testopt.Option
	app        *ent.Client
	accounts   map[string]*ent.UserAccount
	// credentials of a user, in the order of their making: two of u1's, one of
	// u2's.
	credentials map[string][]*ent.UserCredential
}

// forEachService runs a test over both drivers, each with a database and a role
// of its own.
func forEachService(t *testing.T, test func(t *testing.T, s *service)) {
	t.Helper()
	for name, opts := range drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newService(t, opts...))
		})
	}
}

func newService(t *testing.T, opts ...testopt.Option) *service {
	t.Helper()
	s := &service{environment: newEnvironment(t, opts...)}
	s.role, s.serviceURL = newServiceRole(t, s.environment)
	s.opts = append(slices.Clone(opts), testopt.WithKeyring(s.ring))
	s.app = open(t, s.serviceURL, s.opts...)
	s.accounts = map[string]*ent.UserAccount{"u1": s.account(t, "u1"), "u2": s.account(t, "u2")}
	s.credentials = map[string][]*ent.UserCredential{
		"u1": {s.credential(t, s.accounts["u1"], "PK1", "s1"), s.credential(t, s.accounts["u1"], "PK2", "s2")},
		"u2": {s.credential(t, s.accounts["u2"], "PK3", "s3")},
	}
	return s
}

// newServiceRole makes a role that can log in and is a member of credent_app.
// Roles belong to the whole server, so it has a name of its own, and is dropped
// after the test.
func newServiceRole(t *testing.T, env *environment) (role, roleURL string) {
	t.Helper()
	role, password := "credent_test_"+strings.ToLower(rand.Text()), rand.Text()
	env.exec(t, "CREATE ROLE "+role+" LOGIN PASSWORD '"+password+"' IN ROLE credent_app")
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, stmt := range []string{"DROP OWNED BY " + role + " CASCADE", "DROP ROLE " + role} {
			if _, err := env.db.ExecContext(ctx, stmt); err != nil {
				t.Errorf("%s: %v", stmt, err)
			}
		}
	})
	u, err := url.Parse(env.url)
	if err != nil {
		t.Fatal("the environment's URL does not parse")
	}
	u.User = url.UserPassword(role, password)
	return role, u.String()
}

// as is a context for a user's statements.
func as(t *testing.T, user string) context.Context {
	t.Helper()
	return credent.WithUser(t.Context(), user)
}

// rowsOf is a digest of all that is stored of a user, as the owner sees it.
func (s *service) rowsOf(ctx context.Context, user string) (digest string, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT coalesce(md5(string_agg(line, E'\\n' ORDER BY line)), '') FROM ("+
		"SELECT 'a' || a::text AS line FROM user_accounts a WHERE user_id = $1 "+
		"UNION ALL SELECT 'c' || c::text FROM user_credentials c WHERE user_id = $1) AS lines", user).Scan(&digest)
	return digest, err
}

// unchanged fails the test if the rows of the users change before it ends.
func (s *service) unchanged(t *testing.T, users ...string) {
	t.Helper()
	before := map[string]string{}
	for _, user := range users {
		var err error
		if before[user], err = s.rowsOf(t.Context(), user); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for user, want := range before {
			if got, err := s.rowsOf(context.WithoutCancel(t.Context()), user); err != nil || got != want {
				t.Errorf("the rows of %s were changed, %v", user, err)
			}
		}
	})
}

// reads are the ways to read. Each returns the users whose rows it saw.
func (s *service) reads() map[string]func(ctx context.Context) ([]string, error) {
	users := func(credentials []*ent.UserCredential, err error) (seen []string, _ error) {
		for _, c := range credentials {
			seen = append(seen, c.UserID)
		}
		return seen, err
	}
	accountUsers := func(accounts []*ent.UserAccount, err error) (seen []string, _ error) {
		for _, a := range accounts {
			seen = append(seen, a.UserID)
			for _, c := range a.Edges.Credentials {
				seen = append(seen, c.UserID)
			}
		}
		return seen, err
	}
	found := func(seen []string, user string, err error) ([]string, error) {
		switch {
		case ent.IsNotFound(err):
			return seen, nil
		case err != nil:
			return nil, err
		}
		return append(seen, user), nil
	}
	credentials, accounts := s.app.UserCredential, s.app.UserAccount
	return map[string]func(ctx context.Context) ([]string, error){
		"credentials": func(ctx context.Context) ([]string, error) { return users(credentials.Query().All(ctx)) },
		"accounts":    func(ctx context.Context) ([]string, error) { return accountUsers(accounts.Query().All(ctx)) },
		"eager credentials": func(ctx context.Context) ([]string, error) {
			return accountUsers(accounts.Query().WithCredentials().All(ctx))
		},
		"eager account": func(ctx context.Context) ([]string, error) {
			list, err := credentials.Query().WithAccount().All(ctx)
			var seen []string
			for _, c := range list {
				seen = append(seen, c.UserID, c.Edges.Account.UserID)
			}
			return seen, err
		},
		"edge to credentials": func(ctx context.Context) ([]string, error) {
			return users(accounts.Query().QueryCredentials().All(ctx))
		},
		"edge to account": func(ctx context.Context) ([]string, error) {
			return accountUsers(credentials.Query().QueryAccount().All(ctx))
		},
		"edge of known accounts": func(ctx context.Context) (seen []string, err error) {
			for _, account := range s.accounts {
				more, err := users(accounts.QueryCredentials(account).All(ctx))
				if err != nil {
					return nil, err
				}
				seen = append(seen, more...)
			}
			return seen, nil
		},
		"edge predicate": func(ctx context.Context) ([]string, error) {
			return accountUsers(accounts.Query().Where(useraccount.HasCredentials()).All(ctx))
		},
		"get": func(ctx context.Context) (seen []string, err error) {
			for user, list := range s.credentials {
				for _, c := range list {
					_, err := credentials.Get(ctx, c.ID)
					if seen, err = found(seen, user, err); err != nil {
						return nil, err
					}
				}
			}
			return seen, nil
		},
		"only": func(ctx context.Context) (seen []string, err error) {
			for user := range s.accounts {
				_, err := accounts.Query().Where(useraccount.UserID(user)).Only(ctx)
				if seen, err = found(seen, user, err); err != nil {
					return nil, err
				}
			}
			return seen, nil
		},
		"exist": func(ctx context.Context) (seen []string, err error) {
			for user := range s.accounts {
				exists, err := credentials.Query().Where(usercredential.UserID(user)).Exist(ctx)
				if err != nil {
					return nil, err
				}
				if exists {
					seen = append(seen, user)
				}
			}
			return seen, nil
		},
		"select": func(ctx context.Context) ([]string, error) { return accounts.Query().Select("user_id").Strings(ctx) },
		"group by": func(ctx context.Context) ([]string, error) {
			return credentials.Query().GroupBy("user_id").Strings(ctx)
		},
		"for update": func(ctx context.Context) ([]string, error) {
			return users(credentials.Query().ForUpdate().All(ctx))
		},
		"ids": func(ctx context.Context) (seen []string, err error) {
			ids, err := credentials.Query().IDs(ctx)
			for user, list := range s.credentials {
				for _, c := range list {
					if slices.Contains(ids, c.ID) {
						seen = append(seen, user)
					}
				}
			}
			return seen, err
		},
		"in a transaction": func(ctx context.Context) ([]string, error) {
			tx, err := s.app.Tx(ctx)
			if err != nil {
				return nil, err
			}
			seen, err := users(tx.UserCredential.Query().All(ctx))
			if err != nil {
				return nil, err
			}
			return seen, tx.Commit()
		},
	}
}

func TestReadsSeeOneUser(t *testing.T) {
	t.Parallel()
	forEachService(t, func(t *testing.T, s *service) {
		for name, ctx := range map[string]context.Context{
			"":   as(t, ""),
			"u1": as(t, "u1"),
			"u2": as(t, "u2"),
			"u3": as(t, "u3"),
			// Quoted, it is an ID like any other.
			"'; DROP TABLE x; --": as(t, "'; DROP TABLE x; --"),
			"none":                t.Context(),
		} {
			var want []string
			if s.accounts[name] != nil {
				want = []string{name}
			}
			for read, users := range s.reads() {
				got, err := users(ctx)
				if err != nil {
					t.Errorf("user %q, %s: %v", name, read, err)
				}
				slices.Sort(got)
				if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
					t.Errorf("user %q, %s: %s", name, read, diff)
				}
			}
			count, err := s.app.UserCredential.Query().Count(ctx)
			if err != nil || count != len(s.credentials[name]) {
				t.Errorf("user %q counts %d credentials, %v", name, count, err)
			}
			sum, err := s.app.UserCredential.Query().Aggregate(ent.Count()).Int(ctx)
			if err != nil || sum != len(s.credentials[name]) {
				t.Errorf("user %q aggregates %d credentials, %v", name, sum, err)
			}
		}
		// Not for the owner.
		if n := s.client.UserCredential.Query().CountX(t.Context()); n != 3 {
			t.Errorf("the owner sees %d credentials", n)
		}
		if n := s.client.UserCredential.Query().CountX(as(t, "u1")); n != 3 {
			t.Errorf("the owner sees %d credentials as a user", n)
		}
		if got := reveal(t, s.app.UserCredential.GetX(as(t, "u1"), s.credentials["u1"][0].ID).APIKey); got != "PK1" {
			t.Errorf("revealed %q", got)
		}
	})
}

// newCredential is a credential of an account, without a user_id.
func newCredential(client *ent.Client, accountID uuid.UUID) *ent.UserCredentialCreate {
	return client.UserCredential.Create().SetUserAccountID(accountID).SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret("k")).SetSecretKey(credent.NewSecret("s"))
}

func TestWritesWithoutUser(t *testing.T) {
	t.Parallel()
	forEachService(t, func(t *testing.T, s *service) {
		s.unchanged(t, "u1", "u2", "", "u3")
		for name, ctx := range map[string]context.Context{"no user": t.Context(), "an empty user": as(t, "")} {
			account, credential := s.accounts["u1"], s.credentials["u1"][0]
			const rls = "row-level security"
			for write, test := range map[string]struct {
				err  error
				text string
			}{
				"account": {s.app.UserAccount.Create().SetUserID("u3").SetAccountName("n").Exec(ctx), rls},
				"upserted account": {s.app.UserAccount.Create().SetUserID("u1").SetAccountName("n").
					OnConflictColumns("user_id").UpdateNewValues().Exec(ctx), rls},
				"credential":          {newCredential(s.app, account.ID).SetUserID("u1").Exec(ctx), rls},
				"credential, no user": {newCredential(s.app, account.ID).Exec(ctx), "user_account not found"},
				"credentials": {s.app.UserCredential.CreateBulk(
					newCredential(s.app, account.ID).SetUserID("u1"), newCredential(s.app, account.ID).SetUserID("u1")).Exec(ctx), rls},
				"upserted credential": {newCredential(s.app, account.ID).SetUserID("u1").SetID(credential.ID).
					OnConflictColumns("id").UpdateNewValues().Exec(ctx), rls},
				"update one": {s.app.UserCredential.UpdateOneID(credential.ID).SetIsActive(false).Exec(ctx), "not found"},
				"delete one": {s.app.UserCredential.DeleteOneID(credential.ID).Exec(ctx), "not found"},
				"delete one account": {
					s.app.UserAccount.DeleteOneID(account.ID).Exec(ctx), "not found",
				},
			} {
				if test.err == nil || !strings.Contains(test.err.Error(), test.text) {
					t.Errorf("%s: %s: %v", name, write, test.err)
				}
			}
			for write, affect := range map[string]func() (int, error){
				"update":          func() (int, error) { return s.app.UserCredential.Update().SetIsActive(false).Save(ctx) },
				"update accounts": func() (int, error) { return s.app.UserAccount.Update().SetAccountName("x").Save(ctx) },
				"delete":          func() (int, error) { return s.app.UserCredential.Delete().Exec(ctx) },
				"delete accounts": func() (int, error) { return s.app.UserAccount.Delete().Exec(ctx) },
			} {
				if n, err := affect(); n != 0 || err != nil {
					t.Errorf("%s: %s affected %d rows, %v", name, write, n, err)
				}
			}
		}
	})
}
