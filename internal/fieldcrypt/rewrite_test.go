package fieldcrypt_test

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// The table chest has two columns with blind indexes, and one without.
var pin = fieldcrypt.ColumnInfo{Table: "chest", Name: "pin", Size: 500, Index: "pin_index"}

// registerChest is called when the package's tests are initialised, as generated code does.
var _ = registerChest()

func registerChest() bool {
	scanner := fieldcrypt.NewField("pin", 500)
	code := fieldcrypt.NewField("code", 500)
	fieldcrypt.Bind(
		fieldcrypt.Binding{
			ColumnInfo: pin, Scanner: func() any { return scanner },
			Index: func() any { return fieldcrypt.IndexField{} },
		},
		fieldcrypt.Binding{
			ColumnInfo: fieldcrypt.ColumnInfo{Table: "chest", Name: "code", Size: 500, Index: "code_index"},
			Scanner:    func() any { return code },
			Index: func() any {
				return fieldcrypt.IndexField{IndexConfig: fieldcrypt.IndexConfig{Bits: 12, Normalize: strings.ToLower}}
			},
		},
	)
	fieldcrypt.Column("chest", "note", 500)
	return true
}

// digestOf is what the documentation says a digest is, made with nothing of the package.
func digestOf(t *testing.T, key, column, plaintext string) []byte {
	t.Helper()
	raw, err := base64.URLEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	subkey, err := hkdf.Key(sha256.New, raw, nil, "credent blind index v1\x00chest\x00"+column, 32)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, subkey)
	mac.Write([]byte(plaintext))
	return mac.Sum(nil)
}

// queryRecorder keeps the statement too.
type queryRecorder struct {
	recorder
	query string
}

func (r *queryRecorder) Exec(ctx context.Context, query string, args, v any) error {
	r.query = query
	return r.recorder.Exec(ctx, query, args, v)
}

