package client_test

import (
	"context"
	"fmt"
	"log"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/ent"
)

// newReplicated returns a client with two databases. The second one stands for
// a standby that hasn't replayed anything.
func newReplicated() *ent.Client {
	primary, ring := newPool()
	standby, _ := newPool()
	c, err := client.New(primary, dialect.SQLite, client.Config{
		Keyring:       ring,
		Reader:        entsql.OpenDB(dialect.SQLite, standby),
		OnReaderError: func(_ context.Context, err error) { log.Print(err) },
	})
	if err != nil {
		log.Fatal(err)
	}
	return c
}

// A middleware marks each request:
//
//	func(w http.ResponseWriter, r *http.Request) {
//		next.ServeHTTP(w, r.WithContext(client.WithRequest(r.Context())))
//	}
func ExampleWithRequest() {
	c := newReplicated()
	defer func() { _ = c.Close() }()

	writes := client.WithRequest(context.Background())
	store(writes, c)
	fmt.Println("the request that wrote:", c.UserCredential.Query().CountX(writes))

	other := client.WithRequest(context.Background())
	fmt.Println("another one:", c.UserCredential.Query().CountX(other))
	fmt.Println("no request:", c.UserCredential.Query().CountX(context.Background()))
	// Output:
	// the request that wrote: 1
	// another one: 0
	// no request: 1
}

// Yesterday's report can be read from the standby, whatever was written since.
func ExampleWithStaleReads() {
	c := newReplicated()
	defer func() { _ = c.Close() }()
	ctx := client.WithRequest(context.Background())
	store(ctx, c)
	fmt.Println(c.UserCredential.Query().CountX(client.WithStaleReads(ctx)))
	// Output: 0
}

// If another process wrote for the request, its data is on the primary.
func ExampleWithPrimary() {
	c := newReplicated()
	defer func() { _ = c.Close() }()
	store(context.Background(), c)
	ctx := client.WithRequest(context.Background())
	fmt.Println(c.UserCredential.Query().CountX(ctx), c.UserCredential.Query().CountX(client.WithPrimary(ctx)))
	// Output: 0 1
}

// Credent doesn't parse raw SQL, so the caller declares that it only reads.
func ExampleWithReadOnlySQL() {
	c := newReplicated()
	defer func() { _ = c.Close() }()
	store(context.Background(), c)
	ctx := client.WithRequest(context.Background())
	rows, err := c.QueryContext(client.WithReadOnlySQL(ctx), "SELECT user_id FROM user_accounts")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	fmt.Println("rows:", rows.Next(), rows.Err())
	// Output: rows: false <nil>
}
