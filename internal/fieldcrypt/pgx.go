package fieldcrypt

import (
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// TextValue refuses with [ErrNoKey]. It is pgx's pgtype.TextValuer: without it pgx would send what String returns, and a
// statement that compares, run by a client without a driver of [NewDriver], would compare with that. Other database drivers
// refuse a secret by themselves.
func (s Secret) TextValue() (pgtype.Text, error) {
	return pgtype.Text{}, &Error{Op: "encrypt", Err: fmt.Errorf("%w: the client was made without the driver that encrypts", ErrNoKey)}
}

// UUIDArg is a UUID among the arguments of a statement, as a driver of [NewDriver] passes it on. pgx sends it as it is; a bare
// [uuid.UUID] it would first make a text, fail to send that in binary, and parse it again, which takes longer than to encrypt a
// key. To other drivers both are a text.
type UUIDArg struct{ uuid.UUID }

// UUIDValue is pgx's pgtype.UUIDValuer.
func (a UUIDArg) UUIDValue() (pgtype.UUID, error) {
	return pgtype.UUID{Bytes: a.UUID, Valid: true}, nil
}