// TestBlindIndexesAreKeptInStep has statements, in which s is a secret, n a named one, 0 an absent one, t a stored token, and . a plain value,
// and what becomes of them: D is a digest, of the secret with the same number, and T a new token.
func TestBlindIndexesAreKeptInStep(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ query, args, want, wantArgs string }{
		{
			`INSERT INTO "chest" ("id", "pin") VALUES ($1, $2) RETURNING "id"`, ".s",
			`INSERT INTO "chest" ("id", "pin", "pin_index") VALUES ($1, $2, $3) RETURNING "id"`, ". T D1",
		},
		{
			"INSERT INTO `chest` (`pin`, `note`) VALUES (?, ?), (?, ?), (NULL, ?)", "ssss.",
			"INSERT INTO `chest` (`pin`, `note`, \"pin_index\") VALUES (?, ?, ?), (?, ?, ?), (NULL, ?, NULL)", "T T D0 T T D2 .",
		},
		{
			`INSERT INTO chest (pin, code) VALUES ($1, $2), ($3, 'x'), ($4, $5)`, "ss0ts",
			`INSERT INTO chest (pin, code, "code_index", "pin_index") VALUES ($1, $2, $6, $7), ($3, 'x', NULL, $8), ($4, $5, $9, $10)`,
			"T T nil t T D1 D0 nil D4 nil",
		},
		{
			`INSERT INTO chest (id, pin) VALUES (?1, ?2)`, ".s",
			`INSERT INTO chest (id, pin, "pin_index") VALUES (?1, ?2, ?3)`, ". T D1",
		},
		{
			`INSERT INTO "chest" ("id", "pin") VALUES ($1, $2) ON CONFLICT ("id") DO UPDATE SET "id" = "excluded"."id", "pin" = "excluded"."pin"`, ".s",
			`INSERT INTO "chest" ("id", "pin", "pin_index") VALUES ($1, $2, $3) ON CONFLICT ("id") DO UPDATE SET "id" = "excluded"."id", ` +
				`"pin" = "excluded"."pin", "pin_index" = "excluded"."pin_index" `, ". T D1",
		},
		{
			"INSERT INTO `chest` (`id`, `pin`) VALUES (?, ?) ON CONFLICT (`id`) DO UPDATE SET `pin` = ? WHERE `chest`.`id` > ?", ".ss.",
			"INSERT INTO `chest` (`id`, `pin`, \"pin_index\") VALUES (?, ?, ?) ON CONFLICT (`id`) DO UPDATE SET `pin` = ? , \"pin_index\" = ? WHERE `chest`.`id` > ?",
			". T D1 T D2 .",
		},
		{
			`INSERT INTO "chest" ("id", "pin") VALUES ($1, $2) ON CONFLICT ("id") DO UPDATE SET "pin" = "chest"."pin"`, ".s",
			`INSERT INTO "chest" ("id", "pin", "pin_index") VALUES ($1, $2, $3) ON CONFLICT ("id") DO UPDATE SET "pin" = "chest"."pin"`, ". T D1",
		},
		{
			`UPDATE "chest" SET "note" = $1, "pin" = $2 WHERE "chest"."id" = $3`, "ss.",
			`UPDATE "chest" SET "note" = $1, "pin" = $2 , "pin_index" = $4 WHERE "chest"."id" = $3`, "T T . D1",
		},
		{
			"UPDATE `chest` SET `pin` = ?, `code` = ? WHERE `id` = ?", "ss.",
			"UPDATE `chest` SET `pin` = ?, `code` = ? , \"pin_index\" = ? , \"code_index\" = ? WHERE `id` = ?", "T T D0 D1 .",
		},
		{`UPDATE chest SET pin = NULL`, "", `UPDATE chest SET pin = NULL, "pin_index" = NULL `, ""},
		{
			`UPDATE chest SET pin = NULL WHERE note IS NULL -- all`, "",
			"UPDATE chest SET pin = NULL \n, \"pin_index\" = NULL WHERE note IS NULL -- all", "",
		},
		{`UPDATE chest SET pin = $1 -- all`, "t", "UPDATE chest SET pin = $1 -- all\n, \"pin_index\" = $2 ", "t nil"},
		// The table's own name beside an alias is another row's.
		{`UPDATE chest AS c SET pin = chest.pin FROM chest WHERE c.id = 1`, "", `UPDATE chest AS c SET pin = chest.pin , "pin_index" = NULL FROM chest WHERE c.id = 1`, ""},
		// An argument is missing, which the database will say.
		{`INSERT INTO chest (pin, note) VALUES (?, ?)`, "s", `INSERT INTO chest (pin, note) VALUES (?, ?)`, "T"},
		{`INSERT INTO chest (pin, note) VALUES ($1, $2)`, "s", `INSERT INTO chest (pin, note) VALUES ($1, $2)`, "T"},
		// FROM may belong to a comparison.
		{
			`UPDATE chest SET pin = $1, open = note IS DISTINCT FROM $2 WHERE id = 1 AND id = $3`, "s..",
			`UPDATE chest SET pin = $1, open = note IS DISTINCT FROM $2 , "pin_index" = $4 WHERE id = 1 AND id = $3`, "T . . D0",
		},
		{
			`INSERT INTO chest (pin) VALUES ($1) ON CONFLICT (id) DO UPDATE SET open = chest.note IS NOT DISTINCT FROM excluded.note, pin = excluded.pin`, "s",
			`INSERT INTO chest (pin, "pin_index") VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET ` +
				`open = chest.note IS NOT DISTINCT FROM excluded.note, pin = excluded.pin, "pin_index" = "excluded"."pin_index" `, "T D0",
		},
		{
			`UPDATE chest SET pin = $1 WHERE id = $2 AND note @@to_tsquery('x')`, "s.",
			"UPDATE chest SET pin = $1 \n, \"pin_index\" = $3 WHERE id = $2 AND note @@to_tsquery('x')", "T . D0",
		},
		{`/* app */ UPDATE chest SET pin = NULL`, "", "/* app */ UPDATE chest SET pin = NULL\n, \"pin_index\" = NULL ", ""},
		// However names are written, and by whatever name the table goes.
		{
			"INSERT INTO `Chest` AS c (`PIN`) VALUES (?) ON CONFLICT (id) DO UPDATE SET `Pin` = c.pin", "s",
			"INSERT INTO `Chest` AS c (`PIN`, \"pin_index\") VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET `Pin` = c.pin", "T D0",
		},
		{`update CHEST as c set PIN = null`, "", `update CHEST as c set PIN = null, "pin_index" = NULL `, ""},
		{
			`UPDATE "chest" c SET pin = c."pin", note = $1 WHERE id = $2`, "s.",
			`UPDATE "chest" c SET pin = c."pin", note = $1 WHERE id = $2`, "T .",
		},
		// What has nothing to do with an index stays as it is.
		{`UPDATE chest SET note = $1 WHERE id = $2`, "s.", `UPDATE chest SET note = $1 WHERE id = $2`, "T ."},
		{`INSERT INTO chest (note) VALUES ($1)`, "s", `INSERT INTO chest (note) VALUES ($1)`, "T"},
		{`DELETE FROM chest WHERE pin IS NULL`, "", `DELETE FROM chest WHERE pin IS NULL`, ""},
		{`UPDATE chest SET (pin, id) = (NULL, 1)`, "", `UPDATE chest SET (pin, id) = (NULL, 1)`, ""}, // no secret: the caller's
		{
			`INSERT INTO chest (pin, code) VALUES (:a, @b)`, "nn",
			`INSERT INTO chest (pin, code, "code_index", "pin_index") VALUES (:a, @b, :credent_index_0, :credent_index_1)`,
			"T T D1 D0",
		},
		{
			`UPDATE chest SET pin = $1 WHERE id = 1 AND id = $2`, "n.",
			`UPDATE chest SET pin = $1 , "pin_index" = $3 WHERE id = 1 AND id = $2`, "T . D0",
		},
	} {
		secretText := func(i int) string { return fmt.Sprint("Secret ", i) }
		args := make([]any, len(test.args))
		for i, kind := range test.args {
			switch kind {
			case 's':
				args[i] = fieldcrypt.New(secretText(i))
			case 'n':
				args[i] = sql.Named(string("ab"[i]), fieldcrypt.New(secretText(i)))
			case '0':
				args[i] = fieldcrypt.Secret{}
			case 't':
				args[i] = "gAAAA-of-another"
			default:
				args[i] = 7
			}
		}
		rec := new(queryRecorder)
		drv := fieldcrypt.NewDriver(rec, fieldcrypt.DriverConfig{Keyring: ring(t, keyB, keyA)})
		if err := drv.Exec(t.Context(), test.query, args, nil); err != nil {
			t.Errorf("%s: %v", test.query, err)
			continue
		}
		var got []string
		for _, arg := range rec.args {
			if named, ok := arg.(sql.NamedArg); ok {
				arg = named.Value
			}
			word := fmt.Sprint(arg)
			switch arg := arg.(type) {
			case nil:
				word = "nil"
			case int:
				word = "."
			case []byte:
				word = "?"
				for i, kind := range test.args {
					if kind != 's' && kind != 'n' {
						continue
					}
					short := digestOf(t, keyB, "code", strings.ToLower(secretText(i)))[:2]
					short[1] &= 0xf0
					if string(arg) == string(digestOf(t, keyB, "pin", secretText(i))) || string(arg) == string(short) {
						word = fmt.Sprint("D", i)
					}
				}
			case string:
				if _, err := ring(t, keyB).Decrypt(arg); err == nil {
					word = "T"
				} else if arg == "gAAAA-of-another" {
					word = "t"
				}
			}
			got = append(got, word)
		}
		if diff := cmp.Diff(test.want, rec.query); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.query, diff)
		}
		if diff := cmp.Diff(test.wantArgs, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s: arguments (-want +got):\n%s", test.query, diff)
		}
	}
}

