package seal

import (
	"errors"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/observe"
	"github.com/credent-go/credent/internal/reveal"
	"github.com/credent-go/credent/internal/states"
)

// Types of package reveal, which has their documentation.
type (
	// Reveal reports to an observer that a stored secret was revealed.
	Reveal = reveal.Reveal
	// Reader says who queried.
	Reader = reveal.Reader
	// Recorder records that secrets were opened.
	Recorder = reveal.Recorder
)

// Opener opens the secrets of one column, in rows of one tenant. It implements
// fieldcrypt.Opener. It is immutable and safe for concurrent use.
type Opener struct {
	policy *Policy
	column *column.Column // nil if unknown
	states states.Set
	bad    error // if not nil, Open fails with it
	alone  bool  // it belongs to no client

	observe func(Reveal) // may be nil
	record  Recorder     // may be nil
	reader  *Reader
	last    *reveal.Last // the last reveal recorded

	tenant string
	known  bool           // the tenant is known
	ref    *tenantkey.Ref // the tenant's keys; nil if tenants have none
}

// NewOpener returns the opener of a column, in rows of an unknown tenant. c is
// nil if the column is unknown.
func (p *Policy) NewOpener(c *column.Column) *Opener {
	return &Opener{policy: p, column: c, states: p.States.Of(c)}
}

// Failing returns an opener that always fails with err.
func (p *Policy) Failing(err error) *Opener { return &Opener{policy: p, bad: err} }

// NewOpenerAt returns an opener for a column in rows of a tenant, for secrets
// that database/sql scanned. It doesn't know whether a client binds the column,
// so it reads bound and unbound tokens unless the schema binds them.
func NewOpenerAt(ring *keyring.Ring, c column.Column, tenant string, known bool) *Opener {
	p := &Policy{Ring: ring, Locator: new(Locator)}
	if known && !c.Bound {
		p.States = states.New(states.Binding, states.Accept, c)
	}
	o := p.NewOpener(&c).Of(tenant, known, nil)
	o.alone = true
	return o
}

// ObservedBy returns a copy of the opener with a reader and an observer.
func (o *Opener) ObservedBy(r *Reader, observe func(Reveal)) *Opener {
	other := *o
	other.observe, other.reader = observe, r
	return &other
}

// RecordedBy returns a copy of the opener that records each secret it opens,
// for a reader's query.
func (o *Opener) RecordedBy(r *Reader, record Recorder) *Opener {
	other := *o
	other.record, other.reader, other.last = record, r, new(reveal.Last)
	return &other
}

// IsRecorded reports whether the opener records what it opens.
func (o *Opener) IsRecorded() bool { return o.record != nil }

// Column returns the opener's column, or nil.
func (o *Opener) Column() *column.Column { return o.column }

// IsScoped reports whether the keys depend on the tenant.
func (o *Opener) IsScoped() bool { return isScoped(o.states) }

// HasTenantKeys reports whether tokens may be under the tenant's own key.
func (o *Opener) HasTenantKeys() bool { return o.states.TenantKeys >= states.Accept }

// InWindow reports whether the column may still hold plaintext.
func (o *Opener) InWindow() bool { return o.states.Encryption < states.Require }

// IsOf reports whether the opener is for rows of the given tenant.
func (o *Opener) IsOf(tenant string, known bool) bool { return o.tenant == tenant && o.known == known }

// Of returns a copy of the opener for rows of a tenant; ref has its keys.
func (o *Opener) Of(tenant string, known bool, ref *tenantkey.Ref) *Opener {
	other := *o
	other.tenant, other.known, other.ref = tenant, known, ref
	if o.record != nil {
		other.last = new(reveal.Last)
	}
	return &other
}

// IsReady reports whether the tenant's key can be used without reading it.
func (o *Opener) IsReady() bool { return o.ref == nil || o.ref.IsKnown() }

// Open implements fieldcrypt.Opener.
func (o *Opener) Open(stored string, row any, decode func(string) error) (string, error) {
	if o.alone && o.record == nil && o.policy.Ring.IsRecorded() {
		return "", o.Locate("decrypt", row, fieldcrypt.ErrNotRecorded)
	}
	plaintext, key, err := o.check(stored, row, decode)
	if o.observe == nil && o.record == nil {
		return plaintext, err
	}
	if o.record != nil {
		if refused := o.tell(stored, row, key, err); refused != nil {
			plaintext, err = "", errors.Join(err, o.Locate("record", row, refused))
		}
	}
	if o.observe != nil {
		o.observe(o.event(stored, row, key, err))
	}
	return plaintext, err
}

// tell records a reveal or its failure.
func (o *Opener) tell(stored string, row any, key *fernet.Key, err error) error {
	if err != nil {
		return o.record.Opened(o.event(stored, row, key, err), true)
	}
	return o.last.Tell(o.record, key, row, func() Reveal { return o.event(stored, nil, key, nil) })
}

