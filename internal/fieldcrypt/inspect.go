package fieldcrypt

import (
	"database/sql"
	"encoding/base64"
	"errors"
)

// Place is where a token is stored: the column, and whose the row is, if it is anybody's.
type Place struct {
	Column ColumnInfo
	Tenant sql.NullString
}

// bindable reports whether tokens can be bound to the place.
func (p Place) bindable() bool { return p.Column.Tenant != "" && p.Tenant.Valid }

func (p Place) bind(k *keys) (*keys, error) {
	if !p.bindable() {
		return nil, noTenant(&p.Column)
	}
	return k.bind(boundTo{p.Column.Table, p.Column.Name, p.Tenant.String})
}

// openAt opens a token that is bound to a place or not bound, whichever it is. The buffer is that of open.
func openAt(buf []byte, k *keys, p Place, token string) (plaintext []byte, index int, bound bool, err error) {
	// Most are not bound where a column may have both, and where all are, this costs a fraction of what follows.
	plaintext, index, err = open(buf, k, token)
	if !errors.Is(err, ErrUnknownKey) || !p.bindable() {
		return plaintext, index, false, err
	}
	of, err := p.bind(k)
	if err != nil {
		return nil, 0, false, err
	}
	plaintext, index, err = open(buf, of, token)
	if errors.Is(err, ErrUnknownKey) && p.Column.Bound {
		err = errMoved
	}
	return plaintext, index, true, err
}

// KeyAt is [Keyring.KeyOf] for a token that is bound to a place, or not bound; it reports which. Of a bound one it returns the
// key in the keyring from which the token's is derived.
func (r *Keyring) KeyAt(p Place, token string) (key *Key, bound bool, err error) {
	k, err := r.load()
	if err != nil {
		return nil, false, err
	}
	s := newScratch(base64.URLEncoding.DecodedLen(len(token)))
	defer s.release()
	_, index, bound, err := openAt(s.buf, k, p, token)
	if err != nil {
		return nil, false, err
	}
	return k.list[index], bound, nil
}

// DecryptAt is [Keyring.Decrypt] for a token that is bound to a place, or not bound.
func (r *Keyring) DecryptAt(p Place, token string) (string, error) {
	k, err := r.load()
	if err != nil {
		return "", err
	}
	s := newScratch(base64.URLEncoding.DecodedLen(len(token)))
	defer s.release()
	plaintext, _, _, err := openAt(s.buf, k, p, token)
	return string(plaintext), err
}

// Rebinding says whether a token that is made of another is to be bound.
type Rebinding int

const (
	// Keep makes a bound token of a bound one, and one that is not of one that is not.
	Keep Rebinding = iota
	// Bound makes a bound one of either.
	Bound
	// Unbound makes one that is not bound of either.
	Unbound
)

// ReencryptAt returns a new token of the same plaintext under the primary key, for one that is bound to a place or not bound. One
// that is as it should be already comes back as it is, with changed false. It also reports whether the new one is bound; at a
// place without a tenant that is refused with [ErrContext]. Other errors are those of [Keyring.Decrypt].
func (r *Keyring) ReencryptAt(p Place, token string, to Rebinding) (newToken string, changed, bound bool, err error) {
	k, err := r.load()
	if err != nil {
		return "", false, false, err
	}
	s := newScratch(base64.URLEncoding.DecodedLen(len(token)))
	defer s.release()
	plaintext, index, was, err := openAt(s.buf, k, p, token)
	if err != nil {
		return "", false, false, err
	}
	bound = to == Bound || to == Keep && was
	if index == 0 && bound == was {
		return token, false, bound, nil
	}
	if bound {
		if k, err = p.bind(k); err != nil {
			return "", false, false, err
		}
	}
	return encrypt(k.list[0], string(plaintext)), true, bound, nil
}

// KeyOf returns the key that opens a token. Errors are those of [Keyring.Decrypt].
func (r *Keyring) KeyOf(token string) (*Key, error) {
	k, err := r.load()
	if err != nil {
		return nil, err
	}
	s := newScratch(base64.URLEncoding.DecodedLen(len(token)))
	defer s.release()
	_, index, err := open(s.buf, k, token)
	if err != nil {
		return nil, err
	}
	return k.list[index], nil
}
