package fieldcrypt_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

func column(t *testing.T, name string) fieldcrypt.ColumnInfo {
	t.Helper()
	c, err := fieldcrypt.FindColumn(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFindColumn(t *testing.T) {
	t.Parallel()
	if got, want := column(t, "vault.wide"), (fieldcrypt.ColumnInfo{Table: "vault", Name: "wide", Size: 500}); got != want {
		t.Errorf("got %+v", got)
	}
	for _, name := range []string{"", "vault", "wide", "vault.", "vault.width", "VAULT.wide", "vault.wide ", "public.vault.wide"} {
		_, err := fieldcrypt.FindColumn(name)
		if !errors.Is(err, fieldcrypt.ErrNoColumn) || !strings.Contains(err.Error(), "vault.wide") {
			t.Errorf("%q: got %v, want ErrNoColumn with the names there are", name, err)
		}
	}
}

// inWindow are stored values and what a column that may hold plaintext gives for them.
func inWindow(t *testing.T, r *fieldcrypt.Keyring) map[string]struct {
	stored, want string
	plaintext    bool
	err          error
} {
	t.Helper()
	token := seal(t, r, "text")
	return map[string]struct {
		stored, want string
		plaintext    bool
		err          error
	}{
		"plaintext":        {"PKA1B2C3D4", "PKA1B2C3D4", true, nil},
		"empty":            {"", "", true, nil},
		"almost a prefix":  {"gAAA", "gAAA", true, nil},
		"prefix elsewhere": {" gAAAA", " gAAAA", true, nil},
		"token":            {token, "text", false, nil},
		"truncated":        {token[:50], "", false, fieldcrypt.ErrCorrupt},
		"prefix alone":     {"gAAAA", "", false, fieldcrypt.ErrCorrupt},
		"looks like one":   {"gAAAA-plaintext", "", false, fieldcrypt.ErrCorrupt},
		"of another key":   {seal(t, ring(t, keyB), "text"), "", false, fieldcrypt.ErrUnknownKey},
		"marker":           {fieldcrypt.Redacted, "", true, fieldcrypt.ErrRedacted},
	}
}

func TestWindowReads(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	for name, test := range inWindow(t, r) {
		var events []fieldcrypt.Reveal
		cfg := fieldcrypt.DriverConfig{
			Keyring: r, Plaintext: []fieldcrypt.ColumnInfo{column(t, "vault.wide")},
			OnReveal: func(e fieldcrypt.Reveal) { events = append(events, e) },
		}
		row := &fakeRows{columns: []string{"id", "wide"}, rows: [][]any{{int64(7), test.stored}}}
		rows := query(t, row, cfg, selectAll)
		rows.Next()
		var (
			id     int64
			target = wide.ScanValue()
		)
		if err := rows.Scan(&id, target); err != nil {
			t.Fatal(err)
		}
		s, err := wide.FromValue(target)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Reveal()
		if got != test.want || !errors.Is(err, test.err) || s.IsZero() {
			t.Errorf("%s: got %q, %v, want %q, %v", name, got, err, test.want, test.err)
		}
		if err != nil && test.stored != "gAAAA" && strings.Contains(err.Error(), test.stored) {
			t.Errorf("%s: the error quotes what is stored: %v", name, err)
		}
		want := []fieldcrypt.Reveal{{Table: "vault", Column: "wide", Row: "7", Err: err, Plaintext: test.plaintext}}
		if diff := cmp.Diff(want, events, cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", name, diff)
		}
		// Set on another row it is encrypted, whatever it was stored as.
		if arg, err := wide.Value(s); test.err == nil {
			rec := &recorder{}
			err = fieldcrypt.NewDriver(rec, cfg).Exec(t.Context(), `UPDATE "vault" SET "wide" = $1 WHERE "id" = $2`, []any{arg, 8}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if plaintext, err := r.Decrypt(rec.args[0].(string)); err != nil || plaintext != test.want {
				t.Errorf("%s: written as %q, %v", name, plaintext, err)
			}
		} else if !errors.Is(err, test.err) {
			t.Errorf("%s: set on another row: %v", name, err)
		}
		// The query itself fails with Strict for what cannot be revealed, and for nothing else.
		cfg.Strict = true
		row.next = 0
		rows = query(t, row, cfg, selectAll)
		rows.Next()
		if err := rows.Scan(&id, wide.ScanValue()); !errors.Is(err, test.err) {
			t.Errorf("%s, strict: got %v, want %v", name, err, test.err)
		}
	}
}

// NULL is absent in the window as well.
func TestWindowNull(t *testing.T) {
	t.Parallel()
	cfg := fieldcrypt.DriverConfig{Keyring: ring(t, keyA), Strict: true, Plaintext: []fieldcrypt.ColumnInfo{column(t, "vault.wide")}}
	rows := query(t, &fakeRows{columns: []string{"wide"}, rows: [][]any{{nil}}}, cfg, selectAll)
	rows.Next()
	target := wide.ScanValue()
	if err := rows.Scan(target); err != nil {
		t.Fatal(err)
	}
	if s, err := wide.FromValue(target); err != nil || !s.IsZero() {
		t.Errorf("got %v, %v", s, err)
	}
}

// Plaintext is read of the columns that the window names, and of no others: not of one of the same name in another table, nor
// of one that is not known.
func TestWindowIsOfItsColumns(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		window, from, column string
		ok                   bool
	}{
		{"vault.narrow", `"vault"`, "narrow", true},
		{"vault.narrow", `"vault"`, "wide", false},
		{"vault.narrow", `"safe"`, "narrow", false},
		{"safe.narrow", `"safe"`, "narrow", true},
		{"vault.narrow", `"safe" JOIN "vault"`, "narrow", false}, // of which of the two?
		{"vault.narrow", `"vault"`, "alias", false},
	} {
		for _, strict := range []bool{false, true} {
			rows := query(t, &fakeRows{columns: []string{test.column}, rows: [][]any{{"PKA1B2C3D4"}}}, fieldcrypt.DriverConfig{
				Keyring: ring(t, keyA), Strict: strict, Plaintext: []fieldcrypt.ColumnInfo{column(t, test.window)},
			}, "SELECT * FROM "+test.from)
			rows.Next()
			var s fieldcrypt.Secret
			err := rows.Scan(&s)
			if err == nil {
				_, err = s.Reveal()
			}
			if test.ok != (err == nil) || !test.ok && !errors.Is(err, fieldcrypt.ErrNotEncrypted) {
				t.Errorf("%+v, strict %v: got %v", test, strict, err)
			}
		}
	}
}

func TestEncryptStored(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA, keyB)
	wide := column(t, "vault.wide")
	for name, test := range inWindow(t, ring(t, keyA)) {
		if name == "of another key" { // an earlier one
			test.err = nil
		}
		token, changed, err := r.EncryptStored(test.stored, fieldcrypt.Place{Column: wide}, fieldcrypt.Keep)
		if !errors.Is(err, test.err) || changed != (test.plaintext && test.err == nil) {
			t.Errorf("%s: got changed %v, %v, want %v", name, changed, err, test.err)
		}
		if !changed {
			if err == nil && token != test.stored {
				t.Errorf("%s: a token became another", name)
			}
			continue
		}
		if got, err := r.Decrypt(token); err != nil || got != test.want || r.Primary() != must(r.KeyOf(token)) {
			t.Errorf("%s: it opens as %q, %v", name, got, err)
		}
	}
	for name, test := range map[string]struct {
		stored string
		column fieldcrypt.ColumnInfo
		want   error
	}{
		"longest":             {strings.Repeat("x", 303), wide, nil},
		"too long":            {strings.Repeat("x", 304), wide, fieldcrypt.ErrTooLong},
		"longest of another":  {strings.Repeat("x", 15), column(t, "vault.narrow"), nil},
		"too long of another": {strings.Repeat("x", 16), column(t, "vault.narrow"), fieldcrypt.ErrTooLong},
		"not UTF-8":           {"text\xff", wide, fieldcrypt.ErrNotText},
	} {
		if _, changed, err := r.EncryptStored(test.stored, fieldcrypt.Place{Column: test.column}, fieldcrypt.Keep); !errors.Is(err, test.want) || changed != (test.want == nil) {
			t.Errorf("%s: got changed %v, %v, want %v", name, changed, err, test.want)
		}
	}
	if _, _, err := (*fieldcrypt.Keyring)(nil).EncryptStored("text", fieldcrypt.Place{Column: wide}, fieldcrypt.Keep); !errors.Is(err, fieldcrypt.ErrNoKey) {
		t.Errorf("without a keyring: %v", err)
	}
}

func TestDecryptStored(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA, keyB)
	for name, test := range map[string]struct {
		stored, want string
		changed      bool
		err          error
	}{
		"token":                    {seal(t, r, "text"), "text", true, nil},
		"of an earlier key":        {seal(t, ring(t, keyB), "text"), "text", true, nil},
		"of nothing":               {seal(t, r, ""), "", true, nil},
		"plaintext":                {"PKA1B2C3D4", "PKA1B2C3D4", false, nil},
		"empty":                    {"", "", false, nil},
		"damaged":                  {"gAAAA-plaintext", "", false, fieldcrypt.ErrCorrupt},
		"of a token":               {seal(t, r, seal(t, r, "text")), "", false, fieldcrypt.ErrLooksLikeToken},
		"of what looks like one":   {seal(t, r, "gAAAA"), "", false, fieldcrypt.ErrLooksLikeToken},
		"not UTF-8":                {seal(t, r, "text\xff"), "", false, fieldcrypt.ErrNotText},
		"that Postgres can't hold": {seal(t, r, "te\x00xt"), "", false, fieldcrypt.ErrNotText},
	} {
		got, changed, err := r.DecryptStored(test.stored, fieldcrypt.Place{})
		if got != test.want || changed != test.changed || !errors.Is(err, test.err) {
			t.Errorf("%s: got %q, %v, %v", name, got, changed, err)
		}
	}
	unknown := seal(t, ring(t, keyB), "text")
	if _, _, err := ring(t, keyA).DecryptStored(unknown, fieldcrypt.Place{}); !errors.Is(err, fieldcrypt.ErrUnknownKey) {
		t.Errorf("of another key: %v", err)
	}
	if _, _, err := (*fieldcrypt.Keyring)(nil).DecryptStored("text", fieldcrypt.Place{}); !errors.Is(err, fieldcrypt.ErrNoKey) {
		t.Errorf("without a keyring: %v", err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A driver for a column that is none is a mistake of the program.
func TestWindowOfNoColumn(t *testing.T) {
	t.Parallel()
	defer func() {
		if text, _ := recover().(string); !strings.Contains(text, `"vault.width"`) {
			t.Errorf("got panic %q", text)
		}
	}()
	fieldcrypt.NewDriver(&recorder{}, fieldcrypt.DriverConfig{Plaintext: []fieldcrypt.ColumnInfo{{Table: "vault", Name: "width"}}})
}

// Of a column of bytes, plaintext that is no text is encrypted like any other.
func TestEncryptStoredBytes(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	column := fieldcrypt.ColumnInfo{Table: "t", Name: "raw", Size: 500, Type: "[]byte"}
	token, changed, err := r.EncryptStored("raw\xff", fieldcrypt.Place{Column: column}, fieldcrypt.Keep)
	if err != nil || !changed || must(r.Decrypt(token)) != "raw\xff" {
		t.Errorf("got changed %v, %v", changed, err)
	}
}
