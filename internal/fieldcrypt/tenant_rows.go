package fieldcrypt

import "context"

// tenantRows are the tenants of one result. The keys that are not known are read when the rows have ended, over the connection
// that they came over, which is free again then: asking for another one while the rows are open would wait for ever where the
// pool has only one, or in a transaction.
type tenantRows struct {
	conn conn
	ctx  context.Context // of the query, for as long as its rows are read

	refs   map[string]*tenantRef
	verify []*inner // for Strict
	ended  bool
	err    error
}

// tenantRows returns nil if tenants have no keys of their own.
func (c conn) tenantRows(ctx context.Context) *tenantRows {
	if c.codec.tenants == nil {
		return nil
	}
	return &tenantRows{conn: c, ctx: ctx, refs: make(map[string]*tenantRef)}
}

// ref returns what the secrets of a tenant have in common.
func (r *tenantRows) ref(tenant string) *tenantRef {
	ref := r.refs[tenant]
	if ref == nil {
		ref = r.conn.codec.tenants.newRef(r.ctx, tenant)
		r.refs[tenant] = ref
	}
	return ref
}

// verifyLater reports whether a secret cannot be opened before the rows have ended.
func (r *tenantRows) verifyLater(in *inner) bool {
	if ref := in.origin().ref; r == nil || ref == nil || ref.isKnown() {
		return false
	}
	r.verify = append(r.verify, in)
	return true
}

// end reads the keys that are not known.
func (r *tenantRows) end() error {
	if r == nil || r.ended {
		return nil
	}
	r.ended = true
	if r.err = r.readKeys(); r.err != nil {
		return r.err
	}
	for _, in := range r.verify {
		if _, err := in.open(); err != nil {
			r.err = in.wrap("decrypt", err)
			return r.err
		}
	}
	return nil
}

func (r *tenantRows) readKeys() error {
	var tenants []string
	for tenant, ref := range r.refs {
		if !ref.isKnown() {
			tenants = append(tenants, tenant)
		}
	}
	if len(tenants) == 0 {
		return nil
	}
	c := r.conn.codec
	ring, err := c.keyring()
	if err != nil {
		return nil //nolint:nilerr // without a keyring it is the Reveal that fails
	}
	found, err := c.tenants.toOpen(r.ctx, r.conn.next, r.conn.tx, ring, tenants)
	if err != nil {
		return err
	}
	for tenant, key := range found {
		r.refs[tenant].key.Store(key)
	}
	return nil
}

// Next goes on to the next row. After the last one the keys of the rows' tenants are read.
func (s *scanner) Next() bool {
	if s.ColumnScanner.Next() {
		return true
	}
	if s.tenants != nil && s.ColumnScanner.Err() == nil {
		_ = s.tenants.end() // Err has it
	}
	return false
}

// Err returns the first error of reading the rows, or of reading the keys of their tenants.
func (s *scanner) Err() error {
	if err := s.ColumnScanner.Err(); err != nil || s.tenants == nil {
		return err
	}
	return s.tenants.err
}

// Close ends the rows, also before the last one.
func (s *scanner) Close() error {
	if err := s.ColumnScanner.Close(); err != nil {
		return err
	}
	return s.tenants.end()
}

// NextResultSet goes on to the next result. Where tenants have keys there is no other: it may need the connection.
func (s *scanner) NextResultSet() bool { return s.tenants == nil && s.ColumnScanner.NextResultSet() }
