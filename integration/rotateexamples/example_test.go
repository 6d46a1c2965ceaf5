// Package rotateexamples_test contains the examples of package rotate, because
// rotate's own tests register other tables in the process.
package rotateexamples_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"time"

	"entgo.io/ent/dialect"
	_ "modernc.org/sqlite" // the database driver

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

// both are the secrets of a credential.
var both = rotate.Config{In: ent.EncryptedColumns()}

func newKeyring(primary string, previous ...string) *keyring.Keyring {
	ring, err := keyring.New(primary, previous...)
	if err != nil {
		log.Fatal(err)
	}
	return ring
}

// stored returns a database with one credential of user-1.
func stored(cfg client.Config) *sql.DB {
	ctx := context.Background()
	db, err := sql.Open("sqlite", "file::memory:?_pragma=foreign_keys(1)")
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(1) // an in-memory SQLite database belongs to one connection
	err = migrate.Apply(ctx, db, migrate.Config{Keyring: cfg.Keyring, Columns: ent.EncryptedColumns()})
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(db, dialect.SQLite, cfg)
	if err != nil {
		log.Fatal(err)
	}
	account := c.UserAccount.Create().SetUserID("user-1").SetAccountName("Ada").SaveX(ctx)
	c.UserCredential.Create().SetAccount(account).SetCredentialType("alpaca").
		SetAPIKey(encrypted.New("PK-MADE-UP")).SetSecretKey(encrypted.New("made-up")).ExecX(ctx)
	return db
}

// window is the state of a column that still holds plaintext.
func window(c encrypted.Column) encrypted.ColumnStates {
	return encrypted.ColumnStates{Column: c, Encryption: encrypted.Write}
}

// A new primary key encrypts, the old one still decrypts; Run moves every token
// under the new one, after which the old key can be removed.
func Example_run() {
	ctx := context.Background()
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	db := stored(client.Config{Keyring: newKeyring(oldKey)})
	ring := newKeyring(newKey, oldKey)
	report, err := rotate.Run(ctx, db, ring, both)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Rewritten(), "row rewritten")
	counts, err := rotate.Verify(ctx, db, newKeyring(newKey), ent.EncryptedColumns()...)
	fmt.Println(counts.Err(), err)
	// Output:
	// 1 row rewritten
	// <nil> <nil>
}

func Example_verify() {
	ctx := context.Background()
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	db := stored(client.Config{Keyring: newKeyring(oldKey)})
	ring := newKeyring(newKey, oldKey)
	counts, err := rotate.Verify(ctx, db, ring, ent.EncryptedColumns()...)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(counts.Needs(ring.Keys()[1].ID()), "secrets need the old key,",
		errors.Is(counts.Err(), rotate.ErrNotAllPrimary))
	// Output: 2 secrets need the old key, true
}

// VerifyWith reports its progress, and limits how long it may retry.
func Example_verifyWith() {
	ring := newKeyring(keyring.GenerateKey())
	db := stored(client.Config{Keyring: ring})
	counts, err := rotate.VerifyWith(context.Background(), db, ring, rotate.Config{
		In: ent.EncryptedColumns(), RetryFor: time.Minute,
		Progress: func(p rotate.Progress) {
			if p.Read > 0 {
				fmt.Println(p.Read, "row of", p.Table)
			}
		},
	})
	fmt.Println(counts.Err(), err)
	// Output:
	// 1 row of user_credentials
	// <nil> <nil>
}

