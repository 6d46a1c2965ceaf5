// Package column knows the encrypted columns of the process, and turns the
// secrets of ent's builders into stamped arguments.
//
// Generated code registers its columns ([Register]) and ent asks a field's
// ValueScanner ([Field]) for the arguments of statements and the targets of
// results. An argument ([Arg]) knows its column from the start; package stamp
// adds the row's tenant or ID, and the driver replaces it with a token. The
// package doesn't know which keys belong to a column.
package column

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
)

// Errors about columns.
var (
	// ErrNotRegistered means that the process doesn't know a field's column, or
	// how to make its blind index's digests: the generated package lacks the
	// file that registers them.
	ErrNotRegistered = errors.New("the field is bound to no column: generate the package again, with the extension " +
		"of package codegen")

	// ErrNoColumn means that no encrypted column has the name.
	ErrNoColumn = errors.New("no such encrypted column")

	// ErrTooLong means that a plaintext is too long for its column once
	// encrypted.
	ErrTooLong = errors.New("secret too long")

	// ErrNotText means that a plaintext isn't valid UTF-8. If it were stored,
	// the Python application couldn't read any of the row.
	ErrNotText = errors.New("secret is not valid UTF-8")
)

// Column is an encrypted column. It is comparable.
type Column struct {
	Client string // import path of the generated package
	Entity string // name of the ent type: "UserCredential"
	Schema string // Postgres schema; "" means the connection's search_path
	Table  string
	Name   string
	Size   int    // maximum length of the stored token, in characters
	Type   string // Go type of the plaintext: "string", "[]byte", "time.Time", "webhook.Config"; "" means "string"
	ID     string // column of the table's primary key; "" means "id"
	Index  string // column of its blind index, or ""

	Tenant string // column of the row's tenant, or ""
	Bound  bool   // the schema binds tokens to table, column and tenant
	// AcrossTenants makes the blind index find rows of all tenants: its digests
	// are under the keyring, not under tenants' keys.
	AcrossTenants bool

	// Was lists the column's earlier names, as TABLE.COLUMN, separated by
	// commas. Bound tokens and digests made under one of them are still read.
	Was string

	// Source and SourceTenant, if not "", are the table and column that the
	// database copies the row's tenant from, by the foreign key Via.
	Source, SourceTenant, Via string
}

// String returns "table.name", or "schema.table.name".
func (c Column) String() string { return c.TableName() + "." + c.Name }

// TableName returns "table", or "schema.table".
func (c Column) TableName() string {
	if c.Schema == "" {
		return c.Table
	}
	return c.Schema + "." + c.Table
}

// Quoted returns the table's name as SQL.
func (c Column) Quoted() string { return QuoteTable(c.Schema, c.Table) }

// InSchema returns the column in the same table of another Postgres schema, for
// clients that choose schemas at run time (ent's sql/schemaconfig).
func (c Column) InSchema(name string) Column {
	c.Schema = name
	return c
}

// Key returns the name of the table's primary key column.
func (c Column) Key() string { return cmp.Or(c.ID, "id") }

// MaxPlaintext returns the length in bytes of the longest plaintext that the
// column holds.
func (c Column) MaxPlaintext() int { return fernet.MaxPlaintext(c.Size) }

// IsSame reports whether both are the same database column.
func (c Column) IsSame(other Column) bool {
	return c.Table == other.Table && c.Name == other.Name && c.Schema == other.Schema
}

// IsIndexedByTenant reports whether lookups search one tenant's rows only, so
// that digests are under the tenant's key if the tenant has one.
func (c *Column) IsIndexedByTenant() bool { return c.Tenant != "" && c.Index != "" && !c.AcrossTenants }

// Wrap returns err as an [fieldcrypt.Error] that names the column.
func (c Column) Wrap(op string, err error) error {
	return &fieldcrypt.Error{Op: op, Table: c.TableName(), Column: c.Name, Err: err}
}

// Earlier yields the column under each of its earlier names.
func (c Column) Earlier() iter.Seq[Column] {
	return func(yield func(Column) bool) {
		for name := range strings.SplitSeq(c.Was, ",") {
			old, dot := c, strings.LastIndexByte(name, '.')
			if dot < 0 {
				continue
			}
			old.Table, old.Name, old.Was = name[:dot], name[dot+1:], ""
			if !yield(old) {
				return
			}
		}
	}
}

