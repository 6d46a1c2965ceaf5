// Command main takes tables through renames, with a client of each release.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"entgo.io/ent/dialect"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	_ "github.com/mattn/go-sqlite3"
	_ "modernc.org/sqlite"

	after "github.com/credent-go/credent/codegen/testdata/ent3767672241/program"
	ahead "github.com/credent-go/credent/codegen/testdata/ent1664231117/program"
	before "github.com/credent-go/credent/codegen/testdata/ent4048701432/program"
	column "github.com/credent-go/credent/codegen/testdata/ent2471285009/program"
	table "github.com/credent-go/credent/codegen/testdata/ent246425631/program"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

var (
	dir      = flag.String("dir", "", "for databases")
	postgres = flag.String("postgres", "", "URL of a database, whose schemas are dropped")
)

func main() {
	flag.Parse()
	failed := false
	for _, driver := range []string{"sqlite", "sqlite3", "postgres", "pgx"} {
		for _, cfg := range []encrypted.Config{{}, {States: []encrypted.ColumnStates{{TenantKeys: encrypted.Write}}}} {
			if err := run(context.Background(), driver, cfg); err != nil {
				failed = true
				log.Printf("%s, tenant keys %v: %v", driver, cfg.States != nil, err)
			}
		}
	}
	if failed {
		os.Exit(1)
	}
}

// open returns an empty database.
func open(ctx context.Context, driver string, tenantKeys bool) (*sql.DB, string) {
	d, dsn := dialect.SQLite, fmt.Sprintf("file:%s?_txlock=immediate&",
		filepath.Join(*dir, fmt.Sprint(driver, tenantKeys, ".db")))
	switch driver {
	case "sqlite":
		dsn += "_pragma=foreign_keys(1)&_pragma=busy_timeout(60000)&_pragma=journal_mode(wal)"
	case "sqlite3":
		dsn += "_foreign_keys=1&_busy_timeout=60000&_journal_mode=wal"
	default:
		d, dsn = dialect.Postgres, *postgres
	}
	db, err := sql.Open(driver, dsn)
	check(err)
	if d == dialect.Postgres {
		exec(ctx, db, "DROP SCHEMA IF EXISTS clinic CASCADE", "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
	}
	return db, d
}

func exec(ctx context.Context, db *sql.DB, statements ...string) {
	for _, stmt := range statements {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			log.Panicf("%s: %v", stmt, err)
		}
	}
}

// person is what the clients of the releases have in common.
type person interface {
	Store(ctx context.Context, name string) error
	StoreAgain(ctx context.Context, name string) error
	Rename(ctx context.Context, name, to string) error
	Clear(ctx context.Context, name string) error
	Found(ctx context.Context, name string) (int, error)
	Has(ctx context.Context, name string) error
}

// test is one run.
type test struct {
	ctx     context.Context
	db      *sql.DB
	dialect string
	ring    *keyring.Keyring
}

func run(ctx context.Context, driver string, cfg encrypted.Config) error {
	db, d := open(ctx, driver, cfg.States != nil)
	defer func() { check(db.Close()) }()
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	oldRing, err := keyring.New(oldKey)
	check(err)
	ring, err := keyring.New(newKey, oldKey)
	check(err)
	t := test{ctx, db, d, ring}

	c, err := before.New(d, db, oldRing, cfg)
	check(err)
	check(c.Create(ctx))
	exec(ctx, db, "CREATE TABLE credent_tenant_keys (tenant varchar(255) PRIMARY KEY, wrapped varchar(500), "+
		"created_at timestamp DEFAULT CURRENT_TIMESTAMP, destroyed_at timestamp)")
	exec(ctx, db, encrypted.IndexTriggers(d, before.Columns()...)...)
	for _, name := range []string{"ann", "bob", "cid", "dot", "eve", "fay"} {
		check(c.Store(ctx, name))
	}

	exec(ctx, db, "ALTER TABLE patients RENAME COLUMN email TO mail", "ALTER TABLE clinics RENAME COLUMN email TO mail")
	exec(ctx, db, encrypted.IndexTriggers(d, column.Columns()...)...)
	renamed, err := column.New(d, db, ring, cfg)
	check(err)
	if err := t.renamed(renamed, "after the column's rename", []string{"ann", "bob", "cid", "dot", "eve", "fay"},
		column.Columns()); err != nil {
		return err
	}

	exec(ctx, db, "ALTER TABLE patients RENAME TO people")
	exec(ctx, db, encrypted.IndexTriggers(d, table.Columns()...)...)
	if err := t.hasTriggers(); err != nil {
		return err
	}
	// Without the declaration they aren't found, and not told to be well.
	undeclared, err := after.New(d, db, ring, cfg)
	check(err)
	if n, err := undeclared.Found(ctx, "ann"); n != 0 || err != nil {
		return fmt.Errorf("undeclared: %d are found, %v", n, err)
	}
	counts, err := rotate.Verify(ctx, db, ring, after.Columns()...)
	check(err)
	if counts.Err() == nil {
		return fmt.Errorf("undeclared: verify finds nothing")
	}
	twice, err := table.New(d, db, ring, cfg)
	check(err)
	if err := t.renamed(twice, "after the table's rename", []string{"ann", "cid", "dot", "fay", "gus"},
		table.Columns()); err != nil {
		return err
	}
	if err := t.back(cfg); err != nil {
		return err
	}
	if err := t.rotate(twice); err != nil {
		return err
	}
	return t.after(cfg, newKey)
}

