package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/keyring"
)

const (
	// fewRows is the size that lookups are compared with.
	fewRows = 10_000
	// perAccount is the number of credentials that an account has.
	perAccount = 10
)

// table is a database with so many credentials.
type table struct {
	rows    int
	command string
	url     string
	db      *sql.DB
	keys    []string // the primary key, and the earlier ones
	remove  func() error
}

// newTable makes an empty database.
func newTable(ctx context.Context, server *pgserver.Server, command string, rows int) (*table, error) {
	url, remove, err := server.CreateDatabase(ctx, "")
	if err != nil {
		return nil, err
	}
	t := &table{rows: rows, command: command, url: url, keys: []string{keyring.GenerateKey()}, remove: remove}
	if t.db, _, err = credent.OpenDB(url); err != nil {
		return nil, errors.Join(err, remove())
	}
	return t, nil
}

func (t *table) drop() error { return errors.Join(t.db.Close(), t.remove()) }

func userID(account int) string { return fmt.Sprintf("user-%08d", account) }
func apiKey(row int) string     { return fmt.Sprintf("PK%018d", row) }
func secretKey(row int) string  { return fmt.Sprintf("%040d", row) }

// load migrates the database and imports the rows by the command. What that
// took goes into the report, if there is one.
func (t *table) load(ctx context.Context, r *report) error {
	if _, err := t.do(ctx, 0, t.keys, nil, "migrate", "apply"); err != nil {
		return err
	}
	// Autovacuum would begin during a rotation, which commits page by page, and
	// after the one UPDATE that it is compared with.
	if _, err := t.db.ExecContext(ctx, "ALTER TABLE user_credentials SET (autovacuum_enabled = off)"); err != nil {
		return err
	}
	accounts := max(1, t.rows/perAccount)
	if _, err := t.db.ExecContext(ctx, `INSERT INTO user_accounts (id, user_id, account_name)
		SELECT gen_random_uuid(), 'user-' || lpad(n::text, 8, '0'), 'Ada' FROM generate_series(0, $1 - 1) AS n`,
		accounts); err != nil {
		return err
	}
	// One account's rows lie apart, as in a table that fills up.
	in, out := io.Pipe()
	defer func() { _ = in.Close() }()
	go func() {
		w := bufio.NewWriter(out)
		_, _ = w.WriteString("user_id,credential_type,api_key,secret_key\n")
		for i := range t.rows {
			if _, err := fmt.Fprintf(w, "%s,alpaca,%s,%s\n", userID(i%accounts), apiKey(i), secretKey(i)); err != nil {
				break
			}
		}
		_ = out.CloseWithError(w.Flush())
	}()
	imported, err := t.do(ctx, 0, t.keys, in, "credential", "import", "--format", "csv", "-")
	if err != nil {
		return err
	}
	var rows int
	if err := t.db.QueryRowContext(ctx, "SELECT count(*) FROM user_credentials").Scan(&rows); err != nil {
		return err
	}
	if rows != t.rows {
		return fmt.Errorf("imported %d rows, want %d", rows, t.rows)
	}
	if _, err := t.db.ExecContext(ctx, "VACUUM ANALYZE"); err != nil {
		return err
	}
	if r != nil {
		r.add("credential import", t.rows, imported)
		return t.db.QueryRowContext(ctx, "SELECT pg_database_size(current_database())").Scan(&r.disk)
	}
	return nil
}

// walOf returns how many bytes the server logs during run.
func (t *table) walOf(ctx context.Context, run func() error) (n int64, err error) {
	var before string
	if err := t.db.QueryRowContext(ctx, "SELECT pg_current_wal_lsn()::text").Scan(&before); err != nil {
		return 0, err
	}
	if err := run(); err != nil {
		return 0, err
	}
	err = t.db.QueryRowContext(ctx, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), $1::text::pg_lsn)::bigint",
		before).Scan(&n)
	return n, err
}

// timed runs something.
func timed(run func() error) (time.Duration, error) {
	start := time.Now()
	err := run()
	return time.Since(start), err
}