// CheckTenant returns an [ErrNoColumn] if the column has no tenant, so that its
// tokens can't be bound.
func (c Column) CheckTenant() error {
	if c.Tenant != "" {
		return nil
	}
	return fmt.Errorf("credent: %w with a tenant: %q; declare its field with Tenant", ErrNoColumn, c)
}

// QuoteName returns a name as a quoted identifier, as Postgres and SQLite read
// it.
func QuoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// QuoteTable quotes a table's name. The schema may be "".
func QuoteTable(schema, table string) string {
	if schema == "" {
		return QuoteName(table)
	}
	return QuoteName(schema) + "." + QuoteName(table)
}

// Binding connects an encrypted field of a generated package with its column.
type Binding struct {
	Column
	// Scanner returns the field's ValueScanner, which [Register] binds to the
	// column.
	Scanner func() any
	// Digest returns the ValueScanner of the blind index, if there is one. If
	// the schema has a normalizer, Digest returns nil until ent has set it.
	Digest func() any
	// UniqueWith lists the other columns of a unique blind index.
	UniqueWith []string
}

// bindField binds the field, if there is one, to the column.
func (b *Binding) bindField() error {
	if b.Scanner == nil {
		return nil
	}
	f, ok := b.Scanner().(interface{ bind(Column) error })
	if !ok {
		return errors.New("its field isn't from package encrypted: generate the package again, with the extension of " +
			"package codegen")
	}
	return f.bind(b.Column)
}

// place identifies a column in the process.
type place struct{ client, schema, table, name string }

func (c Column) place() place { return place{c.Client, c.Schema, c.Table, c.Name} }

// registry holds the process's encrypted columns. Generated packages fill it
// when they are initialised, so it is complete before main starts.
var registry struct {
	sync.RWMutex
	columns map[place]Column
	fields  map[place]Binding // those with ValueScanners
	// all has the columns; tables groups them by client and table, and sources
	// by client and the table that the database copies their tenant from. They
	// are replaced, never changed.
	all             atomic.Pointer[[]Column]
	tables, sources atomic.Pointer[map[[2]string][]Column]
}

// Register makes columns known to drivers, checks and re-encryption, and binds
// fields to them; generated code calls it. It returns the first binding's
// column. It panics if a column is too short for a token or differs from its
// field's declaration, or if a generated package registers one column twice
// with different properties.
func Register(bindings ...Binding) Column {
	registry.Lock()
	defer registry.Unlock()
	for _, b := range bindings {
		if fernet.MaxPlaintext(b.Size) < 0 {
			panic(fmt.Sprintf("credent: column %s: %d characters hold no token, which has at least %d", b.Column,
				b.Size, fernet.TokenLen(0)))
		}
		if b.Bound && b.Tenant == "" {
			panic(fmt.Sprintf("credent: column %s: bound, and without a tenant to bind it to", b.Column))
		}
		if registry.columns == nil {
			registry.columns, registry.fields = make(map[place]Column), make(map[place]Binding)
		}
		if known, ok := registry.columns[b.place()]; ok && known != b.Column {
			panic(fmt.Sprintf("credent: column %s: registered for two fields that differ", b.Column))
		}
		if err := b.bindField(); err != nil {
			panic(fmt.Sprintf("credent: column %s: %v", b.Column, err))
		}
		registry.columns[b.place()] = b.Column
		if b.Digest != nil || b.Scanner != nil {
			registry.fields[b.place()] = b
		}
	}
	all, tables, sources := sorted(), make(map[[2]string][]Column), make(map[[2]string][]Column)
	for _, c := range all {
		table, source := [2]string{c.Client, c.Table}, [2]string{c.Client, c.Source}
		tables[table] = append(tables[table], c)
		if c.Source != "" {
			sources[source] = append(sources[source], c)
		}
	}
	registry.all.Store(&all)
	registry.tables.Store(&tables)
	registry.sources.Store(&sources)
	return bindings[0].Column
}

// sorted returns the columns. Call it with the lock held.
func sorted() []Column {
	all := make([]Column, 0, len(registry.columns))
	for _, c := range registry.columns {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Column) int {
		return cmp.Or(strings.Compare(a.Schema, b.Schema), strings.Compare(a.Table, b.Table),
			strings.Compare(a.Name, b.Name), strings.Compare(a.Client, b.Client))
	})
	return all
}

