package column

import (
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/keysource"
)

// opener opens secrets read without Credent's driver, with the process's
// keyring. It refuses if the schema binds the column.
type opener struct{ column *Column }

// ColumnOf returns the column of an opener that the driver hasn't replaced yet,
// or nil.
func ColumnOf(o fieldcrypt.Opener) *Column {
	if o, ok := o.(*opener); ok {
		return o.column
	}
	return nil
}

// OpenerOf returns the opener of targets for a column.
func OpenerOf(c *Column) fieldcrypt.Opener { return &opener{c} }

// Open implements fieldcrypt.Opener.
func (o *opener) Open(stored string, row any, decode func(string) error) (string, error) {
	if o.column.Bound {
		return "", o.Locate("decrypt", row, fieldcrypt.ErrNoDriver)
	}
	ring, err := keysource.Default()
	if err != nil {
		return "", o.Locate("decrypt", row, err)
	}
	if ring.IsRecorded() {
		return "", o.Locate("decrypt", row, fieldcrypt.ErrNotRecorded)
	}
	plaintext, err := ring.Decrypt(stored)
	if err != nil {
		return "", o.Locate("decrypt", row, err)
	}
	if decode != nil {
		if err := decode(plaintext); err != nil {
			return "", o.Locate("decode", row, err)
		}
	}
	return plaintext, nil
}

// Locate implements fieldcrypt.Opener.
func (o *opener) Locate(op string, row any, err error) error {
	return &fieldcrypt.Error{
		Op: op, Table: o.column.TableName(), Column: o.column.Name, Row: fieldcrypt.RowText(row), Err: err,
	}
}
