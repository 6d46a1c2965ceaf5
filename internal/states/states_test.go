package states_test

import (
	"errors"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/states"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, s := range []states.State{states.Off, states.Accept, states.Write, states.Require} {
		if got, err := states.ParseState(s.String()); got != s || err != nil {
			t.Errorf("%s: got %s, %v", s, got, err)
		}
	}
	for _, p := range states.Protections {
		if got, err := states.ParseProtection(p.String()); got != p || err != nil {
			t.Errorf("%s: got %s, %v", p, got, err)
		}
	}
	for _, name := range []string{"", "unset", "OFF", "state(7)"} {
		if _, err := states.ParseState(name); !errors.Is(err, states.ErrUnknown) {
			t.Errorf("%q: got %v", name, err)
		}
		if _, err := states.ParseProtection(name); !errors.Is(err, states.ErrUnknown) {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

// A column's states don't apply to another package or schema, but without a
// schema they apply to all.
func TestTable(t *testing.T) {
	t.Parallel()
	c := column.Column{Client: "a", Schema: "billing", Table: "t", Name: "n", Tenant: "u"}
	otherClient, otherSchema, bare := c, c.InSchema("public"), c.InSchema("")
	otherClient.Client = "b"
	for name, test := range map[string]struct {
		of, given column.Column
		want      states.State
	}{
		"itself":          {c, c, states.Write},
		"another package": {c, otherClient, states.Off},
		"another schema":  {c, otherSchema, states.Off},
		"every schema":    {c, bare, states.Write},
		"no schema":       {bare, c, states.Off},
	} {
		table := states.Table(states.New(states.Binding, states.Write, test.given))
		if got := table.Of(&test.of); got.Binding != test.want || got.Encryption != states.Require {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	stored := []states.Stored{
		{Column: "billing.t.n", Protection: states.Binding, State: states.Accept},
		{Column: "t.n", State: states.Write},
	}
	renamed := column.Column{Table: "t", Name: "now", Was: "t.n"}
	if got := states.TableOf(stored, []column.Column{renamed}).Of(&renamed); got.Encryption != states.Write {
		t.Errorf("renamed: got %+v", got)
	}
	later := append(stored, states.Stored{Column: "t.now", State: states.Off})
	if got := states.TableOf(later, []column.Column{renamed}).Of(&renamed); got.Encryption != states.Off {
		t.Errorf("renamed, and set again: got %+v", got)
	}
	table := states.TableOf(stored, []column.Column{c, otherSchema})
	if got, other := table.Of(&c), table.Of(&otherSchema); got.Binding != states.Accept ||
		other.Binding != states.Off || other.Encryption != states.Write {
		t.Errorf("got %+v, %+v", got, other)
	}
	for given, want := range map[states.State]error{
		states.Unset: nil, states.Accept: nil, states.Off: states.ErrStateMismatch,
		states.Write: states.ErrStateMismatch,
	} {
		if err := states.Agree(states.New(states.Binding, given, bare), table); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", given, err, want)
		}
	}
}

// TestCheckOfBound checks states of columns that the schema declares Bound.
func TestCheckOfBound(t *testing.T) {
	t.Parallel()
	c := column.Column{Client: "states", Table: "held", Name: "secret", Size: 500, Tenant: "u", Bound: true}
	column.Register(column.Binding{Column: c})
	for s, want := range map[states.State]error{
		states.Unset: nil, states.Off: states.ErrInvalidStates, states.Accept: states.ErrInvalidStates,
		states.Write: nil, states.Require: nil,
	} {
		if err := states.Table(states.New(states.Binding, s, c)).Check(); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", s, err, want)
		}
	}
	if err := states.Table(states.New(states.Encryption, states.Accept, c)).
		Check(); !errors.Is(err, states.ErrInvalidStates) {
		t.Errorf("plaintext: got %v", err)
	}
}
