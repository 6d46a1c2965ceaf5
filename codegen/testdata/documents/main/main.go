//go:build ignore

// Command main stores and reads documents on every path, with the clients of
// two generated packages that have the same tables.
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
	"slices"

	"entgo.io/ent/dialect"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	bound "github.com/credent-go/credent/codegen/testdata/BOUND"
	boundprogram "github.com/credent-go/credent/codegen/testdata/BOUND/program"
	plain "github.com/credent-go/credent/codegen/testdata/PLAIN"
	plainprogram "github.com/credent-go/credent/codegen/testdata/PLAIN/program"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

var (
	dir      = flag.String("dir", "", "for databases")
	postgres = flag.String("postgres", "", "URL of a database, whose schema is dropped")
)

func main() {
	flag.Parse()
	ctx := context.Background()
	failed := false
	for _, d := range []string{dialect.SQLite, dialect.Postgres} {
		open := func(name string) *sql.DB { return open(ctx, d, name) }
		failed = boundprogram.Run(ctx, d, open) || failed
		failed = plainprogram.Run(ctx, d, open) || failed
		if err := together(ctx, d, open("together")); err != nil {
			failed = true
			log.Printf("%s: two packages: %v", d, err)
		}
	}
	if failed {
		os.Exit(1)
	}
}

// open returns an empty database.
func open(ctx context.Context, d, name string) *sql.DB {
	if d == dialect.SQLite {
		file := filepath.Join(*dir, name+".db")
		db, err := sql.Open("sqlite",
			"file:"+file+"?_pragma=foreign_keys(1)&_pragma=busy_timeout(60000)&_txlock=immediate")
		check(err)
		return db
	}
	db, err := sql.Open("pgx", *postgres)
	check(err)
	_, err = db.ExecContext(ctx, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	check(err)
	return db
}

// together has two packages with tables of the same names in one process.
func together(ctx context.Context, d string, db *sql.DB) error {
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	ring, err := keyring.New(oldKey)
	check(err)
	both, err := keyring.New(newKey, oldKey)
	check(err)
	for name, columns := range map[string][]encrypted.Column{
		"bound": bound.EncryptedColumns(), "plain": plain.EncryptedColumns(),
	} {
		if len(columns) != 12 || slices.ContainsFunc(columns, func(c encrypted.Column) bool {
			return c.Bound != (name == "bound" && c.Tenant != "")
		}) {
			return fmt.Errorf("%s has the columns %+v", name, columns)
		}
	}
	if n := len(encrypted.Columns()); n != 24 {
		return fmt.Errorf("the process has %d columns", n)
	}
	// The process has two opinions of the tables: nobody may choose one.
	if err := encrypted.Check(ctx, db, ring); !errors.Is(err, encrypted.ErrNoColumn) {
		return fmt.Errorf("Check of all columns: %v", err)
	}
	for _, stmt := range encrypted.CanaryTable(d) {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			return err
		}
	}
	for _, use := range []struct {
		columns     []encrypted.Column
		store, read func(context.Context, string, *sql.DB, *keyring.Keyring) error
	}{
		{bound.EncryptedColumns(), boundprogram.Store, boundprogram.Read},
		{plain.EncryptedColumns(), plainprogram.Store, plainprogram.Read},
	} {
		err := errors.Join(use.store(ctx, d, db, ring), use.read(ctx, d, db, ring),
			encrypted.KeepCanary(ctx, db, ring, use.columns...), encrypted.Check(ctx, db, ring, use.columns...))
		if err != nil {
			return err
		}
		wrong, err := keyring.New(keyring.GenerateKey())
		check(err)
		if err := encrypted.Check(ctx, db, wrong, use.columns...); !errors.Is(err, encrypted.ErrUnknownKey) {
			return fmt.Errorf("Check under a wrong key: %v", err)
		}
		report, err := rotate.Run(ctx, db, both, rotate.Config{In: use.columns})
		if err != nil || report.Rewritten() != 1 {
			return fmt.Errorf("rotate: %+v, %v", report, err)
		}
		newRing, err := keyring.New(newKey)
		check(err)
		counts, err := rotate.Verify(ctx, db, newRing, use.columns...)
		err = errors.Join(err, counts.Err(), use.read(ctx, d, db, newRing), encrypted.Check(ctx, db, newRing,
			use.columns...))
		if err != nil {
			return err
		}
		for _, table := range []string{"docs", "credent_canary"} {
			if _, err := db.ExecContext(ctx, "DELETE FROM "+table); err != nil {
				return err
			}
		}
	}
	return nil
}

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}
