package tenancy

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

const (
	manyClients = 32
	manyRounds  = 4
)

// mixUsers has many goroutines run statements of all kinds for many users, each
// on one user's rows, and fails the test if one sees another user's. Every
// statement has a user, or deliberately none; statements without one have a
// parameter only if the connection allows it.
func mixUsers(t *testing.T, client *ent.Client, userless bool) {
	t.Helper()
	var wg sync.WaitGroup
	for worker := range manyClients {
		wg.Go(func() {
			user := fmt.Sprintf("w%d", worker)
			if err := useAs(t, client, user, userless); err != nil {
				t.Errorf("%s: %v", user, err)
			}
		})
	}
	wg.Wait()
}

// useAs creates, reads and changes a user's rows.
func useAs(t *testing.T, client *ent.Client, user string, userless bool) error {
	t.Helper()
	ctx := testdb.As(t, user)
	account, err := client.UserAccount.Create().SetUserID(user).SetAccountName(user).Save(ctx)
	if err != nil {
		return err
	}
	for round := range manyRounds {
		if _, err := testdb.NewCredential(client, account.ID).SetAPIKey(credent.NewSecret(user)).Save(ctx); err != nil {
			return err
		}
		list, err := client.UserCredential.Query().WithAccount().All(ctx)
		if err := onlyOf(list, user, round+1, err); err != nil {
			return err
		}
		for _, c := range list {
			if key, err := c.APIKey.Reveal(); err != nil || key != user || c.Edges.Account.UserID != user {
				return fmt.Errorf("read the key %q, the account of %s, %w", key, c.Edges.Account.UserID, err)
			}
		}
		if n, err := client.UserCredential.Update().SetIsActive(round%2 == 0).Save(ctx); n != round+1 || err != nil {
			return fmt.Errorf("updated %d, %w", n, err)
		}
		if n, err := client.UserAccount.Query().Where(useraccount.UserIDNEQ(user)).Count(ctx); n != 0 || err != nil {
			return fmt.Errorf("counted %d rows of other users, %w", n, err)
		}
		if err := inTransaction(client, ctx, user, round+1); err != nil {
			return err
		}
		if _, err := client.UserAccount.Create().SetUserID(user).SetAccountName("again").
			Save(ctx); !ent.IsConstraintError(err) {
			return fmt.Errorf("a second account: %w", err)
		}
		if n, err := client.UserCredential.Query().Count(testdb.As(t, "")); n != 0 || err != nil {
			return fmt.Errorf("counted %d for an empty user, %w", n, err)
		}
		if !userless {
			continue
		}
		if n, err := client.UserCredential.Query().Count(t.Context()); n != 0 || err != nil {
			return fmt.Errorf("counted %d without a user, %w", n, err)
		}
		if _, err := client.UserAccount.Create().SetUserID(user + "x").SetAccountName("x").
			Save(t.Context()); err == nil {
			return errors.New("an account was created without a user")
		}
	}
	return nil
}

func onlyOf(list []*ent.UserCredential, user string, want int, err error) error {
	if err != nil || len(list) != want {
		return fmt.Errorf("read %d rows, want %d, %w", len(list), want, err)
	}
	for _, c := range list {
		if c.UserID != user {
			return fmt.Errorf("read a row of %s", c.UserID)
		}
	}
	return nil
}

// inTransaction reads as the user and without a user, and either commits, or
// fails and rolls back.
func inTransaction(client *ent.Client, ctx context.Context, user string, want int) (err error) { //nolint:revive // the client is the receiver, so to say
	tx, err := client.Tx(ctx)
	if err != nil {
		return err
	}
	list, err := tx.UserCredential.Query().All(ctx)
	if err := onlyOf(list, user, want, err); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	list, err = tx.UserCredential.Query().All(context.WithoutCancel(credent.WithUser(ctx, "")))
	if err := onlyOf(list, user, 0, err); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if want%3 == 0 {
		_, err := tx.ExecContext(ctx, "SELECT 1/0")
		if err == nil {
			err = errors.New("no error")
		} else {
			err = nil
		}
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func TestPooledConnectionsForgetTheUser(t *testing.T) {
	t.Parallel()
	const connections = 5
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		db := testdb.OpenDB(t, s.ServiceURL, s.Opts...)
		db.SetMaxOpenConns(connections)
		db.SetMaxIdleConns(connections)
		mixUsers(t, testdb.Must(testopt.NewClient(db, "postgres", s.Opts...)), true)

		var conns []*sql.Conn
		pids := map[int]bool{}
		for range connections {
			conn, err := db.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
			var (
				pid  int
				user sql.NullString
				rows int
			)
			if err := conn.QueryRowContext(t.Context(), "SELECT pg_backend_pid(), current_setting('app.user_id', "+
				"true), (SELECT count(*) FROM user_credentials)").Scan(&pid, &user, &rows); err != nil {
				t.Fatal(err)
			}
			pids[pid] = true
			if user.String != "" || rows != 0 {
				t.Errorf("connection %d belongs to %q and sees %d rows", pid, user.String, rows)
			}
		}
		for _, conn := range conns {
			testdb.CloseAll(t, conn)
		}
		if len(pids) != connections {
			t.Errorf("%d connections", len(pids))
		}
		if n := mismatches(t, s.Env); n != 0 {
			t.Errorf("%d credentials have another user_id than their account", n)
		}
		var n int
		s.Value(t, &n, "SELECT count(*) FROM user_credentials WHERE user_id LIKE 'w%'")
		if n != manyClients*manyRounds {
			t.Errorf("%d credentials, want %d", n, manyClients*manyRounds)
		}
	})
}

// A default set on the role or in the URL is not a user: a statement with an
// empty user sees nothing, and one with a user sees that user's rows.
func TestDefaultOfTheRole(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		s.Exec(t, "ALTER ROLE "+s.Role+" SET app.user_id = 'u2'")
		client := testdb.Open(t, s.ServiceURL, s.Opts...)
		for _, user := range []string{"", "u1", ""} {
			want := strings.Fields(strings.Repeat(user+" ", len(s.Credentials[user])))
			if got := usersSeen(t, testdb.As(t, user), client.UserCredential.Query()); len(got) != len(want) {
				t.Errorf("%q sees %v", user, got)
			}
			tx, err := client.Tx(testdb.As(t, user))
			if err != nil {
				t.Fatal(err)
			}
			if got := usersSeen(t, testdb.As(t, user),
				tx.UserCredential.Query().Order(entsql.OrderByField("id").ToFunc())); len(got) != len(want) {
				t.Errorf("%q sees %v in a transaction", user, got)
			}
			if err := tx.Commit(); err != nil {
				t.Error(err)
			}
		}
	})
}
