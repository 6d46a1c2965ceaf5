// Package result gives the secrets in a result their keyring, row and tenant.
//
// ent scans generated fields into targets that know their column. For other
// targets, the package finds it by the name of the result's column and the
// entity that the query builder selects.
package result

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"entgo.io/ent"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/principal"
)

// Wrap makes a result give its secrets their keyring, row and tenant. ent's
// schema inspection needs the bare rows, so only results that may hold secrets
// are wrapped: a query builder's, and results that have an encrypted column and
// its table's primary key.
func Wrap(ctx context.Context, policy *seal.Policy, keys tenantkey.Store, rows *entsql.Rows) error {
	return wrap(ctx, policy, keys, rows, policy.VerifyOnRead)
}

// WrapLenient is like Wrap without VerifyOnRead: secrets that don't open fail
// when they are revealed.
func WrapLenient(ctx context.Context, policy *seal.Policy, keys tenantkey.Store, rows *entsql.Rows) error {
	return wrap(ctx, policy, keys, rows, false)
}

func wrap(ctx context.Context, policy *seal.Policy, keys tenantkey.Store, rows *entsql.Rows, strict bool) error {
	names, err := rows.Columns()
	if err != nil {
		return errors.Join(err, rows.Close())
	}
	entity := ""
	if query := ent.QueryFromContext(ctx); query != nil {
		entity = query.Type
	} else if !column.Holds(names) {
		return nil
	}
	s := &scanner{
		ColumnScanner: rows.ColumnScanner, policy: policy, keys: keys, ctx: ctx, names: names,
		entity: entity, strict: strict,
	}
	if policy.OnReveal != nil || policy.Record != nil {
		s.reader = ReaderOf(ctx)
	}
	if policy.Tenants != nil {
		s.refs = make(map[string]*tenantkey.Ref)
	}
	rows.ColumnScanner = s
	return nil
}

// ReaderOf returns the reader of a context's query.
func ReaderOf(ctx context.Context) *seal.Reader {
	r := &seal.Reader{Context: context.WithoutCancel(ctx), Request: principal.Request(ctx)}
	r.Actor, _ = principal.Actor(ctx)
	r.User, _ = principal.User(ctx)
	return r
}

// scanner gives the secrets in a result what they need to be revealed.
type scanner struct {
	entsql.ColumnScanner
	policy *seal.Policy
	keys   tenantkey.Store // over the result's connection
	ctx    context.Context //nolint:containedctx // the query's, for as long as its rows are read
	names  []string        // the result's columns
	reader *seal.Reader    // nil without an observer or a trail
	entity string          // selected by the query builder, or by an outer one
	strict bool

	openers []cachedOpener // by position, for the row scanned last

	// Unknown tenants' keys are read after the last row, over the same
	// connection, which is free by then. In a pool of one, waiting for another
	// connection while the rows are open would take forever.
	refs   map[string]*tenantkey.Ref // nil if tenants have no keys of their own
	verify []*fieldcrypt.Inner       // for VerifyOnRead
	ended  bool
	err    error
}

// cachedOpener is the opener for one position. Rows of one tenant share it.
type cachedOpener struct {
	raw    fieldcrypt.Opener // set by the scan
	of     *seal.Opener
	key    int // position of the primary key, or -1
	tenant int // position of the tenant's column, or -1 if it doesn't matter
}

// Scan scans a row and completes the secrets in it.
func (s *scanner) Scan(dest ...any) error {
	if err := s.ColumnScanner.Scan(dest...); err != nil {
		return err
	}
	var row any
	key := -1
	for i, d := range dest {
		switch d.(type) {
		// ent's targets for other fields; skipping them is faster
		case *sql.NullString, *sql.NullBool, *sql.NullTime, *sql.NullInt64, *uuid.UUID, blindindex.Discard:
			continue
		}
		in := fieldcrypt.ScannedInto(d)
		if in == nil {
			continue
		}
		opener := s.opener(i, in.Opener(), dest)
		if row == nil || key != s.openers[i].key {
			key = s.openers[i].key
			row = rowID(dest, key)
		}
		in.Complete(opener, row)
		if !s.strict {
			continue
		}
		if !opener.IsReady() {
			s.verify = append(s.verify, in)
		} else if _, err := opener.Check(in.Text(), row); err != nil {
			return err
		}
	}
	return nil
}

