// Package sqlarg converts statements' arguments that need no keys: times to
// UTC, since a timestamp column without zone keeps the wall clock it is given,
// and UUIDs to what drivers send fastest.
package sqlarg

import (
	"database/sql"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// UUID is a UUID argument. pgx sends it as it is; it would turn a bare
// [uuid.UUID] into text, fail to send that in binary, and parse it again,
// which takes longer than encrypting a key. Other drivers see a text.
type UUID struct{ uuid.UUID }

// UUIDValue implements pgx's pgtype.UUIDValuer.
func (a UUID) UUIDValue() (pgtype.UUID, error) {
	return pgtype.UUID{Bytes: a.UUID, Valid: true}, nil
}

// Convert returns what drivers are to get in place of an argument, and whether
// that is something else.
func Convert(arg any) (value any, changed bool) {
	switch arg := arg.(type) {
	case uuid.UUID:
		return UUID{arg}, true
	case *uuid.UUID: // ent makes one of an ID
		if arg == nil {
			return nil, true
		}
		return UUID{*arg}, true
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
