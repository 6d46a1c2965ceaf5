package credent

import (
	"errors"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
)

// Errors to be tested with errors.Is.
var (
	// ErrNoColumn means that [AllowPlaintext] was given something else than the
	// name of an encrypted column.
	ErrNoColumn = column.ErrNoColumn
	// ErrLooksLikeToken means that a plaintext begins like a token, so that it
	// cannot be stored as plaintext.
	ErrLooksLikeToken = seal.ErrLooksLikeToken
)

// AllowPlaintext opens a window for columns whose plaintext is being
// encrypted: they read whether they hold plaintext or tokens, and every write
// encrypts. Columns are named TABLE.COLUMN, as in "user_credentials.api_key".
// Without it, and in every other column, plaintext is [ErrNotEncrypted].
//
// In the window "" is a plaintext like any other, and NULL stays absent. What
// begins like a token ("gAAAA") and doesn't open is never taken for plaintext:
// it is [ErrCorrupt] or [ErrUnknownKey]. The text that secrets print as isn't
// either: [ErrRedacted]. [Strict] accepts plaintext in these columns only. The
// observer of [WithRevealObserver] sees which secrets were stored as
// plaintext, so that it is known when the window can be closed.
//
// It applies to ent queries only, not to rows of the client's QueryContext,
// which database/sql scans. Without a name it allows nothing. A name that
// isn't an encrypted column's is an [ErrNoColumn] of Open, [NewClient] and
// [WrapDriver]. docs/encrypting.md has the order of a rollout.
func AllowPlaintext(columns ...string) Option {
	return func(o *options) { o.plaintext = append(o.plaintext, o.columns(columns, nil)...) }
}

// columns returns the columns with the given names. A name that is no encrypted
// column's, or fails the check, is an error of the options.
func (o *options) columns(names []string, check func(EncryptedColumn) error) (columns []EncryptedColumn) {
	for _, name := range names {
		column, err := column.Find(name)
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