// opener returns the opener of the secret at a position of the row.
func (s *scanner) opener(place int, raw fieldcrypt.Opener, dest []any) *seal.Opener {
	if place >= len(s.openers) {
		s.openers = append(s.openers, make([]cachedOpener, len(dest)-len(s.openers))...)
	}
	known := &s.openers[place]
	if known.of == nil || known.raw != raw {
		*known = s.newOpener(place, raw)
	}
	if known.tenant < 0 || known.tenant >= len(dest) {
		return known.of
	}
	tenant, is := stamp.TenantText(dest[known.tenant])
	if known.of.IsOf(tenant, is) {
		return known.of
	}
	var ref *tenantkey.Ref
	if is && s.refs != nil && known.of.HasTenantKeys() {
		if ref = s.refs[tenant]; ref == nil {
			ref = s.policy.Tenants.NewRef(s.ctx, tenant)
			s.refs[tenant] = ref
		}
	}
	known.of = known.of.Of(tenant, is, ref)
	return known.of
}

// newOpener returns the opener for a position, in rows of an unknown tenant.
// Generated targets know their column, other targets only have a name.
func (s *scanner) newOpener(place int, raw fieldcrypt.Opener) cachedOpener {
	c := column.ColumnOf(raw)
	var err error
	if c == nil && place < len(s.names) {
		c, err = named(s.policy, s.names[place], s.entity)
	}
	made := cachedOpener{raw: raw, tenant: -1, key: slices.Index(s.names, "id")}
	if err != nil {
		made.of = s.observed(s.policy.Failing(err))
		return made
	}
	made.of = s.observed(s.policy.NewOpener(c))
	if c != nil {
		made.key = slices.Index(s.names, c.Key())
		if c.Tenant != "" && (made.of.IsScoped() || made.of.IsRecorded()) {
			made.tenant = slices.Index(s.names, c.Tenant)
		}
	}
	return made
}

// observed returns an opener that reports to the client's observer and trail.
func (s *scanner) observed(o *seal.Opener) *seal.Opener {
	if s.policy.OnReveal != nil {
		o = o.ObservedBy(s.reader, s.policy.OnReveal)
	}
	if s.policy.Record != nil {
		o = o.RecordedBy(s.reader, s.policy.Record)
	}
	return o
}

// named returns the client's encrypted column with a name, or nil. If several
// entities have one, it returns the given entity's. If that isn't clear and a
// column needs more than the keyring, it returns a [seal.ErrWrongLocation].
func named(p *seal.Policy, name, entity string) (*column.Column, error) {
	var found []*column.Column
	for i := range p.Columns {
		if p.Columns[i].Name == name {
			found = append(found, &p.Columns[i])
		}
	}
	if of := slices.DeleteFunc(slices.Clone(found),
		func(c *column.Column) bool { return c.Entity != entity }); len(of) == 1 {
		return of[0], nil
	}
	if len(found) == 1 {
		return found[0], nil
	}
	for _, one := range found {
		if p.IsScoped(one) || p.NewOpener(one).InWindow() {
			return nil, fmt.Errorf("%w: several tables have a column %s: scan it into the entity, or query with the "+
				"client of one of them", seal.ErrWrongLocation, name)
		}
	}
	return nil, nil
}

// rowID returns a copy of the row's primary key, or nil. It copies, since
// callers scan all rows into one variable.
func rowID(dest []any, key int) any {
	if key < 0 || key >= len(dest) {
		return nil
	}
	if id, ok := dest[key].(*uuid.UUID); ok && id != nil { // faster than reflection
		return *id
	}
	id := reflect.ValueOf(dest[key])
	for scanned := false; id.Kind() == reflect.Pointer && !id.IsNil(); scanned = true {
		if id = id.Elem(); id.Kind() != reflect.Pointer || scanned {
			return id.Interface()
		}
	}
	return nil
}

// end reads the unknown tenants' keys, and verifies secrets that needed them.
func (s *scanner) end() error {
	if s.ended || s.refs == nil {
		return s.err
	}
	s.ended = true
	if s.err = s.policy.Tenants.Fill(s.ctx, s.keys, s.refs); s.err != nil {
		return s.err
	}
	for _, in := range s.verify {
		if _, err := in.Opener().(*seal.Opener).Check(in.Text(), in.Row()); err != nil {
			s.err = err
			break
		}
	}
	return s.err
}

// Next implements sql.ColumnScanner.
func (s *scanner) Next() bool {
	if s.ColumnScanner.Next() {
		return true
	}
	if s.ColumnScanner.Err() == nil {
		_ = s.end() // Err has it
	}
	return false
}

// Err returns the first error of reading the rows or their tenants' keys.
func (s *scanner) Err() error {
	if err := s.ColumnScanner.Err(); err != nil {
		return err
	}
	return s.err
}

// Close closes the rows, even before the last one, and reads the keys.
func (s *scanner) Close() error {
	if err := s.ColumnScanner.Close(); err != nil {
		return err
	}
	return s.end()
}

// NextResultSet advances to the next result. With tenants' keys it returns
// false, since reading them may need the connection.
func (s *scanner) NextResultSet() bool { return s.refs == nil && s.ColumnScanner.NextResultSet() }
