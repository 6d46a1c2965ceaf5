package encrypted_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
)

// newClient returns a client from a generated package, here package ent, on an
// empty database, with its pool and keyring.
func newClient(cfg encrypted.Config) (*ent.Client, *sql.DB, *keyring.Keyring) {
	db, err := sql.Open("sqlite", "file::memory:?_pragma=foreign_keys(1)")
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(1) // each connection would have its own in-memory database
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		log.Fatal(err)
	}
	cfg.Keyring, cfg.Columns = ring, ent.EncryptedColumns()
	drv, err := encrypted.NewDriver(entsql.OpenDB(dialect.SQLite, db), cfg)
	if err != nil {
		log.Fatal(err)
	}
	c := ent.NewClient(ent.Driver(drv))
	if err := c.Schema.Create(context.Background()); err != nil {
		log.Fatal(err)
	}
	return c, db, ring
}

// store stores one credential of user-1.
func store(c *ent.Client) *ent.UserCredential {
	ctx := context.Background()
	account := c.UserAccount.Create().SetUserID("user-1").SetAccountName("Ada").SaveX(ctx)
	return c.UserCredential.Create().SetAccount(account).SetUserID("user-1").SetCredentialType("alpaca").
		SetAPIKey(encrypted.New("PK-MADE-UP")).SetSecretKey(encrypted.New("made-up")).SaveX(ctx)
}

func run(db *sql.DB, statements []string) {
	for _, statement := range statements {
		if _, err := db.ExecContext(context.Background(), statement); err != nil {
			log.Fatal(err)
		}
	}
}

func ExampleNew() {
	secret := encrypted.New("PK-MADE-UP")
	fmt.Println(secret)
	fmt.Println(secret.Reveal())
	// Output:
	// [REDACTED]
	// PK-MADE-UP <nil>
}

func ExampleNewDriver() {
	c, db, _ := newClient(encrypted.Config{})
	defer func() { _ = c.Close() }()
	row := store(c)
	var token string
	if err := db.QueryRowContext(context.Background(), "SELECT api_key FROM user_credentials").
		Scan(&token); err != nil {
		log.Fatal(err)
	}
	fmt.Println(token[:5])
	fmt.Println(c.UserCredential.GetX(context.Background(), row.ID).APIKey.Reveal())
	// Output:
	// gAAAA
	// PK-MADE-UP <nil>
}

