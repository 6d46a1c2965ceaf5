package unique

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/keyring"
)

// A column with a unique index of rows that aren't deleted, by organization.
var (
	codeScanner = column.NewField("code", 500)
	code        = encrypted.Register(encrypted.Binding{
		Column: encrypted.Column{
			Table: "seats", Name: "code", Size: 500, Type: "string", ID: "id",
			Index: "code_index",
		},
		Scanner: func() any { return codeScanner },
		Digest: func() any {
			return blindindex.Field{Config: blindindex.Config{Unique: true, Where: "deleted_at IS NULL"}}
		},
		UniqueWith: []string{"org"},
	})
)

// forEachSeats is forEach with the table of the column.
func forEachSeats(t *testing.T, test func(t *testing.T, db *database)) {
	t.Helper()
	forEach(t, func(t *testing.T, db *database) {
		digest := map[string]string{dialect.Postgres: "bytea", dialect.SQLite: "blob"}[db.dialect]
		for _, statement := range []string{
			"CREATE TABLE seats (id int PRIMARY KEY, org int NOT NULL, code varchar(500), code_index " + digest +
				", deleted_at timestamp)",
			"CREATE UNIQUE INDEX seats_live ON seats (code_index, org) WHERE deleted_at IS NULL",
			"CREATE INDEX seats_all ON seats (code_index)",
		} {
			db.exec(t, statement)
		}
		test(t, db)
	})
}

func (db *database) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

// take stores a seat as generated code does.
func take(ctx context.Context, client dialect.Driver, id, org int, plaintext string) error {
	value, err := codeScanner.Value(encrypted.New(plaintext))
	if err != nil {
		return err
	}
	spec := sqlgraph.NewCreateSpec("seats", sqlgraph.NewFieldSpec("id", field.TypeInt))
	spec.ID.Value = id
	spec.SetField("org", field.TypeInt, org)
	spec.SetField("code", field.TypeString, value)
	encrypted.CompleteCreate(nil, "", spec)
	return sqlgraph.CreateNode(ctx, client, spec)
}

// change updates seats as generated code does: the one with an id, or all that
// match.
func change(
	ctx context.Context, client dialect.Driver, id int, where func(*entsql.Selector), set func(*sqlgraph.UpdateSpec),
) (int, error) {
	spec := sqlgraph.NewUpdateSpec("seats", []string{"id"}, sqlgraph.NewFieldSpec("id", field.TypeInt))
	spec.Predicate = where
	set(spec)
	if id == 0 {
		if _, none, err := encrypted.CompleteUpdate(ctx, "", client, spec, false); none || err != nil {
			return 0, err
		}
		return sqlgraph.UpdateNodes(ctx, client, spec)
	}
	spec.Node.ID.Value = id
	if _, none, err := encrypted.CompleteUpdate(ctx, "", client, spec, true); none || err != nil {
		return 0, err
	}
	spec.Assign = func([]string, []any) error { return nil }
	spec.ScanValues = func([]string) ([]any, error) { return []any{new(sql.NullInt64)}, nil }
	return 1, sqlgraph.UpdateNode(ctx, client, spec)
}

func remove(s *sqlgraph.UpdateSpec)  { s.SetField("deleted_at", field.TypeTime, time.Now()) }
func restore(s *sqlgraph.UpdateSpec) { s.ClearField("deleted_at", field.TypeTime) }

// restoreByModifier does it by the caller's modifier.
func restoreByModifier(s *sqlgraph.UpdateSpec) {
	s.AddModifier(func(b *entsql.UpdateBuilder) { b.SetNull("deleted_at") })
}

func moveTo(org int) func(*sqlgraph.UpdateSpec) {
	return func(s *sqlgraph.UpdateSpec) { s.SetField("org", field.TypeInt, org) }
}

// count returns how many seats a lookup finds.
func count(ctx context.Context, client dialect.Driver, table string, where func(*entsql.Selector)) (int, error) {
	b := entsql.Dialect(client.Dialect())
	s := b.Select("id").From(b.Table(table))
	where(s)
	query, args := s.Query()
	rows := new(entsql.Rows)
	if err := client.Query(ctx, query, args, rows); err != nil {
		return 0, err
	}
	n := 0
	for rows.Next() {
		n++
	}
	return n, errors.Join(rows.Err(), rows.Close())
}

