package credent_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/sqlite"
)

// newDriver and newClient are the parts of a service that assembles its client
// itself.
func newDriver() dialect.Driver {
	db, d, err := credent.OpenDB("sqlite::memory:", credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	if err := migrate.Apply(context.Background(), db, migrate.Config{}); err != nil {
		log.Fatal(err)
	}
	return entsql.OpenDB(d, db)
}

func newClient(drv dialect.Driver) *ent.Client { return ent.NewClient(ent.Driver(drv)) }

func ExampleGenerateKey() {
	key := keyring.GenerateKey()
	fmt.Println(len(key), "characters")
	// Output: 44 characters
}

func ExampleNewKeyring() {
	// A new primary key encrypts; the old one still opens what it encrypted.
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	before, err := keyring.New(oldKey)
	if err != nil {
		log.Fatal(err)
	}
	client, url := open(credent.WithKeyring(before))
	defer closeClient(client)
	store(client)

	after, err := keyring.New(newKey, oldKey)
	if err != nil {
		log.Fatal(err)
	}
	rotated, err := credent.Open(context.Background(), url, credent.WithKeyring(after),
		credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	defer closeClient(rotated)
	fmt.Println(rotated.UserCredential.Query().OnlyX(context.Background()).APIKey.Reveal())

	_, err = keyring.New("too short")
	fmt.Println(errors.Is(err, credent.ErrBadKey), err)
	// Output:
	// PK-MADE-UP <nil>
	// true credent: key 1 of 1: bad encryption key: it has 9 characters, and a key has 44
}

func ExampleKeyringFromEnv() {
	if err := os.Setenv("ENCRYPTION_KEY", keyring.GenerateKey()); err != nil {
		log.Fatal(err)
	}
	ring, err := keyring.FromEnv()
	fmt.Println(ring, len(ring.Keys()), err)
	// Output: [REDACTED] 1 <nil>
}

// One row was encrypted under a key that is lost. The others can be read all
// the same; a strict client refuses.
func ExampleStrict() {
	client, url := open(credent.WithKeyring(newKeyring()))
	defer closeClient(client)
	store(client)

	ctx := context.Background()
	ring := credent.WithKeyring(newKeyring())
	lazy, err := credent.Open(ctx, url, ring, credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	defer closeClient(lazy)
	credentials, err := lazy.UserCredential.Query().All(ctx)
	fmt.Println("query:", len(credentials), "row,", err)
	_, err = credentials[0].APIKey.Reveal()
	fmt.Println("reveal:", errors.Is(err, credent.ErrUnknownKey))

	strict, err := credent.Open(ctx, url, ring, credent.Strict(), credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	defer closeClient(strict)
	_, err = strict.UserCredential.Query().All(ctx)
	fmt.Println("strict query:", errors.Is(err, credent.ErrUnknownKey))
	// Output:
	// query: 1 row, <nil>
	// reveal: true
	// strict query: true
}
