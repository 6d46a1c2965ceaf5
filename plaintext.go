package credent

import (
	"errors"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// Errors to be tested with errors.Is.
var (
	// ErrNoColumn means that [AllowPlaintext] was given something else than the name of an encrypted column.
	ErrNoColumn = fieldcrypt.ErrNoColumn
	// ErrLooksLikeToken means that a plaintext begins like a token, so that it cannot be stored as plaintext.
	ErrLooksLikeToken = fieldcrypt.ErrLooksLikeToken
)

// AllowPlaintext opens a window for columns whose plaintext is being encrypted: what they hold is read whether it is
// plaintext or a token, and every write encrypts. Columns are named TABLE.COLUMN, as in "user_credentials.api_key". Without
// it, and in every other column, plaintext is [ErrNotEncrypted].
//
// In the window "" is a plaintext like any other, and NULL stays absent. What begins like a token ("gAAAA") and does not open
// is never taken for plaintext: it is [ErrCorrupt] or [ErrUnknownKey]. Nor is the text that secrets print as: [ErrRedacted].
// [Strict] accepts plaintext of these columns only. The observer of [WithRevealObserver] sees which secrets were stored as
// plaintext, so that it is known when the window can be closed.
//
// It holds for what the client's queries read, not for rows of its QueryContext, which are those of database/sql. Without a
// name it allows nothing. A name that is not that of an encrypted column makes Open fail with [ErrNoColumn], and [NewClient]
// and [WrapDriver], which have no error to return, panic. docs/encrypting.md says in which order to go about it.
func AllowPlaintext(columns ...string) Option {
	return func(o *options) { o.plaintext = append(o.plaintext, o.columns(columns, nil)...) }
}

// columns returns the columns of names. What is no encrypted column, or does not pass the check, is an error of the options.
func (o *options) columns(names []string, check func(EncryptedColumn) error) (columns []EncryptedColumn) {
	for _, name := range names {
		column, err := fieldcrypt.FindColumn(name)
		if err == nil && check != nil {
			err = check(column)
		}
		if err != nil {
			o.err = errors.Join(o.err, err)
			continue
		}
		columns = append(columns, column)
	}
	return columns
}
