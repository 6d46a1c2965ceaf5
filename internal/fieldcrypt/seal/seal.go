// Package seal decides which keys belong to a value: the keyring's or the
// tenant's, themselves or derived for the value's location. It encrypts,
// opens and re-encrypts values with them.
//
// A bound token is a Fernet token under a key derived for its location: table,
// column and tenant. No key opens it anywhere else.
package seal

import (
	"errors"
	"fmt"

	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/boundkey"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/keysource"
	"github.com/credent-go/credent/internal/observe"
	"github.com/credent-go/credent/internal/states"
)

// ErrUnderKeyring means that a token is under the keyring, although its column
// requires tenants' keys. errors.Is(err, [fernet.ErrCorrupt]) is true as well.
var ErrUnderKeyring = fmt.Errorf("the token is under the keyring, and the column's tenant keys are require: bring "+
	"them to write, let rotate move the tokens, and go back to require: %w", fernet.ErrCorrupt)

// ErrEncrypted means that a column holds a token while its encryption is off.
var ErrEncrypted = errors.New("the column holds a token, and its encryption is off: bring that to accept")

// ErrWrongLocation means that a token doesn't open at its location: it was
// moved, isn't bound, is altered or is under another key. Then errors.Is(err,
// [fernet.ErrCorrupt]) is true as well. Or a statement would move a token to a
// wrong location.
var ErrWrongLocation = errors.New("wrong location")

// ErrNoTenant means that a statement or a result doesn't name the row's tenant.
// The error's text says what to do.
var ErrNoTenant = errors.New("no tenant")

// locationError is the ErrWrongLocation for a token that doesn't open.
type locationError struct {
	text string
	as   error // ErrUnknownKey, or ErrCorrupt if a key opens the token elsewhere
}

func (e *locationError) Error() string { return e.text }

// Is makes it an [ErrWrongLocation].
func (e *locationError) Is(target error) bool { return target == ErrWrongLocation }

// Unwrap returns ErrUnknownKey or ErrCorrupt.
func (e *locationError) Unwrap() error { return e.as }

var (
	errMoved error = &locationError{"no key opens this token here: it belongs to another tenant, column or table " +
		"(a renamed one needs WasNamed), isn't bound, " +
		"is altered, or is under another key", fernet.ErrUnknownKey}
	errUnbound error = &locationError{"the token isn't bound to its tenant, and the column's binding is require: " +
		"bring that to write, let rotate bind the tokens, and go back to require", fernet.ErrCorrupt}
	errUnnamed error = &locationError{"no key opens this token, and nobody knows its column, on which the key may " +
		"depend: select the column by its own name", fernet.ErrUnknownKey}
	errRequired error = &locationError{"nobody knows this token's column, and one of the client's requires bound " +
		"tokens or tenants' keys, which this one lacks: select the column by its own name", fernet.ErrCorrupt}
)

// NoTenant returns the error for a token with an unknown tenant.
func NoTenant(c *column.Column) error {
	return fmt.Errorf("%w: it depends on the row's %s, which is not known here: query with a client, and select "+
		"%[2]s too", ErrNoTenant, c.Tenant)
}

// Policy says which keys a client uses. It is immutable and safe for
// concurrent use.
type Policy struct {
	// Ring encrypts and decrypts; nil means the process's keyring.
	Ring *keyring.Ring
	// States says what columns accept and write.
	States states.Table
	// Tenants are the tenants' own keys; nil if no column accepts them.
	Tenants *tenantkey.Cache
	// OnReveal is called at each reveal, and Record records it; or nil.
	OnReveal func(Reveal)
	Record   Recorder
	// Observer is called for every value sealed or opened.
	Observer observe.Observer
	// Columns are the client's. Scopes is true if the keys of any column depend
	// on the tenant, and Requires if any column refuses what is under the
	// keyring alone. VerifyOnRead makes queries open the values they read.
	Columns                        []column.Column
	Scopes, Requires, VerifyOnRead bool

	Locator *Locator
	Digests *blindindex.Digester
}

// Keyring returns the client's keyring.
func (p *Policy) Keyring() (*keyring.Ring, error) {
	if p.Ring != nil {
		return p.Ring, nil
	}
	ring, err := keysource.Default()
	if err == nil && p.Record != nil {
		ring.Record()
	}
	return ring, err
}

// IsScoped reports whether the keys of a column's tokens depend on the tenant.
func (p *Policy) IsScoped(c *column.Column) bool { return isScoped(p.States.Of(c)) }

func isScoped(s states.Set) bool { return s.Binding >= states.Accept || s.TenantKeys >= states.Accept }

// Owner is the tenant of the row that an argument is stored in.
type Owner struct {
	Tenant string
	Known  bool
	Keys   *tenantkey.Sealing // nil if tenants have no keys of their own
}

// keys open and seal the tokens of one column and tenant.
type keys struct {
	bare  *keyring.Set // opens unbound tokens; nil if they aren't read
	bound *keyring.Set // opens bound tokens; nil if they aren't read
	bind  bool         // new tokens are bound
	plain *keyring.Set // bound is derived from it

	// earlier opens tokens bound under the column's earlier names; or nil.
	earlier func(token string) (string, int, error)
}

