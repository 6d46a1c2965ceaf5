//go:build ignore

// Command main deletes and restores members while the keyring has two keys.
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
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	_ "github.com/mattn/go-sqlite3"
	_ "modernc.org/sqlite"

	ent "github.com/credent-go/credent/codegen/testdata/PACKAGE"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/member"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
)

var (
	ctx    = context.Background()
	failed bool
)

func main() {
	url := flag.String("postgres", "", "URL of an empty database")
	dir := flag.String("dir", "", "folder for databases")
	flag.Parse()
	for driver, dsn := range map[string]string{
		"pgx": *url, "postgres": *url, "sqlite": "file:" + filepath.Join(*dir, "a.db") + "?_pragma=foreign_keys(1)",
		"sqlite3": "file:" + filepath.Join(*dir, "b.db") + "?_fk=1",
	} {
		db, err := sql.Open(driver, dsn)
		check(err)
		name := dialect.Postgres
		if driver[0] == 's' {
			name = dialect.SQLite
		}
		test(driver, db, name)
		if name == dialect.Postgres {
			_, err := db.Exec("DROP TABLE members")
			check(err)
		}
		check(db.Close())
	}
	if failed {
		os.Exit(1)
	}
}

func test(driver string, db *sql.DB, name string) {
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	open := func(keys ...string) *ent.Client {
		ring, err := keyring.New(keys[0], keys[1:]...)
		check(err)
		drv, err := encrypted.NewDriver(entsql.OpenDB(name, db), encrypted.Config{Keyring: ring})
		check(err)
		return ent.NewClient(ent.Driver(drv))
	}
	one, before, after := open(oldKey), open(oldKey, newKey), open(newKey, oldKey)
	check(one.Schema.Create(ctx))
	indexes := list(db, name)
	check(before.Schema.Create(ctx))
	equal(driver+": indexes after a second migration", list(db, name), indexes)

	create := func(c *ent.Client, org int, email string) (*ent.Member, error) {
		return c.Member.Create().SetOrg(org).SetEmail(encrypted.New(email)).
			SetPhone(encrypted.New("phone " + email)).Save(ctx)
	}
	refused := func(what string, err error) {
		if !ent.IsConstraintError(err) {
			failed = true
			log.Printf("%s: %s: got %v", driver, what, err)
		}
	}
	for i := range 4 {
		email := fmt.Sprint("Ada", i, "@example.com")
		first, err := create(before, 1, email)
		check(err)
		_, err = create(after, 1, "ADA"+email[3:])
		refused("a duplicate", err)
		check(first.Update().SetDeletedAt(time.Now()).Exec(ctx))
		second, err := create(after, 1, email)
		check(err)
		for _, c := range []*ent.Client{before, after} {
			refused("a restored row", c.Member.UpdateOneID(first.ID).ClearDeletedAt().Exec(ctx))
			refused("restored rows", c.Member.Update().Where(member.EmailIs(encrypted.New(email))).
				ClearDeletedAt().Exec(ctx))
			refused("a restored row, by a modifier", c.Member.UpdateOneID(first.ID).
				Modify(func(u *entsql.UpdateBuilder) { u.SetNull("deleted_at") }).Exec(ctx))
			refused("a stored and restored row", c.Member.UpdateOneID(first.ID).ClearDeletedAt().
				SetEmail(encrypted.New(email)).SetPhone(encrypted.New("phone "+email)).Exec(ctx))
			err := c.Member.Create().SetID(first.ID).SetOrg(1).SetEmail(encrypted.New("free")).
				OnConflictColumns(member.FieldID).Update(func(u *ent.MemberUpsert) { u.ClearDeletedAt() }).Exec(ctx)
			if !errors.Is(err, encrypted.ErrBlindIndex) {
				failed = true
				log.Printf("%s: an upsert that restores: got %v", driver, err)
			}
			tx, err := c.Tx(ctx)
			check(err)
			refused("in a transaction", tx.Member.UpdateOneID(first.ID).ClearDeletedAt().Exec(ctx))
			check(tx.Rollback())
		}
		n, err := after.Member.Query().Where(member.EmailIs(encrypted.New(email))).Count(ctx)
		check(err)
		equal(driver+": found", n, 2)
		others, err := after.Member.Query().Where(member.Not(member.EmailIs(encrypted.New(email)))).Count(ctx)
		check(err)
		equal(driver+": others", others, 2*i)

		check(second.Update().SetDeletedAt(time.Now()).Exec(ctx))
		m, err := before.Member.UpdateOneID(first.ID).ClearDeletedAt().SetName("back").Save(ctx)
		check(err)
		equal(driver+": the row", m.Name, "back")
		_, err = create(after, 1, email)
		refused("a duplicate of the restored", err)
		elsewhere, err := create(before, 2, "b"+email)
		check(err)
		check(after.Member.UpdateOneID(elsewhere.ID).SetEmail(encrypted.New(email)).Exec(ctx))
		refused("a move", after.Member.UpdateOneID(elsewhere.ID).SetOrg(1).Exec(ctx))
		refused("a move by adding", before.Member.UpdateOneID(elsewhere.ID).AddOrg(-1).Exec(ctx))
		check(after.Member.DeleteOneID(elsewhere.ID).Exec(ctx))
		check(after.Member.UpdateOneID(first.ID).SetName("again").SetOrg(1).Exec(ctx))
	}
	plain := ent.NewClient(ent.Driver(entsql.OpenDB(name, db)))
	if err := plain.Member.Update().ClearDeletedAt().Exec(ctx); !errors.Is(err, encrypted.ErrNoDriver) {
		failed = true
		log.Printf("%s: without the driver: got %v", driver, err)
	}
	check(plain.Member.Update().SetName("plain").Exec(ctx))
}

// list returns the indexes, and what tells whether they were made anew.
func list(db *sql.DB, name string) string {
	query := "SELECT count(*) || ' ' || group_concat(sql, '; ') FROM (SELECT sql FROM sqlite_master WHERE type = " +
		"'index' ORDER BY name)"
	if name == dialect.Postgres {
		query = "SELECT string_agg(indexrelid || ' ' || pg_get_indexdef(indexrelid), '; ' ORDER BY indexrelid) FROM " +
			"pg_index WHERE indrelid = 'members'::regclass"
	}
	var text string
	check(db.QueryRow(query).Scan(&text))
	return text
}

func equal(what string, got, want any) {
	if got != want {
		failed = true
		log.Printf("%s: got %v, want %v", what, got, want)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
