package tenancy

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

func TestPgBouncer(t *testing.T) {
	t.Parallel()
	for name, way := range testdb.Pooled {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testdb.NewService(t)
			through := testdb.StartPgBouncer(t, s.ServiceURL) + way.Parameters
			db := testdb.OpenDB(t, through, way.Opts...)
			db.SetMaxOpenConns(manyClients)
			db.SetMaxIdleConns(manyClients)
			client := testdb.Must(testopt.NewClient(db, "postgres", append(way.Opts, testopt.WithKeyring(s.Ring))...))
			mixUsers(t, client, way.Userless)

			if n := mismatches(t, s.Env); n != 0 {
				t.Errorf("%d credentials have another user_id than their account", n)
			}
			var n int
			s.Value(t, &n, "SELECT count(*) FROM user_credentials WHERE user_id LIKE 'w%'")
			if n != manyClients*manyRounds {
				t.Errorf("%d credentials, want %d", n, manyClients*manyRounds)
			}
			if s.Value(t, &n, "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND application_name <> "+
				// and the service's own client
				"'direct' AND datname = current_database()", s.Role); n == 0 || n > testdb.BouncerPoolSize+1 {
				t.Errorf("%d server connections, so they were not shared", n)
			}
			// The server connections, one by one: transactions open at the same
			// time use different ones.
			seen := map[int]bool{}
			for range testdb.BouncerPoolSize {
				tx, err := db.BeginTx(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = tx.Rollback() }()
				var pid, rows int
				var user string
				if err := tx.QueryRowContext(t.Context(), "SELECT pg_backend_pid(), "+
					"coalesce(current_setting('app.user_id', true), ''), (SELECT count(*) FROM user_credentials)").
					Scan(&pid, &user, &rows); err != nil {
					t.Fatal(err)
				}
				if seen[pid] = true; user != "" || rows != 0 {
					t.Errorf("connection %d belongs to %q and sees %d rows", pid, user, rows)
				}
			}
			if len(seen) != testdb.BouncerPoolSize {
				t.Errorf("%d connections, want %d", len(seen), testdb.BouncerPoolSize)
			}
		})
	}
}

// Two clients take turns on one server connection, each in the middle of its
// transaction.
func TestPgBouncerTakesTurns(t *testing.T) {
	t.Parallel()
	for name, way := range testdb.Pooled {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testdb.NewService(t)
			through := testdb.StartPgBouncer(t, s.ServiceURL) + way.Parameters
			opts := append(way.Opts, testopt.WithKeyring(s.Ring))
			first, second := testdb.Open(t, through, opts...), testdb.Open(t, through, append(opts,
				testopt.RequireRowSecurity())...)
			for range 20 {
				tx, err := first.Tx(testdb.As(t, "u1"))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([]string{"u1", "u1"}, usersSeen(t, testdb.As(t, "u1"),
					tx.UserCredential.Query())); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff([]string{"u2"}, usersSeen(t, testdb.As(t, "u2"),
					second.UserCredential.Query())); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff([]string{"u1", "u1"}, usersSeen(t, testdb.As(t, "u1"),
					tx.UserCredential.Query())); diff != "" {
					t.Error(diff)
				}
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
				if got := usersSeen(t, t.Context(), second.UserCredential.Query()); len(got) != 0 {
					t.Errorf("without a user: %v", got)
				}
			}
		})
	}
}
