package fieldcrypt

import (
	"database/sql"
	"fmt"
	"reflect"
	"strings"
)

// Error says which operation failed on which secret. Unknown fields are empty.
// Its text never holds plaintext, key material or a token.
type Error struct {
	Op     string // "encrypt", "decrypt", "decode", "scan", "index", "look up"
	Table  string // "user_credentials", or "billing.invoices"
	Column string // "api_key"
	Row    string // primary key
	Err    error
}

// Error returns "credent: decrypt user_credentials.api_key of row ID: cause".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("credent: " + e.Op)
	switch {
	case e.Column != "":
		b.WriteString(" " + e.Table + "." + e.Column)
	case e.Table != "":
		b.WriteString(" " + e.Table)
	}
	if e.Row != "" {
		b.WriteString(" of row " + e.Row)
	}
	b.WriteString(": " + e.Err.Error())
	return b.String()
}

// Unwrap returns the cause, for errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Err }

// RowText returns the text of a primary key that ent or database/sql scanned,
// or "" if it isn't a number or text.
func RowText(id any) string {
	switch id := id.(type) {
	case sql.NullInt64:
		if id.Valid {
			return fmt.Sprint(id.Int64)
		}
	case sql.NullString:
		return id.String
	case fmt.Stringer:
		return id.String()
	}
	if v := reflect.ValueOf(id); v.CanInt() || v.CanUint() || v.Kind() == reflect.String {
		return fmt.Sprint(id)
	}
	return ""
}

// CheckMarker returns an [ErrRedacted] if text is [Redacted] or its JSON.
func CheckMarker(text string) error {
	if text == Redacted || text == `"`+Redacted+`"` {
		return &Error{Op: "encrypt", Err: ErrRedacted}
	}
	return nil
}
