package driver_test

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/schema/field"
	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/states"
)

// TestDriverWrapsRows checks which results are wrapped: ent's schema inspection
// needs bare rows.
func TestDriverWrapsRows(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		entity  string
		columns []string
		want    bool
	}{
		{"Vault", []string{"id", "wide"}, true},
		{"Other", []string{"count"}, true}, // a builder may scan secrets under another name
		{"", []string{"id", "wide"}, true},
		{"", []string{"serial", "hook"}, true},
		{"", []string{"id", "hook"}, false},
		{"", []string{"wide"}, false},
		{"", []string{"table_name", "id"}, false},
	} {
		result := &fakeRows{columns: test.columns}
		rows := query(t, result, driver.Config{Keyring: ring(t, keyA)}, test.entity)
		if got := rows.ColumnScanner != entsql.ColumnScanner(result); got != test.want {
			t.Errorf("%s %v: wrapped %v, want %v", test.entity, test.columns, got, test.want)
		}
	}
}

func TestDriverReads(t *testing.T) {
	useDefault(t) // the driver's keyring is enough
	r := ring(t, keyA)
	result := &fakeRows{columns: []string{"id", "wide", "narrow", "safe"}}
	var ids []uuid.UUID
	for i := range 3 {
		id := uuid.New()
		ids = append(ids, id)
		result.rows = append(result.rows, []any{
			id.String(), encrypt(t, r, fmt.Sprint("a", i)),
			encrypt(t, r, fmt.Sprint("b", i)), nil,
		})
	}
	result.rows[1][1] = encrypt(t, ring(t, keyB), "lost")
	rows := query(t, result, driver.Config{Keyring: r}, "Vault")
	var (
		id      uuid.UUID // one variable for all rows, as callers do
		secrets []fieldcrypt.Secret
	)
	for i := 0; rows.Next(); i++ {
		target := wide.ScanValue() // as ent does
		var b fieldcrypt.Secret
		var c *fieldcrypt.Secret
		if err := rows.Scan(&id, target, &b, &c); err != nil {
			t.Fatal(err)
		}
		if got, err := b.Reveal(); err != nil || got != fmt.Sprint("b", i) {
			t.Errorf("row %d: got %q, %v", i, got, err)
		}
		if c != nil {
			t.Errorf("row %d: NULL is not nil", i)
		}
		a, err := wide.FromValue(target)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, a)
	}
	for i, s := range secrets {
		got, err := s.Reveal()
		if i != 1 {
			if err != nil || got != fmt.Sprint("a", i) {
				t.Errorf("row %d: got %q, %v", i, got, err)
			}
			continue
		}
		var detail *fieldcrypt.Error
		if !errors.Is(err, fernet.ErrUnknownKey) || !errors.As(err, &detail) {
			t.Fatalf("row %d: got %v, want ErrUnknownKey", i, err)
		}
		want := fieldcrypt.Error{
			Op: "decrypt", Table: "vault", Column: "wide", Row: ids[1].String(),
			Err: fernet.ErrUnknownKey,
		}
		if *detail != want {
			t.Errorf("got %+v, want %+v", *detail, want)
		}
	}
}