// renamed uses the client of a release after a rename. The first of the stored
// persons stay as they are.
func (t test) renamed(c person, when string, stored []string, columns []encrypted.Column) error {
	check(encrypted.Check(t.ctx, t.db, t.ring, columns...))
	counts, err := rotate.Verify(t.ctx, t.db, t.ring, columns...)
	check(err)
	for _, count := range counts {
		isEarlier := count.Column == "mail" || count.Column == "ssn" && count.Table == "people"
		if isEarlier && (count.EarlierNames() == 0 || count.Ready()) || count.UnknownKey > 0 ||
			count.Index != nil && count.Index.Wrong > 0 {
			return fmt.Errorf("%s: %s.%s: %+v", when, count.Table, count.Column, count)
		}
	}
	for _, name := range stored {
		if err := errors.Join(c.Has(t.ctx, name), c.StoreAgain(t.ctx, name)); err != nil {
			return fmt.Errorf("%s: %w", when, err)
		}
	}
	last := stored[len(stored)-1]
	second := stored[1]
	if when == "after the column's rename" {
		second = "bob"
		last = "eve"
	}
	// New ones are under the present name, and are found and unique likewise.
	next := map[string]string{"eve": "gus", "gus": "ida"}[last]
	if err := errors.Join(c.Store(t.ctx, next), c.Has(t.ctx, next), c.StoreAgain(t.ctx, next)); err != nil {
		return fmt.Errorf("%s: %w", when, err)
	}
	// Updates and clears leave no digest behind.
	if when == "after the column's rename" {
		if err := errors.Join(c.Rename(t.ctx, last, "eva"), c.Clear(t.ctx, second)); err != nil {
			return fmt.Errorf("%s: %w", when, err)
		}
		for name, want := range map[string]int{"eve": 0, "eva": 1, "bob": 0} {
			if n, err := c.Found(t.ctx, name); n != want || err != nil {
				return fmt.Errorf("%s: %d of %s are found, %v", when, n, name, err)
			}
		}
		if err := c.StoreAgain(t.ctx, "eva"); err != nil {
			return fmt.Errorf("%s: %w", when, err)
		}
	}
	return nil
}

// back undoes the renames, for the release before that knows the coming names,
// and does them again.
func (t test) back(cfg encrypted.Config) error {
	exec(t.ctx, t.db, "ALTER TABLE people RENAME COLUMN mail TO email", "ALTER TABLE clinics RENAME COLUMN mail TO "+
		"email",
		"ALTER TABLE people RENAME TO patients")
	exec(t.ctx, t.db, encrypted.IndexTriggers(t.dialect, ahead.Columns()...)...)
	c, err := ahead.New(t.dialect, t.db, t.ring, cfg)
	check(err)
	for _, name := range []string{"ann", "gus", "ida"} {
		if err := errors.Join(c.Has(t.ctx, name), c.StoreAgain(t.ctx, name)); err != nil {
			return fmt.Errorf("back: %w", err)
		}
	}
	exec(t.ctx, t.db, "ALTER TABLE patients RENAME TO people", "ALTER TABLE people RENAME COLUMN email TO mail",
		"ALTER TABLE clinics RENAME COLUMN email TO mail")
	exec(t.ctx, t.db, encrypted.IndexTriggers(t.dialect, table.Columns()...)...)
	return encrypted.Check(t.ctx, t.db, t.ring, table.Columns()...)
}

