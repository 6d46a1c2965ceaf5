// Package unique tests the statements that keep a unique blind index unique
// across a keyring's keys, on its own table.
package unique

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"
	"entgo.io/ent/schema/field"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/integration/record"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/testdb/bare"
	"github.com/credent-go/credent/keyring"
)

// The column, as generated code registers it.
var (
	scanner = column.NewField("email", 500)
	email   = encrypted.Register(encrypted.Binding{
		Column: encrypted.Column{
			Table: "members", Name: "email", Size: 500, Type: "string", ID: "id",
			Index: "email_index",
		},
		Scanner: func() any { return scanner },
		Digest:  func() any { return blindindex.Field{Config: blindindex.Config{Unique: true}} },
	})
)

// Credent's own statements: the check for rows without a digest, and the
// claims.
const (
	ownGaps = `SELECT credent_gap."id", credent_gap."email" FROM "members" AS credent_gap WHERE credent_gap."email_index" IS NULL ` +
		`AND credent_gap."email" IS NOT NULL ORDER BY credent_gap."email_index" LIMIT 1001`
	ownClaim = `UPDATE "members" SET "email_index" = $1 WHERE "email_index" = $2`
)

// database has the table and records statements.
type database struct {
	*sql.DB
	dialect      string
	above, below record.Log
}

// forEach runs a test over both drivers of Postgres and of SQLite.
func forEach(t *testing.T, test func(t *testing.T, db *database)) {
	t.Helper()
	for _, driverName := range bare.SQLDrivers {
		t.Run(driverName, func(t *testing.T) {
			t.Parallel()
			db, digest := new(database), "blob"
			var (
				dsn string
				err error
			)
			if dsn, db.dialect = bare.Source(t, driverName); db.dialect == dialect.Postgres {
				digest = "bytea"
			}
			if db.DB, err = record.Open(driverName, dsn, &db.below); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			if _, err := db.ExecContext(t.Context(), "CREATE TABLE members (id int PRIMARY KEY, email varchar(500), "+
				"email_index "+digest+" UNIQUE)"); err != nil {
				t.Fatal(err)
			}
			test(t, db)
		})
	}
}

// client returns a driver on the database.
func (db *database) client(t *testing.T, ring *keyring.Keyring) dialect.Driver {
	t.Helper()
	drv, err := encrypted.NewDriver(entsql.OpenDB(db.dialect, db.DB), encrypted.Config{Keyring: ring})
	if err != nil {
		t.Fatal(err)
	}
	if err := encrypted.ReadStates(t.Context(), drv); err != nil { // otherwise the first statement reads them
		t.Fatal(err)
	}
	return record.Driver(drv, &db.above)
}

func newKeyring(t *testing.T, primary string, previous ...string) *keyring.Keyring {
	t.Helper()
	ring, err := keyring.New(primary, previous...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// create stores a row as generated code does.
func create(ctx context.Context, client dialect.Driver, id int, plaintext string) error {
	value, err := scanner.Value(encrypted.New(plaintext))
	if err != nil {
		return err
	}
	spec := sqlgraph.NewCreateSpec("members", sqlgraph.NewFieldSpec("id", field.TypeInt))
	spec.ID.Value = id
	spec.SetField("email", field.TypeString, value)
	encrypted.CompleteCreate(nil, "", spec)
	return sqlgraph.CreateNode(ctx, client, spec)
}

// raw stores a row with raw SQL.
func raw(ctx context.Context, db *database, client dialect.Driver, id int, plaintext string) error {
	query := `INSERT INTO members (id, email, email_index) VALUES ($1, $2, $3)`
	if db.dialect == dialect.SQLite {
		query = `INSERT INTO members (id, email, email_index) VALUES (?, ?, ?)`
	}
	secret := encrypted.New(plaintext)
	return client.Exec(ctx, query, []any{id, encrypted.At(secret, email, nil), encrypted.DigestOf(secret, email, nil)},
		nil)
}

// texts returns statements' texts. Each claim must have two arguments.
func texts(t *testing.T, statements []*record.Statement) []string {
	t.Helper()
	var all []string
	for _, s := range statements {
		if s.Text == ownClaim && len(s.Args) != 2 {
			t.Errorf("%d arguments of a claim", len(s.Args))
		}
		all = append(all, s.Text)
	}
	return all
}

// TestClaims expects a query for rows without a digest, the storing statement
// as given, and then a claim for each step between the digests under the
// keyring's engine. A value stored under another key is refused, in whatever
// order the keys are.
func TestClaims(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *database) {
		ctx, id := t.Context(), 0
		first, second := keyring.GenerateKey(), keyring.GenerateKey()
		rings := map[string]*keyring.Keyring{
			"one key": newKeyring(t, first), "another first": newKeyring(t, second, first),
			"another last": newKeyring(t, first, second),
		}
		var digests blindindex.Digester
		for name, ring := range rings {
			client := db.client(t, ring)
			for i := range 8 {
				for _, way := range []func(id int, plaintext string) error{
					func(id int, plaintext string) error { return create(ctx, client, id, plaintext) },
					func(id int, plaintext string) error { return raw(ctx, db, client, id, plaintext) },
				} {
					id++
					plaintext := fmt.Sprint(name, i, id)
					set, err := engine.Load((*engine.Ring)(ring))
					if err != nil {
						t.Fatal(err)
					}
					_, steps, err := digests.Claim(blindindex.Keys{Set: set}, &email, plaintext)
					if err != nil {
						t.Fatal(err)
					}
					db.above.Take()
					db.below.Take()
					if err := way(id, plaintext); err != nil {
						t.Fatal(err)
					}
					want := append([]string{ownGaps}, texts(t, db.above.Take())...)
					for range max(len(steps)-1, 0) {
						want = append(want, ownClaim)
					}
					if diff := cmp.Diff(want, texts(t, db.below.Take())); diff != "" {
						t.Errorf("%s (-want +got):\n%s", name, diff)
					}
					for other, ring := range rings {
						if other == "one key" && name == "another first" {
							continue // it doesn't have the key
						}
						if err := create(ctx, db.client(t, ring), 1_000_000+id,
							plaintext); !sqlgraph.IsConstraintError(err) {
							t.Errorf("stored with %s, and again with %s: %v", name, other, err)
						}
						if err := raw(ctx, db, db.client(t, ring), 1_000_000+id,
							plaintext); !sqlgraph.IsConstraintError(err) {
							t.Errorf("stored with %s, and again by SQL with %s: %v", name, other, err)
						}
					}
				}
			}
		}
	})
}
