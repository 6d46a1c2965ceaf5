package fieldcrypt

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
)

// scope is where a token is stored, as far as its keys depend on that.
type scope struct {
	column   *ColumnInfo // nil if it is not known
	tenant   string      // whose the row is
	tenanted bool        // the tenant is known
	ring     *Keyring    // in place of the client's, or nil
	ref      *tenantRef  // to the tenant's keys, of a secret that was read; nil if tenants have none of their own
	seal     *sealKeys   // the tenant's keys, of one that is to be written
}

// tokenKeys open and seal the tokens of one scope.
type tokenKeys struct {
	bare  *keys // of tokens that are not bound; nil if none is read
	bound *keys // of tokens that are bound; nil if none is read
	bind  bool  // what is sealed is bound
	plain *keys // those that bound is derived from
}

// tokenKeys is the one place that decides which keys open and seal the tokens of a column and a tenant: the client's, or those of
// the tenant; themselves, or derived for the place; or both. A nil codec is that of no client. Errors: [ErrContext] if it
// depends on a tenant that is not known, [ErrNoKey], [ErrShredded], and those of reading the tenant's key.
func (c *codec) tokenKeys(s scope) (tokenKeys, error) {
	k, err := c.keysOf(s)
	if err != nil {
		return tokenKeys{}, err
	}
	bind, window := c.binds(s.column)
	if !bind && !window {
		return tokenKeys{bare: k, plain: k}, nil
	}
	if !s.tenanted {
		return tokenKeys{}, noTenant(s.column)
	}
	bound, err := k.bind(boundTo{s.column.Table, s.column.Name, s.tenant})
	if err != nil {
		return tokenKeys{}, err
	}
	result := tokenKeys{bound: bound, bind: bind, plain: k}
	if window {
		result.bare = k
	}
	return result, nil
}

// keysOf returns the keys that a scope's come from: the keyring's and, before them, the tenant's own.
func (c *codec) keysOf(s scope) (*keys, error) {
	ring := s.ring
	if ring == nil {
		var err error
		if ring, err = c.keyring(); err != nil {
			return nil, err
		}
	}
	switch {
	case c == nil || c.tenants == nil || s.column == nil || s.column.Tenant == "":
		return ring.load()
	case s.tenanted && s.seal != nil:
		return s.seal.keys, s.seal.err
	case s.tenanted && s.ref != nil:
		return s.ref.keys(ring)
	}
	return nil, noTenant(s.column)
}

// binds reports whether what is written to a column is bound, and whether both kinds are read.
func (c *codec) binds(column *ColumnInfo) (bind, window bool) {
	switch {
	case column == nil || column.Tenant == "":
		return false, false
	case c == nil:
		return column.Bound, false
	}
	return column.Bound || slices.ContainsFunc(c.Bound, column.isSame), slices.ContainsFunc(c.Unbound, column.isSame)
}

// isScoped reports whether the keys of a column's tokens depend on the tenant.
func (c *codec) isScoped(column ColumnInfo) bool {
	bind, window := c.binds(&column)
	return bind || window || c.tenants != nil && column.Tenant != ""
}

// noTenant is the error of a token whose tenant is not known.
func noTenant(column *ColumnInfo) error {
	return fmt.Errorf("%w: it depends on the row's %s, which is not known here: query with a client, and select %[2]s too",
		ErrContext, column.Tenant)
}

// decrypt opens a token.
func (c tokenKeys) decrypt(token string) (string, error) {
	if c.bound == nil {
		return decrypt(c.bare, token)
	}
	plaintext, err := decrypt(c.bound, token)
	if !errors.Is(err, ErrUnknownKey) {
		if fitted := c.bound.fitted.Load(); err == nil && c.plain.fitted.Load() != fitted {
			c.plain.fitted.Store(fitted) // rows of other tenants begin with it
		}
		return plaintext, err
	}
	unbound, bareErr := decrypt(c.plain, token)
	switch {
	case bareErr == nil && c.bare == nil:
		return "", errUnbound
	case bareErr == nil:
		return unbound, nil
	case !errors.Is(bareErr, ErrUnknownKey):
		return "", bareErr
	}
	return "", errMoved
}

// encrypt returns a new token.
func (c tokenKeys) encrypt(plaintext string) string {
	if c.bind {
		return encrypt(c.bound.list[0], plaintext)
	}
	return encrypt(c.plain.list[0], plaintext)
}

// owner says whose the row is that an argument is stored in.
type owner struct {
	tenant string
	known  bool
	keys   *sealKeys // nil if tenants have no keys of their own
}

// sealPending encrypts an argument for its own column or, if the statement stores it in another one, for that.
func (c *codec) sealPending(p *pending, to ColumnInfo, of owner) (string, error) {
	column := &p.column.ColumnInfo
	if to.Name != "" && !to.isSame(*column) {
		other := to
		column = &other
	}
	plaintext, err := p.secret.Reveal()
	if err != nil {
		return "", p.column.wrap("encrypt", err)
	}
	token, err := c.encrypt(column, plaintext, of)
	if err != nil {
		return "", p.column.wrap("encrypt", err)
	}
	return token, nil
}

// encrypt returns a token for a column in somebody's row.
func (c *codec) encrypt(column *ColumnInfo, plaintext string, of owner) (string, error) {
	if c != nil && !c.scopes {
		ring, err := c.keyring()
		if err != nil {
			return "", err
		}
		return ring.Encrypt(plaintext)
	}
	k, err := c.tokenKeys(scope{column: column, tenant: of.tenant, tenanted: of.known, seal: of.keys})
	if err != nil {
		return "", err
	}
	return k.encrypt(plaintext), nil
}

// open opens a token whose keys depend on where it is stored.
func (of *origin) open(token string) (string, error) {
	k, err := of.codec.tokenKeys(scope{column: of.column, tenant: of.tenant, tenanted: of.tenanted, ring: of.ring, ref: of.ref})
	if err != nil {
		return "", err
	}
	return k.decrypt(token)
}

// InRow returns a stored secret that is revealed as one of the given column, in a row of the given tenant, for one that was
// scanned from rows of database/sql, which do not know whose they are. Others it returns as they are.
func (s Secret) InRow(column ColumnInfo, tenant string) Secret {
	if s.inner == nil || !s.inner().stored {
		return s
	}
	of := *s.inner().origin()
	of.column, of.tenant, of.tenanted = &column, tenant, true
	if of.codec != nil && of.codec.tenants != nil {
		of.ref = of.codec.tenants.newRef(context.Background(), tenant)
	}
	of.scoped = column.Bound || of.codec != nil && of.codec.isScoped(column)
	return s.inner().from(of)
}

// tenantText returns the text that a tenant is bound by, and whether there is one: of a text that itself, of a UUID its lower
// case with hyphens, of an integer its decimal digits. These are what Postgres makes of each as text.
func tenantText(value any) (string, bool) {
	switch value := value.(type) {
	case nil:
		return "", false
	case string:
		return value, true
	case []byte:
		return string(value), value != nil
	case *string:
		if value != nil {
			return *value, true
		}
		return "", false
	case *sql.NullString: // what ent scans a text into
		return value.String, value.Valid
	case sql.NamedArg:
		return tenantText(value.Value)
	}
	v := reflect.ValueOf(value)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return "", false
		}
		return tenantText(v.Elem().Interface())
	}
	if valuer, ok := value.(driver.Valuer); ok {
		stored, err := valuer.Value()
		if _, again := stored.(driver.Valuer); err != nil || again {
			return "", false
		}
		return tenantText(stored)
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
