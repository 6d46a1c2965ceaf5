package fieldcrypt

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"
)

// TextValue refuses with [ErrNoKey]. It is pgx's pgtype.TextValuer: without it pgx would send what String returns, and a
// statement that compares, run by a client without a driver of [NewDriver], would compare with that. Other database drivers
// refuse a secret by themselves.
func (s Secret) TextValue() (pgtype.Text, error) {
	return pgtype.Text{}, &Error{Op: "encrypt", Err: fmt.Errorf("%w: the client was made without the driver that encrypts", ErrNoKey)}
}
