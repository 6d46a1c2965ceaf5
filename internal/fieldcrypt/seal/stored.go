package seal

import (
	"database/sql"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/credent-go/credent/internal/fieldcrypt/boundkey"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
)

// ErrLooksLikeToken means that a plaintext begins like a token. It can't be
// stored as plaintext, since it would be read as a damaged token.
var ErrLooksLikeToken = errors.New("the plaintext begins like a token, and would be read as one")

// CheckPlaintext returns [column.ErrNotText] or [ErrLooksLikeToken] if a text
// can't be stored as plaintext.
func CheckPlaintext(plaintext string) error {
	switch {
	case !utf8.ValidString(plaintext), strings.Contains(plaintext, "\x00"): // Postgres text has no NUL bytes
		return column.ErrNotText
	case fernet.IsToken(plaintext):
		return ErrLooksLikeToken
	}
	return nil
}

// Place is where a value is stored: its column, and its row's tenant if there
// is one.
type Place struct {
	Column column.Column
	Tenant sql.NullString
}

func (p Place) isBindable() bool { return p.Column.Tenant != "" && p.Tenant.Valid }

// TenantKey returns the key of the place's tenant, or the zero value for a
// place without a tenant.
func (p Place) TenantKey(keys map[string]tenantkey.Key) tenantkey.Key {
	if !p.isBindable() {
		return tenantkey.Key{}
	}
	return keys[p.Tenant.String]
}

func (l *Locator) bindAt(set *keyring.Set, p Place) (*keyring.Set, error) {
	if !p.isBindable() {
		return nil, NoTenant(&p.Column)
	}
	return l.bind(set, boundkey.Location{Table: p.Column.Table, Column: p.Column.Name, Tenant: p.Tenant.String})
}

func (l *Locator) openEarlier(
	set *keyring.Set, c *column.Column, tenant, token string,
) (plaintext string, index int, err error) {
	for old := range c.Earlier() {
		of, err := l.bind(set, boundkey.Location{Table: old.Table, Column: old.Name, Tenant: tenant})
		if err != nil {
			return "", 0, err
		}
		if plaintext, index, err = of.Open(token); !errors.Is(err, fernet.ErrUnknownKey) {
			return plaintext, index, err
		}
	}
	return "", 0, fernet.ErrUnknownKey
}

// Bind returns the keyring of a location's bound tokens. Each key is derived
// from a key of r, in the same order, and has its ID. Keys for the column's
// earlier names follow, and only decrypt. A later Replace of r doesn't change
// it. Errors: [keyring.ErrNoKey].
func (l *Locator) Bind(r *keyring.Ring, c column.Column, tenant string) (*keyring.Ring, error) {
	set, err := keyring.Load(r)
	if err != nil {
		return nil, err
	}
	bound, err := l.bind(set, boundkey.Location{Table: c.Table, Column: c.Name, Tenant: tenant})
	if err != nil {
		return nil, err
	}
	keys := slices.Clone(bound.Keys())
	for old := range c.Earlier() {
		if bound, err = l.bind(set, boundkey.Location{Table: old.Table, Column: old.Name, Tenant: tenant}); err != nil {
			return nil, err
		}
		keys = append(keys, bound.Keys()...)
	}
	return keyring.Of(keys...), nil
}

// Opened is the content of a token that opened.
type Opened struct {
	Plaintext string
	Key       *fernet.Key // the keyring's; the token's own key may be derived from it
	Bound     bool
	Earlier   bool // bound under an earlier name of the column
}

// openAt opens a token, bound to its place or not. It tries unbound first: if a
// column may hold both, most aren't bound, and if all are bound, the try costs
// a fraction of the rest.
func (l *Locator) openAt(set *keyring.Set, p Place, token string) (o Opened, err error) {
	plaintext, index, err := set.Open(token)
	if errors.Is(err, fernet.ErrUnknownKey) && p.isBindable() {
		of, err := l.bindAt(set, p)
		if err != nil {
			return Opened{}, err
		}
		o.Bound = true
		plaintext, index, err = of.Open(token)
		if errors.Is(err, fernet.ErrUnknownKey) && p.Column.Was != "" {
			o.Earlier = true
			plaintext, index, err = l.openEarlier(set, &p.Column, p.Tenant.String, token)
		}
		if errors.Is(err, fernet.ErrUnknownKey) && p.Column.Bound {
			err = errMoved
		}
		if err != nil {
			return Opened{}, err
		}
	} else if err != nil {
		return Opened{}, err
	}
	o.Plaintext, o.Key = plaintext, set.Keys()[index]
	return o, nil
}

// OpenAt opens a token, bound to its place or not. Errors are
// [fernet.Decrypt]'s, [keyring.ErrNoKey] and [ErrWrongLocation].
func (l *Locator) OpenAt(r *keyring.Ring, p Place, token string) (Opened, error) {
	set, err := keyring.Load(r)
	if err != nil {
		return Opened{}, err
	}
	return l.openAt(set, p, token)
}

// Rebinding says whether to bind a re-encrypted token.
type Rebinding int

const (
	// Keep binds the token if it was bound.
	Keep Rebinding = iota
	// Bind binds the token.
	Bind
	// Unbind leaves the token unbound.
	Unbind
)

// Reencrypt returns a new token of the same plaintext under the primary key.
// The token may be bound to its place or not; a new bound token is bound under
// the column's current name. A token that needs no change is returned as it is.
// bound reports whether the returned token is bound. Errors are
// [Locator.OpenAt]'s, and [ErrNoTenant] if it can't be bound.
func (l *Locator) Reencrypt(
	r *keyring.Ring, p Place, token string, to Rebinding,
) (newToken string, changed, bound bool, err error) {
	set, err := keyring.Load(r)
	if err != nil {
		return "", false, false, err
	}
	o, err := l.openAt(set, p, token)
	if err != nil {
		return "", false, false, err
	}
	bound = to == Bind || to == Keep && o.Bound
	if o.Key == set.Keys()[0] && bound == o.Bound && !o.Earlier {
		return token, false, bound, nil
	}
	if bound {
		if set, err = l.bindAt(set, p); err != nil {
			return "", false, false, err
		}
	}
	return set.Encrypt(o.Plaintext), true, bound, nil
}

// EncryptStored returns the token that replaces a stored plaintext, bound if to
// is [Bind]. A token that opens at its place is returned unchanged. Errors are
// [Locator.OpenAt]'s for a value that begins like a token, and else
// [Locator.EncryptPlaintext]'s.
func (l *Locator) EncryptStored(
	r *keyring.Ring, stored string, p Place, to Rebinding,
) (token string, changed bool, err error) {
	if !fernet.IsToken(stored) {
		token, err = l.EncryptPlaintext(r, stored, p, to)
		return token, err == nil, err
	}
	_, err = l.OpenAt(r, p, stored)
	return stored, false, err
}

// EncryptPlaintext returns the token of a plaintext, bound if to is [Bind]. The
// plaintext may begin like a token. Errors: [keyring.ErrNoKey];
// [column.CheckPlaintext]'s; [ErrNoTenant] if it can't be bound.
func (l *Locator) EncryptPlaintext(r *keyring.Ring, plaintext string, p Place, to Rebinding) (token string, err error) {
	set, err := keyring.Load(r)
	if err != nil {
		return "", err
	}
	if err := column.CheckPlaintext(p.Column, plaintext); err != nil {
		return "", err
	}
	if to == Bind {
		if set, err = l.bindAt(set, p); err != nil {
			return "", err
		}
	}
	return set.Encrypt(plaintext), nil
}