// Encrypt turns plaintext into tokens; DecryptToPlaintext is the way back.
func Example_encrypt() {
	ctx := context.Background()
	ring := newKeyring(keyring.GenerateKey())
	db := stored(client.Config{Keyring: ring})
	if _, err := db.ExecContext(ctx, "PRAGMA ignore_check_constraints = 1"); err != nil { // as before encryption
		log.Fatal(err)
	}
	if _, err := db.ExecContext(ctx, "UPDATE user_credentials SET secret_key = 'plaintext'"); err != nil {
		log.Fatal(err)
	}
	report, err := rotate.Encrypt(ctx, db, ring, rotate.Config{
		Columns: []string{"user_credentials.secret_key"},
		States:  []encrypted.ColumnStates{window(usercredential.SecretKeyColumn)},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Rewritten(), "row encrypted")
	// Output: 1 row encrypted
}

// A CHECK that admits only tokens must be dropped first, so that nobody
// decrypts a table by mistake.
func Example_decryptToPlaintext() {
	ring := newKeyring(keyring.GenerateKey())
	db := stored(client.Config{Keyring: ring})
	_, err := rotate.DecryptToPlaintext(context.Background(), db, ring, both)
	var refused *rotate.SchemaError
	fmt.Println(errors.As(err, &refused))
	// Output: true
}

// A program without the keyring changed a secret and left no digest.
// FillIndexes computes it, and changes nothing else.
func Example_fillIndexes() {
	ctx := context.Background()
	ring := newKeyring(keyring.GenerateKey())
	db := stored(client.Config{Keyring: ring})
	if _, err := db.ExecContext(ctx, "UPDATE user_credentials SET api_key_index = NULL"); err != nil {
		log.Fatal(err)
	}
	report, err := rotate.FillIndexes(ctx, db, ring, rotate.Config{Columns: []string{"user_credentials.api_key"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Tables[0].Indexed, "digest made")
	// Output: 1 digest made
}

func Example_checkUnique() {
	ctx := context.Background()
	ring := newKeyring(keyring.GenerateKey())
	db := stored(client.Config{Keyring: ring})
	cfg := rotate.Config{Columns: []string{"user_credentials.api_key"}}
	fmt.Println(rotate.CheckUnique(ctx, db, ring, cfg))
	// Output: <nil>
}

// Destroying a tenant's key makes its secrets unreadable everywhere.
func Example_destroyTenant() {
	ctx := context.Background()
	ring := newKeyring(keyring.GenerateKey())
	db := stored(client.Config{Keyring: ring, TenantKeys: encrypted.Require})
	done, err := rotate.DestroyTenant(ctx, db, ring, "user-1", ent.EncryptedColumns()...)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(done.Secrets, "secrets are unreadable")
	_, err = rotate.DestroyTenant(ctx, db, ring, "nobody", ent.EncryptedColumns()...)
	fmt.Println(errors.Is(err, rotate.ErrUnknownTenant))
	// Output:
	// 2 secrets are unreadable
	// true
}

func Example_allTenants() {
	ring := newKeyring(keyring.GenerateKey())
	db := stored(client.Config{Keyring: ring, TenantKeys: encrypted.Require})
	for tenant, err := range rotate.AllTenants(context.Background(), db, "") {
		fmt.Println(tenant.ID, tenant.DestroyedAt == nil, err)
	}
	// Output: user-1 true <nil>
}

// A state changes one step at a time, and each is stored for all services.
func Example_setState() {
	ctx := context.Background()
	ring := newKeyring(keyring.GenerateKey())
	db := stored(client.Config{Keyring: ring})
	for _, to := range []rotate.State{encrypted.Accept, encrypted.Require} {
		_, err := rotate.SetState(ctx, db, ring, rotate.StateChange{
			Column:     usercredential.APIKeyColumn,
			Protection: rotate.Binding, To: to,
		})
		fmt.Println(to, errors.Is(err, rotate.ErrState))
	}
	// Output:
	// accept false
	// require true
}

func Example_states() {
	ctx := context.Background()
	ring := newKeyring(keyring.GenerateKey())
	db := stored(client.Config{Keyring: ring})
	change := rotate.StateChange{Column: usercredential.APIKeyColumn, Protection: rotate.Binding, To: encrypted.Accept}
	if _, err := rotate.SetState(ctx, db, ring, change); err != nil {
		log.Fatal(err)
	}
	list, err := rotate.States(ctx, db)
	fmt.Println(len(list), err)
	// Output: 1 <nil>
}

// Recording Verify's counts tells later commands when it ran.
func Example_recordVerification() {
	ctx := context.Background()
	ring := newKeyring(keyring.GenerateKey())
	db := stored(client.Config{Keyring: ring})
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	counts, err := rotate.Verify(ctx, db, ring, ent.EncryptedColumns()...)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(rotate.RecordVerification(ctx, db, counts, at))
	// Output: <nil>
}

func Example_lastVerified() {
	ctx := context.Background()
	ring := newKeyring(keyring.GenerateKey())
	db := stored(client.Config{Keyring: ring})
	counts, err := rotate.Verify(ctx, db, ring, ent.EncryptedColumns()...)
	if err != nil {
		log.Fatal(err)
	}
	if err := rotate.RecordVerification(ctx, db, counts, time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)); err != nil {
		log.Fatal(err)
	}
	last, err := rotate.LastVerified(ctx, db)
	fmt.Println(last["user_credentials.api_key"].At, err)
	// Output: 2030-01-02 03:04:05 +0000 UTC <nil>
}

// Two verifications of a column; a row was damaged between them.
func Example_verifications() {
	ctx := context.Background()
	ring := newKeyring(keyring.GenerateKey())
	db := stored(client.Config{Keyring: ring})
	for day := 1; day <= 2; day++ {
		counts, err := rotate.Verify(ctx, db, ring, ent.EncryptedColumns()...)
		if err != nil {
			log.Fatal(err)
		}
		at := time.Date(2030, 1, day, 0, 0, 0, 0, time.UTC)
		if err := rotate.RecordVerification(ctx, db, counts, at); err != nil {
			log.Fatal(err)
		}
		if _, err := db.ExecContext(ctx, "UPDATE user_credentials SET api_key = 'gAAAAABx'"); err != nil {
			log.Fatal(err)
		}
	}
	all, err := rotate.Verifications(ctx, db, 10)
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range all["user_credentials.api_key"] {
		fmt.Println(v.At.Format(time.DateOnly), v.Failed, "of", v.Secrets)
	}
	// Output:
	// 2030-01-01 0 of 1
	// 2030-01-02 1 of 1
}

// A database with a trail records who destroyed a tenant's key.
func Example_withTrail() {
	ring := newKeyring(keyring.GenerateKey())
	db := stored(client.Config{Keyring: ring})
	ctx := encrypted.WithActor(context.Background(), "operator@example.com")
	trail, err := audit.Open(ctx, db, dialect.SQLite, audit.Config{Keyring: ring})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = trail.Close(ctx) }()
	if _, err := rotate.DestroyTenant(rotate.WithTrail(ctx, trail), db, ring, "user-1"); err != nil {
		log.Fatal(err)
	}
	var actor, tenant string
	err = db.QueryRowContext(ctx, "SELECT actor, tenant FROM credent_audit WHERE action = 'destroy'").
		Scan(&actor, &tenant)
	fmt.Println(actor, tenant, err)
	// Output: operator@example.com user-1 <nil>
}

// A database that requires a trail refuses writes without one.
func Example_setTrail() {
	ctx := context.Background()
	ring := newKeyring(keyring.GenerateKey())
	db := stored(client.Config{Keyring: ring})
	trail, err := audit.Open(ctx, db, dialect.SQLite, audit.Config{Keyring: ring})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = trail.Close(ctx) }()
	if _, err := rotate.SetTrail(rotate.WithTrail(ctx, trail), db, true); err != nil {
		log.Fatal(err)
	}
	_, err = rotate.Run(ctx, db, ring, both)
	fmt.Println(errors.Is(err, rotate.ErrTrailRequired))
	// Output: true
}

func Example_requiresTrail() {
	db := stored(client.Config{Keyring: newKeyring(keyring.GenerateKey())})
	fmt.Println(rotate.RequiresTrail(context.Background(), db, dialect.SQLite))
	// Output: false <nil>
}

func ExampleDefaultWorkers() {
	n := rotate.DefaultWorkers()
	fmt.Println(n >= 4 && n <= 16)
	// Output: true
}
