// Package store opens the database of this service.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"example.com/graphql/ent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
)

// Open returns a client of a database of the given dialect. It creates missing
// tables, and checks the keyring. The database must contain only this service's
// tables.
func Open(ctx context.Context, db *sql.DB, databaseDialect string, ring *keyring.Keyring) (*ent.Client, error) {
	drv, err := encrypted.NewDriver(entsql.OpenDB(databaseDialect, db), encrypted.Config{
		Keyring: ring,
		Columns: ent.EncryptedColumns(),
	})
	if err != nil {
		return nil, err
	}
	client := ent.NewClient(ent.Driver(drv))
	if err := client.Schema.Create(ctx); err != nil {
		return nil, fmt.Errorf("create the tables: %w", err)
	}
	triggers := encrypted.IndexTriggers(databaseDialect, ent.EncryptedColumns()...)
	for _, statement := range append(triggers, encrypted.CanaryTable(databaseDialect)...) {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return nil, fmt.Errorf("create the triggers: %w", err)
		}
	}
	return client, errors.Join(
		encrypted.KeepCanary(ctx, db, ring, ent.EncryptedColumns()...),
		encrypted.Check(ctx, db, ring, ent.EncryptedColumns()...),
	)
}

// OpenSQLite opens a file.
func OpenSQLite(ctx context.Context, file string, ring *keyring.Keyring) (*ent.Client, *sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_txlock=immediate")
	if err != nil {
		return nil, nil, err
	}
	client, err := Open(ctx, db, dialect.SQLite, ring)
	return client, db, err
}
