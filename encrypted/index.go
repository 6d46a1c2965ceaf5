package encrypted

import (
	"errors"
	"fmt"
	"path"
	"reflect"
	"strings"

	"entgo.io/ent"
	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/dialect/sql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"
	"entgo.io/ent/schema/mixin"

	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// Digest is the type of the field that a blind index adds. It is empty: the
// client's driver writes digests, and nothing reads them.
type Digest = blindindex.Stored

// Index is a blind index of an encrypted field: an ent mixin that adds a column
// with a keyed digest of the plaintext, and the index on it. [BlindIndex] makes
// one.
type Index struct {
	mixin.Schema
	of, storageKey, indexName string
	with                      []string
	cfg                       blindindex.Config
	acrossTenants             bool
	err                       error
}

// minUniqueBits is the size at which finding two plaintexts with the same
// digest is infeasible.
const minUniqueBits = 128

// BlindIndex declares a blind index of a field of [String], [Bytes] or [Time]
// in the same schema, so that rows can be found by the plaintext, and the
// plaintext can be unique:
//
//	func (Integration) Mixin() []ent.Mixin {
//		return []ent.Mixin{encrypted.BlindIndex("refresh_token").Unique()}
//	}
//
// It adds the nullable column refresh_token_index, and package codegen the
// predicate RefreshTokenIs. The column has HMAC-SHA-256 of the plaintext under
// a key that is derived from the keyring's primary key for this table and
// column. A reader of the database sees which rows have equal plaintexts, and
// nothing else; without the key no guess can be tested.
//
// Generated code stores the digest with the secret, over a driver from
// [NewDriver]; without one the column is refused. Rows that another program
// stored, or that are older than the index, get their digest from rotate.Run,
// or from the first lookup or unique write of the same secret. If there are
// many of them, lookups and unique writes are refused with [ErrIndexNotFilled].
func BlindIndex(of string) *Index { return &Index{of: of} }

// Unique makes the database refuse a second row with an equal plaintext or,
// with names of other fields of the schema, one that is equal in all of them.
// Absent values may repeat.
func (x *Index) Unique(with ...string) *Index {
	x.cfg.Unique = true
	x.with = with
	return x
}

// Where limits [Index.Unique] to the rows that meet a condition, such as
// "deleted_at IS NULL" for soft deletes. It is SQL for the condition of a
// partial index, on Postgres and SQLite, with the names of columns. The client
// knows it: uniqueness holds even while the keyring has several keys, and an
// update that restores a row is refused if its secret is taken.
//
// A second index, on the digest alone, serves lookups across all rows. If
// migrations change the condition again and again, write it as Postgres prints
// it: \d shows it.
func (x *Index) Where(condition string) *Index {
	x.cfg.Where = strings.TrimSpace(condition)
	switch {
	case x.cfg.Where == "":
		x.err = errors.New("Where has no condition")
	case strings.ContainsAny(x.cfg.Where, ";?$@`\x00") || strings.Contains(x.cfg.Where, "--") ||
		strings.Contains(x.cfg.Where, "/*"):
		x.err = fmt.Errorf("the condition %q must be one expression, without parameters, comments, backquotes and "+
			"semicolons", x.cfg.Where)
	}
	return x
}

// Bits sets the size of a digest, from 8 to 256 bits; 256 is the default. With
// fewer, lookups find some rows that have another plaintext: compare what they
// reveal. A reader of the database then can't be sure which are equal. With
// Unique it must be at least 128, or different plaintexts would be refused as
// equal.
func (x *Index) Bits(n int) *Index {
	x.cfg.Bits = n
	if n < blindindex.MinBits || n > blindindex.MaxBits {
		x.err = fmt.Errorf("a digest has from %d to %d bits, not %d", blindindex.MinBits, blindindex.MaxBits, n)
	}
	return x
}

// Normalize sets a function to apply to a plaintext before its digest is made,
// such as strings.ToLower: lookups and uniqueness treat plaintexts that it
// makes equal as one. It has to be deterministic and the same in every process;
// after changing it, let rotate.Run rebuild the digests.
func (x *Index) Normalize(f func(string) string) *Index {
	x.cfg.Normalize = f
	return x
}

// AcrossTenants lets lookups find the rows of all tenants, for a field with a
// [Field.Tenant]. Its digests are then under the keyring even if tenants have
// keys of their own, so a copy of a digest outlives its tenant's key: anyone
// with it and the keyring can test guesses. Otherwise a digest is under the
// same key as its secret, and the generated predicate takes the tenant.
func (x *Index) AcrossTenants() *Index {
	x.acrossTenants = true
	return x
}

// StorageKey sets the name of the column.
func (x *Index) StorageKey(name string) *Index {
	x.storageKey = name
	return x
}

// IndexName sets the name of the index in the database, instead of ent's.
func (x *Index) IndexName(name string) *Index {
	x.indexName = name
	return x
}

func (x *Index) name() string { return x.of + "_index" }

// Fields implements ent.Mixin.
func (x *Index) Fields() []ent.Field { return []ent.Field{indexField{x}} }

// Indexes implements ent.Mixin.
func (x *Index) Indexes() []ent.Index {
	own := IndexAnnotation{Of: x.of, With: x.with, Where: x.cfg.Where}
	i := index.Fields(append([]string{x.name()}, x.with...)...).Annotations(own)
	if x.cfg.Unique {
		i = i.Unique()
	}
	if x.indexName != "" {
		i = i.StorageKey(x.indexName)
	}
	if x.cfg.Where == "" {
		return []ent.Index{i}
	}
	return []ent.Index{i.Annotations(entsql.IndexWhere(x.cfg.Where)), index.Fields(x.name()).Annotations(own)}
}

// indexField is an Index's field.
type indexField struct{ *Index }

// Descriptor implements ent.Field.
func (f indexField) Descriptor() *field.Descriptor {
	d := field.Bytes(f.name()).
		GoType(Digest{}).
		ValueScanner(blindindex.Field{Config: f.cfg}).
		SchemaType(map[string]string{dialect.Postgres: "bytea", dialect.SQLite: "blob", dialect.MySQL: noMySQL}).
		Optional().
		Immutable().
		Sensitive().
		Comment(fmt.Sprintf("Blind index of %s: a keyed digest, written by the driver.", f.of)).
		Annotations(IndexAnnotation{
			Of: f.of, With: f.with, Where: f.cfg.Where, Unique: f.cfg.Unique, AcrossTenants: f.acrossTenants,
			Bits: f.cfg.Bits, Normalized: f.cfg.Normalize != nil,
		}).
		Annotations(hidden(false)...).
		Descriptor()
	d.StorageKey = f.storageKey
	if f.err == nil && f.cfg.Unique && f.cfg.Bits > 0 && f.cfg.Bits < minUniqueBits {
		f.err = fmt.Errorf("a unique one needs at least %d bits, not %d, or different plaintexts would be refused as "+
			"equal", minUniqueBits, f.cfg.Bits)
	}
	if f.err == nil && f.cfg.Where != "" && !f.cfg.Unique {
		f.err = errors.New("Where is the condition of a unique index: add Unique")
	}
	if f.err != nil {
		d.Err = fmt.Errorf("blind index of %s: %w", f.of, f.err)
	}
	d.Info.PkgPath = reflect.TypeFor[Field]().PkgPath() // as in Field.Descriptor
	d.Info.PkgName = path.Base(d.Info.PkgPath)
	d.Info.Ident = d.Info.PkgName + ".Digest"
	return d
}

// IndexAnnotation is what a blind index's field, and its indexes, tell the code
// generation's extension.
type IndexAnnotation struct {
	Of            string   // name of the encrypted field
	Unique        bool     // the index is unique
	With          []string // names of the other fields of a unique index
	Where         string   // its condition
	AcrossTenants bool     // lookups find the rows of all tenants
	Bits          int      // of a digest; 0 means 256
	Normalized    bool     // the schema has a function that the digests need
}

// IndexAnnotationName is the name of [IndexAnnotation] among the annotations of
// a field.
const IndexAnnotationName = "CredentBlindIndex"

// Name implements ent's schema.Annotation.
func (IndexAnnotation) Name() string { return IndexAnnotationName }

var _ schema.Annotation = IndexAnnotation{}

// Lookup returns the predicate that finds the rows with a secret, a [Secret] or
// a [Value], by the column's blind index. Generated code has a function for
// each column, such as integration.RefreshTokenIs, which calls it. It finds the
// digests under all keys of the client's keyring, so it finds each row at every
// moment of a rotation.
//
// The query fails for an absent secret, and for one that can't be revealed;
// and with [ErrNoTenant] if the digests are under the keys of tenants: see
// [LookupIn].
func Lookup(c Column, secret any) func(*sql.Selector) { return blindindex.Lookup(c, secret) }

// LookupIn is [Lookup] among the rows of one tenant, for a column of a field
// with a [Field.Tenant]. Generated functions call it unless the index is
// declared with [Index.AcrossTenants]. It also finds digests under the tenant's
// key. The query fails with [ErrShredded] if that key was destroyed.
func LookupIn(c Column, tenant, secret any) func(*sql.Selector) {
	text, known := stamp.TenantText(tenant)
	if !known || c.Tenant == "" {
		refusal := &column.Refusal{Err: c.Wrap("look up",
			fmt.Errorf("%w: give encrypted.LookupIn the tenant", ErrNoTenant))}
		return func(s *sql.Selector) {
			s.Where(sql.P(func(b *sql.Builder) { b.Arg(refusal).WriteString(" IS NULL") }))
		}
	}
	return blindindex.LookupIn(c, tenant, text, secret)
}
