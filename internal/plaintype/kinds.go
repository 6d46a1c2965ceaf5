package plaintype

import (
	"slices"
	"strings"
)

// postgresKinds are the types of Postgres that aren't text, under both of
// their names.
var postgresKinds = map[string]Kind{
	"bytea": Bytes, "date": Date, "json": JSON, "jsonb": JSON, "uuid": UUID,
	"timestamptz": Time, "timestamp with time zone": Time, "timestamp": Time, "timestamp without time zone": Time,
	"bool": Boolean, "boolean": Boolean,
	"int2": Number, "smallint": Number, "int4": Number, "integer": Number, "int8": Number, "bigint": Number,
	"numeric": Number, "decimal": Number, "float4": Number, "real": Number, "float8": Number,
	"double precision": Number,
}

var postgresText = []string{"text", "varchar", "character varying", "bpchar", "char", "character", "citext"}

// OfPostgres returns what a type of Postgres holds. The second result says
// whether it is text, so that it can hold tokens too.
func OfPostgres(name string) (k Kind, isText bool) {
	name = strings.ToLower(name)
	if before, rest, ok := strings.Cut(name, "("); ok { // timestamp(3) with time zone
		_, after, _ := strings.Cut(rest, ")")
		name = strings.TrimSpace(before) + after
	}
	if slices.Contains(postgresText, name) {
		return Hexed, true
	}
	return postgresKinds[name], false
}

// sqliteKinds are parts of the types that a column of SQLite is declared with,
// in the order in which they count.
var sqliteKinds = []struct {
	part string
	kind Kind
}{
	{"BOOL", Boolean},
	{"TIME", Time},
	{"DATE", Date},
	{"JSON", JSON},
	{"UUID", UUID},
	{"BLOB", Bytes},
	{"INT", Number},
	{"REAL", Number},
	{"FLOAT", Number},
	{"DOUBLE", Number},
	{"NUMERIC", Number},
	{"DECIMAL", Number},
}

// OfSQLite is OfPostgres for a declared type of SQLite, which says what texts
// and integers mean. Other values are of their own type.
func OfSQLite(declared string) (k Kind, isText bool) {
	upper := strings.ToUpper(declared)
	if upper == "" || strings.Contains(upper, "CHAR") || strings.Contains(upper, "CLOB") ||
		strings.Contains(upper, "TEXT") {
		return Text, true
	}
	for _, k := range sqliteKinds {
		if strings.Contains(upper, k.part) {
			return k.kind, false
		}
	}
	return Text, false
}
