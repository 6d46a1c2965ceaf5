package fieldcrypt

import "encoding/base64"

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

// Reencrypt returns a new token of the same plaintext under the primary key. A token that is under it already comes back
// as it is, with changed false. Errors are those of [Keyring.Decrypt].
func (r *Keyring) Reencrypt(token string) (newToken string, changed bool, err error) {
	k, err := r.load()
	if err != nil {
		return "", false, err
	}
	s := newScratch(base64.URLEncoding.DecodedLen(len(token)))
	defer s.release()
	plaintext, index, err := open(s.buf, k, token)
	switch {
	case err != nil:
		return "", false, err
	case index == 0:
		return token, false, nil
	}
	return encrypt(k.list[0], string(plaintext)), true, nil
}