// TestWhere has a unique index with a condition: what is unique under one key
// is so under several, for stored, restored and moved rows.
func TestWhere(t *testing.T) {
	t.Parallel()
	forEachSeats(t, func(t *testing.T, db *database) {
		ctx, id := t.Context(), 0
		first, second := keyring.GenerateKey(), keyring.GenerateKey()
		before := db.client(t, newKeyring(t, first, second))
		after := db.client(t, newKeyring(t, second, first))
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		refused := func(what string, err error) {
			t.Helper()
			if !sqlgraph.IsConstraintError(err) {
				t.Errorf("%s: %v", what, err)
			}
		}
		for i := range 6 {
			plaintext := fmt.Sprint("code", i)
			row := func() int { id++; return id }
			deleted, live := row(), row()
			must(take(ctx, before, deleted, 1, plaintext))
			refused("a duplicate", take(ctx, after, row(), 1, plaintext))
			_, err := change(ctx, before, deleted, nil, remove)
			must(err)
			must(take(ctx, after, live, 1, plaintext))
			refused("a duplicate of the second", take(ctx, before, row(), 1, plaintext))
			for name, set := range map[string]func(*sqlgraph.UpdateSpec){
				"restore":     restore,
				"by modifier": restoreByModifier,
			} {
				for _, client := range []dialect.Driver{before, after} {
					_, err = change(ctx, client, deleted, nil, set)
					refused(name, err)
					_, err = change(ctx, client, 0, codeIs(plaintext), set)
					refused(name+" of many", err)
				}
			}
			n, err := count(ctx, after, "seats", codeIs(plaintext))
			if n != 2 || err != nil {
				t.Errorf("found %d, %v; want both", n, err)
			}
			// Another organization has its own, until the row moves.
			other := row()
			must(take(ctx, before, other, 2, plaintext))
			_, err = change(ctx, after, other, nil, moveTo(1))
			refused("a move", err)
			_, err = change(ctx, after, live, nil, moveTo(2))
			refused("a move back", err)
			_, err = change(ctx, after, live, nil, moveTo(3))
			must(err)
			_, err = change(ctx, before, deleted, nil, restore)
			must(err)
			refused("a duplicate of the restored", take(ctx, after, row(), 1, plaintext))
			refused("a duplicate of the moved", take(ctx, before, row(), 3, plaintext))
		}
		// All at once: deleting restores nothing, and restoring is refused.
		for range 2 {
			if n, err := change(ctx, before, 0, nil, remove); n != 18 || err != nil {
				t.Errorf("%d rows deleted, %v", n, err)
			}
		}
		must(take(ctx, after, 1_000_000, 1, "code0"))
		_, err := change(ctx, before, 0, nil, restore)
		refused("all restored", err)
		if n, err := change(ctx, before, 0, entsql.FieldNEQ("org", 1), restore); n != 12 || err != nil {
			t.Errorf("%d rows restored, %v", n, err)
		}
	})
}

// codeIs is the lookup of a seat.
func codeIs(plaintext string) func(*entsql.Selector) {
	return encrypted.Lookup(code, encrypted.New(plaintext))
}

// TestWhereRaces has writers of both keys take, delete and restore one code.
// At no moment two live rows have it.
func TestWhereRaces(t *testing.T) {
	t.Parallel()
	forEachSeats(t, func(t *testing.T, db *database) {
		ctx := t.Context()
		first, second := keyring.GenerateKey(), keyring.GenerateKey()
		clients := []dialect.Driver{
			db.client(t, newKeyring(t, first, second)),
			db.client(t, newKeyring(t, second, first)),
		}
		db.SetMaxOpenConns(8)
		var writers sync.WaitGroup
		for w := range 4 {
			writers.Go(func() {
				client := clients[w%2]
				for i := range 15 {
					id := 1 + w*100 + i
					if err := take(ctx, client, id, 1, "one"); err != nil && !isRace(err) {
						t.Errorf("take: %v", err)
					}
					if i%2 == w%2 {
						if _, err := change(ctx, client, 0, entsql.FieldEQ("id", id), remove); err != nil &&
							!isRace(err) {
							t.Errorf("remove: %v", err)
						}
					}
					if _, err := change(ctx, client, 0, entsql.FieldEQ("id", id-1), restore); err != nil &&
						!isRace(err) {
						t.Errorf("restore: %v", err)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { writers.Wait(); close(done) }()
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
			}
			var n int
			if err := db.QueryRowContext(ctx, "SELECT count(*) FROM seats WHERE deleted_at IS NULL").
				Scan(&n); err != nil && !isRace(err) {
				t.Error(err)
			}
			if n > 1 {
				t.Fatalf("%d live rows have the code", n)
			}
		}
	})
}

// isRace reports whether an error is another writer's precedence.
func isRace(err error) bool {
	var state interface{ SQLState() string }
	if errors.As(err, &state) && (state.SQLState() == "40P01" || state.SQLState() == "40001") {
		return true
	}
	return sqlgraph.IsConstraintError(err) || strings.Contains(err.Error(), "locked") ||
		strings.Contains(err.Error(), "BUSY")
}