// scoped returns the keys of a column and tenant. set has the keyring's or the
// tenant's keys.
func (p *Policy) scoped(
	set *keyring.Set, c *column.Column, binding states.State, tenant string, known bool,
) (keys, error) {
	if binding < states.Accept {
		return keys{bare: set, plain: set}, nil
	}
	if !known {
		return keys{}, NoTenant(c)
	}
	bound, err := p.Locator.bind(set, boundkey.Location{Table: c.Table, Column: c.Name, Tenant: tenant})
	if err != nil {
		return keys{}, err
	}
	k := keys{bound: bound, bind: binding >= states.Write, plain: set}
	if binding < states.Require {
		k.bare = set
	}
	if c.Was != "" {
		k.earlier = func(token string) (string, int, error) { return p.Locator.openEarlier(set, c, tenant, token) }
	}
	return k, nil
}

// Encrypt returns the value to store in the owner's row: a token, or the
// plaintext itself while encryption is off or accept. Errors:
// [keyring.ErrNoKey], [ErrNoTenant], [tenantkey.ErrShredded], and
// [CheckPlaintext]'s.
func (p *Policy) Encrypt(c *column.Column, plaintext string, of Owner) (string, error) {
	s := p.States.Of(c)
	stored, err := p.encrypt(c, s, plaintext, of)
	if sealed := p.Observer.Sealed; sealed != nil {
		sealed(observe.Of(c, of.Tenant, s.Encryption < states.Write, err))
	}
	return stored, err
}

func (p *Policy) encrypt(c *column.Column, s states.Set, plaintext string, of Owner) (string, error) {
	if s.Encryption < states.Write {
		return plaintext, CheckPlaintext(plaintext)
	}
	ring, err := p.Keyring()
	if err != nil {
		return "", err
	}
	set, err := keyring.Load(ring)
	if err != nil {
		return "", err
	}
	if s.TenantKeys >= states.Accept {
		switch {
		case of.Keys == nil:
			return "", NoTenant(c)
		case of.Keys.Err != nil:
			return "", of.Keys.Err
		case s.TenantKeys >= states.Write && of.Keys.Keys == nil:
			return "", errNoTenantKey
		case s.TenantKeys >= states.Write:
			set = of.Keys.Keys
		}
	}
	k, err := p.scoped(set, c, s.Binding, of.Tenant, of.Known)
	if err != nil {
		return "", err
	}
	if k.bind {
		return k.bound.Encrypt(plaintext), nil
	}
	return k.plain.Encrypt(plaintext), nil
}

// DigestsOfTenant reports whether a column's digests may be under tenants'
// keys, so that a statement must name the tenant.
func (p *Policy) DigestsOfTenant(c *column.Column) bool {
	return c.IsIndexedByTenant() && p.States.Of(c).TenantKeys >= states.Accept
}

// DigestKeys returns the keys that a column's digests in the owner's rows may
// be under. Errors: [keyring.ErrNoKey], [ErrNoTenant], [tenantkey.ErrShredded].
func (p *Policy) DigestKeys(c *column.Column, of Owner) (k blindindex.Keys, err error) {
	ring, err := p.Keyring()
	if err != nil {
		return k, err
	}
	if k.Set, err = keyring.Load(ring); err != nil || !p.DigestsOfTenant(c) {
		return k, err
	}
	switch t := p.States.Of(c).TenantKeys; {
	case of.Keys == nil:
		return k, NoTenant(c)
	case of.Keys.Err != nil:
		return k, of.Keys.Err
	case of.Keys.Own == nil: // the tenant has no key yet
	case t == states.Require:
		k.Set = of.Keys.Own
	case t == states.Write:
		k.Set = of.Keys.Keys
	default:
		k.Also = of.Keys.Own.Keys()[0]
	}
	return k, nil
}

var errNoTenantKey = errors.New("the tenant's key is missing")

// decrypt returns a token's plaintext and the key that opened it.
func (k keys) decrypt(token string) (string, *fernet.Key, error) {
	if k.bound == nil {
		plaintext, index, err := k.bare.Open(token)
		return plaintext, keyAt(k.bare, index, err), err
	}
	plaintext, index, err := k.bound.Open(token)
	if !errors.Is(err, fernet.ErrUnknownKey) {
		if err == nil {
			k.plain.FitLike(k.bound) // so that other tenants' sets start with it
		}
		return plaintext, keyAt(k.bound, index, err), err
	}
	if k.earlier != nil {
		if plaintext, index, err = k.earlier(token); !errors.Is(err, fernet.ErrUnknownKey) {
			return plaintext, keyAt(k.plain, index, err), err
		}
	}
	unbound, index, bareErr := k.plain.Open(token)
	switch {
	case bareErr == nil && k.bare == nil:
		return "", nil, errUnbound
	case bareErr == nil:
		return unbound, keyAt(k.plain, index, nil), nil
	case !errors.Is(bareErr, fernet.ErrUnknownKey):
		return "", nil, bareErr
	}
	return "", nil, errMoved
}

// Locator opens and re-encrypts values stored at a place. The zero value is
// ready for use. It is safe for concurrent use.
type Locator struct{ keys boundkey.Cache }

func (l *Locator) bind(set *keyring.Set, at boundkey.Location) (*keyring.Set, error) {
	return l.keys.Of(set, at)
}
