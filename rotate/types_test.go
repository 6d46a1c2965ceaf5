package rotate_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// typed are columns for which the process has no fields.
var typed = []column.Column{
	{Table: "typed", Name: "raw", Size: 500, Type: "[]byte"},
	{Table: "typed", Name: "moment", Size: 140, Type: "time.Time"},
	{Table: "typed", Name: "document", Size: 500, Type: "webhook.Config"},
}

// Text in a column with a typed field is encrypted in place, in the form that
// the field's client writes. The forms that a cast to text gives bytes and
// times are converted back.
func TestEncryptTextOfTypes(t *testing.T) {
	t.Parallel()
	statements := []string{
		"CREATE TABLE typed (id int PRIMARY KEY, raw varchar(500), moment text, document text)",
		`INSERT INTO typed VALUES (1, '\xff00', '2026-01-02 03:04:05.5+02', '{"a":  1.50}'), (2, 'é', 'infinity', '\x7b'),
			(3, '', '2026-01-02T03:04:05Z', 'null')`,
	}
	forEachDatabase(t, statements, statements, func(t *testing.T, db *sql.DB) {
		ring := newRing(t, fernet.GenerateKey())
		report, err := rotate.Encrypt(t.Context(), db, ring, rotate.Config{In: typed})
		var left []string
		for _, q := range report.Tables[0].Examples {
			left = append(left, q.Column+" "+q.Row)
			if !errors.Is(q.Err, encrypted.ErrValue) {
				t.Errorf("%s: %v", q.Column, q.Err)
			}
		}
		if diff := cmp.Diff([]string{"document 2", "moment 2"}, left); diff != "" ||
			!errors.Is(err, rotate.ErrQuarantined) {
			t.Errorf("quarantined: %v %s", err, diff)
		}
		var sqlite string
		bytes := "\xff\x00"
		if db.QueryRowContext(t.Context(), "SELECT sqlite_version()").Scan(&sqlite) == nil {
			bytes = `\xff00` // no Postgres cast produces it
		}
		checkStored(t, db, ring, "raw", bytes, "é", "")
		checkStored(t, db, ring, "moment", "2026-01-02T01:04:05.5Z", "infinity", "2026-01-02T03:04:05Z")
		checkStored(t, db, ring, "document", `{"a":1.50}`, `\x7b`, "null")

		// DecryptToPlaintext leaves texts that are read as their original
		// values.
		exec(t, db, "UPDATE typed SET moment = NULL, document = NULL WHERE id = 2")
		_, err = rotate.DecryptToPlaintext(t.Context(), db, ring, rotate.Config{In: typed})
		if !errors.Is(err, rotate.ErrQuarantined) == (sqlite == "") {
			t.Errorf("DecryptToPlaintext: %v", err)
		}
		checkStored(t, db, ring, "moment", "2026-01-02T01:04:05.5Z", "", "2026-01-02T03:04:05Z")
	})
}

// checkStored compares a column's plaintexts by row. A value that isn't a token
// is compared as it is, and NULL is "".
func checkStored(t *testing.T, db *sql.DB, ring *keyring.Keyring, name string, want ...string) {
	t.Helper()
	for i, want := range want {
		var stored sql.NullString
		if err := db.QueryRowContext(t.Context(), "SELECT "+name+" FROM typed WHERE id = $1", i+1).
			Scan(&stored); err != nil {
			t.Fatal(err)
		}
		got := stored.String
		if fernet.IsToken(got) {
			var err error
			if got, err = ring.Decrypt(got); err != nil {
				t.Fatal(err)
			}
		}
		if got != want {
			t.Errorf("%s %d: %q, want %q", name, i+1, got, want)
		}
	}
}

