package schema

import (
	"fmt"

	"entgo.io/ent"
	"entgo.io/ent/dialect"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// encryptedSize is the size of the encrypted columns in characters, as in the Python application's EncryptedString(500).
const encryptedSize = 500

// encrypted declares an encrypted column of a table.
//
// It is a Bytes field, though the column is text: of a String field whose Go type has a String method ent would generate
// predicates and an order, all of which would compare random tokens, and validators that would see the redacted text.
func encrypted(table, name, comment string) ent.Field {
	return field.Bytes(name).
		GoType(fieldcrypt.Secret{}).
		ValueScanner(fieldcrypt.Column(table, name, encryptedSize)).
		SchemaType(varchar(encryptedSize)).
		Sensitive().
		Comment(comment)
}

// varchar is the column type; ent's MaxLen alone checks in Go but does not size a Postgres column.
func varchar(size int) map[string]string {
	sized := fmt.Sprintf("varchar(%d)", size)
	return map[string]string{dialect.Postgres: sized, dialect.SQLite: sized}
}