// TestDriverRowNames reads rows with primary keys of various types.
func TestDriverRowNames(t *testing.T) {
	t.Parallel()
	type name string
	var (
		number int64
		short  int
		text   string
		null   sql.NullInt64
		nulls  sql.NullString
		some   any
		tiny   uint8
		named  name
	)
	for _, test := range []struct {
		column string
		target any
		value  any
		want   string
	}{
		{"id", &number, int64(7), "7"},
		{"id", &short, 7, "7"},
		{"id", &text, "seven", "seven"},
		{"id", &null, int64(7), "7"},
		{"id", &nulls, "seven", "seven"},
		{"id", &nulls, nil, ""},
		{"id", &some, int64(7), "7"},
		{"id", &tiny, uint8(7), "7"},
		{"id", &named, name("seven"), "seven"},
		{"id", &some, []byte("seven"), ""}, // the caller's driver may reuse it
		{"name", &text, "seven", ""},
	} {
		result := &fakeRows{columns: []string{test.column, "wide"}, rows: [][]any{{test.value, "PKA1B2C3D4"}}}
		rows := query(t, result, driver.Config{Keyring: ring(t, keyA)}, "Vault")
		rows.Next()
		var s fieldcrypt.Secret
		if err := rows.Scan(test.target, &s); err != nil {
			t.Fatal(err)
		}
		_, err := s.Reveal()
		var detail *fieldcrypt.Error
		if !errors.As(err, &detail) || detail.Row != test.want {
			t.Errorf("%T: got %v, want row %q", test.target, err, test.want)
		}
	}
}

func TestDriverStrict(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	result := &fakeRows{
		columns: []string{"id", "wide"},
		rows: [][]any{
			{int64(1), encrypt(t, r, "text")},
			{int64(2), nil},
			{int64(3), encrypt(t, ring(t, keyB), "lost")},
		},
	}
	rows := query(t, result, driver.Config{Keyring: r, VerifyOnRead: true}, "Vault")
	for i := 0; rows.Next(); i++ {
		var id int64
		err := rows.Scan(&id, wide.ScanValue())
		if i < 2 && err != nil {
			t.Errorf("row %d: %v", id, err)
		}
		if i == 2 && (!errors.Is(err, fernet.ErrUnknownKey) || !strings.Contains(err.Error(), "vault.wide of row 3")) {
			t.Errorf("row %d: got %v, want ErrUnknownKey", id, err)
		}
	}
}

// TestDriverReadsIntoTypesOfTheCaller scans into targets of a Select with Scan.
// Each secret reveals with the client's keyring, and its error names the column
// if the result has the column's name.
func TestDriverReadsIntoTypesOfTheCaller(t *testing.T) {
	useDefault(t)
	columns := []column.Column{wideColumn, narrowColumn, safeColumn, rentedKey}
	type embedding struct{ fieldcrypt.Secret }
	var (
		plain    fieldcrypt.Secret
		pointer  *fieldcrypt.Secret
		null     sql.Null[fieldcrypt.Secret]
		embedded embedding
		value    *fieldcrypt.Value[[]byte]
		nullable sql.Null[fieldcrypt.Value[[]byte]]
		ents     *sql.Null[*embedding] // ent adds a pointer
	)
	of := func(v any) fieldcrypt.Secret {
		s, _ := fieldcrypt.AsSecret(v)
		return s
	}
	for target, secret := range map[any]func() fieldcrypt.Secret{
		&plain:    func() fieldcrypt.Secret { return plain },
		&pointer:  func() fieldcrypt.Secret { return *pointer },
		&null:     func() fieldcrypt.Secret { return null.V },
		&embedded: func() fieldcrypt.Secret { return embedded.Secret },
		&value:    func() fieldcrypt.Secret { return of(value) },
		&nullable: func() fieldcrypt.Secret { return of(nullable) },
		&ents:     func() fieldcrypt.Secret { return ents.V.Secret },
	} {
		for _, test := range []struct{ entity, column, want string }{
			{"Vault", "wide", "vault.wide"},
			{"Vault", "key", "rented.key"}, // the only column with that name
			{"Vault", "alias", ""},
			{"Vault", "id", ""},
			{"Safe", "narrow", "safe.narrow"},
			{"Vault", "narrow", "vault.narrow"},
			{"Other", "narrow", ""}, // two tables have it
			{"Other", "wide", "vault.wide"},
		} {
			r := ring(t, keyA)
			result := &fakeRows{columns: []string{test.column}, rows: [][]any{
				{encrypt(t, r, "text")},
				{encrypt(t, ring(t, keyB), "lost")},
			}}
			rows := query(t, result, driver.Config{Keyring: r, Columns: columns}, test.entity)
			rows.Next()
			if err := rows.Scan(target); err != nil {
				t.Fatal(err)
			}
			if got, err := secret().Reveal(); err != nil || got != "text" {
				t.Errorf("%T: got %q, %v", target, got, err)
			}
			rows.Next()
			if err := rows.Scan(target); err != nil {
				t.Fatal(err)
			}
			_, err := secret().Reveal()
			var detail *fieldcrypt.Error
			if !errors.Is(err, fernet.ErrUnknownKey) || !errors.As(err, &detail) {
				t.Fatalf("%T: got %v, want ErrUnknownKey", target, err)
			}
			if got := strings.Trim(detail.Table+"."+detail.Column, "."); got != test.want {
				t.Errorf("%T, %s of %s: the error is about %q, want %q", target, test.column,
					test.entity, got, test.want)
			}
		}
		strict := query(t, &fakeRows{columns: []string{"wide"}, rows: [][]any{{"PKA1B2C3D4"}}},
			driver.Config{Keyring: ring(t, keyA), VerifyOnRead: true}, "Vault")
		strict.Next()
		if err := strict.Scan(target); !errors.Is(err, fernet.ErrNotEncrypted) {
			t.Errorf("%T, strict: got %v, want ErrNotEncrypted", target, err)
		}
	}
}

