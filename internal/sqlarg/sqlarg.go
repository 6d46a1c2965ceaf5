// Package sqlarg converts statements' arguments that need no keys: times to
// UTC, since a timestamp column without zone keeps the wall clock it is given,
// and UUIDs to what drivers send fastest.
package sqlarg

import (
	"database/sql"
	"time"

	"github.com/google/uuid"
)

// Convert returns the value to pass to drivers instead of an argument, and
// whether it differs.
//
// A UUID becomes text. Every driver sends text unchanged, for any type of
// column. pgx would convert a [uuid.UUID] to text, fail to send that in binary,
// and parse it again, which takes longer than encrypting a key.
func Convert(arg any) (value any, changed bool) {
	switch arg := arg.(type) {
	case uuid.UUID:
		return arg.String(), true
	case *uuid.UUID: // ent's argument for an ID
		if arg == nil {
			return nil, true
		}
		return arg.String(), true
	case time.Time:
		if arg.Location() == time.UTC {
			return nil, false
		}
		return arg.UTC(), true
	case *time.Time:
		if arg == nil {
			return nil, true
		}
		return arg.UTC(), true
	case sql.NullTime:
		arg.Time = arg.Time.UTC()
		return arg, true
	case sql.Null[time.Time]:
		arg.V = arg.V.UTC()
		return arg, true
	}
	return nil, false
}
