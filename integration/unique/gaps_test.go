package unique

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
)

// insert stores a row as another program does: without a digest.
func (db *database) insert(t *testing.T, id int, stored any) {
	t.Helper()
	query := "INSERT INTO members (id, email) VALUES ($1, $2)"
	if db.dialect == dialect.SQLite {
		query = "INSERT INTO members (id, email) VALUES (?, ?)"
	}
	db.exec(t, query, id, stored)
}

func emailIs(plaintext string) func(*entsql.Selector) {
	return encrypted.Lookup(email, encrypted.New(plaintext))
}

// windowClient returns a client with the column in a plaintext window.
func (db *database) windowClient(t *testing.T, ring *keyring.Keyring, strict bool) dialect.Driver {
	t.Helper()
	drv, err := encrypted.NewDriver(entsql.OpenDB(db.dialect, db.DB), encrypted.Config{
		Keyring: ring, VerifyOnRead: strict,
		States: []encrypted.ColumnStates{{Column: email, Encryption: encrypted.Write}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return drv
}

// TestOthersRows has rows that another program stored as tokens or, in a
// plaintext window, as plaintext. Lookups find them at once, and no client
// stores their secret again, with one or two keys, inside or outside a
// transaction.
func TestOthersRows(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *database) {
		ctx := t.Context()
		first, second := keyring.GenerateKey(), keyring.GenerateKey()
		id := 0
		for name, ring := range map[string]*keyring.Keyring{
			"one key": newKeyring(t, first),
			"two":     newKeyring(t, second, first),
		} {
			for _, window := range []bool{true, false} {
				client := db.client(t, ring)
				if window {
					client = db.windowClient(t, ring, true)
				}
				store := func(plaintext string) {
					t.Helper()
					stored := plaintext
					if !window {
						var err error
						if stored, err = ring.Encrypt(plaintext); err != nil {
							t.Fatal(err)
						}
					}
					id++
					db.insert(t, id, stored)
				}
				found := func(on dialect.ExecQuerier, plaintext string, want int) {
					t.Helper()
					n, err := count(ctx, querier{on, db.dialect}, "members", emailIs(plaintext))
					if n != want || err != nil {
						t.Errorf("%s, window %v: found %d, want %d, %v", name, window, n, want, err)
					}
				}
				for i := range 3 {
					looked, written, other := fmt.Sprint(name, window, i, "looked"), fmt.Sprint(name, window, i,
						"written"), fmt.Sprint(name, window, i, "tx")
					found(client, looked, 0)
					store(looked)
					store(other)
					found(client, looked, 1)
					found(client, "absent", 0)
					store(written)
					id++
					if err := create(ctx, client, id, written); !sqlgraph.IsConstraintError(err) {
						t.Errorf("%s, window %v: a duplicate: %v", name, window, err)
					}
					if err := raw(ctx, db, client, id, looked); !sqlgraph.IsConstraintError(err) {
						t.Errorf("%s, window %v: a duplicate by SQL: %v", name, window, err)
					}
					found(client, written, 1)
					if err := create(ctx, client, id, "free"+written); err != nil {
						t.Error(err)
					}
					tx, err := client.Tx(ctx)
					if err != nil {
						t.Fatal(err)
					}
					found(tx, other, 1)
					if err := tx.Rollback(); err != nil {
						t.Error(err)
					}
					found(client, other, 1)
				}
			}
		}
		// On Postgres, where the log may show arguments, no statement had a
		// plaintext argument.
		if db.dialect == dialect.SQLite {
			return
		}
		for _, s := range db.below.Take() {
			if text := fmt.Sprint(s.Args...); !strings.HasPrefix(s.Text, "INSERT INTO members (id, email) V") &&
				strings.Contains(text, "looked") {
				t.Errorf("%s has the arguments %s", s.Text, text)
			}
		}
	})
}

// querier is a transaction that knows its dialect.
type querier struct {
	dialect.ExecQuerier
	name string
}

func (q querier) Dialect() string                      { return q.name }
func (querier) Close() error                           { return nil }
func (querier) Tx(context.Context) (dialect.Tx, error) { return nil, errors.ErrUnsupported }

// TestAddedIndex adds an index to many rows: until it is filled in, lookups and
// unique writes are refused, and so are updates and deletes with a lookup.
func TestAddedIndex(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *database) {
		ctx, ring := t.Context(), newKeyring(t, keyring.GenerateKey())
		token, err := ring.Encrypt("old")
		if err != nil {
			t.Fatal(err)
		}
		for from := 0; from < 1100; from += 100 {
			var rows []string
			for i := range 100 {
				rows = append(rows, fmt.Sprintf("(%d, '%s')", from+i, token))
			}
			db.exec(t, "INSERT INTO members (id, email) VALUES "+strings.Join(rows, ", "))
		}
		client := db.client(t, ring)
		refused := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, encrypted.ErrIndexNotFilled) || !strings.Contains(err.Error(), "credent rotate") ||
				strings.Contains(err.Error(), "old") {
				t.Errorf("%s: %v", what, err)
			}
		}
		for range 2 {
			_, err = count(ctx, client, "members", emailIs("old"))
			refused("a lookup", err)
			_, err = count(ctx, client, "members", emailIs("another"))
			refused("a lookup of another", err)
			_, err = count(ctx, client, "members", entsql.NotPredicates(emailIs("another")))
			refused("all others", err)
			refused("a write", create(ctx, client, 5000, "new"))
			refused("a write by SQL", raw(ctx, db, client, 5000, "new"))
			_, err = sqlgraph.DeleteNodes(ctx, client, &sqlgraph.DeleteSpec{
				Node:      sqlgraph.NewDeleteSpec("members", sqlgraph.NewFieldSpec("id", field.TypeInt)).Node,
				Predicate: emailIs("old"),
			})
			refused("a delete", err)
		}
		n, err := count(ctx, client, "members", entsql.FieldEQ("id", 7))
		if n != 1 || err != nil {
			t.Errorf("without a lookup: %d, %v", n, err)
		}
	})
}

// TestRestoreBesideGaps checks that a row isn't restored beside a live one that
// another program stored, even with one key.
func TestRestoreBesideGaps(t *testing.T) {
	t.Parallel()
	forEachSeats(t, func(t *testing.T, db *database) {
		ctx, ring := t.Context(), newKeyring(t, keyring.GenerateKey())
		client := db.client(t, ring)
		if err := take(ctx, client, 1, 1, "one"); err != nil {
			t.Fatal(err)
		}
		if _, err := change(ctx, client, 1, nil, remove); err != nil {
			t.Fatal(err)
		}
		token, err := ring.Encrypt("one")
		if err != nil {
			t.Fatal(err)
		}
		db.exec(t, "INSERT INTO seats (id, org, code) VALUES (2, 1, '"+token+"')")
		if _, err := change(ctx, client, 1, nil, restore); !sqlgraph.IsConstraintError(err) {
			t.Errorf("restored beside another program's row: %v", err)
		}
		if _, err := change(ctx, client, 0, entsql.FieldEQ("id", 1), restore); !sqlgraph.IsConstraintError(err) {
			t.Errorf("restored by an update of many: %v", err)
		}
		if err := take(ctx, client, 3, 2, "one"); err != nil {
			t.Errorf("in another organization: %v", err)
		}
	})
}
