// Package record finds the rows that a statement makes, changes or removes, for
// a client's trail.
//
// For ent's statements, generated code provides the rows: an INSERT carries
// them as arguments ([New]), and the context of an UPDATE or DELETE carries the
// spec ([Change]), by which the driver looks them up. No SQL text is read.
package record

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/states"
)

// Action is what a statement does to rows. Package audit uses the same words.
type Action string

// The actions.
const (
	Create Action = "create"
	Update Action = "update"
	Delete Action = "delete"
	Move   Action = "move" // to another tenant
)

// Row is a change to one row, or to several that can't be named. It holds no
// field's value.
type Row struct {
	Action Action
	Table  string
	Column string // "" for the row as a whole
	ID     string // primary key as text, or ""
	Tenant string
	Rows   int64 // 0 means one, and a negative number zero
	KeyID  string
	Note   string
}

// Trail records what a client does. It is safe for concurrent use.
type Trail interface {
	seal.Recorder
	// Write records a statement's changes, over the statement's connection and
	// in its transaction. The caller must call done once, with whether the
	// transaction was committed.
	Write(ctx context.Context, on dialect.ExecQuerier, rows []Row) (done func(committed bool), err error)
}

// ErrNoTrail means that the database requires a trail, and the client has none.
var ErrNoTrail = fmt.Errorf("credent: %w", states.ErrTrailRequired)

// Refusing is the trail of a client that should have one.
type Refusing struct{}

// Write implements Trail.
func (Refusing) Write(context.Context, dialect.ExecQuerier, []Row) (func(bool), error) {
	return nil, ErrNoTrail
}

// Opened implements seal.Recorder.
func (Refusing) Opened(seal.Reveal, bool) error { return ErrNoTrail }

// Alike implements seal.Recorder.
func (r Refusing) Alike(seal.Reveal) func(any) error { return func(any) error { return ErrNoTrail } }

type silentKey struct{}

// Silent returns a context for statements that the caller records itself.
func Silent(ctx context.Context) context.Context { return context.WithValue(ctx, silentKey{}, true) }

// IsSilent reports whether a context is from [Silent].
func IsSilent(ctx context.Context) bool { return ctx.Value(silentKey{}) != nil }

// Text returns a primary key or a tenant as text, or "" for NULL.
func Text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []byte:
		return string(v)
	case *any:
		return Text(*v)
	case sql.NamedArg:
		return Text(v.Value)
	case *New:
		return Text(v.Stored)
	case fmt.Stringer:
		if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer && p.IsNil() {
			return ""
		}
		return v.String()
	}
	if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer {
		if p.IsNil() {
			return ""
		}
		return Text(p.Elem().Interface())
	}
	return fmt.Sprint(v)
}
