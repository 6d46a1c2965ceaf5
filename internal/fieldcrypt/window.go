package fieldcrypt

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"
)

// IsToken reports whether a stored value begins the way every token does. If it does not open it is damaged or of another
// key, and never plaintext.
func IsToken(stored string) bool { return strings.HasPrefix(stored, tokenPrefix) }

// FindColumn returns the encrypted column of a name like "user_credentials.api_key", or [ErrNoColumn] with the names that
// there are.
func FindColumn(name string) (ColumnInfo, error) {
	all := Columns()
	known := make([]string, len(all))
	for i, c := range all {
		if known[i] = c.String(); known[i] == name {
			return c, nil
		}
	}
	if len(known) == 0 {
		return ColumnInfo{}, fmt.Errorf("fieldcrypt: %w: %q; the process knows none", ErrNoColumn, name)
	}
	return ColumnInfo{}, fmt.Errorf("fieldcrypt: %w: %q; there are %s", ErrNoColumn, name, strings.Join(known, ", "))
}

// isSame reports whether both are the same column of a database.
func (c ColumnInfo) isSame(other ColumnInfo) bool {
	return c.Table == other.Table && c.Name == other.Name
}

// checkColumns panics unless all are encrypted columns of the process.
func checkColumns(columns []ColumnInfo) {
	for _, c := range columns {
		if _, err := FindColumn(c.String()); err != nil {
			panic(err.Error())
		}
	}
}

// checkTenants panics unless all are encrypted columns of the process whose rows have a tenant.
func checkTenants(columns []ColumnInfo) {
	for _, c := range columns {
		known, err := FindColumn(c.String())
		if err == nil {
			err = known.CheckTenant()
		}
		if err != nil {
			panic(err.Error())
		}
	}
}

// CheckTenant returns an error, an [ErrNoColumn], if the column's rows have no tenant, so that its tokens cannot be bound.
func (c ColumnInfo) CheckTenant() error {
	if c.Tenant != "" {
		return nil
	}
	return fmt.Errorf("fieldcrypt: %w with a tenant: %q; declare its field with Tenant", ErrNoColumn, c)
}

// EncryptStored returns the token that is to replace what a column holds as plaintext. A token comes back as it is, with
// changed false, if a key opens it there. What is made is bound if to is [Bound]. Errors: [ErrNoKey]; [ErrCorrupt] and
// [ErrUnknownKey] for what begins like a token; [ErrTooLong], [ErrNotText] and [ErrRedacted] for plaintext that the column does
// not take; [ErrContext] if it cannot be bound.
func (r *Keyring) EncryptStored(stored string, p Place, to Rebinding) (token string, changed bool, err error) {
	k, err := r.load()
	if err != nil {
		return "", false, err
	}
	if IsToken(stored) {
		_, _, err := r.KeyAt(p, stored)
		return stored, false, err
	}
	if err := checkPlaintext(stored, p.Column.Size, p.Column.Type == bytesType); err != nil {
		return "", false, err
	}
	if to == Bound {
		if k, err = p.bind(k); err != nil {
			return "", false, err
		}
	}
	return encrypt(k.list[0], stored), true, nil
}

// DecryptStored is the way back: it returns the plaintext that is to replace a token. What does not begin like a token comes
// back as it is, with changed false. Errors: [ErrNoKey], [ErrCorrupt], [ErrUnknownKey]; [ErrNotText] for a plaintext that a
// text column cannot hold; and [ErrLooksLikeToken].
func (r *Keyring) DecryptStored(stored string, p Place) (plaintext string, changed bool, err error) {
	k, err := r.load()
	if err != nil {
		return "", false, err
	}
	if !IsToken(stored) {
		return stored, false, nil
	}
	s := newScratch(base64.URLEncoding.DecodedLen(len(stored)))
	defer s.release()
	opened, _, _, err := openAt(s.buf, k, p, stored)
	plaintext = string(opened)
	switch {
	case err != nil:
		return "", false, err
	case !utf8.ValidString(plaintext), strings.Contains(plaintext, "\x00"): // Postgres has no text with a NUL byte
		return "", false, ErrNotText
	case IsToken(plaintext):
		return "", false, ErrLooksLikeToken
	}
	return plaintext, true, nil
}
