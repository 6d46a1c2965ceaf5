package rotate

import (
	"database/sql"
	"fmt"
	"slices"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
)

// rewrap wraps a tenant's key under the primary key, and reports whether it was
// under another key. Errors are the ones from [tenantkey.Unwrap].
func rewrap(r *keyring.Ring, tenant, wrapped string) (newWrapped string, changed bool, err error) {
	key, under, err := tenantkey.Unwrap(r, tenant, wrapped)
	if err != nil {
		return "", false, err
	}
	if under == r.Primary() {
		return wrapped, false, nil
	}
	newWrapped, err = tenantkey.Wrap(r, tenant, key)
	return newWrapped, err == nil, err
}

// unreadable returns a token that nobody can open: an empty plaintext under a
// key that is discarded.
func unreadable() (string, error) {
	key, err := fernet.ParseKey(fernet.GenerateKey())
	if err != nil {
		return "", err
	}
	return fernet.Encrypt(key, ""), nil
}

// decryptStored returns the plaintext that replaces a token. Other values are
// returned unchanged. Errors: [fernet.ErrCorrupt], [fernet.ErrUnknownKey];
// [column.ErrNotText] for a plaintext that a text column can't hold;
// [seal.ErrLooksLikeToken].
func decryptStored(
	l *seal.Locator, r *keyring.Ring, stored string, p seal.Place,
) (plaintext string, changed bool, err error) {
	if !fernet.IsToken(stored) {
		return stored, false, nil
	}
	o, err := l.OpenAt(r, p, stored)
	if err == nil {
		err = seal.CheckPlaintext(o.Plaintext)
	}
	if err != nil {
		return "", false, err
	}
	return o.Plaintext, true, nil
}

// key adds a check that the database still has the tenants' keys that new
// values are under: after a fail-over, the server may lack one.
func (u *update) key(t table, changes []change) {
	if !slices.ContainsFunc(changes, func(c change) bool { return c.under.Valid }) {
		return
	}
	keys := make([]sql.NullString, len(changes))
	for j, c := range changes {
		keys[j] = c.under
	}
	key := u.add("under", keys)
	tenant := "t." + quote(t.tenant)
	// Cast only if needed: a cast hides which shard has both rows.
	if t.tenantType != "text" && t.tenantType != "character varying" {
		tenant += "::text"
	}
	u.where = append(u.where, fmt.Sprintf(`(%s IS NULL OR EXISTS (SELECT 1 FROM %s AS k WHERE k.%s = %s AND k.%s = %[1]s))`,
		key, quote(tenantkey.Table), quote(tenantkey.Tenant), tenant, quote(tenantkey.Column)))
}
