package client_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
)

// TestOnExpiring reads a credential in every way, each with a new client:
// OnExpiring is called if the result includes a secret.
func TestOnExpiring(t *testing.T) {
	t.Parallel()
	db, ring := database(t)
	drv := entsql.OpenDB(dialect.SQLite, db)
	plain, err := client.New(db, dialect.SQLite, client.Config{Keyring: ring})
	if err != nil {
		t.Fatal(err)
	}
	account := plain.UserAccount.Create().SetUserID("u-1").SetAccountName("Ada").SaveX(t.Context())
	row, err := create(t, plain, account, "PK")
	if err != nil {
		t.Fatal(err)
	}
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	plain.UserCredential.UpdateOne(row).SetExpiresAt(expires).ExecX(t.Context())
	for name, test := range map[string]struct {
		read func(ctx context.Context, c *ent.Client) error
		told int
	}{
		"All": {func(ctx context.Context, c *ent.Client) error {
			_, err := c.UserCredential.Query().All(ctx)
			return err
		}, 1},
		"All, three times": {func(ctx context.Context, c *ent.Client) error {
			c.UserCredential.Query().AllX(ctx)
			c.UserCredential.Query().AllX(ctx)
			_, err := c.UserCredential.Query().All(ctx)
			return err
		}, 1},
		"Only": {func(ctx context.Context, c *ent.Client) error {
			_, err := c.UserCredential.Query().Where(usercredential.UserID("u-1")).Only(ctx)
			return err
		}, 1},
		"First": {func(ctx context.Context, c *ent.Client) error {
			_, err := c.UserCredential.Query().First(ctx)
			return err
		}, 1},
		"Get": {func(ctx context.Context, c *ent.Client) error {
			_, err := c.UserCredential.Get(ctx, row.ID)
			return err
		}, 1},
		"with an account": {func(ctx context.Context, c *ent.Client) error {
			_, err := c.UserAccount.Query().WithCredentials().All(ctx)
			return err
		}, 1},
		"of an account": {func(ctx context.Context, c *ent.Client) error {
			one, err := c.UserAccount.Get(ctx, account.ID)
			if err != nil {
				return err
			}
			_, err = one.QueryCredentials().All(ctx)
			return err
		}, 1},
		"of accounts": {func(ctx context.Context, c *ent.Client) error {
			_, err := c.UserAccount.Query().QueryCredentials().All(ctx)
			return err
		}, 1},
		"in a transaction": {func(ctx context.Context, c *ent.Client) error {
			tx, err := c.Tx(ctx)
			if err != nil {
				return err
			}
			_, err = tx.UserCredential.Query().All(ctx)
			return errors.Join(err, tx.Rollback())
		}, 1},
		"debugged": {func(ctx context.Context, c *ent.Client) error {
			_, err := c.Debug().UserCredential.Query().All(ctx)
			return err
		}, 1},
		"a secret and its expiry": {func(ctx context.Context, c *ent.Client) error {
			_, err := c.UserCredential.Query().
				Select(usercredential.FieldAPIKey, usercredential.FieldExpiresAt).All(ctx)
			return err
		}, 1},
		"without secrets": {func(ctx context.Context, c *ent.Client) error {
			_, err := c.UserCredential.Query().Select(usercredential.FieldExpiresAt).All(ctx)
			return err
		}, 0},
		"Count": {func(ctx context.Context, c *ent.Client) error {
			_, err := c.UserCredential.Query().Count(ctx)
			return err
		}, 0},
		"IDs": {func(ctx context.Context, c *ent.Client) error {
			_, err := c.UserCredential.Query().IDs(ctx)
			return err
		}, 0},
		"nothing": {func(ctx context.Context, c *ent.Client) error {
			_, err := c.UserCredential.Query().Where(usercredential.UserID("u-9")).All(ctx)
			return err
		}, 0},
	} {
		var told []client.Expiring
		type key struct{}
		ctx := context.WithValue(t.Context(), key{}, name)
		c, err := client.FromDriver(drv, client.Config{
			Keyring: ring, ExpiringWithin: 2 * time.Hour,
			OnExpiring: func(ctx context.Context, e client.Expiring) {
				if ctx.Value(key{}) != name {
					t.Errorf("%s: another context", name)
				}
				told = append(told, e)
			},
		}, ent.Log(func(...any) {}))
		if err != nil {
			t.Fatal(err)
		}
		if err := test.read(ctx, c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(told) != test.told {
			t.Errorf("%s: told %d times, want %d", name, len(told), test.told)
		}
		for _, e := range told {
			if e.Row != row.ID || !e.ExpiresAt.Equal(expires) || e.Left <= 0 || e.Left > time.Hour {
				t.Errorf("%s: %+v", name, e)
			}
		}
	}
	// Outside the period, it isn't called.
	c, err := client.New(db, dialect.SQLite, client.Config{
		Keyring: ring, ExpiringWithin: time.Minute,
		OnExpiring: func(context.Context, client.Expiring) { t.Error("told") },
	})
	if err != nil {
		t.Fatal(err)
	}
	c.UserCredential.Query().AllX(t.Context())
}

func TestOnExpiringConfig(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	drv := entsql.OpenDB(dialect.SQLite, db)
	tell := func(context.Context, client.Expiring) {}
	for name, cfg := range map[string]client.Config{
		"time alone": {ExpiringWithin: time.Hour},
		"negative":   {ExpiringWithin: -time.Hour, OnExpiring: tell},
	} {
		if _, err := client.FromDriver(drv, cfg); !errors.Is(err, client.ErrConfig) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := client.FromDriver(drv, client.Config{OnExpiring: tell}); err != nil {
		t.Error(err)
	}
	// A client on the bare driver has no interceptor.
	if _, err := client.WrapDriver(drv, client.Config{OnExpiring: tell}); !errors.Is(err, client.ErrConfig) {
		t.Errorf("WrapDriver: got %v", err)
	}
}

// The audit log says which credential a new one replaces, but adds this to
// nothing else done in the same context.
func TestAuditSaysReplaces(t *testing.T) {
	t.Parallel()
	db, ring := database(t)
	var log bytes.Buffer
	c, err := client.New(db, dialect.SQLite, client.Config{
		Keyring: ring, Audit: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	account := c.UserAccount.Create().SetUserID("u-1").SetAccountName("Ada").SaveX(t.Context())
	old, err := create(t, c, account, "PK")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(log.String(), "replaces") {
		t.Errorf("without a predecessor: %s", log.String())
	}
	log.Reset()
	ctx := client.WithReplaces(t.Context(), old.ID)
	c.UserCredential.Create().SetAccount(account).SetCredentialType("alpaca").
		SetAPIKey(old.APIKey).SetSecretKey(old.SecretKey).ExecX(ctx)
	if got := log.String(); !strings.Contains(got, "replaces="+old.ID.String()) || strings.Count(got, "\n") != 1 {
		t.Errorf("got %s", got)
	}
	log.Reset()
	c.UserAccount.UpdateOne(account).SetAccountName("Grace").ExecX(ctx)
	c.UserCredential.UpdateOne(old).SetIsActive(false).ExecX(ctx)
	c.UserCredential.DeleteOne(old).ExecX(ctx)
	if got := log.String(); strings.Contains(got, "replaces") || strings.Count(got, "\n") != 3 {
		t.Errorf("got %s", got)
	}
}
