package testdb

import (
	"context"
	"crypto/rand"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/testopt"
)

// Service is a database with rows of two users, u1 and u2, and a client
// connected as a service's role, a member of credent_app. The environment's own
// client is connected as the tables' owner.
type Service struct {
	*Env
	Role       string
	ServiceURL string
	Opts       []testopt.Option
	App        *ent.Client
	Accounts   map[string]*ent.UserAccount
	// The users' credentials in the order of creation: two for u1, one for u2.
	Credentials map[string][]*ent.UserCredential
}

// ForEachService runs a test with both drivers, each with its own database and
// role.
func ForEachService(t *testing.T, test func(t *testing.T, s *Service)) {
	t.Helper()
	for name, opts := range Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, NewService(t, opts...))
		})
	}
}

// NewService returns a service with the two users' rows.
func NewService(t *testing.T, opts ...testopt.Option) *Service {
	t.Helper()
	s := &Service{Env: New(t, opts...)}
	s.Role, s.ServiceURL = NewServiceRole(t, s.Env)
	s.Opts = append(slices.Clone(opts), testopt.WithKeyring(s.Ring))
	s.App = Open(t, s.ServiceURL, s.Opts...)
	s.Accounts = map[string]*ent.UserAccount{"u1": s.Account(t, "u1"), "u2": s.Account(t, "u2")}
	s.Credentials = map[string][]*ent.UserCredential{
		"u1": {s.Credential(t, s.Accounts["u1"], "PK1", "s1"), s.Credential(t, s.Accounts["u1"], "PK2", "s2")},
		"u2": {s.Credential(t, s.Accounts["u2"], "PK3", "s3")},
	}
	return s
}

// NewServiceRole creates a login role that is a member of credent_app. Roles
// belong to the whole server, so its name is unique, and it is dropped after
// the test.
func NewServiceRole(t *testing.T, env *Env) (role, roleURL string) {
	t.Helper()
	role, password := "credent_test_"+strings.ToLower(rand.Text()), rand.Text()
	env.Exec(t, "CREATE ROLE "+role+" LOGIN PASSWORD '"+password+"' IN ROLE credent_app")
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, stmt := range []string{"DROP OWNED BY " + role + " CASCADE", "DROP ROLE " + role} {
			if _, err := env.DB.ExecContext(ctx, stmt); err != nil {
				t.Errorf("%s: %v", stmt, err)
			}
		}
	})
	u, err := url.Parse(env.URL)
	if err != nil {
		t.Fatal("the environment's URL is malformed")
	}
	u.User = url.UserPassword(role, password)
	return role, u.String()
}

// As returns a context for a user's statements.
func As(t *testing.T, user string) context.Context {
	t.Helper()
	return credent.WithUser(t.Context(), user)
}

// RowsOf returns a digest of all that is stored for a user, as seen by the
// owner.
func (s *Service) RowsOf(ctx context.Context, user string) (digest string, err error) {
	err = s.DB.QueryRowContext(ctx, "SELECT coalesce(md5(string_agg(line, E'\\n' ORDER BY line)), '') FROM ("+
		"SELECT 'a' || a::text AS line FROM user_accounts a WHERE user_id = $1 "+
		"UNION ALL SELECT 'c' || c::text FROM user_credentials c WHERE user_id = $1) AS lines", user).Scan(&digest)
	return digest, err
}

// Unchanged fails the test if the users' rows change before it ends.
func (s *Service) Unchanged(t *testing.T, users ...string) {
	t.Helper()
	before := map[string]string{}
	for _, user := range users {
		var err error
		if before[user], err = s.RowsOf(t.Context(), user); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for user, want := range before {
			if got, err := s.RowsOf(context.WithoutCancel(t.Context()), user); err != nil || got != want {
				t.Errorf("the rows of %s were changed, %v", user, err)
			}
		}
	})
}

// NewCredential returns a create builder for an account's credential, without a
// user_id.
func NewCredential(client *ent.Client, accountID uuid.UUID) *ent.UserCredentialCreate {
	return client.UserCredential.Create().SetUserAccountID(accountID).SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret("k")).SetSecretKey(credent.NewSecret("s"))
}