// TestIndexesThatCannotBeKept has statements that would leave an index behind.
func TestIndexesThatCannotBeKept(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		query string
		args  []any
	}{
		{`INSERT INTO chest VALUES ($1)`, []any{fieldcrypt.New("text")}},
		{`INSERT INTO chest (pin, pin_index) VALUES ($1, $2)`, []any{fieldcrypt.New("text"), []byte("x")}},
		// Several clauses, as SQLite has them.
		{`INSERT INTO chest (pin) VALUES (?) ON CONFLICT (note) DO UPDATE SET note = 1 WHERE true ON CONFLICT (id) DO UPDATE SET pin = excluded.pin`, []any{fieldcrypt.New("text")}},
		{`INSERT INTO chest (pin) VALUES (?) ON CONFLICT (note) DO UPDATE SET note = 1 ON CONFLICT (id) DO UPDATE SET pin = excluded.pin`, []any{fieldcrypt.New("text")}},
		{`INSERT INTO chest (pin) VALUES (?) ON CONFLICT (id) DO UPDATE SET pin = excluded.pin ON CONFLICT (note) DO UPDATE SET pin = excluded.pin`, []any{fieldcrypt.New("text")}},
		{`UPDATE chest SET pin = $1, note = 1, pin = NULL WHERE id = 1 AND id = $2`, []any{fieldcrypt.New("text"), 1}},
		{`INSERT INTO chest (pin) VALUES (?) ON CONFLICT (note) DO NOTHING ON CONFLICT (id) DO UPDATE SET pin = excluded.pin`, []any{fieldcrypt.New("text")}},
		{`UPDATE chest SET pin = $1, pin_index = NULL WHERE id = 1 AND id = $2`, []any{fieldcrypt.New("text"), 1}},
		{`INSERT INTO chest (id, pin) VALUES (?1, ?)`, []any{7, fieldcrypt.New("text")}},
	} {
		rec := new(queryRecorder)
		err := fieldcrypt.NewDriver(rec, fieldcrypt.DriverConfig{Keyring: ring(t, keyA)}).Exec(t.Context(), test.query, test.args, nil)
		if !errors.Is(err, fieldcrypt.ErrIndex) || len(rec.calls) > 0 {
			t.Errorf("%s: got %v, and the calls %v", test.query, err, rec.calls)
		}
		if err != nil && strings.Contains(err.Error(), "text\"") {
			t.Errorf("%s: the error quotes the secret: %v", test.query, err)
		}
	}
}

