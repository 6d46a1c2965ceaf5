//go:build ignore

// Command main stores invoices in schemas of Postgres.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"log"
	"os"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"

	ent "github.com/credent-go/credent/codegen/testdata/PACKAGE"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/invoice"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

var (
	ctx    = context.Background()
	failed bool
)

func main() {
	url := flag.String("postgres", "", "URL of an empty database")
	flag.Parse()
	for _, driver := range []string{"pgx", "postgres"} {
		db, err := sql.Open(driver, *url)
		check(err)
		exec(db, "CREATE SCHEMA billing", "CREATE SCHEMA archive")
		check(ent.NewClient(ent.Driver(entsql.OpenDB(dialect.Postgres, db))).Schema.Create(ctx))
		// ent makes the table where the search path looks; it stays empty.
		exec(db, "CREATE TABLE billing.invoices (LIKE public.invoices INCLUDING ALL)",
			"CREATE TABLE archive.invoices (LIKE public.invoices INCLUDING ALL)")

		equal(driver+": the column's name", invoice.MemoColumn.String(), "billing.invoices.memo")
		test(driver+", annotated", db, "billing", invoice.MemoColumn)
		test(driver+", at run time", db, "archive", invoice.MemoColumn.InSchema("archive"),
			ent.AlternateSchema(ent.SchemaConfig{Invoice: "archive"}))
		for name, want := range map[string]int{"billing": 3, "archive": 3, "public": 0} {
			equal(driver+": rows of "+name, count(db, name, "true"), want)
		}
		exec(db, "DROP SCHEMA billing CASCADE", "DROP SCHEMA archive CASCADE", "DROP TABLE public.invoices")
		check(db.Close())
	}
	if failed {
		os.Exit(1)
	}
}

