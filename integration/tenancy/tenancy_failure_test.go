package tenancy

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

// A context that ends halfway releases the connection.
func TestCancelledContext(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		s.Unchanged(t, "u1", "u2")
		client, db := limited(t, s)
		for name, run := range map[string]func(ctx context.Context) error{
			"query": func(ctx context.Context) error {
				_, err := client.UserCredential.Query().Where(raw("pg_sleep(5) IS NOT NULL")).All(ctx)
				return err
			},
			"exec": func(ctx context.Context) error {
				_, err := client.ExecContext(ctx, "UPDATE user_credentials SET is_active = false WHERE pg_sleep(5) "+
					"IS NOT NULL")
				return err
			},
			"update": func(ctx context.Context) error {
				return client.UserCredential.Update().Where(raw("pg_sleep(5) IS NOT NULL")).SetIsActive(false).Exec(ctx)
			},
			"transaction": func(ctx context.Context) error {
				tx, err := client.Tx(ctx)
				if err != nil {
					return err
				}
				_, deleteErr := tx.UserCredential.Delete().Exec(ctx)
				_, err = tx.UserAccount.Query().Where(raw("pg_sleep(5) IS NOT NULL")).All(ctx)
				if commitErr := tx.Commit(); commitErr == nil {
					t.Error("committed")
				}
				return cmp.Or(deleteErr, err)
			},
			"before": func(ctx context.Context) error {
				ctx, cancel := context.WithCancel(ctx)
				cancel()
				_, err := client.UserCredential.Query().All(ctx)
				return err
			},
		} {
			ctx, cancel := context.WithTimeout(testdb.As(t, "u1"), 100*time.Millisecond)
			started := time.Now()
			err := run(ctx)
			cancel()
			if err == nil || time.Since(started) > 4*time.Second {
				t.Fatalf("%s: %v after %v", name, err, time.Since(started))
			}
			if strings.Contains(err.Error(), sql.ErrTxDone.Error()) {
				t.Errorf("%s: the error mentions the rollback: %v", name, err)
			}
			settled(t, db)
			if n := client.UserCredential.Query().CountX(testdb.As(t, "u2")); n != 1 {
				t.Errorf("%s: afterwards u2 counts %d", name, n)
			}
		}
	})
}

// If a statement succeeds and its commit fails, the caller gets the error.
func TestErrorsAtCommit(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		s.Exec(t, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused at commit'; "+
			"END $$")
		s.Exec(t, "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE OR DELETE ON user_credentials "+
			"DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()")
		s.Unchanged(t, "u1", "u2")
		client, db := limited(t, s)
		ctx, account := testdb.As(t, "u1"), s.Accounts["u1"].ID
		for name, run := range map[string]func() error{
			"create": func() error { return testdb.NewCredential(client, account).Exec(ctx) },
			"bulk": func() error {
				return client.UserCredential.CreateBulk(testdb.NewCredential(client, account)).
					Exec(ctx)
			},
			"upsert": func() error {
				return testdb.NewCredential(client, account).OnConflictColumns("id").UpdateNewValues().Exec(ctx)
			},
			"update": func() error { return client.UserCredential.Update().SetIsActive(false).Exec(ctx) },
			"update one": func() error {
				return client.UserCredential.UpdateOne(s.Credentials["u1"][0]).SetIsActive(false).Exec(ctx)
			},
			"delete": func() error {
				_, err := client.UserCredential.Delete().Exec(ctx)
				return err
			},
			"delete account": func() error { return client.UserAccount.DeleteOneID(account).Exec(ctx) },
			"SQL": func() error {
				_, err := client.ExecContext(ctx, "DELETE FROM user_credentials")
				return err
			},
			"transaction": func() error {
				tx, err := client.Tx(ctx)
				if err != nil {
					return err
				}
				tx.UserCredential.Delete().ExecX(ctx)
				return tx.Commit()
			},
		} {
			if err := run(); err == nil || !strings.Contains(err.Error(), "refused at commit") {
				t.Errorf("%s: %v", name, err)
			}
			settled(t, db)
		}
	})
}

func TestUserOnSQLite(t *testing.T) {
	t.Parallel()
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	client := testdb.Open(t, "sqlite::memory:", testopt.WithKeyring(ring), testopt.WithMigrations())
	account := client.UserAccount.Create().SetUserID("u1").SetAccountName("n").SaveX(t.Context())
	ctx := testdb.As(t, "u1")
	_, queryErr := client.UserCredential.Query().All(ctx)
	_, deleteErr := client.UserCredential.Delete().Exec(ctx)
	_, txErr := client.Tx(ctx)
	_, beginErr := client.BeginTx(ctx, &sql.TxOptions{})
	_, execErr := client.ExecContext(ctx, "DELETE FROM user_accounts")
	_, rawErr := client.QueryContext(ctx, "SELECT 1") //nolint:rowserrcheck,sqlclosecheck // there are none
	tx, err := client.Tx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, inTxErr := tx.UserAccount.Query().Count(ctx)
	_, inTxExecErr := tx.ExecContext(ctx, "DELETE FROM user_accounts")
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"query": queryErr, "delete": deleteErr, "Tx": txErr, "BeginTx": beginErr, "ExecContext": execErr,
		"QueryContext": rawErr, "query in a transaction": inTxErr, "ExecContext in a transaction": inTxExecErr,
		"create": testdb.NewCredential(client, account.ID).Exec(ctx),
		"bulk": client.UserCredential.CreateBulk(testdb.NewCredential(client, account.ID).
			SetUserID("u1")).Exec(ctx),
		"update one":  client.UserAccount.UpdateOne(account).SetAccountName("x").Exec(ctx),
		"empty user":  client.UserAccount.Update().SetAccountName("x").Exec(testdb.As(t, "")),
		"delete user": client.UserAccount.DeleteOne(account).Exec(ctx),
	} {
		if !errors.Is(err, credent.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := client.UserAccount.Query().CountX(t.Context()); n != 1 {
		t.Errorf("%d accounts", n)
	}
}
