package fieldcrypt

import (
	"database/sql"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// statements keeps what the latest statements were found to do, by their text: reading one takes longer than encrypting what
// it stores, and an ent client has few different ones. The zero value is empty. It is safe for concurrent use.
type statements struct {
	mu    sync.Mutex
	known map[string]*statement // immutable
	size  int                   // of the keys, in bytes
}

// What is kept at most; more of it empties the whole.
const (
	maxStatements     = 64
	maxStatementBytes = 1 << 20
)

// read returns what a statement does with its arguments.
func (c *statements) read(query string, args []any, of schema) *statement {
	c.mu.Lock()
	known := c.known[query]
	c.mu.Unlock()
	if known != nil && len(known.places) == len(args) && !named(args) {
		return known
	}
	s := &statement{lexer: newLexer(query, args), places: make([]place, len(args)), schema: of}
	s.read()
	if len(s.watched) > 0 {
		s.plan = planIndexes(s, query, of.index)
	}
	// Not one with a string or a comment in it, which may be a secret, and should be gone when the statement is.
	if s.opaque || s.bad || named(args) || len(query) > maxStatementBytes {
		return s
	}
	s.args, s.rest, s.text = nil, "", ""
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxStatements || c.size+len(query) > maxStatementBytes {
		c.known, c.size = nil, 0
	}
	if c.known == nil {
		c.known = make(map[string]*statement)
	}
	if c.known[query] == nil {
		c.size += len(query)
	}
	c.known[query] = s
	return s
}

// named reports whether an argument has a name, by which the statement refers to it.
func named(args []any) bool {
	return slices.ContainsFunc(args, func(arg any) bool { _, ok := arg.(sql.NamedArg); return ok })
}

// check refuses statements that would do something else with their secrets than to store each in one place: compare
// with it, which never matches, or store one token in many rows. It finds the places where INSERT … VALUES, DO UPDATE SET
// and UPDATE … SET store an argument as it is, and refuses every secret that is used elsewhere. It returns the statement's
// reading, or nil if there is no secret among the arguments.
func (c *statements) check(query string, args []any, of schema) (*statement, error) {
	first := -1
	for i, arg := range args {
		if isSecret(arg) {
			first = i
			break
		}
		if hidesSecret(arg) {
			return nil, refuse("", "", arg, fmt.Errorf("%w; and each must be an argument of its own", ErrPredicate))
		}
	}
	if first < 0 {
		return nil, nil
	}
	s := c.read(query, args, of)
	for i, arg := range args[first:] {
		i += first
		column := s.places[i].column
		switch {
		case hidesSecret(arg):
			return nil, refuse("", "", arg, fmt.Errorf("%w; and each must be an argument of its own", ErrPredicate))
		case !isSecret(arg):
		case s.bad || s.uses[i] == 0 || s.uses[i] > s.places[i].times:
			return nil, refuse("", "", arg, fmt.Errorf(
				"%w; it is taken as one of the VALUES of an INSERT and as what a SET makes a column, in plain statements", ErrPredicate))
		case s.uses[i] > 1:
			return nil, refuse(s.table, column, arg, fmt.Errorf("%w: the statement stores it in %d places", ErrManyRows, s.uses[i]))
		case s.places[i].many:
			return nil, refuse(s.table, column, arg, fmt.Errorf("%w: the statement does not choose one by its id", ErrManyRows))
		}
	}
	return s, nil
}

func refuse(table, name string, arg any, err error) error {
	if p, ok := arg.(*pending); ok {
		table, name = p.column.Table, p.column.Name
	}
	if name == "" {
		table = ""
	}
	return &Error{Op: "encrypt", Table: table, Column: name, Err: err}
}

// isSecret reports whether an argument is a secret of any form. An absent one stores as NULL, and is none.
func isSecret(arg any) bool {
	switch arg := arg.(type) {
	case *pending:
		return true
	case Secret:
		return !arg.IsZero()
	case *Secret:
		return arg != nil && !arg.IsZero()
	case sql.Null[Secret]:
		return arg.Valid && !arg.V.IsZero()
	case sql.NamedArg:
		return isSecret(arg.Value)
	}
	return false
}

// hidesSecret reports whether an argument is made of secrets: a list of them, say. What becomes of it depends on the driver:
// pgx, for one, would send the redaction marker.
func hidesSecret(arg any) bool {
	switch arg := arg.(type) {
	case nil, string, []byte, bool, int, int64, float64, time.Time, *time.Time, sql.NullTime, uuid.UUID, *uuid.UUID,
		*pending, *lookup, Secret, *Secret, sql.Null[Secret]:
		return false
	case sql.NamedArg:
		return hidesSecret(arg.Value)
	case []any:
		for _, element := range arg {
			if isSecret(element) || hidesSecret(element) {
				return true
			}
		}
		return false
	}
	return madeOfSecrets(reflect.TypeOf(arg))
}

func madeOfSecrets(t reflect.Type) bool {
	secret := reflect.TypeFor[Secret]()
	for range 4 { // a type may be a list of itself
		if isTyped(t) {
			return true
		}
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			t = t.Elem()
		case reflect.Struct:
			if t == secret || t == reflect.TypeFor[sql.Null[Secret]]() {
				return true
			}
			for i := range t.NumField() {
				if field := t.Field(i); field.Anonymous && field.Type == secret {
					return true
				}
			}
			return false
		default:
			return false
		}
	}
	return false
}

// isMarker reports whether an argument is the text that a secret prints as, or its JSON: it was one, before it was printed.
func isMarker(arg any) bool {
	switch arg := arg.(type) {
	case string:
		return len(arg) <= len(Redacted)+2 && strings.Trim(arg, `"`) == Redacted
	case []byte:
		return len(arg) <= len(Redacted)+2 && strings.Trim(string(arg), `"`) == Redacted
	case sql.NamedArg:
		return isMarker(arg.Value)
	}
	return false
}
