package plaintype

import (
	"slices"
	"strings"
)

// postgresKinds has the Postgres types that aren't text, under both of their
// names.
var postgresKinds = map[string]Kind{
	"bytea": Bytes, "date": Date, "json": JSON, "jsonb": JSON, "uuid": UUID,
	"timestamptz": Time, "timestamp with time zone": Time, "timestamp": Time, "timestamp without time zone": Time,
	"bool": Boolean, "boolean": Boolean,
	"int2": Number, "smallint": Number, "int4": Number, "integer": Number, "int8": Number, "bigint": Number,
	"numeric": Number, "decimal": Number, "float4": Number, "real": Number, "float8": Number,
	"double precision": Number,
}

var postgresText = []string{"text", "varchar", "character varying", "bpchar", "char", "character", "citext"}

// OfPostgres returns the kind of a Postgres type's values. isText reports
// whether the type is text, so that it can also hold tokens.
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

// sqliteKinds has parts of SQLite's declared types. The first match counts.
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

// OfSQLite is like OfPostgres for SQLite's declared types, which give texts and
// integers their meaning. Other values have their own type.
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
