package fieldcrypt

import (
	"database/sql"
	"reflect"
	"slices"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/uuid"
)

// scanner hands the keyring, the column and the row's primary key to the secrets of a result.
type scanner struct {
	entsql.ColumnScanner
	codec *codec
	query string

	tenants *tenantRows // nil if tenants have no keys of their own

	names []string // of the result's columns, from the first secret on
	key   int      // the place of the primary key among them, -1 if there is none

	origins []cachedOrigin // of what was scanned last into each place
}

// cachedOrigin is an origin that was made for a place.
type cachedOrigin struct {
	of     *origin
	tenant int // the place of the column that says whose the row is, -1 if it does not matter
}

// Scan scans a row and completes the secrets in it.
func (s *scanner) Scan(dest ...any) error {
	if err := s.ColumnScanner.Scan(dest...); err != nil {
		return err
	}
	var row any
	for i, d := range dest {
		switch d.(type) {
		case *sql.NullString, *sql.NullBool, *sql.NullTime, *sql.NullInt64, *uuid.UUID, discard: // ent's; quicker than asking below
			continue
		}
		in := secretIn(d)
		if in == nil || !in.stored {
			continue
		}
		if s.names == nil {
			names, err := s.Columns()
			if err != nil {
				return err
			}
			s.names, s.key = names, slices.Index(names, s.codec.keyOf(s.query))
		}
		if row == nil {
			row = s.rowID(dest)
		}
		in.row = row
		in.of = s.origin(i, in.origin(), dest)
		if s.codec.Strict && !s.tenants.verifyLater(in) {
			if _, err := in.open(); err != nil {
				return in.wrap("decrypt", err)
			}
		}
	}
	return nil
}

// origin returns that of a secret in a place of the row, made of the one that the scan gave it. Rows of one tenant have it in common.
func (s *scanner) origin(place int, raw *origin, dest []any) *origin {
	if place >= len(s.origins) {
		s.origins = append(s.origins, make([]cachedOrigin, len(dest)-len(s.origins))...)
	}
	known := &s.origins[place]
	if known.of == nil || known.of.raw != raw {
		of := origin{raw: raw, codec: s.codec, column: raw.column}
		if of.column == nil && place < len(s.names) {
			of.column = s.codec.columnOf(s.query, s.names[place])
		}
		of.window = of.column != nil && slices.ContainsFunc(s.codec.Plaintext, of.column.isSame)
		of.scoped = of.column != nil && s.codec.isScoped(*of.column)
		*known = cachedOrigin{of: &of, tenant: -1}
		if of.scoped {
			known.tenant = slices.Index(s.names, of.column.Tenant)
		}
	}
	if known.tenant < 0 || known.tenant >= len(dest) {
		return known.of
	}
	tenant, tenanted := tenantText(dest[known.tenant])
	if known.of.tenant == tenant && known.of.tenanted == tenanted {
		return known.of
	}
	of := *known.of
	of.tenant, of.tenanted, of.ref = tenant, tenanted, nil
	if tenanted && s.tenants != nil {
		of.ref = s.tenants.ref(tenant)
	}
	known.of = &of
	return known.of
}

// secretIn returns what was scanned into a target of ent's or of the caller's, or nil.
func secretIn(dest any) *inner {
	var secret *Secret
	switch d := dest.(type) {
	case *scanned:
		return d.secret.inner()
	case interface{ target() *Secret }:
		secret = d.target()
	case **Secret:
		secret = *d
	case *sql.Null[Secret]:
		if d.Valid {
			secret = &d.V
		}
	case **sql.Null[Secret]: // of a struct of the caller's, by ent
		if *d != nil && (*d).Valid {
			secret = &(*d).V
		}
	}
	if secret == nil || secret.IsZero() {
		return nil
	}
	return secret.inner()
}

// rowID returns a copy of the row's primary key, as callers scan all rows into one variable, or nil if there is none.
func (s *scanner) rowID(dest []any) any {
	if s.key < 0 || s.key >= len(dest) {
		return nil
	}
	if id, ok := dest[s.key].(*uuid.UUID); ok && id != nil { // quicker than what follows
		return *id
	}
	if id := reflect.ValueOf(dest[s.key]); id.Kind() == reflect.Pointer && !id.IsNil() {
		return id.Elem().Interface()
	}
	return nil
}
