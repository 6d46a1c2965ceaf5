package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/migrate"
)

// rolloutSteps are the files that add the foreign key.
var rolloutSteps = []struct{ version, what string }{
	{"20261127200000", "make the index"},
	{"20261127200100", "add the key, not valid"},
	{"20261127200200", "validate it"},
	{"20261127200300", "drop the triggers"},
}

// rollOut applies the files to a table with the given number of rows. It writes
// how long each took, and a service's longest statement meanwhile.
func rollOut(ctx context.Context, server *pgserver.Server, rows int, out io.Writer) (err error) {
	url, drop, err := server.CreateDatabase(ctx, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	db, _, err := openPool(url, "", nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := migrate.Apply(ctx, db, migrate.Config{Target: lastWithTriggers}); err != nil {
		return err
	}
	for _, stmt := range []string{
		fmt.Sprintf("INSERT INTO user_accounts (user_id, account_name) SELECT 'user-' || n, 'Ada' "+
			"FROM generate_series(1, %d) AS n", max(1, rows/perAccount)),
		fmt.Sprintf(`INSERT INTO user_credentials (user_account_id, user_id, credential_type, api_key, secret_key)
SELECT id, user_id, 'alpaca', rpad('gAAAAAB', 120, md5(n::text)), rpad('gAAAAAB', 140, md5(n::text))
FROM user_accounts, generate_series(1, %d) AS n`, perAccount),
		"VACUUM ANALYZE",
	} {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(out, "The roll-out at %s, beside a service:\n", sizeName(rows)); err != nil {
		return err
	}
	for _, step := range rolloutSteps {
		stop := make(chan struct{})
		waits := make(chan []time.Duration)
		failed := make(chan error, 1)
		go func() {
			found, err := serveUntil(ctx, db, stop)
			failed <- err
			waits <- found
		}()
		start := time.Now()
		applyErr := migrate.Apply(ctx, db, migrate.Config{Target: step.version})
		took := time.Since(start)
		close(stop)
		if err := errors.Join(applyErr, <-failed); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		found := <-waits
		if _, err := fmt.Fprintf(out, "  %-24s %8.2f s, the service's longest statement %.3f s of %d\n",
			step.what, took.Seconds(), slices.Max(found).Seconds(), len(found)); err != nil {
			return err
		}
	}
	return nil
}

// serveUntil inserts, reads, renames and deletes, and returns how long each
// statement took.
func serveUntil(ctx context.Context, db *sql.DB, stop chan struct{}) (took []time.Duration, err error) {
	for i := 1; ; i++ {
		select {
		case <-stop:
			if len(took) > 0 {
				return took, nil
			}
		default:
		}
		user := fmt.Sprintf("user-%d", 1+i%1000)
		for _, stmt := range []string{
			`INSERT INTO user_credentials (user_account_id, user_id, credential_type, api_key, secret_key)
SELECT id, user_id, 'new', 'gAAAAAB', 'gAAAAAB' FROM user_accounts WHERE user_id = $1`,
			"SELECT count(*) FROM user_credentials WHERE user_id = $1",
			"UPDATE user_accounts SET user_id = 'x' || user_id WHERE user_id = $1",
			"UPDATE user_accounts SET user_id = substr(user_id, 2) WHERE user_id = 'x' || $1",
			"DELETE FROM user_credentials WHERE user_id = $1 AND credential_type = 'new'",
		} {
			start := time.Now()
			if _, err := db.ExecContext(ctx, stmt, user); err != nil {
				return took, err
			}
			took = append(took, time.Since(start))
		}
	}
}
