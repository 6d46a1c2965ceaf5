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

// ErrLooksLikeToken means that a plaintext begins like a token, so that it
// can't be stored as plaintext: it would be taken for a damaged token.
var ErrLooksLikeToken = errors.New("the plaintext begins like a token, and would be taken for one")

// CheckPlaintext refuses what can't be stored as plaintext. Errors:
// [column.ErrNotText], [ErrLooksLikeToken].
func CheckPlaintext(plaintext string) error {
	switch {
	case !utf8.ValidString(plaintext), strings.Contains(plaintext, "\x00"): // Postgres has no text with a NUL byte
		return column.ErrNotText
	case fernet.IsToken(plaintext):
		return ErrLooksLikeToken
	}
	return nil
}

// Place is where a value is stored: its column, and its row's tenant if it has
// one.
type Place struct {
	Column column.Column
	Tenant sql.NullString
}

func (p Place) isBindable() bool { return p.Column.Tenant != "" && p.Tenant.Valid }

// TenantKey returns the key of the place's tenant among the keys of tenants,
// and the zero value for a place that is nobody's.
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

// openEarlier opens a token bound under an earlier name of a column.
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

// Bind returns the keyring of a location's bound tokens: each key is derived
// from one of r's, in the same order, and has its ID. The keys of the column's
// earlier names follow, and only decrypt. A later Replace of r doesn't reach
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

// Opened is what was found in a token that opened.
type Opened struct {
	Plaintext string
	Key       *fernet.Key // of the keyring, or from which the token's key is derived
	Bound     bool
	Earlier   bool // bound under an earlier name of the column
}

// openAt opens a token, bound to its place or not. If a column may hold both,
// most aren't bound; if all are, trying costs a fraction of the rest.
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

// OpenAt opens a token, bound to a place or not. Errors are [fernet.Decrypt]'s,
// [keyring.ErrNoKey] and [ErrWrongLocation].
func (l *Locator) OpenAt(r *keyring.Ring, p Place, token string) (Opened, error) {
	set, err := keyring.Load(r)
	if err != nil {
		return Opened{}, err
	}
	return l.openAt(set, p, token)
}

// Rebinding says whether a re-encrypted token is to be bound.
type Rebinding int

const (
	// Keep leaves it as it was.
	Keep Rebinding = iota
	// Bind binds it.
	Bind
	// Unbind doesn't.
	Unbind
)

// Reencrypt returns a new token of the same plaintext under the primary key,
// for a token bound to a place or not. A bound one is bound under the column's
// present name. A token that is as it should be comes back unchanged. It also
// reports whether the new one is bound; a place without a tenant is an
// [ErrWrongLocation]. Other errors are [fernet.Decrypt]'s.
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

// EncryptStored returns the token that replaces a stored plaintext, bound if
// to is [Bind]. A token that opens there comes back unchanged. Errors:
// [fernet.ErrCorrupt] and [fernet.ErrUnknownKey] for what begins like a token;
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

// EncryptPlaintext returns the token of a plaintext, even of one that begins
// like a token, bound if to is [Bind]. Errors: [keyring.ErrNoKey];
// [column.CheckPlaintext]'s for plaintext that the column doesn't take;
// [ErrWrongLocation] if it can't be bound.
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
