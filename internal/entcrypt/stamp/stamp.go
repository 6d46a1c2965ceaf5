// Package stamp completes ent's specs, so that every secret among a statement's
// arguments knows where it is stored: its column, and the row's tenant or ID.
// It adds blind indexes' digests as columns of the spec. Generated code calls
// it at ent's extension points; it doesn't read or change SQL text.
//
// Generated code doesn't know how its client encrypts, and can't return an
// error everywhere. So a refusal travels as an argument, and the driver returns
// its error.
package stamp

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql/sqlgraph"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/internal/entcrypt/condition"
	"github.com/credent-go/credent/internal/entcrypt/entspec"
	"github.com/credent-go/credent/internal/entcrypt/record"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
)

// Errors of statements that don't store each secret in exactly one place.
var (
	// ErrManyRows means that a statement would store one token in many rows,
	// which would show a reader of the database that their secrets are equal.
	ErrManyRows = errors.New("one token for many rows: set the secret row by row")

	// ErrUncounted is an ErrManyRows of SQL that may store a secret in many
	// rows, since nobody can count them.
	ErrUncounted = fmt.Errorf("%w: its rows cannot be counted: run one statement, by ExecContext or with RETURNING",
		ErrManyRows)

	// ErrNoLocation means that a statement's argument is a secret without a
	// location, perhaps to compare with. No two tokens are equal, even for the
	// same plaintext, so = would never match, and <> always.
	ErrNoLocation = errors.New("a secret cannot be compared in SQL: equal secrets have different tokens")
)

// At returns the argument that stores a secret by raw SQL, in a column of a
// tenant's row. The tenant may be nil if the column has none, or if the row's
// ID is known, as in a modifier of UpdateOne. At returns nil for an absent
// secret.
func At(value any, c column.Column, tenant any) any {
	s, ok := fieldcrypt.AsSecret(value)
	if !ok {
		return &column.Refusal{Err: c.Wrap("encrypt", fmt.Errorf("%w: a %T", fieldcrypt.ErrValue, value))}
	}
	arg, err := column.NewArg(c, s)
	if err != nil {
		return &column.Refusal{Err: err}
	}
	if arg == nil {
		return nil
	}
	arg.Known, arg.Raw = true, true
	arg.Tenant, arg.Owned = TenantText(tenant)
	return arg
}

// DigestOf returns the argument that stores a secret's digest by raw SQL, in
// the column's blind index. Use it together with [At], with the same tenant. It
// returns nil for an absent secret.
func DigestOf(value any, c column.Column, tenant any) any {
	switch arg := At(value, c, tenant).(type) {
	case *column.Arg:
		if c.Index == "" {
			return &column.Refusal{Err: c.Wrap("index", fmt.Errorf("%w: it has none", blindindex.ErrBlindIndex))}
		}
		return (*column.Digest)(arg)
	default:
		return arg
	}
}

// Recorder is a client's driver, which knows whether the client has a trail.
type Recorder interface{ Records() bool }

// Create completes the spec of one new row. drv is the client's driver.
// Generated code defers the call, since it sets the fields later.
func Create(drv dialect.Driver, client string, spec *sqlgraph.CreateSpec) {
	columns := column.InTable(client, spec.Table)
	if len(columns) > 0 {
		of := ownerOf(columns, spec)
		at := column.Place{Schema: spec.Schema, Tenant: of.Tenant, Owned: of.Known}
		spec.Fields = complete(columns, spec.Fields, at)
	}
	if len(spec.OnConflict) > 0 {
		spec.OnConflict = upsert(client, spec.OnConflict, []*sqlgraph.CreateSpec{spec})
	}
	isKnown := len(columns) > 0 || len(column.SourcedFrom(client, spec.Table)) > 0
	if r, ok := drv.(Recorder); isKnown && (!ok || r.Records()) { // a transaction isn't a Recorder
		record.Carry(client, spec)
	}
	condition.Demand(drv, spec.Fields)
}

// Batch completes the spec of a bulk, after [Create] has completed its rows.
func Batch(client string, spec *sqlgraph.BatchCreateSpec) {
	if len(spec.OnConflict) > 0 && len(spec.Nodes) > 0 {
		spec.OnConflict = upsert(client, spec.OnConflict, spec.Nodes)
	}
	condition.DemandOnce(spec.Nodes)
}

// complete stamps the secrets among fields, and adds their digests.
func complete(columns []column.Column, fields []*sqlgraph.FieldSpec, at column.Place) []*sqlgraph.FieldSpec {
	at.Known = true
	for i := range columns {
		c := &columns[i]
		f := entspec.Field(fields, c.Name)
		if f == nil {
			continue
		}
		arg, ok := f.Value.(*column.Arg)
		if ok {
			arg.Place = at
		}
		if c.Index == "" {
			continue
		}
		digest := entspec.Field(fields, c.Index)
		if digest == nil {
			digest = &sqlgraph.FieldSpec{Column: c.Index, Type: field.TypeBytes}
			fields = append(fields, digest)
		}
		if digest.Value = nil; ok {
			digest.Value = (*column.Digest)(arg)
		}
	}
	return fields
}

// tenanted returns the columns with a tenant. All columns of a table have the
// same one.
func tenanted(columns []column.Column) []column.Column {
	return slices.DeleteFunc(slices.Clone(columns), func(c column.Column) bool { return c.Tenant == "" })
}

// ownerOf returns the tenant of a new row.
func ownerOf(columns []column.Column, spec *sqlgraph.CreateSpec) (of seal.Owner) {
	for i := range columns {
		name := columns[i].Tenant
		if name == "" {
			continue
		}
		value := entspec.Assigned(name, spec.Fields, spec.Edges)
		if value == nil && spec.ID != nil && spec.ID.Column == name {
			value = &spec.ID.Value
		}
		if value != nil {
			of.Tenant, of.Known = TenantText(*value)
		}
		return of
	}
	return of
}

// TenantText returns a tenant as the text that tokens are bound to, and false
// for NULL. A text stays as it is, a UUID is in lower case with hyphens, an
// integer in decimal digits. Postgres casts each to the same text.
func TenantText(value any) (string, bool) {
	switch value := value.(type) {
	case nil:
		return "", false
	case string:
		return value, true
	case []byte:
		return string(value), value != nil
	case *sql.NullString: // ent scans a text into one
		return value.String, value.Valid
	case sql.NamedArg:
		return TenantText(value.Value)
	case *column.Guard:
		return TenantText(value.Stored)
	case *record.New:
		return TenantText(value.Stored)
	}
	v := reflect.ValueOf(value)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return "", false
		}
		return TenantText(v.Elem().Interface())
	}
	if valuer, ok := value.(driver.Valuer); ok {
		stored, err := valuer.Value()
		if _, again := stored.(driver.Valuer); err != nil || again {
			return "", false
		}
		return TenantText(stored)
	}
	switch {
	case v.Kind() == reflect.String:
		return v.String(), true
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10), true
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10), true
	}
	return "", false
}
