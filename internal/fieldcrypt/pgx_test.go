package fieldcrypt_test

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// TestPGXRefuses encodes secrets as pgx does it for the arguments of a statement.
func TestPGXRefuses(t *testing.T) {
	t.Parallel()
	secret := fieldcrypt.New("text")
	pointer := &secret
	type record struct{ fieldcrypt.Secret }
	m := pgtype.NewMap()
	for _, arg := range []any{secret, pointer, &pointer, fieldcrypt.Secret{}, record{secret}} {
		for _, oid := range []uint32{pgtype.TextOID, pgtype.VarcharOID, pgtype.UnknownOID, 0} {
			encoded, err := m.Encode(oid, pgtype.TextFormatCode, arg, nil)
			if !errors.Is(err, fieldcrypt.ErrNoKey) {
				t.Errorf("%T as %d: encoded %q, %v, want ErrNoKey", arg, oid, encoded, err)
			}
		}
	}
	for _, oid := range []uint32{pgtype.TextArrayOID, pgtype.VarcharArrayOID} {
		if encoded, err := m.Encode(oid, pgtype.TextFormatCode, []fieldcrypt.Secret{secret}, nil); !errors.Is(err, fieldcrypt.ErrNoKey) {
			t.Errorf("a list as %d: encoded %q, %v, want ErrNoKey", oid, encoded, err)
		}
	}
}

// TestPGXSendsUUIDs gives UUIDs to the driver, and encodes what comes out of it as pgx does it for the types of columns.
func TestPGXSendsUUIDs(t *testing.T) { //nolint:paralleltest // it counts allocations
	id := uuid.MustParse("00112233-4455-6677-8899-aabbccddeeff")
	rec := &recorder{}
	drv := fieldcrypt.NewDriver(rec, fieldcrypt.DriverConfig{})
	if err := drv.Exec(t.Context(), "INSERT INTO t (a, b, c) VALUES ($1, $2, $3)", []any{id, &id, (*uuid.UUID)(nil)}, nil); err != nil {
		t.Fatal(err)
	}
	if rec.args[2] != nil {
		t.Errorf("no UUID: got %v, want nil", rec.args[2])
	}
	m := pgtype.NewMap()
	for _, arg := range rec.args[:2] {
		for _, test := range []struct {
			oid    uint32
			format int16
			want   string
		}{
			{pgtype.UUIDOID, pgtype.BinaryFormatCode, string(id[:])},
			{pgtype.UUIDOID, pgtype.TextFormatCode, id.String()},
			{pgtype.TextOID, pgtype.TextFormatCode, id.String()},
			{pgtype.VarcharOID, pgtype.BinaryFormatCode, id.String()},
			{pgtype.UnknownOID, pgtype.TextFormatCode, id.String()},
			{0, pgtype.TextFormatCode, id.String()},
		} {
			encoded, err := m.Encode(test.oid, test.format, arg, nil)
			if err != nil || string(encoded) != test.want {
				t.Errorf("as type %d, format %d: got %q, %v, want %q", test.oid, test.format, encoded, err, test.want)
			}
		}
		// What other drivers send, and what is printed, is the text.
		if value, err := driver.DefaultParameterConverter.ConvertValue(arg); err != nil || value != id.String() {
			t.Errorf("for database/sql: got %v, %v", value, err)
		}
		if got := fmt.Sprint(arg); got != id.String() {
			t.Errorf("printed: got %s", got)
		}
		buf := make([]byte, 0, 16)
		if n := testing.AllocsPerRun(100, func() { _, _ = m.Encode(pgtype.UUIDOID, pgtype.BinaryFormatCode, arg, buf) }); n != 0 {
			t.Errorf("encoding it allocates %v times, as if it went through a text", n)
		}
	}
}
