package keyloss

import (
	"context"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/testopt"
)

// counted records the statements that reach the database.
type counted struct {
	dialect.Driver
	arrived *[]string
}

func (c counted) Exec(ctx context.Context, query string, args, v any) error {
	*c.arrived = append(*c.arrived, query)
	return c.Driver.Exec(ctx, query, args, v)
}

func (c counted) Query(ctx context.Context, query string, args, v any) error {
	if !strings.HasPrefix(query, "SELECT") { // of keys and states
		*c.arrived = append(*c.arrived, query)
	}
	return c.Driver.Query(ctx, query, args, v)
}

func (c counted) Tx(ctx context.Context) (dialect.Tx, error) {
	*c.arrived = append(*c.arrived, "BEGIN")
	return c.Driver.Tx(ctx)
}

// A create or a bulk is one statement, which itself depends on the keys. If the
// server has lost a key, it runs once more in a transaction, and the next one
// is a single statement again.
func TestOneStatement(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, s *service) {
		var arrived []string
		var err error
		s.client, err = testopt.FromDriver(counted{entsql.OpenDB(s.dialect, s.db), &arrived}, s.opts)
		if err != nil {
			t.Fatal(err)
		}
		writes := map[string]func() error{
			"create": func() error { return s.create(s.client.UserCredential, "u1", "x").Exec(t.Context()) },
			"bulk": func() error {
				return s.client.UserCredential.CreateBulk(s.create(s.client.UserCredential, "u1", "x"),
					s.create(s.client.UserCredential, "u2", "x"), s.create(s.client.UserCredential, "u1", "x")).
					Exec(t.Context())
			},
		}
		for name, write := range writes {
			once := func(when, want string) {
				t.Helper()
				arrived = nil
				if err := write(); err != nil {
					t.Fatal(err)
				}
				got := strings.Join(arrived, " ")
				if name == "bulk" && s.dialect == dialect.SQLite { // it returns rows, and some drivers run it late
					want = "BEGIN"
				} else if !strings.Contains(got, "credent_key.wrapped") {
					t.Errorf("%s %s: it depends on no key", name, when)
				}
				if strings.Join(kinds(arrived), " ") != want {
					t.Errorf("%s %s: sent %s", name, when, got)
				}
			}
			if err := write(); err != nil { // creates the keys
				t.Fatal(err)
			}
			once("with keys that are there", "INSERT")
			losses["wrapped anew"](t, s, "u1")
			once("with a key that is another now", "INSERT BEGIN")
			once("after that", "INSERT")
		}
	})
}

// kinds returns the first word of each statement.
func kinds(statements []string) (words []string) {
	for _, s := range statements {
		word, _, _ := strings.Cut(s, " ")
		words = append(words, word)
	}
	return words
}
