package citus

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

// TestDistribute moves a database with rows from one server to the cluster. The
// coordinator keeps no copy of them, and the database remembers the layout.
func TestDistribute(t *testing.T) {
	testdb.NeedCitus(t)
	t.Parallel()
	ctx := t.Context()
	c := newCluster(t, migrate.Single)
	for _, user := range []string{"u1", "u2", "u3"} {
		c.Credential(t, c.Account(t, user), "key of "+user, "secret of "+user)
	}
	if err := migrate.Apply(ctx, c.DB, migrate.Config{Layout: migrate.Citus}); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"u1", "u2", "u3"} {
		got := c.Client.UserCredential.Query().Where(usercredential.UserID(user)).OnlyX(ctx)
		if testdb.Reveal(t, got.APIKey) != "key of "+user {
			t.Errorf("%s has another key", user)
		}
	}
	var bytes int
	c.Value(t, &bytes, "SELECT pg_relation_size('user_accounts') + pg_relation_size('user_credentials')")
	if bytes != 0 {
		t.Errorf("the coordinator has %d bytes of copies", bytes)
	}
	status, err := migrate.ReadStatus(ctx, c.DB, migrate.Config{})
	if err != nil || status.Layout != migrate.Citus || len(status.Pending) != 0 {
		t.Errorf("status: %+v, %v", status, err)
	}
	if err := migrate.Apply(ctx, c.DB, migrate.Config{}); err != nil {
		t.Errorf("apply again: %v", err)
	}
	if err := migrate.Apply(ctx, c.DB, migrate.Config{Layout: migrate.Partitioned}); !errors.Is(err,
		migrate.ErrLayoutMismatch) {
		t.Errorf("another layout: %v", err)
	}
	c.wantFindings(t)
	c.Exec(t,
		"SELECT result FROM run_command_on_placements('user_credentials', 'ALTER TABLE %s DISABLE ROW LEVEL SECURITY')")
	c.wantFindings(t, "and 29 more lack row-level security")
	c.Exec(t, "SELECT undistribute_table('credent_canary')")
	c.wantFindings(t, "and 29 more lack row-level security", "create_reference_table('credent_canary')")
}

