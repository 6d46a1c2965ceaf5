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

	tenantOf string // the column whose place tenant is
	tenant   int    // -1 if there is none
}

// Scan scans a row and completes the secrets in it.
func (s *scanner) Scan(dest ...any) error {
	if err := s.ColumnScanner.Scan(dest...); err != nil {
		return err
	}
	var row any
	for i, d := range dest {
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
		if in.column == nil && i < len(s.names) {
			in.column = s.codec.columnOf(s.query, s.names[i])
		}
		in.window = in.column != nil && slices.ContainsFunc(s.codec.Plaintext, in.column.isSame)
		in.codec = s.codec
		in.row = row
		if s.codec.scopes {
			s.scope(in, dest)
		}
		if s.codec.Strict && !s.tenants.verifyLater(in) {
			if _, err := in.open(); err != nil {
				return in.wrap("decrypt", err)
			}
		}
	}
	return nil
}

// secretIn returns what was scanned into a target of ent's or of the caller's, or nil.
func secretIn(dest any) *inner {
	var secret *Secret
	switch d := dest.(type) {
	case *sql.NullString, *sql.NullBool, *sql.NullTime, *sql.NullInt64, *uuid.UUID: // ent's; quicker than asking below
		return nil
	case *scanned:
		if d.state != scannedSecret {
			return nil
		}
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
