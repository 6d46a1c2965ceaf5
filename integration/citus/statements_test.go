package citus

import (
	"context"
	"fmt"
	"os"
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
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

// TestStatements checks which statements of each operation go to one node and
// which to all, as Citus counts them, against the table in docs/citus.md. It
// isn't parallel, because Citus's counts for one database can't be read while
// others are added.
func TestStatements(t *testing.T) {
	testdb.NeedCitus(t)
	ctx := t.Context()
	c := newCluster(t, migrate.Citus)
	c.Exec(t, "CREATE EXTENSION pg_stat_statements") // scripts/citus loads it, and makes Citus track all
	want := documented(t)
	a, b := c.Account(t, "a"), c.Account(t, "b")
	one := c.Credential(t, a, "k1", "s1")
	c.Credential(t, b, "k2", "s2")
	bound := testdb.Open(t, c.URL, c.IsBound()...)
	create := func(account *ent.UserAccount) *ent.UserCredentialCreate {
		return c.Client.UserCredential.Create().SetAccount(account).SetUserID(account.UserID).
			SetCredentialType("alpaca").SetAPIKey(credent.NewSecret("k")).SetSecretKey(credent.NewSecret("s"))
	}
	mine := usercredential.UserID("a")
	for _, op := range []struct {
		name string
		run  func(ctx context.Context) error
	}{
		{"create an account", func(ctx context.Context) error {
			return c.Client.UserAccount.Create().SetUserID("n").SetAccountName("x").Exec(ctx)
		}},
		{"create a credential with user_id", func(ctx context.Context) error { return create(a).Exec(ctx) }},
		{"create a credential without user_id", func(ctx context.Context) error {
			return c.Client.UserCredential.Create().SetAccount(a).SetCredentialType("alpaca").
				SetAPIKey(credent.NewSecret("k")).SetSecretKey(credent.NewSecret("s")).Exec(ctx)
		}},
		{"create in bulk, one user", func(ctx context.Context) error {
			return c.Client.UserCredential.CreateBulk(create(a), create(a)).Exec(ctx)
		}},
		{"create in bulk, several users", func(ctx context.Context) error {
			return c.Client.UserCredential.CreateBulk(create(a), create(b)).Exec(ctx)
		}},
		{"upsert on (user_id, id)", func(ctx context.Context) error {
			return create(a).SetID(one.ID).OnConflictColumns(usercredential.FieldUserID,
				usercredential.FieldID).UpdateNewValues().Exec(ctx)
		}},
		{"query by user_id", func(ctx context.Context) error {
			_,
				err := c.Client.UserCredential.Query().Where(mine).All(ctx)
			return err
		}},
		{"query by user_id and id", func(ctx context.Context) error {
			_, err := c.Client.UserCredential.Query().Where(mine, usercredential.ID(one.ID)).Only(ctx)
			return err
		}},
		{"get by id", func(ctx context.Context) error {
			_,
				err := c.Client.UserCredential.Get(ctx, one.ID)
			return err
		}},
		{"look up by API key", func(ctx context.Context) error {
			_, err := c.Client.UserCredential.Query().Where(usercredential.APIKeyIs(credent.NewSecret("k2"))).All(ctx)
			return err
		}},
		{"look up by API key and user_id", func(ctx context.Context) error {
			_, err := c.Client.UserCredential.Query().Where(mine,
				usercredential.APIKeyIs(credent.NewSecret("k"))).All(ctx)
			return err
		}},
		{"account.QueryCredentials", func(ctx context.Context) error {
			_,
				err := a.QueryCredentials().All(ctx)
			return err
		}},
		{"accounts WithCredentials", func(ctx context.Context) error {
			_, err := c.Client.UserAccount.Query().Where(useraccount.UserID("a")).WithCredentials().All(ctx)
			return err
		}},
		{"accounts QueryCredentials", func(ctx context.Context) error {
			_, err := c.Client.UserAccount.Query().Where(useraccount.UserID("a")).QueryCredentials().All(ctx)
			return err
		}},
		{"update by id", func(ctx context.Context) error {
			return c.Client.UserCredential.UpdateOneID(one.ID).SetIsActive(false).Exec(ctx)
		}},
		{"update by id and user_id", func(ctx context.Context) error {
			return c.Client.UserCredential.UpdateOneID(one.ID).Where(mine).SetAPIKey(credent.NewSecret("k")).Exec(ctx)
		}},
		{"update by id, bound", func(ctx context.Context) error {
			return bound.UserCredential.UpdateOneID(one.ID).SetAPIKey(credent.NewSecret("k")).Exec(ctx)
		}},
		{"update where user_id", func(ctx context.Context) error {
			return c.Client.UserCredential.Update().Where(mine).SetIsActive(true).Exec(ctx)
		}},
		{"delete by id", func(ctx context.Context) error {
			return c.Client.UserCredential.DeleteOneID(uuid.Nil).Exec(ctx)
		}},
		{"delete where user_id", func(ctx context.Context) error {
			_, err := c.Client.UserAccount.Delete().Where(useraccount.UserID("n")).Exec(ctx)
			return err
		}},
		{"Copy", func(ctx context.Context) error {
			_, err := testopt.Copy(ctx, c.DB, testdb.Sequence(credent.CopyRow{
				UserAccountID: a.ID, UserID: "a", CredentialType: "alpaca",
				APIKey: credent.NewSecret("k"), SecretKey: credent.NewSecret("s"),
			}), credent.CopyConfig{}, testopt.WithKeyring(c.Ring))
			return err
		}},
		{"Check", func(ctx context.Context) error { return credent.Check(ctx, c.Client) }},
		{"rotate", func(ctx context.Context) error {
			_, err := rotate.Run(ctx, c.DB, testdb.Must(keyring.New(keyring.GenerateKey(), c.Key)), rotate.Config{})
			return err
		}},
		{"verify", func(ctx context.Context) error { _, err := rotate.Verify(ctx, c.DB, c.Ring); return err }},
		{"tenant destroy", func(ctx context.Context) error {
			_, err := rotate.DestroyTenant(ctx, c.DB, c.Ring, "b")
			return err
		}},
	} {
		c.Exec(t, "SELECT citus_stat_statements_reset()")
		c.Exec(t, "SELECT pg_stat_statements_reset()")
		if err := op.run(ctx); err != nil && !ent.IsNotFound(err) {
			t.Errorf("%s: %v", op.name, err)
			continue
		}
		got := c.routes(t)
		if os.Getenv("CREDENT_TEST_CITUS_TABLE") != "" {
			t.Logf("| %s | %s |", op.name, got)
		}
		if want[op.name] != got {
			t.Errorf("%s: %s, and docs/citus.md says %q", op.name, got, want[op.name])
		}
		delete(want, op.name)
	}
	for name := range want {
		t.Errorf("docs/citus.md has %q, which the test doesn't run", name)
	}
}

// routes returns where the statements on the distributed tables went, each kind
// once: to one node, or to all.
func (c *cluster) routes(t *testing.T) string {
	t.Helper()
	kinds := testdb.Lines(t, c.DB, `SELECT DISTINCT upper(split_part(ltrim(s.query), ' ', 1)) || ' ' ||
  CASE WHEN c.partition_key IS NOT NULL THEN 'one' ELSE 'all' END
FROM citus_stat_statements c JOIN pg_stat_statements s USING (queryid, userid, dbid)
WHERE c.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND s.query ~ 'user_accounts|user_credentials|credent_tenant_keys' AND s.query !~ 'citus_stat' ORDER BY 1`)
	if len(kinds) == 0 {
		return "none"
	}
	return strings.Join(kinds, ", ")
}

var rowOfTable = regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \|`)

// documented returns the rows of the table in docs/citus.md.
func documented(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/citus.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rows, ok := strings.Cut(string(text), "<!-- statements -->")
	rows, _, ends := strings.Cut(rows, "\n\n")
	if !ok || !ends {
		t.Fatal("docs/citus.md has no table of statements")
	}
	table := map[string]string{}
	for _, row := range rowOfTable.FindAllStringSubmatch(rows, -1) {
		if !slices.Contains([]string{"operation", "---"}, row[1]) {
			table[row[1]] = row[2]
		}
	}
	if len(table) == 0 {
		t.Fatal(fmt.Errorf("docs/citus.md has an empty table of statements"))
	}
	return table
}
