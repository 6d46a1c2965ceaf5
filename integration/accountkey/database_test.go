package accountkey

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

// database has the old triggers, accounts and credentials.
type database struct {
	*sql.DB
	url      string
	accounts []string // their IDs; the user of the first is u0
}

const perAccount = 10

func newDatabase(t *testing.T, opts []testopt.Option) *database {
	t.Helper()
	d := &database{url: testdb.NewDatabase(t, "")}
	d.DB = testdb.OpenDB(t, d.url, opts...)
	if err := testopt.Apply(t.Context(), d.DB, testopt.WithTarget(lastWithTriggers)); err != nil {
		t.Fatal(err)
	}
	testdb.Run(t, d.DB,
		"INSERT INTO user_accounts (user_id, account_name) SELECT 'u' || n, 'n' FROM generate_series(0, 199) AS n",
		fmt.Sprintf(`INSERT INTO user_credentials (user_account_id, user_id, credential_type, api_key, secret_key)
SELECT id, user_id, 'alpaca', 'gAAAA-not-opened', 'gAAAA-not-opened'
FROM user_accounts, generate_series(1, %d)`, perAccount))
	d.accounts = testdb.Lines(t, d.DB, "SELECT id::text FROM user_accounts ORDER BY substr(user_id, 2)::int")
	return d
}

func (d *database) value(t *testing.T, query string) (value string) {
	t.Helper()
	if err := d.QueryRowContext(t.Context(), query).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

// open begins a transaction that has written to both tables.
func (d *database) open(t *testing.T) *sql.Tx {
	t.Helper()
	tx, err := d.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	if _, err := tx.ExecContext(t.Context(), insert, d.accounts[1], "u1"); err != nil {
		t.Fatal(err)
	}
	const update = "UPDATE user_accounts SET account_name = 'open' WHERE user_id = 'u1'"
	if _, err := tx.ExecContext(t.Context(), update); err != nil {
		t.Fatal(err)
	}
	return tx
}

// serve makes a service's usual writes. It fails if one has to wait for a lock,
// or if another user's account is accepted.
func (d *database) serve(t *testing.T, during string) {
	t.Helper()
	conn := testdb.Session(t, d.DB)
	if _, err := conn.ExecContext(t.Context(), "SET lock_timeout = '20s'"); err != nil {
		t.Fatal(err)
	}
	for _, stmt := range []string{
		"SELECT count(*) FROM user_credentials JOIN user_accounts ON user_accounts.id = user_account_id",
		fmt.Sprintf("UPDATE user_credentials SET is_active = false WHERE user_account_id = '%s'", d.accounts[2]),
		"UPDATE user_accounts SET user_id = 'renamed' WHERE user_id = 'u3'",
		"UPDATE user_accounts SET user_id = 'u3' WHERE user_id = 'renamed'",
		strings.NewReplacer("$1", "'"+d.accounts[3]+"'", "$2", "'u3'").Replace(insert),
		fmt.Sprintf("DELETE FROM user_credentials WHERE id = "+
			"(SELECT max(id::text)::uuid FROM user_credentials WHERE user_account_id = '%s')", d.accounts[3]),
	} {
		if _, err := conn.ExecContext(t.Context(), stmt); err != nil {
			t.Errorf("%s: %s: %v", during, stmt, err)
		}
	}
	for _, account := range []string{d.accounts[4], "00000000-0000-4000-8000-000000000000"} {
		if _, err := conn.ExecContext(t.Context(), insert, account, "u5"); err == nil {
			t.Errorf("%s: a credential of u5 got account %s", during, account)
		}
	}
	if n := d.value(t, mismatches); n != "0" {
		t.Errorf("%s: %s credentials have another user_id than their account", during, n)
	}
}

// awaitLock waits until a session waits for a lock, or done receives.
func (d *database) awaitLock(t *testing.T, done chan error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for waiting := false; !waiting && len(done) == 0; {
		if err := d.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pg_stat_activity "+
			"WHERE datname = current_database() AND wait_event_type = 'Lock')").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
}
