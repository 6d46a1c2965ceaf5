package fieldcrypt

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func key(string) string { return "id" }

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
		if table, places, err := c.check(insert, []any{secret, "x"}, key); err != nil || table != "t" || places[0].column != "a" {
			t.Errorf("got %q, %v, %v", table, places, err)
		}
		if table, places, err := c.check(insert, []any{"x", secret}, key); err != nil || table != "t" || places[1].column != "b" {
			t.Errorf("the other column: got %q, %v, %v", table, places, err)
		}
		if table, places, err := c.check(insert, []any{"x", "y"}, key); err != nil || table != "" || places != nil {
			t.Errorf("no secret: got %q, %v, %v", table, places, err)
		}
		if _, _, err := c.check(update, []any{secret, "x"}, key); !errors.Is(err, ErrManyRows) {
			t.Errorf("many rows: got %v", err)
		}
		if _, _, err := c.check(update, []any{"x", secret}, key); !errors.Is(err, ErrPredicate) {
			t.Errorf("a condition: got %v", err)
		}
		// As many arguments as placeholders, or not.
		if _, _, err := c.check(insert, []any{"x", "y", secret}, key); !errors.Is(err, ErrPredicate) {
			t.Errorf("an argument too many: got %v", err)
		}
		// A name may stand for another argument each time.
		named := `INSERT INTO t (a, b) VALUES (:x, :y)`
		for i, args := range [][]any{
			{sql.Named("x", secret), sql.Named("y", 1)},
			{sql.Named("y", 1), sql.Named("x", secret)},
		} {
			if _, places, err := c.check(named, args, key); err != nil || places[i].column != "a" {
				t.Errorf("named: got %v, %v", places, err)
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
		_, _, _ = c.check(query, []any{secret}, key)
	}
	for query := range c.known {
		t.Errorf("kept %q", query)
	}
	for i := range 1000 {
		if _, _, err := c.check(fmt.Sprintf(`INSERT INTO t%d (a) VALUES ($1)`, i), []any{secret}, key); err != nil {
			t.Fatal(err)
		}
		if len(c.known) > maxStatements {
			t.Fatalf("%d statements are kept", len(c.known))
		}
	}
	for i := range 30 {
		query := fmt.Sprintf(`INSERT INTO t%d (a) VALUES ($1)%s`, i, strings.Repeat(" ", maxStatementBytes/10))
		if _, _, err := c.check(query, []any{secret}, key); err != nil {
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
				if _, places, err := c.check(query, []any{1, New("text")}, key); err != nil || places[1].column != "b" {
					t.Errorf("got %v, %v", places, err)
				}
			}
		})
	}
	workers.Wait()
}
