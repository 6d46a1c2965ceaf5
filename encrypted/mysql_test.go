package encrypted_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"entgo.io/ent"
	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/schema"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/encrypted"
)

// Creating a driver for MySQL or MariaDB fails.
func TestNewDriverDialect(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]error{
		dialect.MySQL: encrypted.ErrDialect, "mariadb": encrypted.ErrDialect, dialect.Gremlin: encrypted.ErrDialect,
		dialect.Postgres: nil, dialect.SQLite: nil,
	} {
		drv, err := encrypted.NewDriver(entsql.OpenDB(name, new(sql.DB)), encrypted.Config{})
		if !errors.Is(err, want) || (drv == nil) != (want != nil) ||
			err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, %v, want %v", name, drv, err, want)
		}
	}
}

// A table with an encrypted field or a blind index can't be created on MySQL or
// MariaDB: ent refuses when it writes the SQL, with the reason.
func TestNoTableOnMySQL(t *testing.T) {
	t.Parallel()
	ddl := func(d, version string, f ent.Field) (string, error) {
		of := f.Descriptor()
		id := &schema.Column{Name: "id", Type: field.TypeInt, Increment: true}
		c := &schema.Column{Name: of.Name, Type: of.Info.Type, SchemaType: of.SchemaType}
		table := schema.NewTable("t").AddPrimary(id).AddColumn(c)
		return schema.DDL(t.Context(), schema.DDLArgs{Dialect: d, Version: version, Tables: []*schema.Table{table}})
	}
	for name, f := range map[string]ent.Field{
		"text": encrypted.String("a"), "time": encrypted.Time("a").Optional(), "JSON": encrypted.JSON("a", 1),
		"index": encrypted.BlindIndex("a").Fields()[0],
	} {
		for _, version := range []string{"5.7.42", "8.0.36", "10.11.6-MariaDB"} {
			text, err := ddl(dialect.MySQL, version, f)
			if err == nil || !strings.Contains(err.Error(), "encrypted_fields_need_postgres_or_sqlite") {
				t.Errorf("%s on %s: got %q, %v", name, version, text, err)
			}
		}
		for d, version := range map[string]string{dialect.Postgres: "15", dialect.SQLite: "3.40"} {
			if _, err := ddl(d, version, f); err != nil {
				t.Errorf("%s on %s: %v", name, d, err)
			}
		}
	}
}
