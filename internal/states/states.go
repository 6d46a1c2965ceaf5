// Package states says what encrypted columns accept and write: one ordered
// state for each column and protection, in the order of a rollout.
//
// Clients in adjacent states can read each other's writes, so a change goes one
// step at a time.
package states

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// Errors to be tested with errors.Is.
var (
	// ErrInvalidStates means that states contradict each other or the schema.
	ErrInvalidStates = errors.New("contradictory states")
	// ErrStateMismatch means that a service's configuration gives a column a
	// different state than the database's table.
	ErrStateMismatch = errors.New("the service's states aren't the database's")
	// ErrUnknown means that a text isn't the name of a state or protection.
	ErrUnknown = errors.New("unknown word")
)

// State says what a column accepts and writes for one protection. The old way
// is without the protection, and the new way with it. The zero value means the
// default.
type State int8

// The states, in the order of a rollout.
const (
	// Unset means the default: [Require] for encryption; Require or [Off] for
	// binding, as the schema says; Off for tenants' keys.
	Unset State = iota
	// Off reads and writes only the old way.
	Off
	// Accept reads both ways, and writes the old way.
	Accept
	// Write reads both ways, and writes the new way.
	Write
	// Require reads and writes only the new way.
	Require
)

var stateNames = [...]string{"unset", "off", "accept", "write", "require"}

// String returns the state's name: "off", "accept", "write", "require" or
// "unset".
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("state(%d)", int(s))
	}
	return stateNames[s]
}

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ParseState returns the state with a name other than "unset". Errors:
// [ErrUnknown].
func ParseState(name string) (State, error) {
	if i := slices.Index(stateNames[:], name); i > 0 {
		return State(i), nil
	}
	return Unset, fmt.Errorf("%w: %q is no state; there are %s", ErrUnknown, name, strings.Join(stateNames[1:], ", "))
}

// Protection is a protection of encrypted columns that has states.
type Protection int8

// The protections.
const (
	// Encryption stores tokens instead of plaintext.
	Encryption Protection = iota
	// Binding binds tokens to table, column and tenant.
	Binding
	// TenantKeys encrypts with the key of the row's tenant.
	TenantKeys
)

var protectionNames = [...]string{"encryption", "binding", "tenant-keys"}

// Protections lists all protections.
var Protections = []Protection{Encryption, Binding, TenantKeys}

// String returns "encryption", "binding" or "tenant-keys".
func (p Protection) String() string {
	if p < 0 || int(p) >= len(protectionNames) {
		return fmt.Sprintf("protection(%d)", int(p))
	}
	return protectionNames[p]
}

// MarshalText implements encoding.TextMarshaler.
func (p Protection) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// ParseProtection returns the protection with a name. Errors: [ErrUnknown].
func ParseProtection(name string) (Protection, error) {
	if i := slices.Index(protectionNames[:], name); i >= 0 {
		return Protection(i), nil
	}
	return 0, fmt.Errorf("%w: %q is no protection; there are %s", ErrUnknown, name,
		strings.Join(protectionNames[:], ", "))
}

// Set is a column's states.
type Set struct {
	Encryption State `json:"encryption"`
	Binding    State `json:"binding"`
	TenantKeys State `json:"tenant_keys"`
}

// Of returns the state of a protection.
func (s Set) Of(p Protection) State { return *s.at(p) }

func (s *Set) at(p Protection) *State {
	return [...]*State{&s.Encryption, &s.Binding, &s.TenantKeys}[p]
}

// Over returns s with the states that are set in other.
func (s Set) Over(other Set) Set {
	for _, p := range Protections {
		if state := other.Of(p); state != Unset {
			*s.at(p) = state
		}
	}
	return s
}

// With returns s with a protection's state changed.
func (s Set) With(p Protection, state State) Set {
	*s.at(p) = state
	return s
}

// Default returns a column's default states. c is nil for an unknown column.
func Default(c *column.Column) Set {
	s := Set{Require, Off, Off}
	if c != nil && c.Bound {
		s.Binding = Require
	}
	return s
}

// Column sets a column's states. An unset state leaves it as it is.
type Column struct {
	Column                          column.Column
	Encryption, Binding, TenantKeys State
}

// Set returns the states.
func (c Column) Set() Set { return Set{c.Encryption, c.Binding, c.TenantKeys} }

// New sets one state of columns.
func New(p Protection, s State, columns ...column.Column) []Column {
	list := make([]Column, len(columns))
	for i, c := range columns {
		set := Set{}.With(p, s)
		list[i] = Column{c, set.Encryption, set.Binding, set.TenantKeys}
	}
	return list
}

// covers reports whether c applies to a column. Without a schema, c applies to
// the table in every schema.
func (c Column) covers(other *column.Column) bool {
	return other.Table == c.Column.Table && other.Name == c.Column.Name && (c.Column.Schema == "" ||
		other.Schema == c.Column.Schema) &&
		(c.Column.Client == "" || other.Client == c.Column.Client)
}

// Table sets columns' states. Later entries replace earlier ones.
type Table []Column

// Of returns a column's states, with defaults for unset ones.
func (t Table) Of(c *column.Column) Set {
	set := Default(c)
	if c == nil {
		return set
	}
	for i := range t {
		if t[i].covers(c) {
			set = set.Over(t[i].Set())
		}
	}
	return set
}

// Given returns the states that the table sets for a column, without defaults.
func (t Table) Given(c *column.Column) (set Set) {
	for i := range t {
		if t[i].covers(c) {
			set = set.Over(t[i].Set())
		}
	}
	return set
}

// Check returns an [ErrInvalidStates] if states contradict each other or the
// schema, or a [column.ErrNoColumn] for a column that isn't encrypted.
func (t Table) Check() error {
	for i, c := range t {
		known, err := column.Known(c.Column)
		if err != nil {
			return err
		}
		for _, earlier := range t[:i] {
			if !earlier.covers(&c.Column) && !c.covers(&earlier.Column) {
				continue
			}
			for _, p := range Protections {
				a, b := earlier.Set().Of(p), c.Set().Of(p)
				if a != b && a != Unset && b != Unset {
					return fmt.Errorf("credent: %w: %s of %s is given twice, as %s and as %s", ErrInvalidStates,
						p, c.Column, a, b)
				}
			}
		}
		for _, p := range Protections {
			if s := c.Set().Of(p); s < Unset || s > Require {
				return fmt.Errorf("credent: %w: %s of %s is %s, which is no state", ErrInvalidStates, p, c.Column, s)
			}
		}
		if err := t.Of(&known).Check(known); err != nil {
			return err
		}
	}
	return nil
}

// Check returns an [ErrInvalidStates] if the states contradict each other or
// the column.
func (s Set) Check(c column.Column) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("credent: %w: %s: %s", ErrInvalidStates, c, fmt.Sprintf(format, args...))
	}
	for _, p := range []Protection{Binding, TenantKeys} {
		switch state := s.Of(p); {
		case state <= Off:
		case c.Tenant == "":
			return fmt.Errorf("credent: %w: %s is %s: %w", ErrInvalidStates, p, state, c.CheckTenant())
		case s.Encryption < Write:
			return refuse("%s is %s, and encryption is %s, which writes plaintext: bring %[1]s to off first", p,
				state, s.Encryption)
		}
	}
	if c.Bound && s.Binding < Write {
		return refuse("binding is %s, and its field is declared Bound, which needs write or require", s.Binding)
	}
	return nil
}