// TestRowsOfSeveralTenants checks that a secret isn't opened with another
// tenant's keys. It reveals all secrets after the last row is read, from
// separate targets and from a shared one.
func TestRowsOfSeveralTenants(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	result := &fakeRows{columns: []string{"id", "key", "user_id"}}
	for i, tenant := range []string{"b", "b", "c", "b", ""} {
		var stored any // NULL for no tenant
		if tenant != "" {
			stored = tenant
		}
		result.rows = append(result.rows, []any{int64(i), encrypt(t, bound(t, r, rentedKey, cmp.Or(tenant, "b")),
			"of "+tenant), stored})
	}
	shared := rented.ScanValue()
	for name, target := range map[string]func() field.ValueScanner{
		"own": rented.ScanValue, "shared": func() field.ValueScanner { return shared },
	} {
		for range 2 { // the second time, the target holds the first result
			result.next = 0
			rows := query(t, result, driver.Config{Keyring: r, States: binding(states.Require, rentedKey)}, "Rented")
			var secrets []fieldcrypt.Secret
			for rows.Next() {
				to := target()
				if err := rows.Scan(new(sql.NullInt64), to, new(sql.NullString)); err != nil {
					t.Fatal(err)
				}
				secret, err := rented.FromValue(to)
				if err != nil {
					t.Fatal(err)
				}
				secrets = append(secrets, secret)
			}
			for i, want := range []string{"of b", "of b", "of c", "of b", ""} {
				got, err := secrets[i].Reveal()
				var at *fieldcrypt.Error
				if want == "" {
					if !errors.Is(err, seal.ErrNoTenant) || !errors.As(err, &at) || at.Row != "4" {
						t.Errorf("%s: a row without a tenant: %q, %v", name, got, err)
					}
				} else if err != nil || got != want {
					t.Errorf("%s: row %d: got %q, %v, want %q", name, i, got, err, want)
				}
			}
		}
		// A secret scanned later without the client's driver doesn't use its
		// policy.
		to := target()
		if err := to.Scan(result.rows[0][1]); err != nil {
			t.Fatal(err)
		}
		secret, err := rented.FromValue(to)
		if err != nil {
			t.Fatal(err)
		}
		// The client's states bind it.
		if got, err := secret.OpenedBy(seal.NewOpenerAt(r, rentedKey, "", false)).
			Reveal(); !errors.Is(err, fernet.ErrUnknownKey) {
			t.Errorf("%s: without a client: got %q, %v", name, got, err)
		}
	}
}
