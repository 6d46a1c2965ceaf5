package client_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
)

// newPool returns a new pool with the tables and canaries.
func newPool() (*sql.DB, *keyring.Keyring) {
	db, err := sql.Open("sqlite", "file::memory:?_pragma=foreign_keys(1)")
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(1) // each connection would have its own in-memory database
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		log.Fatal(err)
	}
	err = migrate.Apply(context.Background(), db, migrate.Config{Keyring: ring, Columns: ent.EncryptedColumns()})
	if err != nil {
		log.Fatal(err)
	}
	return db, ring
}

// store creates an account with one credential.
func store(ctx context.Context, c *ent.Client) {
	account := c.UserAccount.Create().SetUserID("user-1").SetAccountName("Ada").SaveX(ctx)
	c.UserCredential.Create().SetAccount(account).SetCredentialType("alpaca").
		SetAPIKey(encrypted.New("PK-MADE-UP")).SetSecretKey(encrypted.New("made-up")).ExecX(ctx)
}

func ExampleNew() {
	ctx := context.Background()
	db, ring := newPool()
	c, err := client.New(db, dialect.SQLite, client.Config{Keyring: ring})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	store(ctx, c)
	fmt.Println(c.UserCredential.Query().OnlyX(ctx).APIKey.Reveal())
	// Output: PK-MADE-UP <nil>
}

func ExampleNew_contradiction() {
	db, ring := newPool()
	defer func() { _ = db.Close() }()
	_, err := client.New(db, dialect.SQLite, client.Config{
		Keyring: ring, Encryption: encrypted.Accept,
		Binding: encrypted.Write,
	})
	fmt.Println(errors.Is(err, encrypted.ErrInvalidStates))
	// Output: true
}

// A driver wrapped around the client's own never sees plaintext.
func ExampleFromDriver() {
	ctx := context.Background()
	db, ring := newPool()
	statements := 0
	c, err := client.FromDriver(entsql.OpenDB(dialect.SQLite, db), client.Config{
		Keyring: ring,
		Wrap: func(drv dialect.Driver) dialect.Driver {
			return dialect.Debug(drv, func(...any) { statements++ })
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	store(ctx, c)
	fmt.Println(statements > 0)
	// Output: true
}

// Another generated package on the same database uses the driver alone.
func ExampleWrapDriver() {
	ctx := context.Background()
	db, ring := newPool()
	drv, err := client.WrapDriver(entsql.OpenDB(dialect.SQLite, db), client.Config{Keyring: ring})
	if err != nil {
		log.Fatal(err)
	}
	c := ent.NewClient(ent.Driver(drv)) // still has the hooks
	defer func() { _ = c.Close() }()
	store(ctx, c)
	fmt.Println(c.UserCredential.Query().OnlyX(ctx).UserID)
	// Output: user-1
}

func ExampleCheck() {
	ctx := context.Background()
	db, ring := newPool()
	other, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		log.Fatal(err)
	}
	for _, ring := range []*keyring.Keyring{ring, other} {
		c, err := client.New(db, dialect.SQLite, client.Config{Keyring: ring})
		if err != nil {
			log.Fatal(err)
		}
		err = client.Check(ctx, c)
		fmt.Println(err == nil, errors.Is(err, encrypted.ErrUnknownKey))
	}
	// Output:
	// true false
	// false true
}

func ExampleReadStates() {
	ctx := context.Background()
	db, ring := newPool()
	if _, err := db.ExecContext(ctx, "INSERT INTO credent_states VALUES ('user_credentials.api_key', 'binding', "+
		"'require', CURRENT_TIMESTAMP)"); err != nil {
		log.Fatal(err)
	}
	c, err := client.New(db, dialect.SQLite, client.Config{Keyring: ring, Binding: encrypted.Accept})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(errors.Is(client.ReadStates(ctx, c), encrypted.ErrStateMismatch))
	// Output: true
}

func ExampleCheckRowSecurity() {
	db, ring := newPool()
	err := client.CheckRowSecurity(context.Background(), db, dialect.SQLite, client.Config{
		Keyring:            ring,
		RequireRowSecurity: true,
	})
	fmt.Println(errors.Is(err, client.ErrUnsupported)) // only Postgres has it
	// Output: true
}

func ExampleBrokerFormats() {
	ctx := context.Background()
	db, ring := newPool()
	c, err := client.New(db, dialect.SQLite, client.Config{Keyring: ring, Formats: client.BrokerFormats()})
	if err != nil {
		log.Fatal(err)
	}
	account := c.UserAccount.Create().SetUserID("user-1").SetAccountName("Ada").SaveX(ctx)
	err = c.UserCredential.Create().SetAccount(account).SetCredentialType("polygon").
		SetAPIKey(encrypted.New("too short")).SetSecretKey(encrypted.New("")).Exec(ctx)
	fmt.Println(errors.Is(err, client.ErrFormat))
	// Output: true
}

// On Postgres, the statements see and change only the user's rows. SQLite has
// no row-level security, so the query is refused.
func ExampleWithUser() {
	db, ring := newPool()
	c, err := client.New(db, dialect.SQLite, client.Config{Keyring: ring})
	if err != nil {
		log.Fatal(err)
	}
	_, err = c.UserAccount.Query().All(client.WithUser(context.Background(), "user-1"))
	fmt.Println(errors.Is(err, client.ErrUnsupported))
	// Output: true
}

func ExampleWithActor() {
	db, ring := newPool()
	logger := slog.New(slog.NewTextHandler(os.Stdout,
		&slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key != "actor" {
				return slog.Attr{}
			}
			return a
		}}))
	c, err := client.New(db, dialect.SQLite, client.Config{Keyring: ring, Audit: logger})
	if err != nil {
		log.Fatal(err)
	}
	ctx := client.WithActor(context.Background(), "support@example.com")
	c.UserAccount.Create().SetUserID("user-1").SetAccountName("Ada").ExecX(ctx)
	// Output: actor=support@example.com
}

func ExampleUsable() {
	ctx := context.Background()
	db, ring := newPool()
	c, err := client.New(db, dialect.SQLite, client.Config{Keyring: ring})
	if err != nil {
		log.Fatal(err)
	}
	store(ctx, c)
	c.UserCredential.Update().SetIsActive(false).ExecX(ctx)
	fmt.Println(c.UserCredential.Query().Where(client.Usable()).CountX(ctx), "of", c.UserCredential.Query().CountX(ctx))
	// Output: 0 of 1
}
