package tenancy

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

// usersSeen are the users of the credentials that a query returns, in order.
func usersSeen(t *testing.T, ctx context.Context, query *ent.UserCredentialQuery) []string { //nolint:revive // t comes first in tests
	t.Helper()
	list, err := query.All(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, c := range list {
		seen = append(seen, c.UserID)
	}
	slices.Sort(seen)
	return seen
}

// limited is a client of the service on a pool of one connection.
func limited(t *testing.T, s *testdb.Service) (*ent.Client, *sql.DB) {
	t.Helper()
	db := testdb.OpenDB(t, s.ServiceURL, s.Opts...)
	db.SetMaxOpenConns(1)
	return testdb.Must(testopt.NewClient(db, "postgres", s.Opts...)), db
}

// settled fails the test unless the pool's connections are free again, and have
// no user.
func settled(t *testing.T, db *sql.DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatalf("a connection was leaked: %v", err)
	}
	defer func() { _ = conn.Close() }()
	var user sql.NullString
	if err := conn.QueryRowContext(ctx, "SELECT current_setting('app.user_id', true)").Scan(&user); err != nil ||
		user.String != "" {
		t.Errorf("the connection is %q's, %v", user.String, err)
	}
}

func TestTransactionsOfAUser(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		client, db := limited(t, s)
		tx, err := client.Tx(testdb.As(t, "u1"))
		if err != nil {
			t.Fatal(err)
		}
		query := tx.UserCredential.Query
		testdb.NewCredential(tx.Client(), s.Accounts["u1"].ID).ExecX(testdb.As(t, "u1"))
		for _, step := range []struct {
			ctx  context.Context
			want []string
		}{
			{testdb.As(t, "u1"), []string{"u1", "u1", "u1"}},
			{testdb.As(t, "u2"), []string{"u2"}},
			{t.Context(), nil},
			{testdb.As(t, "u1"), []string{"u1", "u1", "u1"}},
			{testdb.As(t, ""), nil},
			{testdb.As(t, "u2"), []string{"u2"}},
		} {
			if diff := cmp.Diff(step.want, usersSeen(t, step.ctx, query())); diff != "" {
				t.Error(diff)
			}
		}
		if n := tx.UserCredential.Update().SetIsActive(false).SaveX(testdb.As(t, "u2")); n != 1 {
			t.Errorf("updated %d", n)
		}
		if n := tx.UserCredential.Delete().ExecX(t.Context()); n != 0 {
			t.Errorf("deleted %d without a user", n)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		settled(t, db)
		if n := client.UserCredential.Query().CountX(testdb.As(t, "u1")); n != 2 {
			t.Errorf("%d credentials after the rollback", n)
		}

		// Begun without a user.
		if tx, err = client.Tx(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := tx.UserCredential.Query().CountX(t.Context()); n != 0 {
			t.Errorf("%d rows without a user", n)
		}
		testdb.NewCredential(tx.Client(), s.Accounts["u2"].ID).ExecX(testdb.As(t, "u2"))
		if n := tx.UserCredential.Query().CountX(t.Context()); n != 0 {
			t.Errorf("%d rows without a user, after one", n)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		settled(t, db)
		if n := client.UserCredential.Query().CountX(testdb.As(t, "u2")); n != 2 {
			t.Errorf("%d credentials after the commit", n)
		}
	})
}

func TestTransactionOptions(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		client, db := limited(t, s)
		ctx := testdb.As(t, "u1")
		for _, opts := range []*sql.TxOptions{
			nil, {ReadOnly: true}, {Isolation: sql.LevelSerializable}, {
				Isolation: sql.LevelRepeatableRead,
				ReadOnly:  true,
			},
		} {
			tx, err := client.BeginTx(ctx, opts)
			if err != nil {
				t.Fatalf("%+v: %v", opts, err)
			}
			if diff := cmp.Diff([]string{"u1", "u1"}, usersSeen(t, ctx, tx.UserCredential.Query())); diff != "" {
				t.Errorf("%+v: %s", opts, diff)
			}
			if diff := cmp.Diff([]string{"u2"}, usersSeen(t, testdb.As(t, "u2"),
				tx.UserCredential.Query())); diff != "" {
				t.Errorf("%+v, as another: %s", opts, diff)
			}
			if opts != nil && opts.Isolation == sql.LevelSerializable {
				if level := oneText(t, tx, ctx, "SHOW transaction_isolation"); level != "serializable" {
					t.Errorf("isolation %s", level)
				}
			}
			if opts != nil && opts.ReadOnly {
				if _, err := tx.UserCredential.Delete().Exec(ctx); err == nil ||
					!strings.Contains(err.Error(), "read-only") {
					t.Errorf("a read-only transaction deletes: %v", err)
				}
				// The transaction has failed, and says so to every user.
				if _, err := tx.UserCredential.Query().Count(testdb.As(t,
					"u3")); err == nil || !strings.Contains(err.Error(), "abort") {
					t.Errorf("after an error: %v", err)
				}
				if err := tx.Rollback(); err != nil {
					t.Error(err)
				}
			} else if err := tx.Commit(); err != nil {
				t.Error(err)
			}
			settled(t, db)
		}
	})
}

