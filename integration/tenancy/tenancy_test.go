package tenancy

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
)

// reads are the ways to read. Each returns the users of the rows it saw.
func reads(s *testdb.Service) map[string]func(ctx context.Context) ([]string, error) {
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
	credentials, accounts := s.App.UserCredential, s.App.UserAccount
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
			for _, account := range s.Accounts {
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
			for user, list := range s.Credentials {
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
			for user := range s.Accounts {
				_, err := accounts.Query().Where(useraccount.UserID(user)).Only(ctx)
				if seen, err = found(seen, user, err); err != nil {
					return nil, err
				}
			}
			return seen, nil
		},
		"exist": func(ctx context.Context) (seen []string, err error) {
			for user := range s.Accounts {
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
		"select": func(ctx context.Context) ([]string,
			error,
		) {
			return accounts.Query().Select("user_id").Strings(ctx)
		},
		"group by": func(ctx context.Context) ([]string, error) {
			return credentials.Query().GroupBy("user_id").Strings(ctx)
		},
		"for update": func(ctx context.Context) ([]string, error) {
			return users(credentials.Query().ForUpdate().All(ctx))
		},
		"ids": func(ctx context.Context) (seen []string, err error) {
			ids, err := credentials.Query().IDs(ctx)
			for user, list := range s.Credentials {
				for _, c := range list {
					if slices.Contains(ids, c.ID) {
						seen = append(seen, user)
					}
				}
			}
			return seen, err
		},
		"in a transaction": func(ctx context.Context) ([]string, error) {
			tx, err := s.App.Tx(ctx)
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
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		for name, ctx := range map[string]context.Context{
			"":   testdb.As(t, ""),
			"u1": testdb.As(t, "u1"),
			"u2": testdb.As(t, "u2"),
			"u3": testdb.As(t, "u3"),
			// Quoted, it is an ID like any other.
			"'; DROP TABLE x; --": testdb.As(t, "'; DROP TABLE x; --"),
			"none":                t.Context(),
		} {
			var want []string
			if s.Accounts[name] != nil {
				want = []string{name}
			}
			for read, users := range reads(s) {
				got, err := users(ctx)
				if err != nil {
					t.Errorf("user %q, %s: %v", name, read, err)
				}
				slices.Sort(got)
				if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
					t.Errorf("user %q, %s: %s", name, read, diff)
				}
			}
			count, err := s.App.UserCredential.Query().Count(ctx)
			if err != nil || count != len(s.Credentials[name]) {
				t.Errorf("user %q counts %d credentials, %v", name, count, err)
			}
			sum, err := s.App.UserCredential.Query().Aggregate(ent.Count()).Int(ctx)
			if err != nil || sum != len(s.Credentials[name]) {
				t.Errorf("user %q aggregates %d credentials, %v", name, sum, err)
			}
		}
		// Not for the owner.
		if n := s.Client.UserCredential.Query().CountX(t.Context()); n != 3 {
			t.Errorf("the owner sees %d credentials", n)
		}
		if n := s.Client.UserCredential.Query().CountX(testdb.As(t, "u1")); n != 3 {
			t.Errorf("the owner sees %d credentials as a user", n)
		}
		if got := testdb.Reveal(t, s.App.UserCredential.GetX(testdb.As(t, "u1"),
			s.Credentials["u1"][0].ID).APIKey); got != "PK1" {
			t.Errorf("revealed %q", got)
		}
	})
}

func TestWritesWithoutUser(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		s.Unchanged(t, "u1", "u2", "", "u3")
		for name, ctx := range map[string]context.Context{"no user": t.Context(), "an empty user": testdb.As(t, "")} {
			account, credential := s.Accounts["u1"], s.Credentials["u1"][0]
			const rls = "row-level security"
			for write, test := range map[string]struct {
				err  error
				text string
			}{
				"account": {s.App.UserAccount.Create().SetUserID("u3").SetAccountName("n").Exec(ctx), rls},
				"upserted account": {s.App.UserAccount.Create().SetUserID("u1").SetAccountName("n").
					OnConflictColumns("user_id").UpdateNewValues().Exec(ctx), rls},
				"credential":          {testdb.NewCredential(s.App, account.ID).SetUserID("u1").Exec(ctx), rls},
				"credential, no user": {testdb.NewCredential(s.App, account.ID).Exec(ctx), "user_account not found"},
				"credentials": {s.App.UserCredential.CreateBulk(
					testdb.NewCredential(s.App, account.ID).SetUserID("u1"), testdb.NewCredential(s.App,
						account.ID).SetUserID("u1")).Exec(ctx), rls},
				"upserted credential": {testdb.NewCredential(s.App, account.ID).SetUserID("u1").SetID(credential.ID).
					OnConflictColumns("id").UpdateNewValues().Exec(ctx), rls},
				"update one": {s.App.UserCredential.UpdateOneID(credential.ID).SetIsActive(false).
					Exec(ctx), "not found"},
				"delete one": {s.App.UserCredential.DeleteOneID(credential.ID).Exec(ctx), "not found"},
				"delete one account": {
					s.App.UserAccount.DeleteOneID(account.ID).Exec(ctx), "not found",
				},
			} {
				if test.err == nil || !strings.Contains(test.err.Error(), test.text) {
					t.Errorf("%s: %s: %v", name, write, test.err)
				}
			}
			for write, affect := range map[string]func() (int, error){
				"update": func() (int,
					error,
				) {
					return s.App.UserCredential.Update().SetIsActive(false).Save(ctx)
				},
				"update accounts": func() (int,
					error,
				) {
					return s.App.UserAccount.Update().SetAccountName("x").Save(ctx)
				},
				"delete":          func() (int, error) { return s.App.UserCredential.Delete().Exec(ctx) },
				"delete accounts": func() (int, error) { return s.App.UserAccount.Delete().Exec(ctx) },
			} {
				if n, err := affect(); n != 0 || err != nil {
					t.Errorf("%s: %s affected %d rows, %v", name, write, n, err)
				}
			}
		}
	})
}
