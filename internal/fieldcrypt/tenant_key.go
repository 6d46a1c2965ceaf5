package fieldcrypt

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"slices"
)

// tenantKeyLabel is that of the subkeys which wrap the data keys of tenants. What follows it, after a zero byte, is the tenant,
// so that a wrapped key is of no use in another tenant's place.
const tenantKeyLabel = "credent tenant key v1"

// subkey derives a key of a purpose by HKDF-SHA-256 (RFC 5869), without a salt, since the key is random already.
func (k *Key) subkey(info string) (*Key, error) {
	raw, err := hkdf.Key(sha256.New, k.fernet()[:], nil, info, KeySize)
	if err != nil {
		return nil, err
	}
	return ParseKey(base64.URLEncoding.EncodeToString(raw))
}

// wrappers returns the keys that wrap a tenant's data key, in the order of the keyring's.
func (k *keys) wrappers(tenant string) (*keys, error) {
	derived := &keys{list: make([]*Key, len(k.list))}
	for i, key := range k.list {
		var err error
		if derived.list[i], err = key.subkey(tenantKeyLabel + "\x00" + tenant); err != nil {
			return nil, err
		}
	}
	return derived, nil
}

// WrapTenantKey encrypts the data key of a tenant: it returns a token of the key's 44 characters of base64url, under a subkey of
// the primary key that is derived for the tenant. A nil keyring gives [ErrNoKey].
func (r *Keyring) WrapTenantKey(tenant string, key *Key) (string, error) {
	k, err := r.load()
	if err != nil {
		return "", err
	}
	wrappers, err := (&keys{list: k.list[:1]}).wrappers(tenant)
	if err != nil {
		return "", err
	}
	return encrypt(wrappers.list[0], base64.URLEncoding.EncodeToString(key.fernet()[:])), nil
}

// UnwrapTenantKey is the reverse of [Keyring.WrapTenantKey], and also returns the key of the keyring that it is wrapped under.
// Errors are those of [Keyring.Decrypt]; a token that was made for another tenant is an [ErrUnknownKey], and one of something
// else than a key [ErrCorrupt].
func (r *Keyring) UnwrapTenantKey(tenant, wrapped string) (key, under *Key, err error) {
	k, err := r.load()
	if err != nil {
		return nil, nil, err
	}
	wrappers, err := k.wrappers(tenant)
	if err != nil {
		return nil, nil, err
	}
	s := newScratch(base64.URLEncoding.DecodedLen(len(wrapped)))
	defer s.release()
	plaintext, index, err := open(s.buf, wrappers, wrapped)
	if err != nil {
		return nil, nil, err
	}
	if key, err = ParseKey(string(plaintext)); err != nil {
		return nil, nil, ErrCorrupt // without err, which tells of the plaintext
	}
	return key, k.list[index], nil
}

// RewrapTenantKey returns the data key of a tenant wrapped under the primary key, and whether it was wrapped under another one.
// Errors are those of [Keyring.UnwrapTenantKey].
func (r *Keyring) RewrapTenantKey(tenant, wrapped string) (newWrapped string, changed bool, err error) {
	key, under, err := r.UnwrapTenantKey(tenant, wrapped)
	if err != nil {
		return "", false, err
	}
	if under == r.Primary() {
		return wrapped, false, nil
	}
	newWrapped, err = r.WrapTenantKey(tenant, key)
	return newWrapped, err == nil, err
}

// KeyringOf makes a keyring of keys, of which the first encrypts. No two of them may be the same. Without any it is nil, which has
// no key.
func KeyringOf(list ...*Key) *Keyring {
	if len(list) == 0 {
		return nil
	}
	return newKeyring(&keys{list: slices.Clone(list)})
}

// With returns a keyring with one more key, which only decrypts; the same one if the key is nil.
func (r *Keyring) With(key *Key) *Keyring {
	if key == nil {
		return r
	}
	return KeyringOf(append(r.Keys(), key)...)
}

// TenantKey returns that of the place among the keys of tenants, and the zero value for a place that is nobody's.
func (p Place) TenantKey(keys map[string]TenantKey) TenantKey {
	if !p.bindable() {
		return TenantKey{}
	}
	return keys[p.Tenant.String]
}

// ShreddedToken returns a token that nobody can open: it is under a key that is thrown away, and has nothing in it.
func ShreddedToken() (string, error) {
	key, err := ParseKey(GenerateKey())
	if err != nil {
		return "", err
	}
	return encrypt(key, ""), nil
}
