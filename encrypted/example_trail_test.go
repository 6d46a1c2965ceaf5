package encrypted_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
)

func ExampleRecordedBy() {
	ctx := encrypted.WithActor(context.Background(), "support@example.com")
	db, err := sql.Open("sqlite", "file::memory:?_pragma=foreign_keys(1)")
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(1) // each connection would have its own in-memory database
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		log.Fatal(err)
	}
	if err := migrate.Apply(ctx, db, migrate.Config{}); err != nil {
		log.Fatal(err)
	}
	trail, err := audit.Open(ctx, db, dialect.SQLite, audit.Config{Keyring: ring})
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(db, dialect.SQLite, client.Config{Keyring: ring, Trail: trail})
	if err != nil {
		log.Fatal(err)
	}
	store(c)
	var secret encrypted.Secret
	if err := db.QueryRowContext(ctx, "SELECT api_key FROM user_credentials").Scan(&secret); err != nil {
		log.Fatal(err)
	}
	opener := encrypted.OpenerOf(ring, usercredential.APIKeyColumn, nil, encrypted.RecordedBy(ctx, trail))
	if _, err := secret.OpenedBy(opener).Reveal(); err != nil {
		log.Fatal(err)
	}
	if err := trail.Close(ctx); err != nil {
		log.Fatal(err)
	}
	var actor, column string
	err = db.QueryRowContext(ctx, "SELECT actor, column_name FROM credent_audit WHERE action = 'reveal'").
		Scan(&actor, &column)
	fmt.Println(actor, "revealed", column, err)
	// Output: support@example.com revealed api_key <nil>
}
