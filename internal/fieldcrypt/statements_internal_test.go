package fieldcrypt

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// plain knows nothing but the primary key.
var plain = schema{key: func(string) string { return "id" }}

// TestStatementsAreRemembered has that a statement which was read before is judged by its arguments all the same.
func TestStatementsAreRemembered(t *testing.T) {
	t.Parallel()
	var c statements
	const (
		insert = `INSERT INTO "t" ("a", "b") VALUES ($1, $2)`
		update = `UPDATE "t" SET "a" = $1 WHERE "b" = $2`
	)
	secret := New("text")
	for range 3 {
		if s, err := c.check(insert, []any{secret, "x"}, plain); err != nil || s.table != "t" || s.places[0].column != "a" {
			t.Errorf("got %+v, %v", s, err)
		}
		if s, err := c.check(insert, []any{"x", secret}, plain); err != nil || s.table != "t" || s.places[1].column != "b" {
			t.Errorf("the other column: got %+v, %v", s, err)
		}
		if s, err := c.check(insert, []any{"x", "y"}, plain); err != nil || s != nil {
			t.Errorf("no secret: got %+v, %v", s, err)
		}
		if _, err := c.check(update, []any{secret, "x"}, plain); !errors.Is(err, ErrManyRows) {
			t.Errorf("many rows: got %v", err)
		}
		if _, err := c.check(update, []any{"x", secret}, plain); !errors.Is(err, ErrPredicate) {
			t.Errorf("a condition: got %v", err)
		}
		// As many arguments as placeholders, or not.
		if _, err := c.check(insert, []any{"x", "y", secret}, plain); !errors.Is(err, ErrPredicate) {
			t.Errorf("an argument too many: got %v", err)
		}
		// A name may stand for another argument each time.
		named := `INSERT INTO t (a, b) VALUES (:x, :y)`
		for i, args := range [][]any{
			{sql.Named("x", secret), sql.Named("y", 1)},
			{sql.Named("y", 1), sql.Named("x", secret)},
		} {
			if s, err := c.check(named, args, plain); err != nil || s.places[i].column != "a" {
				t.Errorf("named: got %+v, %v", s, err)
			}
		}
	}
	if len(c.known) != 2 {
		t.Errorf("%d statements are kept, want 2", len(c.known))
	}
}

// TestStatementsForget has what must not stay in memory, and that the rest is bounded.
func TestStatementsForget(t *testing.T) {
	t.Parallel()
	var c statements
	secret := New("text")
	for _, query := range []string{
		`INSERT INTO t (a, b) VALUES ($1, 'literal')`,
		`INSERT INTO t (a) VALUES ($1) -- literal`,
		`/* literal */ INSERT INTO t (a) VALUES ($1)`,
		`INSERT INTO t (a, b) VALUES ($1, $$literal$$)`,
		`INSERT INTO t (a, b) VALUES ($1, 'literal\')`,
	} {
		_, _ = c.check(query, []any{secret}, plain)
	}
	for query := range c.known {
		t.Errorf("kept %q", query)
	}
	for i := range 1000 {
		if _, err := c.check(fmt.Sprintf(`INSERT INTO t%d (a) VALUES ($1)`, i), []any{secret}, plain); err != nil {
			t.Fatal(err)
		}
		if len(c.known) > maxStatements {
			t.Fatalf("%d statements are kept", len(c.known))
		}
	}
	for i := range 30 {
		query := fmt.Sprintf(`INSERT INTO t%d (a) VALUES ($1)%s`, i, strings.Repeat(" ", maxStatementBytes/10))
		if _, err := c.check(query, []any{secret}, plain); err != nil {
			t.Fatal(err)
		}
		if c.size > maxStatementBytes {
			t.Fatalf("%d bytes are kept", c.size)
		}
	}
}

// TestStatementsConcurrently is for the race detector.
func TestStatementsConcurrently(t *testing.T) {
	t.Parallel()
	var c statements
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for i := range 300 {
				query := fmt.Sprintf(`INSERT INTO t%d (a, b) VALUES ($1, $2)`, i%70)
				if s, err := c.check(query, []any{1, New("text")}, plain); err != nil || s.places[1].column != "b" {
					t.Errorf("got %+v, %v", s, err)
				}
			}
		})
	}
	workers.Wait()
}
