package sqlarg_test

import (
	"database/sql"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/credent-go/credent/internal/sqlarg"
)

func TestConvert(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	local := time.Date(2024, 7, 1, 12, 0, 0, 0, time.FixedZone("New York", -4*3600))
	utc := local.UTC()
	for name, test := range map[string]struct {
		arg, want any
		changed   bool
	}{
		"UUID":              {id, id.String(), true},
		"pointer to a UUID": {&id, id.String(), true},
		"nil UUID":          {(*uuid.UUID)(nil), nil, true},
		"time":              {local, utc, true},
		"time in UTC":       {utc, utc, false},
		"pointer to a time": {&local, utc, true},
		"nil time":          {(*time.Time)(nil), nil, true},
		"NullTime":          {sql.NullTime{Time: local, Valid: true}, sql.NullTime{Time: utc, Valid: true}, true},
		"Null": {
			sql.Null[time.Time]{V: local, Valid: true},
			sql.Null[time.Time]{V: utc, Valid: true},
			true,
		},
		"text":           {"text", "text", false},
		"bytes":          {[]byte("text"), []byte("text"), false},
		"number":         {7, 7, false},
		"nil":            {nil, nil, false},
		"Null of a text": {sql.Null[string]{V: "text", Valid: true}, sql.Null[string]{V: "text", Valid: true}, false},
	} {
		got, changed := sqlarg.Convert(test.arg)
		if changed && !reflect.DeepEqual(got, test.want) || changed != test.changed {
			t.Errorf("%s: got %v, %v, want %v, %v", name, got, changed, test.want, test.changed)
		}
	}
	if local.Location() == time.UTC {
		t.Error("the caller's time was changed")
	}
}

// TestPGXSendsUUIDs encodes converted UUIDs as pgx does for various types of
// columns: as text, which pgx chooses for a string.
func TestPGXSendsUUIDs(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("00112233-4455-6677-8899-aabbccddeeff")
	m := pgtype.NewMap()
	for _, given := range []any{id, &id} {
		arg, _ := sqlarg.Convert(given)
		for _, oid := range []uint32{pgtype.UUIDOID, pgtype.TextOID, pgtype.VarcharOID, pgtype.UnknownOID, 0} {
			encoded, err := m.Encode(oid, pgtype.TextFormatCode, arg, nil)
			if err != nil || string(encoded) != id.String() {
				t.Errorf("as type %d: got %q, %v, want %q", oid, encoded, err, id)
			}
		}
		if _, ok := arg.(string); !ok {
			t.Errorf("it is a %T", arg)
		}
	}
}

type wanted struct{ text string }

func isWanted(t reflect.Type) bool { return t == reflect.TypeFor[wanted]() }

// Values of a type are found in every kind of Go container.
func TestHides(t *testing.T) {
	t.Parallel()
	type node struct {
		Next  *node
		Value any
	}
	type record struct {
		name   string
		hidden wanted
	}
	w := wanted{"text"}
	loop := &node{Value: 7}
	loop.Next = loop
	deep := &node{Value: w}
	for range 10_000 {
		deep = &node{Next: deep}
	}
	for name, test := range map[string]struct {
		arg  any
		want bool
	}{
		"itself": {w, true}, "pointer": {&w, true}, "slice": {[]wanted{w}, true}, "slice of pointers": {
			[]*wanted{&w},
			true,
		}, "array": {[1]wanted{w}, true},
		"map": {map[string]wanted{"k": w}, true}, "key": {map[wanted]int{w: 1}, true},
		"struct":              {record{hidden: w}, true},
		"pointer to a struct": {&record{}, true}, "interface": {[]any{7, w}, true},
		"map of any": {map[string]any{"k": []any{&w}}, true}, "deep": {deep, true},
		"nothing": {nil, false}, "text": {"text", false}, "loop": {loop, false}, "empty slice": {[]wanted{}, false},
		"nil pointer": {(*wanted)(nil), false},
		"empty map":   {map[string]wanted{}, false}, "map of texts": {map[string]any{"k": "text"}, false},
		"function": {func() wanted { return w }, false},
		"time":     {time.Now(), false}, "Null": {sql.Null[wanted]{V: w}, true},
	} {
		for range 2 { // the second time, types are cached
			if got := sqlarg.Hides(test.arg, isWanted); got != test.want {
				t.Errorf("%s: got %v", name, got)
			}
		}
	}
	_ = record{name: "unused"}.name
}

// IsNumbered may be wrong for $1 in a literal, but misses no parameter.
func TestIsNumbered(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]bool{
		"UPDATE t SET a = $1": true, "$0": true, "SELECT $$x$$, $1": true, "SELECT '$1'": true, "$a$9": true,
		"": false, "$": false, "UPDATE t SET a = ?": false, "UPDATE t SET a = ?1": false, "SELECT $$x$$": false,
		"SELECT $a, 1$": false, "a$": false,
	} {
		if got := sqlarg.IsNumbered(query); got != want {
			t.Errorf("%q: got %v", query, got)
		}
	}
}

// IsSeveral may be wrong about a text of one statement, but not about others.
func TestIsSeveral(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]bool{
		"": false, ";": false, "UPDATE t SET a = ?; \n;": false, "UPDATE t SET a = ';''', b = 5 - 4 / 2": false,
		`UPDATE ";" SET "a" = ?`: false, "SELECT `;` -- ; it's\nFROM t /* ; \" */ WHERE 1": false,
		"UPDATE t SET a = ?; SELECT 1": true, "SELECT ''; SELECT ''": true, "SELECT '--'; SELECT 1": true,
		`SELECT E'\''; SELECT ''`: true, "SELECT $$'$$; SELECT '$$'": true, "SELECT $x$'$x$; SELECT '1'": true, "SELECT 1 -- '\n; SELECT '1'": true,
		"SELECT 1 /* ' */; SELECT '1'": true, "SELECT 'open; SELECT 1": true, "SELECT 1 - 1; SELECT 1": true,
		"SELECT 1 /* - */ / 2": false, `SELECT '\'`: false,
	} {
		if got := sqlarg.IsSeveral(query); got != want {
			t.Errorf("%q: got %v", query, got)
		}
	}
}

// FuzzIsNumbered compares with a regular expression.
func FuzzIsNumbered(f *testing.F) {
	for _, query := range []string{"", "$", "$1", "$$1", "a$b$2", "$x$ 1"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		want := false
		for i := range len(query) - 1 {
			want = want || query[i] == '$' && '0' <= query[i+1] && query[i+1] <= '9'
		}
		if got := sqlarg.IsNumbered(query); got != want {
			t.Errorf("%q: got %v, want %v", query, got, want)
		}
	})
}