// oneText runs a query for one value in a transaction.
func oneText(t *testing.T, tx *ent.Tx, ctx context.Context, query string) (text string) { //nolint:revive // t comes first in tests
	t.Helper()
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestSQLOfAUser(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		client, db := limited(t, s)
		ctx := testdb.As(t, "u1")
		if _, err := client.QueryContext(ctx, "SELECT 1"); !errors.Is(err, credent.ErrNeedsTx) { //nolint:rowserrcheck,sqlclosecheck // there are none
			t.Errorf("QueryContext outside of a transaction: %v", err)
		}
		result, err := client.ExecContext(ctx, "UPDATE user_credentials SET is_active = false WHERE user_id <> $1", "x")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := result.RowsAffected(); n != 2 || err != nil {
			t.Errorf("ExecContext: %d rows, %v", n, err)
		}
		if _, err := client.ExecContext(ctx, "UPDATE nowhere SET x = 1"); err == nil || ent.IsConstraintError(err) {
			t.Errorf("a bad statement: %v", err)
		}
		settled(t, db)

		tx, err := client.Tx(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for ctx, want := range map[context.Context]int{
			ctx: 2, testdb.As(t, "u2"): 1, t.Context(): 0,
			testdb.As(t, ""): 0,
		} {
			if got := oneText(t, tx, ctx, "SELECT count(*)::text FROM user_credentials"); got != strconv.Itoa(want) {
				t.Errorf("QueryContext: %s rows, want %d", got, want)
			}
			result, err := tx.ExecContext(ctx, "UPDATE user_credentials SET is_active = false")
			if err != nil {
				t.Fatal(err)
			}
			if n, err := result.RowsAffected(); int(n) != want || err != nil {
				t.Errorf("ExecContext: %d rows, want %d, %v", n, want, err)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Error(err)
		}
		settled(t, db)
	})
}

// Each of ent's ways to run several statements at once would wait for itself if
// one of them kept its connection.
func TestOneConnectionIsEnough(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		client, db := limited(t, s)
		ctx, cancel := context.WithTimeout(testdb.As(t, "u1"), 20*time.Second)
		defer cancel()
		for range 20 {
			accounts, err := client.UserAccount.Query().
				WithCredentials(func(q *ent.UserCredentialQuery) { q.WithAccount() }).All(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, account := range accounts {
				for _, c := range account.QueryCredentials().AllX(ctx) {
					c.QueryAccount().OnlyX(ctx)
				}
			}
			client.UserCredential.Query().Limit(1).FirstX(ctx) // does not read to the end
			client.UserCredential.Query().CountX(ctx)
			client.UserCredential.Query().ExistX(ctx)
			if _, err := client.UserCredential.Query().Only(ctx); !ent.IsNotSingular(err) {
				t.Fatal(err)
			}
			created := testdb.NewCredential(client, s.Accounts["u1"].ID).SaveX(ctx)
			testdb.NewCredential(client,
				s.Accounts["u1"].ID).SetID(created.ID).OnConflictColumns("id").UpdateNewValues().IDX(ctx)
			created.Update().SetAPIKey(credent.NewSecret("x")).SaveX(ctx)
			client.UserCredential.Update().Where(usercredential.ID(created.ID)).
				SetAPIKey(credent.NewSecret("y")).SaveX(ctx)
			client.UserAccount.UpdateOneID(s.Accounts["u1"].ID).RemoveCredentials(created).SaveX(ctx)
		}
		settled(t, db)
	})
}

// One transaction, several goroutines: between the setting of a user and the
// statement nobody else comes.
func TestTransactionOfGoroutines(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		client, _ := limited(t, s)
		tx, err := client.Tx(testdb.As(t, "u1"))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 8 {
			user := []string{"u1", "u2", "u3", ""}[i%4]
			want := int64(len(s.Credentials[user]))
			wg.Go(func() {
				for range 50 {
					result, err := tx.ExecContext(testdb.As(t, user), "UPDATE user_credentials SET is_active = true")
					if err != nil {
						t.Error(err)
						return
					}
					if n, err := result.RowsAffected(); n != want || err != nil {
						t.Errorf("%q updated %d rows, %v", user, n, err)
					}
					if n, err := tx.UserCredential.Update().SetIsActive(true).Save(testdb.As(t,
						user)); int64(n) != want || err != nil {
						t.Errorf("%q updated %d rows, %v", user, n, err)
					}
				}
			})
		}
		wg.Wait()
		if err := tx.Commit(); err != nil {
			t.Error(err)
		}
	})
}
