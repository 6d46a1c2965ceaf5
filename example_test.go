package credent_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/open/sqlite"
)

// databases is the directory of the examples' databases.
var databases string

func TestMain(m *testing.M) {
	var err error
	if databases, err = os.MkdirTemp("", "credent-test-"); err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	if err := os.RemoveAll(databases); err != nil {
		log.Print(err)
		code = 1
	}
	os.Exit(code)
}

// newDatabase returns the URL of a database that doesn't exist yet.
func newDatabase() string {
	return "sqlite:" + filepath.Join(databases, uuid.NewString()+".db")
}

// open returns a client on a new database.
func open(cfg credent.Config) (client *ent.Client, url string) {
	url = newDatabase()
	cfg.Migrate = true
	client, err := credent.Open(context.Background(), url, cfg, credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	return client, url
}

// newKeyring returns a keyring with a new key.
func newKeyring() *keyring.Keyring {
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		log.Fatal(err)
	}
	return ring
}

// store creates an account with one credential.
func store(client *ent.Client) *ent.UserCredential {
	ctx := context.Background()
	account := client.UserAccount.Create().SetUserID("user-1").SetAccountName("Ada").SaveX(ctx)
	return client.UserCredential.Create().
		SetAccount(account).
		SetUserID(account.UserID).
		SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret("PK-MADE-UP")).
		SetSecretKey(credent.NewSecret("made-up")).
		SaveX(ctx)
}

func closeClient(client *ent.Client) {
	if err := client.Close(); err != nil {
		log.Fatal(err)
	}
}

func ExampleNewSecret() {
	secret := credent.NewSecret("PK-MADE-UP")
	fmt.Println(secret) // safe: in logs, errors and JSON as well

	plaintext, err := secret.Reveal()
	fmt.Println(plaintext, err)
	// Output:
	// [REDACTED]
	// PK-MADE-UP <nil>
}

func ExampleCheck() {
	client, url := open(credent.Config{Keyring: newKeyring()})
	defer closeClient(client)
	store(client)
	fmt.Println("right key:", credent.Check(context.Background(), client))

	other, err := credent.Open(context.Background(), url, credent.Config{Keyring: newKeyring()},
		credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	defer closeClient(other)
	fmt.Println("wrong key found:", credent.Check(context.Background(), other) != nil)
	// Output:
	// right key: <nil>
	// wrong key found: true
}
