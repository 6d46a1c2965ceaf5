// Package condition makes an INSERT depend on tenants' keys: the database
// refuses it unless it has the same keys as the client.
//
// A client caches tenants' keys, and the database may lack a cached key: after
// a failover, the new server may never have received it. A transaction reads
// the keys over its own connection. An INSERT outside a transaction checks them
// in its own text, which costs no round trip. Generated code puts the condition
// into the spec, wrapping one argument.
package condition

import (
	"database/sql/driver"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/redact"
)

// refused is in the text of the database's error.
const refused = "credent: the server has another key of the tenant"

// IsRefused reports whether the database refused a statement because it lacks a
// key.
func IsRefused(err error) bool { return err != nil && strings.Contains(err.Error(), refused) }

// Value replaces an argument in a spec, and adds the condition.
type Value struct {
	entsql.Builder // gives ent the placeholders' numbers
	Arg            *column.Arg
	// Many is true if the statement's rows belong to several tenants.
	Many bool
}

// Query implements ent's sql.Querier.
func (v *Value) Query() (string, []any) {
	b := new(entsql.Builder)
	b.SetDialect(v.Dialect())
	b.SetTotal(v.Total())
	of := func(kind kind) *Keys { return &Keys{kind: kind, column: v.Arg.Column} }
	switch {
	case v.Dialect() == dialect.SQLite:
		b.WriteString("CASE WHEN NOT EXISTS (SELECT 1 FROM json_each(").Arg(of(pairs)).
			WriteString(") AS credent_need LEFT JOIN " + keys + " ON credent_key.tenant = credent_need.value ->> 0 " +
				"AND credent_key.wrapped = credent_need.value ->> 1 WHERE credent_key.tenant IS NULL) THEN ").
			Arg(v.Arg).
			WriteString(" ELSE json_extract('{}', '" + refused + "') END")
		return b.Query()
	case v.Many:
		b.WriteString("CASE WHEN (SELECT string_agg(credent_key.wrapped, '' ORDER BY credent_need.place) FROM unnest(").
			Arg(of(tenants)).
			WriteString("::text::text[]) WITH ORDINALITY AS credent_need (tenant, place) JOIN " + keys +
				" ON credent_key.tenant = credent_need.tenant")
	default:
		b.WriteString("CASE WHEN (SELECT credent_key.wrapped FROM " + keys + " WHERE credent_key.tenant = ").
			Arg(of(tenant)).WriteString("::text")
	}
	// Both sides are NULL for a statement that depends on no key. Postgres
	// parses the text as an array when it evaluates the ELSE, not when it
	// plans.
	b.WriteString(") IS NOT DISTINCT FROM ").Arg(of(wrapped)).WriteString("::text THEN ").Arg(v.Arg).
		WriteString("::text ELSE ('" + refused + "'::text::text[])[1] END")
	return b.Query()
}

// keys is the table of tenants' keys, in SQL.
const keys = `"` + tenantkey.Table + `" AS credent_key`

// kind is the content of a condition's argument.
type kind int

const (
	pairs   kind = iota // JSON of the tenants and their keys
	tenants             // the array of the tenants
	tenant              // the only tenant
	wrapped             // the wrapped keys, concatenated
)

// Keys stands for a condition's argument until the driver knows the keys.
type Keys struct {
	redact.Methods
	kind   kind
	column *column.Column
}

// Value implements driver.Valuer, for statements that don't pass Credent's
// driver. Their tokens aren't under tenants' keys.
func (k *Keys) Value() (driver.Value, error) { return k.Of(nil), nil }

// Needs are the keys that a statement depends on.
type Needs []Need

// Need is a tenant and its key as stored.
type Need struct{ Tenant, Wrapped string }

// NeedsOf returns the needs of a statement that encrypts with keys, sorted.
func NeedsOf(keys map[string]*tenantkey.Sealing) (needs Needs) {
	for _, tenant := range slices.Sorted(maps.Keys(keys)) {
		if k := keys[tenant]; k.Err == nil {
			needs = append(needs, Need{Tenant: tenant, Wrapped: k.Wrapped})
		}
	}
	return needs
}

// Of returns the value to send for the argument.
func (k *Keys) Of(needs Needs) driver.Value {
	switch k.kind {
	case pairs:
		all := make([][2]string, len(needs))
		for i, n := range needs {
			all[i] = [2]string{n.Tenant, n.Wrapped}
		}
		text, _ := json.Marshal(all) // of texts
		return string(text)
	case tenants:
		return array(needs)
	case tenant, wrapped:
	}
	if len(needs) == 0 {
		return nil
	}
	if k.kind == tenant {
		return needs[0].Tenant
	}
	var b strings.Builder
	for _, n := range needs {
		b.WriteString(n.Wrapped)
	}
	return b.String()
}

// Holds reports whether the condition has room for that many tenants.
func (k *Keys) Holds(needs Needs) bool { return len(needs) < 2 || k.kind != tenant }

var arrayEscaper = strings.NewReplacer(`"`, `\"`, `\`, `\\`)

// array returns the tenants as a Postgres array.
func array(needs Needs) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, n := range needs {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + arrayEscaper.Replace(n.Tenant) + `"`)
	}
	return b.String() + "}"
}