// event returns the report of one opened value.
func (o *Opener) event(stored string, row any, key *fernet.Key, err error) Reveal {
	event := Reveal{
		Reader: *o.reader, Row: fieldcrypt.RowText(row), Tenant: o.tenant, Err: err,
		Plaintext: o.isPlaintext(stored),
	}
	if key != nil {
		event.KeyID = key.ID()
	}
	if o.column != nil {
		event.Table, event.Column = o.column.TableName(), o.column.Name
	}
	return event
}

// Check is like Open, for the client itself. Since nobody sees the plaintext,
// it records failures only.
func (o *Opener) Check(stored string, row any) (string, error) {
	plaintext, key, err := o.check(stored, row, nil)
	if err != nil && o.record != nil {
		err = errors.Join(err, o.record.Opened(o.event(stored, row, key, err), false))
	}
	return plaintext, err
}

// check opens a stored value, and calls the policy's observer.
func (o *Opener) check(
	stored string, row any, decode func(string) error,
) (plaintext string, key *fernet.Key, err error) {
	op := "decrypt"
	if plaintext, key, err = o.open(stored); err == nil && decode != nil {
		op, err = "decode", decode(plaintext)
	}
	if err != nil {
		plaintext, err = "", o.Locate(op, row, err)
	}
	if opened := o.policy.Observer.Opened; opened != nil {
		opened(observe.Of(o.column, o.tenant, o.isPlaintext(stored), err))
	}
	return plaintext, key, err
}

// isPlaintext reports whether a stored value counts as plaintext. A value that
// begins like a token never does.
func (o *Opener) isPlaintext(stored string) bool { return o.InWindow() && !fernet.IsToken(stored) }

// open returns the plaintext and the key that opened it. The key is nil if the
// stored value is plaintext.
func (o *Opener) open(stored string) (string, *fernet.Key, error) {
	if o.bad != nil {
		return "", nil, o.bad
	}
	if o.isPlaintext(stored) {
		if stored == fieldcrypt.Redacted {
			return "", nil, fieldcrypt.ErrRedacted // it was stored instead of the secret
		}
		return stored, nil, nil
	}
	if o.states.Encryption < states.Accept {
		return "", nil, ErrEncrypted
	}
	ring, err := o.policy.Keyring()
	if err != nil {
		return "", nil, err
	}
	var set, own *keyring.Set
	switch {
	case o.ref != nil:
		set, own, err = o.ref.Keys(ring)
	case o.HasTenantKeys():
		err = NoTenant(o.column)
	default:
		set, err = keyring.Load(ring)
	}
	if err != nil {
		return "", nil, err
	}
	if o.column == nil && o.policy.Scopes {
		plaintext, index, err := set.Open(stored)
		switch {
		case errors.Is(err, fernet.ErrUnknownKey):
			err = errUnnamed
		case err == nil && o.policy.Requires:
			plaintext, err = "", errRequired
		}
		return plaintext, keyAt(set, index, err), err
	}
	plaintext, key, err := o.openWith(set, own, stored)
	if errors.Is(err, fernet.ErrUnknownKey) && o.ref != nil && o.ref.Again(ring) {
		if set, own, err = o.ref.Keys(ring); err == nil {
			plaintext, key, err = o.openWith(set, own, stored)
		}
	}
	return plaintext, key, err
}

func keyAt(set *keyring.Set, index int, err error) *fernet.Key {
	if err != nil {
		return nil
	}
	return set.Keys()[index]
}

// openWith opens a token with the tenant's and the keyring's keys.
func (o *Opener) openWith(set, own *keyring.Set, stored string) (string, *fernet.Key, error) {
	if o.states.TenantKeys < states.Require {
		return o.decrypt(set, stored)
	}
	plaintext, key, err := "", (*fernet.Key)(nil), fernet.ErrUnknownKey
	if own != nil {
		plaintext, key, err = o.decrypt(own, stored)
	}
	if errors.Is(err, fernet.ErrUnknownKey) {
		if _, _, err = o.decrypt(set, stored); err == nil {
			err = ErrUnderKeyring
		}
		return "", nil, err
	}
	return plaintext, key, err
}

// decrypt opens a token with one set of keys.
func (o *Opener) decrypt(set *keyring.Set, stored string) (string, *fernet.Key, error) {
	k, err := o.policy.scoped(set, o.column, o.states.Binding, o.tenant, o.known)
	if err != nil {
		return "", nil, err
	}
	return k.decrypt(stored)
}

// Locate implements fieldcrypt.Opener.
func (o *Opener) Locate(op string, row any, err error) error {
	e := &fieldcrypt.Error{Op: op, Row: fieldcrypt.RowText(row), Err: err}
	if o.column != nil {
		e.Table, e.Column = o.column.TableName(), o.column.Name
	}
	return e
}