// TestDigests compares with what the documentation says, and between columns and keys.
func TestDigests(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA, keyB)
	all, err := r.Digests(pin, "text")
	if err != nil || len(all) != 2 || string(all[0]) != string(digestOf(t, keyA, "pin", "text")) ||
		string(all[1]) != string(digestOf(t, keyB, "pin", "text")) {
		t.Errorf("got %x, %v", all, err)
	}
	one, err := r.Digest(pin, "text")
	if err != nil || string(one) != string(all[0]) {
		t.Errorf("got %x, %v", one, err)
	}
	if none, err := r.Digest(fieldcrypt.ColumnInfo{Table: "vault", Name: "wide", Size: 500}, "text"); err != nil || none != nil {
		t.Errorf("a column without an index: %x, %v", none, err)
	}
	unknown := fieldcrypt.ColumnInfo{Table: "chest", Name: "unknown", Index: "unknown_index"}
	if _, err := r.Digest(unknown, "text"); !errors.Is(err, fieldcrypt.ErrNotBound) {
		t.Errorf("got %v", err)
	}
	if _, err := (*fieldcrypt.Keyring)(nil).Digest(pin, "text"); !errors.Is(err, fieldcrypt.ErrNoKey) {
		t.Errorf("got %v", err)
	}
}

// TestLookupArgument prints what a logger between ent and Credent's driver is given, and what the database is.
func TestLookupArgument(t *testing.T) {
	t.Parallel()
	for dialectName, wants := range map[string][2]string{
		dialect.Postgres: {`SELECT * FROM "chest" WHERE "chest"."pin_index" = ANY ($1::bytea[])`, `{"\\x%x","\\x%x"}`},
		dialect.SQLite: {
			"SELECT * FROM `chest` WHERE `chest`.`pin_index` IN (SELECT unhex(value) FROM json_each(?))", `["%x","%x"]`,
		},
		dialect.MySQL: {},
	} {
		selector := entsql.Dialect(dialectName).Select("*").From(entsql.Table("chest"))
		fieldcrypt.Lookup("chest", "pin", fieldcrypt.New("PKA1B2C3"))(selector)
		query, args := selector.Query()
		for _, text := range []string{fmt.Sprint(args...), fmt.Sprintf("%#v %+v %q", args, args, args), mustJSON(t, args)} {
			if strings.Contains(text, "PKA1B2C3") || !strings.Contains(text, fieldcrypt.Redacted) {
				t.Errorf("%s: the arguments print as %s", dialectName, text)
			}
		}
		rec := new(recorder)
		err := fieldcrypt.NewDriver(rec, fieldcrypt.DriverConfig{Keyring: ring(t, keyB, keyA)}).Query(t.Context(), query, args, &entsql.Rows{})
		if dialectName == dialect.MySQL {
			if !errors.Is(err, errors.ErrUnsupported) || len(rec.calls) > 0 {
				t.Errorf("MySQL: got %v", err)
			}
			continue
		}
		want := fmt.Sprintf(wants[1], digestOf(t, keyB, "pin", "PKA1B2C3"), digestOf(t, keyA, "pin", "PKA1B2C3"))
		if err != nil || query != wants[0] || len(rec.args) != 1 || rec.args[0] != want {
			t.Errorf("%s: got %s, %v, %v", dialectName, query, rec.args, err)
		}
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
