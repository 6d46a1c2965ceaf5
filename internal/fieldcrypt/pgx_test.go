package fieldcrypt_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// TestPGXRefuses encodes secrets as pgx encodes a statement's arguments.
func TestPGXRefuses(t *testing.T) {
	t.Parallel()
	secret := fieldcrypt.New("text")
	pointer := &secret
	type record struct{ fieldcrypt.Secret }
	m := pgtype.NewMap()
	for _, arg := range []any{secret, pointer, &pointer, fieldcrypt.Secret{}, record{secret}} {
		for _, oid := range []uint32{pgtype.TextOID, pgtype.VarcharOID, pgtype.UnknownOID, 0} {
			encoded, err := m.Encode(oid, pgtype.TextFormatCode, arg, nil)
			if !errors.Is(err, fieldcrypt.ErrNoDriver) {
				t.Errorf("%T as %d: encoded %q, %v, want ErrNoDriver", arg, oid, encoded, err)
			}
		}
	}
	for _, oid := range []uint32{pgtype.TextArrayOID, pgtype.VarcharArrayOID} {
		if encoded, err := m.Encode(oid, pgtype.TextFormatCode, []fieldcrypt.Secret{secret}, nil); !errors.Is(err,
			fieldcrypt.ErrNoDriver) {
			t.Errorf("a list as %d: encoded %q, %v, want ErrNoDriver", oid, encoded, err)
		}
	}
}