// All returns every encrypted column of the process, sorted by schema, table
// and name.
func All() []Column {
	if all := registry.all.Load(); all != nil {
		return slices.Clone(*all)
	}
	return nil
}

// Holds reports whether names, a result's columns, include an encrypted column
// of the process and its table's primary key.
func Holds(names []string) bool {
	all := registry.all.Load()
	return all != nil && slices.ContainsFunc(*all, func(c Column) bool {
		return slices.Contains(names, c.Name) && slices.Contains(names, c.Key())
	})
}

// Known returns the registered column with c's table and name, and its client
// and schema if c has them. If there is none, it returns an [ErrNoColumn].
func Known(c Column) (Column, error) {
	for _, other := range All() {
		if c.Table == other.Table && c.Name == other.Name && (c.Client == "" || c.Client == other.Client) &&
			(c.Schema == "" || other.Schema == "" || c.Schema == other.Schema) {
			return other, nil
		}
	}
	return Column{}, fmt.Errorf("credent: %w: %q", ErrNoColumn, c)
}

// Of returns the encrypted columns of a generated package, sorted like
// [All].
func Of(client string) []Column {
	return slices.DeleteFunc(All(), func(c Column) bool { return c.Client != client })
}

// InTable returns the encrypted columns of a table of a generated package,
// sorted by name. Don't change the slice.
func InTable(client, table string) []Column {
	if tables := registry.tables.Load(); tables != nil {
		return (*tables)[[2]string{client, table}]
	}
	return nil
}

// SourcedFrom returns the encrypted columns that get their tenant from a table.
// Don't change the slice.
func SourcedFrom(client, table string) []Column {
	if sources := registry.sources.Load(); sources != nil {
		return (*sources)[[2]string{client, table}]
	}
	return nil
}

// DigestScanner returns the ValueScanner of a column's blind index, or nil.
func DigestScanner(c Column) any {
	if b := bindingOf(c); b.Digest != nil {
		return b.Digest()
	}
	return nil
}

// FieldScanner returns the ValueScanner of a column's field, or nil if the
// process doesn't know the field.
func FieldScanner(c Column) any {
	if b := bindingOf(c); b.Scanner != nil {
		return b.Scanner()
	}
	return nil
}

// UniqueWith returns the other columns of a column's unique blind index. Don't
// change the slice.
func UniqueWith(c Column) []string { return bindingOf(c).UniqueWith }

func bindingOf(c Column) Binding {
	registry.RLock()
	defer registry.RUnlock()
	if b, ok := registry.fields[c.place()]; ok {
		return b
	}
	for of, b := range registry.fields { // the schema may be chosen at run time
		if of.client == c.Client && of.table == c.Table && of.name == c.Name {
			return b
		}
	}
	return Binding{}
}

// Distinct removes columns that several generated packages have in common. It
// returns an error if two packages declare one database column differently: the
// caller has to name the columns of one of them.
func Distinct(columns []Column) (distinct []Column, err error) {
	for _, c := range columns {
		i := slices.IndexFunc(distinct, c.IsSame)
		if i < 0 {
			distinct = append(distinct, c)
			continue
		}
		same := c
		same.Client, same.Entity = distinct[i].Client, distinct[i].Entity
		if same != distinct[i] {
			return nil, fmt.Errorf("credent: column %s: %w: packages %s and %s declare it differently; name the "+
				"columns of one of them", c, ErrNoColumn, distinct[i].Client, c.Client)
		}
	}
	return distinct, nil
}

// Find returns the encrypted column with a name such as
// "user_credentials.api_key", or "billing.invoices.memo" in a schema. It
// returns an [ErrNoColumn] that lists the names if there is none.
func Find(name string) (Column, error) {
	all := All()
	known := make([]string, len(all))
	for i, c := range all {
		known[i] = c.String()
	}
	named, err := Distinct(slices.DeleteFunc(all, func(c Column) bool { return c.String() != name }))
	switch {
	case err != nil:
		return Column{}, err
	case len(named) == 1:
		return named[0], nil
	case len(known) == 0:
		return Column{}, fmt.Errorf("credent: %w: %q; the process knows none", ErrNoColumn, name)
	}
	return Column{}, fmt.Errorf("credent: %w: %q; there are %s", ErrNoColumn, name,
		strings.Join(slices.Compact(known), ", "))
}