// wantFindings compares the findings of migrate.Check.
func (c *cluster) wantFindings(t *testing.T, want ...string) {
	t.Helper()
	report, err := migrate.Check(t.Context(), c.DB, migrate.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if report.NotCompared != "" || len(report.Findings) != len(want) {
		t.Fatalf("found %v, %s, want %q", report.Findings, report.NotCompared, want)
	}
	for i, text := range want {
		if !strings.Contains(report.Findings[i].Detail, text) {
			t.Errorf("found %q, want %q", report.Findings[i], text)
		}
	}
}

// TestNoCluster checks that the layout is refused on a single server, on a
// worker, and on a cluster without workers.
func TestNoCluster(t *testing.T) {
	testdb.NeedCitus(t)
	t.Parallel()
	database, nodes := testdb.NewCitus(t)
	c := &cluster{&testdb.Env{URL: database, DB: testdb.OpenDB(t, database)}, nodes}
	for name, test := range map[string]struct{ url, want string }{
		"worker":         {c.on(t, nodes[1], database), "connect to its coordinator"},
		"no extension":   {testdb.NewDatabase(t, ""), "no extension citus"},
		"without shards": {database, "citus_add_node"},
	} {
		if name == "without shards" {
			c.Exec(t,
				"SELECT citus_set_node_property(nodename, nodeport, 'shouldhaveshards', false) "+
					"FROM pg_dist_node WHERE groupid > 0")
		}
		err := migrate.Apply(t.Context(), testdb.OpenDB(t, test.url), migrate.Config{Layout: migrate.Citus})
		if !errors.Is(err, migrate.ErrLayoutRefused) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRefused checks that the errors for operations that a cluster can't do say
// so, and say what to do.
func TestRefused(t *testing.T) {
	testdb.NeedCitus(t)
	t.Parallel()
	ctx := t.Context()
	c := newCluster(t, migrate.Citus)
	a, b := c.Account(t, "a"), c.Account(t, "b")
	one := c.Credential(t, a, "k1", "s1")
	bound := testdb.Open(t, c.URL, c.IsBound()...)
	for name, run := range map[string]func() error{
		"move": func() error { return c.Client.UserAccount.UpdateOne(b).SetUserID("c").Exec(ctx) },
		"move where": func() error {
			return c.Client.UserAccount.Update().Where(useraccount.UserID("b")).SetUserID("c").Exec(ctx)
		},
		"move, bound": func() error {
			tx, err := bound.Tx(ctx)
			if err != nil {
				return err
			}
			return errors.Join(tx.UserAccount.UpdateOneID(b.ID).SetUserID("c").Exec(ctx), tx.Rollback())
		},
		"move as the user": func() error {
			return c.Client.UserAccount.UpdateOneID(b.ID).SetUserID("c").Exec(credent.WithUser(ctx, "b"))
		},
		"credential of another": func() error {
			return c.Client.UserCredential.UpdateOneID(one.ID).SetUserID("b").Exec(ctx)
		},
		"accounts with credentials": func() error {
			_, err := c.Client.UserAccount.Query().Where(useraccount.HasCredentials()).All(ctx)
			return err
		},
		"credentials with account": func() error {
			_, err := c.Client.UserCredential.Query().
				Where(usercredential.HasAccountWith(useraccount.UserID("a"))).Count(ctx)
			return err
		},
		"lock by id": func() error {
			_, err := c.Client.UserCredential.Query().Where(usercredential.ID(one.ID)).
				Unique(false).ForUpdate().All(ctx)
			return err
		},
	} {
		err := run()
		if !errors.Is(err, credent.ErrLayout) || !strings.Contains(err.Error(), "user_id") {
			t.Errorf("%s: %v", name, err)
		}
	}
	users := c.Client.UserAccount.Query().Order(ent.Asc(useraccount.FieldUserID)).
		Select(useraccount.FieldUserID).StringsX(ctx)
	if !slices.Equal(users, []string{"a", "b"}) {
		t.Errorf("the users are %v", users)
	}
	// The alternative that the error suggests.
	if _, err := c.Client.UserCredential.Query().Where(usercredential.UserID("a"), usercredential.ID(one.ID)).
		Unique(false).ForUpdate().Only(ctx); err != nil {
		t.Errorf("lock by user and id: %v", err)
	}
	create := func(account uuid.UUID, user string) error {
		return c.Client.UserCredential.Create().SetUserAccountID(account).SetUserID(user).SetCredentialType("alpaca").
			SetAPIKey(credent.NewSecret("k")).SetSecretKey(credent.NewSecret("s")).Exec(ctx)
	}
	row := func(account uuid.UUID, user string) error {
		_, err := testopt.Copy(ctx, c.DB, testdb.Sequence(credent.CopyRow{
			UserAccountID: account, UserID: user, CredentialType: "alpaca",
			APIKey: credent.NewSecret("k"), SecretKey: credent.NewSecret("s"),
		}), credent.CopyConfig{}, testopt.WithKeyring(c.Ring))
		return err
	}
	for name, err := range map[string]error{
		"another's account": create(a.ID, "b"), "no account": create(uuid.New(), "a"),
		"another's account, Copy": row(a.ID, "b"), "no account, Copy": row(uuid.New(), "a"),
	} {
		if !errors.Is(err, credent.ErrTenantMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.DB.ExecContext(ctx, "UPDATE user_credentials SET user_id = 'b' WHERE user_id = 'a'"); err == nil {
		t.Error("SQL moved a credential to another user")
	}
}

// TestRowSecurity checks that a service sees only its user's rows, through the
// coordinator and through a worker.
func TestRowSecurity(t *testing.T) {
	testdb.NeedCitus(t)
	t.Parallel()
	ctx := t.Context()
	c := newCluster(t, migrate.Citus)
	users := []string{"u1", "u2", "u3", "u4"}
	for _, user := range users {
		c.Credential(t, c.Account(t, user), "key of "+user, "secret of "+user)
	}
	_, service := testdb.NewServiceRole(t, c.Env)
	for _, node := range c.nodes {
		app := testdb.Open(t, c.on(t, node, service), testopt.WithKeyring(c.Ring), testopt.RequireRowSecurity())
		for _, user := range users {
			as := credent.WithUser(ctx, user)
			seen, err := app.UserCredential.Query().All(as)
			if err != nil || len(seen) != 1 || seen[0].UserID != user {
				t.Fatalf("node %s: %s sees %d rows, %v", node.Port, user, len(seen), err)
			}
			if got := testdb.Reveal(t, seen[0].APIKey); got != "key of "+user {
				t.Errorf("%s has %q", user, got)
			}
			if n := app.UserCredential.Update().SetIsActive(false).SaveX(as); n != 1 {
				t.Errorf("%s updates %d rows", user, n)
			}
			other := users[0]
			if user == other {
				other = users[1]
			}
			account := c.Client.UserAccount.Query().Where(useraccount.UserID(other)).OnlyX(ctx)
			err = app.UserCredential.Create().SetUserAccountID(account.ID).SetUserID(other).SetCredentialType("alpaca").
				SetAPIKey(credent.NewSecret("k")).SetSecretKey(credent.NewSecret("s")).Exec(as)
			if err == nil {
				t.Errorf("%s stores a row of %s", user, other)
			}
			if n := app.UserAccount.Query().Where(useraccount.UserID(other)).CountX(as); n != 0 {
				t.Errorf("%s sees the account of %s", user, other)
			}
		}
		if n := app.UserCredential.Query().CountX(ctx); n != 0 {
			t.Errorf("node %s: without a user it sees %d rows", node.Port, n)
		}
		tx, err := app.Tx(credent.WithUser(ctx, "u1"))
		if err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"u1", "u2", "", "u3"} {
			seen := tx.UserCredential.Query().Select(usercredential.FieldUserID).StringsX(credent.WithUser(ctx, user))
			if user == "" && len(seen) != 0 || user != "" && (len(seen) != 1 || seen[0] != user) {
				t.Errorf("in a transaction %q sees %v", user, seen)
			}
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	}
}
