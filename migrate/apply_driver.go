package migrate

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/postgres"
	"ariga.io/atlas/sql/sqlite"

	"github.com/credent-go/credent/internal/lockwait"
)

// driver is the library's driver on one connection, with the state that Apply
// needs for each statement.
type driver struct {
	migrate.Driver
	conn    *sql.Conn
	revs    *revisions
	session *session          // set while a file runs without a transaction
	waits   *lockwait.Session // set by Apply on Postgres

	emptyOnly bool // the file builds indexes on empty tables, in a transaction
}

func newDriver(conn *sql.Conn, revs *revisions) (*driver, error) {
	open := postgres.Open
	if isSQLite(revs.dialect) {
		open = sqlite.Open
	}
	drv, err := open(conn)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	return &driver{Driver: drv, conn: conn, revs: revs}, nil
}

// ScanStmts implements migrate.StmtScanner, which the interface in the driver
// hides: the statements of a file, and with them its hashes, must be those that
// the stock command sees.
func (d *driver) ScanStmts(input string) ([]*migrate.Stmt, error) {
	if s, ok := d.Driver.(migrate.StmtScanner); ok {
		return s.ScanStmts(input)
	}
	return migrate.Stmts(input)
}

// CheckClean implements migrate.CleanChecker. Where the connection has a
// search_path it looks at one schema only for tables that are in the way, as
// the stock command does.
func (d *driver) CheckClean(ctx context.Context, revT *migrate.TableIdent) error {
	if !d.revs.bound {
		return d.Driver.CheckClean(ctx, revT)
	}
	s, err := d.InspectSchema(ctx, d.revs.schema, nil)
	if err != nil {
		return err
	}
	for _, t := range s.Tables {
		if t.Name != revisionTable {
			return &migrate.NotCleanError{Reason: fmt.Sprintf("found table %q in schema %q", t.Name, s.Name)}
		}
	}
	return nil
}

// ExecContext runs a statement of a file.
func (d *driver) ExecContext(ctx context.Context, query string, args ...any) (result sql.Result, err error) {
	if d.session != nil {
		if err := d.session.check(ctx); err != nil {
			return nil, err
		}
		if err := d.dropInvalidIndex(ctx, query); err != nil {
			return nil, err
		}
	}
	if d.emptyOnly {
		query = concurrently.ReplaceAllString(query, "$1")
	}
	err = d.wait(ctx, query, func() error {
		result, err = d.Driver.ExecContext(ctx, query, args...)
		return err
	})
	return result, err
}

var concurrent = regexp.MustCompile(`(?i)\bCONCURRENTLY\b`)

// isConcurrent reports whether a statement lets readers and writers pass while
// it waits.
func isConcurrent(query string) bool {
	query = comments.ReplaceAllString(query, " ")
	return concurrent.MatchString(query) && noTransaction.MatchString(query)
}

// wait runs a statement with the lock timeout.
func (d *driver) wait(ctx context.Context, query string, run func() error) error {
	if d.waits == nil {
		return run()
	}
	return d.waits.Do(ctx, d.session != nil && isConcurrent(query), run)
}

// identifier matches an SQL name, quoted or not.
const identifier = `(?:"(?:[^"]|"")+"|[\w$]+)`

var concurrentIndex = regexp.MustCompile(`(?is)^\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+` +
	`(?:IF\s+NOT\s+EXISTS\s+)?(` + identifier + `)\s+ON\s+(?:ONLY\s+)?(` + identifier + `(?:\s*\.\s*` + identifier + `)?)`)

// dropInvalidIndex prepares a CREATE INDEX CONCURRENTLY. If it was interrupted
// before, it left an index that Postgres maintains but never uses. The
// statement would fail because of it or, with IF NOT EXISTS, treat it as done.
func (d *driver) dropInvalidIndex(ctx context.Context, query string) error {
	names, err := d.invalidIndexes(ctx, query)
	if err != nil {
		return err
	}
	for _, name := range names {
		drop := "DROP INDEX CONCURRENTLY IF EXISTS " + name
		if err := d.wait(ctx, drop, func() error {
			_, err := d.conn.ExecContext(ctx, drop)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// invalidIndexes returns the invalid index left by an earlier CREATE INDEX
// CONCURRENTLY, if there is one.
func (d *driver) invalidIndexes(ctx context.Context, query string) (names []string, err error) {
	m := concurrentIndex.FindStringSubmatch(query)
	if m == nil || isSQLite(d.revs.dialect) {
		return nil, nil
	}
	rows, err := d.conn.QueryContext(ctx, `SELECT format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND i.indrelid = to_regclass($1) AND c.relname = $2`, m[2], unquote(m[1]))
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// unquote returns an identifier's name.
func unquote(identifier string) string {
	if inner, ok := strings.CutPrefix(identifier, `"`); ok {
		return strings.ReplaceAll(strings.TrimSuffix(inner, `"`), `""`, `"`)
	}
	return strings.ToLower(identifier)
}