// A column that isn't text is refused before anything is written, and the error
// has the SQL that makes encryption possible. A type that doesn't fit the field
// is refused too.
func TestEncryptRefusesTypes(t *testing.T) {
	t.Parallel()
	postgres := []string{"CREATE TABLE typed (id int PRIMARY KEY, raw bytea, moment bigint, document jsonb)"}
	sqlite := []string{"CREATE TABLE typed (id int PRIMARY KEY, raw blob, moment int, document json)"}
	row := `INSERT INTO typed VALUES (1, 'a', 1, '{"a": 1}')`
	forEachDatabase(t, append(postgres, row), append(sqlite, row), func(t *testing.T, db *sql.DB) {
		key := fernet.GenerateKey()
		ring := newRing(t, key)
		for name, says := range map[string]string{
			"raw": "migrate.Diff", "moment": "time.Time",
			"document": "migrate.Diff",
		} {
			_, err := rotate.Encrypt(t.Context(), db, ring,
				rotate.Config{In: typed, Columns: []string{"typed." + name}})
			var schema *rotate.SchemaError
			if !errors.As(err, &schema) || schema.Column.Name != name || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if name == "moment" {
				if schema.SQL != "" {
					t.Errorf("%s: %s", name, schema.SQL)
				}
				continue
			}
			exec(t, db, schema.SQL)
			if _, err := rotate.Encrypt(t.Context(), db, ring,
				rotate.Config{In: typed, Columns: []string{"typed." + name}}); err != nil {
				t.Errorf("%s, after the SQL of the error: %v", name, err)
			}
		}
		for name, want := range map[string]string{"raw": "a", "document": `{"a":1}`} {
			var token string
			if err := db.QueryRowContext(t.Context(), "SELECT "+name+"_encrypted FROM typed").Scan(&token); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got, err := ring.Decrypt(token); got != want || err != nil {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		// The tokens are rotated. Decrypting them means to drop them.
		next := newRing(t, fernet.GenerateKey(), key)
		in := rotate.Config{In: []column.Column{typed[0], typed[2]}}
		if report, err := rotate.Run(t.Context(), db, next, in); err != nil || report.Rewritten() != 1 {
			t.Errorf("Run: %+v, %v", report, err)
		}
		_, err := rotate.DecryptToPlaintext(t.Context(), db, next, in)
		var schema *rotate.SchemaError
		if !errors.As(err, &schema) || schema.SQL == "" {
			t.Fatalf("DecryptToPlaintext: %v", err)
		}
		exec(t, db, schema.SQL)
		exec(t, db, "UPDATE typed SET raw = 'b'") // no trigger remains
	})
}

// Verify and Check decode the opened secrets.
func TestVerifyDecodes(t *testing.T) {
	t.Parallel()
	statements := []string{"CREATE TABLE typed (id int PRIMARY KEY, raw text, moment text, document text)"}
	forEachDatabase(t, statements, statements, func(t *testing.T, db *sql.DB) {
		ring := newRing(t, fernet.GenerateKey())
		token := func(plaintext string) string {
			token, err := ring.Encrypt(plaintext)
			if err != nil {
				t.Fatal(err)
			}
			return token
		}
		insert := "INSERT INTO typed VALUES ($1, $2, $3, $4)"
		for id := range 12 {
			if _, err := db.ExecContext(t.Context(), insert, id, token("\xff"), token("2026-01-02 03:04:05+00"), token(`{"a": 1}`)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := db.ExecContext(t.Context(), insert, 99, nil, nil, token(`{"a": `)); err != nil {
			t.Fatal(err)
		}
		counts, err := rotate.Verify(t.Context(), db, ring, typed...)
		if err != nil {
			t.Fatal(err)
		}
		if err := counts.Err(); !errors.Is(err, rotate.ErrUndecodable) || errors.Is(err, rotate.ErrNotAllPrimary) ||
			!strings.Contains(err.Error(), "row 0") {
			t.Errorf("got %v", err)
		}
		for _, c := range counts {
			want := map[string]int64{"moment": 12, "document": 1}[c.Column]
			if c.Undecodable != want || len(c.UndecodableRows) != int(min(want, 10)) || c.Ready() != (want == 0) {
				t.Errorf("%+v", c)
			}
			if as := map[string]string{
				"moment": "time.Time", "raw": "bytes",
				"document": "JSON, as this process doesn't know webhook.Config",
			}; c.DecodedAs != as[c.Column] {
				t.Errorf("%s is decoded as %s", c.Column, c.DecodedAs)
			}
		}
		for i, want := range []error{nil, encrypted.ErrValue, nil} { // one bad document in ten isn't an error
			if err := encrypted.Check(t.Context(), db, ring, typed[i]); !errors.Is(err, want) {
				t.Errorf("Check of %s: %v", typed[i], err)
			}
		}
	})
}