// The database's states override the configuration. At its start, a service
// learns that the two differ.
func ExampleReadStates() {
	ctx := context.Background()
	_, db, ring := newClient(encrypted.Config{})
	run(db, encrypted.StatesTable(dialect.SQLite))
	run(db, []string{"INSERT INTO credent_states (column_name, protection, state) VALUES " +
		"('user_credentials.api_key', 'binding', 'require')"})
	drv, err := encrypted.NewDriver(entsql.OpenDB(dialect.SQLite, db), encrypted.Config{
		Keyring: ring, Columns: ent.EncryptedColumns(),
		States: []encrypted.ColumnStates{{Column: usercredential.APIKeyColumn, Binding: encrypted.Accept}},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(errors.Is(encrypted.ReadStates(ctx, drv), encrypted.ErrStateMismatch))
	// Output: true
}

func ExampleStatesTable() {
	_, db, _ := newClient(encrypted.Config{})
	run(db, encrypted.StatesTable(dialect.SQLite))
	run(db, encrypted.TenantTriggers(dialect.SQLite, ent.EncryptedColumns()...)) // the triggers use the table
	fmt.Println("made")
	// Output: made
}

func ExampleTenantTriggers() {
	c, db, _ := newClient(encrypted.Config{States: []encrypted.ColumnStates{
		{Column: usercredential.APIKeyColumn, Binding: encrypted.Require}, {
			Column:  usercredential.SecretKeyColumn,
			Binding: encrypted.Require,
		},
	}})
	run(db, encrypted.StatesTable(dialect.SQLite))
	run(db, []string{"INSERT INTO credent_states (column_name, protection, state) VALUES " +
		"('user_credentials.api_key', 'binding', 'require')"})
	run(db, encrypted.TenantTriggers(dialect.SQLite, usercredential.APIKeyColumn))
	store(c)
	// Together with user-1's tokens.
	_, err := db.ExecContext(context.Background(), "UPDATE user_credentials SET user_id = 'user-2'")
	fmt.Println(err != nil)
	// Output: true
}

// A service with a wrong key finds out when it starts, even before the first
// row if there is a canary.
func ExampleCheck() {
	ctx := context.Background()
	c, db, ring := newClient(encrypted.Config{})
	fmt.Println(errors.Is(encrypted.Check(ctx, db, ring, ent.EncryptedColumns()...), encrypted.ErrNotChecked))
	store(c)
	fmt.Println(encrypted.Check(ctx, db, ring, ent.EncryptedColumns()...))
	other, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(errors.Is(encrypted.Check(ctx, db, other, ent.EncryptedColumns()...), encrypted.ErrUnknownKey))
	// Output:
	// true
	// <nil>
	// true
}

func ExampleCanaryTable() {
	ctx := context.Background()
	_, db, ring := newClient(encrypted.Config{})
	run(db, encrypted.CanaryTable(dialect.SQLite))
	fmt.Println(encrypted.KeepCanary(ctx, db, ring, ent.EncryptedColumns()...))
	// Output: <nil>
}

func ExampleProgressTable() {
	_, db, _ := newClient(encrypted.Config{})
	run(db, encrypted.ProgressTable(dialect.SQLite))
	var parts int
	err := db.QueryRowContext(context.Background(), "SELECT count(*) FROM credent_progress").Scan(&parts)
	fmt.Println(parts, "parts of a table are in work,", err)
	// Output: 0 parts of a table are in work, <nil>
}

func ExampleKeepCanary() {
	ctx := context.Background()
	_, db, ring := newClient(encrypted.Config{})
	run(db, encrypted.CanaryTable(dialect.SQLite))
	if err := encrypted.KeepCanary(ctx, db, ring, ent.EncryptedColumns()...); err != nil {
		log.Fatal(err)
	}
	fmt.Println(encrypted.Check(ctx, db, ring, ent.EncryptedColumns()...), "without a row")
	// Output: <nil> without a row
}

func ExampleColumns() {
	for _, c := range encrypted.Columns("github.com/credent-go/credent/ent") {
		fmt.Println(c)
	}
	// Output:
	// user_credentials.api_key
	// user_credentials.secret_key
}

// Raw SQL says where a secret is stored, and sets an indexed column's digest.
func ExampleAt() {
	ctx := context.Background()
	c, _, _ := newClient(encrypted.Config{})
	row, secret := store(c), encrypted.New("PK-NEW")
	_, err := c.ExecContext(ctx, "UPDATE user_credentials SET api_key = ?, api_key_index = ? WHERE id = ?",
		encrypted.At(secret, usercredential.APIKeyColumn, nil),
		encrypted.DigestOf(secret, usercredential.APIKeyColumn, nil), row.ID)
	fmt.Println(err)
	fmt.Println(c.UserCredential.GetX(ctx, row.ID).APIKey.Reveal())
	// Output:
	// <nil>
	// PK-NEW <nil>
}

func ExampleDigestOf() {
	ctx := context.Background()
	c, _, _ := newClient(encrypted.Config{})
	row, secret := store(c), encrypted.New("PK-NEW")
	_, err := c.ExecContext(ctx, "UPDATE user_credentials SET api_key = ? WHERE id = ?",
		encrypted.At(secret, usercredential.APIKeyColumn, nil), row.ID)
	fmt.Println(errors.Is(err, encrypted.ErrBlindIndex)) // the digest is missing
	// Output: true
}

// The generated predicate usercredential.APIKeyIs calls Lookup.
func ExampleLookup() {
	ctx := context.Background()
	c, _, _ := newClient(encrypted.Config{})
	store(c)
	found := c.UserCredential.Query().Where(encrypted.Lookup(usercredential.APIKeyColumn, encrypted.New("PK-MADE-UP"))).
		CountX(ctx)
	fmt.Println(found)
	// Output: 1
}

func ExampleLookupIn() {
	ctx := context.Background()
	c, _, _ := newClient(encrypted.Config{})
	store(c)
	for _, user := range []string{"user-1", "user-2"} {
		is := encrypted.LookupIn(usercredential.APIKeyColumn, user, encrypted.New("PK-MADE-UP"))
		fmt.Println(user, c.UserCredential.Query().Where(is).CountX(ctx))
	}
	// Output:
	// user-1 1
	// user-2 0
}

// Secrets scanned by database/sql have no keyring until they get an opener.
func ExampleOpenerOf() {
	c, db, ring := newClient(encrypted.Config{})
	store(c)
	var secret encrypted.Secret
	if err := db.QueryRowContext(context.Background(), "SELECT api_key FROM user_credentials").
		Scan(&secret); err != nil {
		log.Fatal(err)
	}
	_, err := secret.Reveal()
	fmt.Println(errors.Is(err, encrypted.ErrNoOpener))
	fmt.Println(secret.OpenedBy(encrypted.OpenerOf(ring, usercredential.APIKeyColumn, "user-1")).Reveal())
	// Output:
	// true
	// PK-MADE-UP <nil>
}

func ExampleObservedBy() {
	c, db, ring := newClient(encrypted.Config{})
	store(c)
	var secret encrypted.Secret
	if err := db.QueryRowContext(context.Background(), "SELECT api_key FROM user_credentials").
		Scan(&secret); err != nil {
		log.Fatal(err)
	}
	ctx := encrypted.WithActor(context.Background(), "support@example.com")
	told := encrypted.ObservedBy(ctx, func(e encrypted.Reveal) { fmt.Println(e.Actor, "revealed", e.Column) })
	if _, err := secret.OpenedBy(encrypted.OpenerOf(ring, usercredential.APIKeyColumn, nil, told)).
		Reveal(); err != nil {
		log.Fatal(err)
	}
	// Output: support@example.com revealed api_key
}

func ExampleWithActor() {
	c, _, _ := newClient(encrypted.Config{OnReveal: func(e encrypted.Reveal) {
		fmt.Println(e.Actor,
			"revealed", e.Column)
	}})
	row := store(c)
	ctx := encrypted.WithActor(context.Background(), "support@example.com")
	if _, err := c.UserCredential.GetX(ctx, row.ID).SecretKey.Reveal(); err != nil {
		log.Fatal(err)
	}
	// Output: support@example.com revealed secret_key
}

// A program that opens tokens itself derives the keys of bound ones.
func ExampleBoundKeyring() {
	c, db, ring := newClient(encrypted.Config{States: []encrypted.ColumnStates{
		{Column: usercredential.APIKeyColumn, Binding: encrypted.Require}, {
			Column:  usercredential.SecretKeyColumn,
			Binding: encrypted.Require,
		},
	}})
	store(c)
	var token string
	if err := db.QueryRowContext(context.Background(), "SELECT api_key FROM user_credentials").
		Scan(&token); err != nil {
		log.Fatal(err)
	}
	bound, err := encrypted.BoundKeyring(ring, usercredential.APIKeyColumn, "user-1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(bound.Decrypt(token))
	// Output: PK-MADE-UP <nil>
}

func ExampleString() {
	d := encrypted.String("refresh_token").MaxBytes(1000).Descriptor()
	fmt.Println(d.Info, d.SchemaType[dialect.Postgres])
	// Output: encrypted.Secret varchar(1420)
}

func ExampleBytes() {
	d := encrypted.Bytes("certificate").Descriptor()
	fmt.Println(d.Info, d.SchemaType[dialect.Postgres])
	// Output: encrypted.Value[[]byte] varchar(500)
}

func ExampleTime() {
	d := encrypted.Time("born").Optional().Descriptor()
	fmt.Println(d.Info, d.SchemaType[dialect.Postgres], d.Optional)
	born := encrypted.NewValue(time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC))
	fmt.Println(born.Reveal())
	// Output:
	// encrypted.Value[time.Time] varchar(140) true
	// 1815-12-10 00:00:00 +0000 UTC <nil>
}

func ExampleJSON() {
	d := encrypted.JSON("webhook", WebhookConfig{}).Descriptor()
	fmt.Println(d.Info)
	// Output: encrypted.Value[encrypted_test.WebhookConfig]
}

// A blind index adds a digest column for lookups.
func ExampleBlindIndex() {
	index := encrypted.BlindIndex("refresh_token").Unique("provider")
	fmt.Println(index.Fields()[0].Descriptor().Name)
	// Output: refresh_token_index
}

func ExampleTableWasNamed() {
	fmt.Println(encrypted.TableWasNamed("patients").WasNamed)
	// Output: [patients]
}

func ExamplePlain() {
	fmt.Println(encrypted.Plain("a public key").Reason)
	// Output: a public key
}
