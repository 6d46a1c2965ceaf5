package condition_test

import (
	"errors"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"

	"github.com/credent-go/credent/internal/entcrypt/condition"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
)

// keyed is a client's driver, with tokens under tenants' keys if yes.
type keyed struct {
	dialect.Driver
	yes bool
}

func (k keyed) Keyed(*column.Column) bool { return k.yes }

func newRow(t *testing.T, tenant string) *sqlgraph.CreateSpec {
	t.Helper()
	spec := sqlgraph.NewCreateSpec("t", nil)
	for _, name := range []string{"a", "b"} {
		arg, err := column.NewArg(column.Column{Table: "t", Name: name, Size: 500, Tenant: "u"}, fieldcrypt.New(name))
		if err != nil {
			t.Fatal(err)
		}
		arg.Tenant, arg.Owned = tenant, true
		spec.Fields = append(spec.Fields, &sqlgraph.FieldSpec{Column: name, Value: arg})
	}
	return spec
}

// insert returns the INSERT of rows that a client's driver gets.
func insert(drv dialect.Driver, d string, rows ...*sqlgraph.CreateSpec) (string, []any) {
	for _, row := range rows {
		condition.Demand(drv, row.Fields)
	}
	condition.DemandOnce(rows)
	b := entsql.Dialect(d).Insert("t").Columns("a", "b")
	for _, row := range rows {
		b.Values(row.Fields[0].Value, row.Fields[1].Value)
	}
	return b.Query()
}

// A statement has one condition, before the first argument, and every argument
// stays in order.
func TestOneCondition(t *testing.T) {
	t.Parallel()
	needs := condition.NeedsOf(map[string]*tenantkey.Sealing{
		`y"\`: {Wrapped: "wy"}, "x": {Wrapped: "wx"}, "gone": {Err: tenantkey.ErrShredded},
	})
	for name, test := range map[string]struct {
		drv     dialect.Driver
		dialect string
		tenants []string
		holds   string // the text has it once
		keys    []any  // sent for the condition
		last    string // the last placeholder
	}{
		"one tenant": {
			keyed{yes: true},
			dialect.Postgres,
			[]string{"x", "x"},
			"credent_key.tenant = $1::text",
			[]any{"x", "wxwy"},
			"$6",
		},
		"several tenants": {keyed{yes: true}, dialect.Postgres, []string{"x", `y"\`, "x"}, "unnest($1::text::text[])", []any{`{"x","y\"\\"}`, "wxwy"}, "$8"},
		"SQLite":          {keyed{yes: true}, dialect.SQLite, []string{"x", `y"\`}, "json_each(?)", []any{`[["x","wx"],["y\"\\","wy"]]`}, "?"},
		"the keyring's":   {keyed{}, dialect.Postgres, []string{"x"}, "VALUES ($1, $2)", nil, "$2"},
		"not the driver":  {nil, dialect.Postgres, []string{"x"}, "VALUES ($1, $2)", nil, "$2"},
	} {
		var rows []*sqlgraph.CreateSpec
		for _, tenant := range test.tenants {
			rows = append(rows, newRow(t, tenant))
		}
		text, args := insert(test.drv, test.dialect, rows...)
		if strings.Count(text, test.holds) != 1 || !strings.HasSuffix(text, test.last+")") {
			t.Errorf("%s: got %s", name, text)
		}
		var sent []any
		var secrets int
		for _, arg := range args {
			switch arg := arg.(type) {
			case *condition.Keys:
				sent = append(sent, arg.Of(needs))
				if empty, err := arg.Value(); err != nil || empty != nil && empty != "{}" && empty != "[]" {
					t.Errorf("%s: without needs it sends %v, %v", name, empty, err)
				}
				if holds := arg.Holds(needs); len(sent) == 1 && holds != (name != "one tenant") {
					t.Errorf("%s: Holds is %t", name, holds)
				}
			case *column.Arg:
				secrets++
			}
		}
		if secrets != 2*len(rows) || len(sent) != len(test.keys) {
			t.Fatalf("%s: %d secrets, and %v", name, secrets, sent)
		}
		for i := range sent {
			if sent[i] != test.keys[i] {
				t.Errorf("%s: sends %v, want %v", name, sent[i], test.keys[i])
			}
		}
	}
}

func TestIsRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`malformed array literal: "credent: the server has another key of the tenant"`: true, "malformed array literal": false,
	} {
		if condition.IsRefused(errors.New(text)) != want {
			t.Error(text)
		}
	}
	if condition.IsRefused(nil) {
		t.Error("no error is a refusal")
	}
}
