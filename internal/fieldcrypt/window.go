package fieldcrypt

import (
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

// EncryptStored returns the token that is to replace what a column holds as plaintext. A token comes back as it is, with
// changed false, if a key opens it. Errors: [ErrNoKey]; [ErrCorrupt] and [ErrUnknownKey] for what begins like a token;
// [ErrTooLong], [ErrNotText] and [ErrRedacted] for plaintext that the column does not take.
func (r *Keyring) EncryptStored(stored string, column ColumnInfo) (token string, changed bool, err error) {
	k, err := r.load()
	if err != nil {
		return "", false, err
	}
	if IsToken(stored) {
		_, err := r.KeyOf(stored)
		return stored, false, err
	}
	if err := checkPlaintext(stored, column.Size, column.Type == bytesType); err != nil {
		return "", false, err
	}
	return encrypt(k.list[0], stored), true, nil
}

// DecryptStored is the way back: it returns the plaintext that is to replace a token. What does not begin like a token comes
// back as it is, with changed false. Errors: [ErrNoKey], [ErrCorrupt], [ErrUnknownKey]; [ErrNotText] for a plaintext that a
// text column cannot hold; and [ErrLooksLikeToken].
func (r *Keyring) DecryptStored(stored string) (plaintext string, changed bool, err error) {
	if _, err := r.load(); err != nil {
		return "", false, err
	}
	if !IsToken(stored) {
		return stored, false, nil
	}
	plaintext, err = r.Decrypt(stored)
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
