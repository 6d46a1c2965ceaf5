package fieldcrypt

import "encoding/base64"

// KeyOf returns the key that opens a token. Errors are those of [Keyring.Decrypt].
func (r *Keyring) KeyOf(token string) (*Key, error) {
	if r == nil || r.keys == nil {
		return nil, ErrNoKey
	}
	s := newScratch(base64.URLEncoding.DecodedLen(len(token)))
	defer s.release()
	_, index, err := open(s.buf, r.keys(), r.fitted, token)
	if err != nil {
		return nil, err
	}
	return r.keys()[index], nil
}

// Reencrypt returns a new token of the same plaintext under the primary key. A token that is under it already comes back
// as it is, with changed false. Errors are those of [Keyring.Decrypt].
func (r *Keyring) Reencrypt(token string) (newToken string, changed bool, err error) {
	if r == nil || r.keys == nil {
		return "", false, ErrNoKey
	}
	s := newScratch(base64.URLEncoding.DecodedLen(len(token)))
	defer s.release()
	plaintext, index, err := open(s.buf, r.keys(), r.fitted, token)
	switch {
	case err != nil:
		return "", false, err
	case index == 0:
		return token, false, nil
	}
	return encrypt(r.keys()[0], string(plaintext)), true, nil
}