// test stores three invoices in a schema.
func test(name string, db *sql.DB, schema string, column encrypted.Column, opts ...ent.Option) {
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	ring := newKeyring(oldKey)
	client := func(ring *keyring.Keyring) *ent.Client {
		cfg := encrypted.Config{Keyring: ring, Columns: ent.EncryptedColumns()}
		drv, err := encrypted.NewDriver(entsql.OpenDB(dialect.Postgres, db), cfg)
		check(err)
		return ent.NewClient(append(opts, ent.Driver(drv))...)
	}
	is := func(what string, err, want error) {
		if want == nil && err != nil || !errors.Is(err, want) {
			log.Printf("%s: %s: got %v, want %v", name, what, err, want)
			failed = true
		}
	}
	c := client(ring)
	number := 0
	create := func(c *ent.Client, customer, memo string) error {
		number++
		return c.Invoice.Create().SetNumber(number).SetCustomer(customer).SetMemo(encrypted.New(memo)).Exec(ctx)
	}
	find := func(c *ent.Client, memo string) *ent.Invoice {
		i, err := c.Invoice.Query().Where(invoice.MemoIs(encrypted.New(memo))).Only(ctx)
		is("look up "+memo, err, nil)
		return i
	}
	reveal := func(what string, c *ent.Client, memo string) {
		text, err := find(c, memo).Memo.Reveal()
		is(what, err, nil)
		equal(name+": "+what, text, memo)
	}

	is("create", errors.Join(create(c, "a", "first"), create(c, "b", "second"), create(c, "b", "third")), nil)
	equal(name+": create twice", ent.IsConstraintError(create(c, "c", "first")), true)
	reveal("reveal", c, "first")
	is("update", find(c, "first").Update().SetMemo(encrypted.New("one")).Exec(ctx), nil)
	is("update many", c.Invoice.Update().Where(invoice.Customer("a")).SetMemo(encrypted.New("1st")).Exec(ctx), nil)
	reveal("reveal what was updated", c, "1st")
	is("update of two",
		c.Invoice.Update().Where(invoice.Customer("b")).SetMemo(encrypted.New("x")).Exec(ctx), encrypted.ErrManyRows)
	is("move", find(c, "1st").Update().SetCustomer("b").Exec(ctx), encrypted.ErrWrongLocation)
	is("move with the memo", find(c, "1st").Update().SetCustomer("c").SetMemo(encrypted.New("moved")).Exec(ctx), nil)
	reveal("reveal what was moved", c, "moved")
	upsert := c.Invoice.Create().SetNumber(find(c, "moved").Number).SetCustomer("a").SetMemo(encrypted.New("upserted"))
	is("upsert", upsert.OnConflictColumns(invoice.FieldNumber).UpdateNewValues().Exec(ctx), nil)
	reveal("reveal what was upserted", c, "upserted")
	_, err := c.ExecContext(ctx, "UPDATE "+schema+".invoices SET memo = $1, memo_index = $2 WHERE customer = 'a'",
		encrypted.At(encrypted.New("raw"), column, "a"), encrypted.DigestOf(encrypted.New("raw"), column, nil))
	is("raw", err, nil)
	reveal("reveal what raw SQL stored", c, "raw")
	tx, err := c.Tx(ctx)
	check(err)
	is("in a transaction",
		errors.Join(tx.Invoice.UpdateOne(find(tx.Client(), "raw")).SetMemo(encrypted.New("tx")).Exec(ctx),
			tx.Commit()), nil)
	reveal("reveal what a transaction stored", c, "tx")

	is("Check", encrypted.Check(ctx, db, ring, column), nil)
	wrong := newKeyring(newKey)
	is("Check under a wrong key", encrypted.Check(ctx, db, wrong, column), encrypted.ErrUnknownKey)
	is("Check of no columns", encrypted.Check(ctx, db, ring), encrypted.ErrNoColumn)
	verify := func(what string, ring *keyring.Keyring, primary int64) {
		counts, err := rotate.Verify(ctx, db, ring, column)
		is(what, err, nil)
		if len(counts) != 1 || counts[0].Rows != 3 || counts[0].Primary != primary || counts[0].Bound != primary {
			log.Printf("%s: %s: got %+v", name, what, counts)
			failed = true
			return
		}
		equal(name+": "+what, counts[0].Table, schema+".invoices")
		equal(name+": "+what+": error", counts.Err() == nil, primary == 3)
	}
	verify("verify", ring, 3)
	verify("verify under a wrong key", wrong, 0)

	// A new key, while rows are stored under both: unique rows stay unique.
	both := newKeyring(newKey, oldKey)
	equal(name+": create twice, under another key", ent.IsConstraintError(create(client(both), "c", "tx")), true)
	is("update under two keys", find(client(both), "tx").Update().SetMemo(encrypted.New("new")).Exec(ctx), nil)
	report, err := rotate.Run(ctx, db, both, rotate.Config{In: []encrypted.Column{column}})
	is("rotate", err, nil)
	if len(report.Tables) != 1 || report.Tables[0].Rows != 3 || report.Rewritten() != 2 {
		log.Printf("%s: rotate: got %+v", name, report)
		failed = true
	}
	_, err = rotate.Run(ctx, db, both, rotate.Config{
		In:      []encrypted.Column{column},
		Columns: []string{schema + ".invoices.memo"},
	})
	is("rotate, by name", err, nil)
	verify("verify after rotate", wrong, 3)
	is("Check after rotate", encrypted.Check(ctx, db, wrong, column), nil)
	for _, memo := range []string{"new", "second", "third"} {
		reveal("reveal after rotate", client(wrong), memo)
	}
	_, err = client(ring).Invoice.Query().FirstX(ctx).Memo.Reveal()
	is("reveal under the old key", err, encrypted.ErrUnknownKey)
	if schema == "billing" { // nothing tells a result the schema chosen at run time
		says := err != nil && strings.HasPrefix(err.Error(), "credent: decrypt billing.invoices.memo of row ")
		equal(name+": the error says where", says, true)
	}
}

func newKeyring(keys ...string) *keyring.Keyring {
	ring, err := keyring.New(keys[0], keys[1:]...)
	check(err)
	return ring
}

func count(db *sql.DB, schema, where string) (n int) {
	check(db.QueryRowContext(ctx, "SELECT count(*) FROM "+schema+".invoices WHERE "+where).Scan(&n))
	return n
}

func exec(db *sql.DB, statements ...string) {
	for _, s := range statements {
		_, err := db.ExecContext(ctx, s)
		check(err)
	}
}

func equal[T comparable](what string, got, want T) {
	if got != want {
		log.Printf("%s: got %v, want %v", what, got, want)
		failed = true
	}
}

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}