// hasTriggers checks that the triggers of the earlier names are gone, and that
// the digests of the present names work.
func (t test) hasTriggers() error {
	query := "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'credent_patients%'"
	if t.dialect == dialect.Postgres {
		query = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'credent_patients%'"
	}
	var n int
	check(t.db.QueryRowContext(t.ctx, query).Scan(&n))
	if n > 0 {
		return fmt.Errorf("%d triggers of earlier names are left", n)
	}
	exec(t.ctx, t.db, "UPDATE people SET mail = 'gAAAA' WHERE name = 'eva'")
	check(t.db.QueryRowContext(t.ctx, "SELECT count(mail_digest) FROM people WHERE name = 'eva'").Scan(&n))
	if n != 0 {
		return fmt.Errorf("the digest outlives its token")
	}
	exec(t.ctx, t.db, "DELETE FROM people WHERE name = 'eva'")
	return nil
}

// rotate moves all over to the present names, beside a writer.
func (t test) rotate(c person) error {
	cfg := rotate.Config{In: table.Columns(), Batch: 2, DryRun: true}
	report, err := rotate.Run(t.ctx, t.db, t.ring, cfg)
	check(err)
	dry := renamedRows(report)
	if dry == 0 {
		return fmt.Errorf("a dry run counts nothing")
	}
	cfg.DryRun = false
	done, stop := make(chan error, 1), make(chan struct{})
	go func() {
		var failed error
		for i := 0; failed == nil; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			name := fmt.Sprint("writer", i)
			failed = errors.Join(c.Store(t.ctx, name), c.StoreAgain(t.ctx, "ann"), c.StoreAgain(t.ctx, name),
				c.Has(t.ctx, "cid"))
		}
		done <- failed
	}()
	cancelled, cancel := context.WithCancel(t.ctx)
	cfg.Progress = func(rotate.Progress) { cancel() }
	first, err := rotate.Run(cancelled, t.db, t.ring, cfg)
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a stopped run: %v", err)
	}
	cfg.Progress = nil
	second, err := rotate.Run(t.ctx, t.db, t.ring, cfg)
	close(stop)
	if err := errors.Join(err, <-done); err != nil {
		return fmt.Errorf("rotate beside a writer: %w", err)
	}
	// The stopped run doesn't know of a statement that it was stopped in.
	if n := renamedRows(first) + renamedRows(second); n > dry || renamedRows(second) == 0 {
		return fmt.Errorf("%d rows are renamed, and a dry run counted %d", n, dry)
	}
	counts, err := rotate.Verify(t.ctx, t.db, t.ring, table.Columns()...)
	if err := errors.Join(err, counts.Err()); err != nil {
		return err
	}
	for _, count := range counts {
		if count.EarlierNames() != 0 || !count.Ready() {
			return fmt.Errorf("after rotate: %+v", count)
		}
	}
	return nil
}

func renamedRows(report *rotate.Report) (n int64) {
	for _, t := range report.Tables {
		n += t.Renamed
	}
	return n
}

// after uses the client of the release without declarations.
func (t test) after(cfg encrypted.Config, newKey string) error {
	ring, err := keyring.New(newKey)
	check(err)
	c, err := after.New(t.dialect, t.db, ring, cfg)
	check(err)
	for _, name := range []string{"ann", "cid", "dot", "fay", "gus", "ida"} {
		if err := errors.Join(c.Has(t.ctx, name), c.StoreAgain(t.ctx, name)); err != nil {
			return fmt.Errorf("after all: %w", err)
		}
	}
	columns := after.Columns()
	verify := func() error {
		counts, err := rotate.Verify(t.ctx, t.db, ring, columns...)
		return errors.Join(err, counts.Err(), encrypted.Check(t.ctx, t.db, ring, columns...))
	}
	if err := verify(); err != nil || t.dialect == dialect.SQLite {
		return err
	}
	// The Postgres schema is no part of a name.
	for _, statements := range []string{
		"CREATE SCHEMA ward;ALTER TABLE people SET SCHEMA ward;ALTER TABLE clinics SET SCHEMA ward",
		"ALTER SCHEMA ward RENAME TO clinic",
	} {
		exec(t.ctx, t.db, strings.Split(statements, ";")...)
		for i := range columns {
			columns[i] = columns[i].InSchema(map[bool]string{
				true:  "ward",
				false: "clinic",
			}[strings.HasPrefix(statements, "CREATE")])
		}
		if err := verify(); err != nil {
			return fmt.Errorf("%s: %w", statements, err)
		}
	}
	return nil
}

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}
