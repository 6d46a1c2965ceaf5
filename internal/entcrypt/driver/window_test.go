package driver_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/states"
)

// inWindow returns stored values, and what revealing them gives in a column
// that may hold plaintext.
func inWindow(t *testing.T, r *keyring.Ring) map[string]struct {
	stored, want string
	plaintext    bool
	err          error
} {
	t.Helper()
	token := encrypt(t, r, "text")
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
		"truncated":        {token[:50], "", false, fernet.ErrCorrupt},
		"prefix alone":     {"gAAAA", "", false, fernet.ErrCorrupt},
		"looks like one":   {"gAAAA-plaintext", "", false, fernet.ErrCorrupt},
		"of another key":   {encrypt(t, ring(t, keyB), "text"), "", false, fernet.ErrUnknownKey},
		"marker":           {fieldcrypt.Redacted, "", true, fieldcrypt.ErrRedacted},
	}
}

func TestWindowReads(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	for name, test := range inWindow(t, r) {
		var events []seal.Reveal
		cfg := driver.Config{
			Keyring: r, States: states.New(states.Encryption, states.Write, wideColumn),
			OnReveal: func(e seal.Reveal) { events = append(events, e) },
		}
		row := &fakeRows{columns: []string{"id", "wide"}, rows: [][]any{{int64(7), test.stored}}}
		rows := query(t, row, cfg, "Vault")
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
			t.Errorf("%s: the error quotes the stored value: %v", name, err)
		}
		want := []seal.Reveal{{Table: "vault", Column: "wide", Row: "7", Err: err, Plaintext: test.plaintext}}
		if err == nil && !test.plaintext {
			want[0].KeyID = r.Primary().ID()
		}
		if diff := cmp.Diff(want, events, cmpopts.IgnoreFields(seal.Reader{}, "Context"),
			cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", name, diff)
		}
		// Set on another row, it is encrypted, even if it was stored as
		// plaintext.
		value, err := wide.Value(s)
		if test.err == nil {
			rec := &recorder{}
			arg, _ := stamped(t, "vault", "wide", value, nil)
			if err := newDriver(t, rec, cfg).Exec(t.Context(), insert, []any{arg}, nil); err != nil {
				t.Fatal(err)
			}
			if plaintext, err := r.Decrypt(rec.args[0].(string)); err != nil || plaintext != test.want {
				t.Errorf("%s: written as %q, %v", name, plaintext, err)
			}
		} else if !errors.Is(err, test.err) {
			t.Errorf("%s: set on another row: %v", name, err)
		}
		// With VerifyOnRead, the query fails exactly if revealing fails.
		cfg.VerifyOnRead = true
		row.next = 0
		rows = query(t, row, cfg, "Vault")
		rows.Next()
		if err := rows.Scan(&id, wide.ScanValue()); !errors.Is(err, test.err) {
			t.Errorf("%s, strict: got %v, want %v", name, err, test.err)
		}
	}
}

// NULL is absent, in the window too.
func TestWindowNull(t *testing.T) {
	t.Parallel()
	cfg := driver.Config{Keyring: ring(t, keyA), VerifyOnRead: true, States: states.New(states.Encryption,
		states.Write, wideColumn)}
	rows := query(t, &fakeRows{columns: []string{"wide"}, rows: [][]any{{nil}}}, cfg, "Vault")
	rows.Next()
	target := wide.ScanValue()
	if err := rows.Scan(target); err != nil {
		t.Fatal(err)
	}
	if s, err := wide.FromValue(target); err != nil || !s.IsZero() {
		t.Errorf("got %v, %v", s, err)
	}
}

// Plaintext is read only from columns in the window, not from a column with the
// same name in another table, or from an unknown column.
func TestWindowIsOfItsColumns(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		window column.Column
		entity string
		column string
		want   error
	}{
		{narrowColumn, "Vault", "narrow", nil},
		{narrowColumn, "Vault", "wide", fernet.ErrNotEncrypted},
		{narrowColumn, "Safe", "narrow", fernet.ErrNotEncrypted},
		{safeColumn, "Safe", "narrow", nil},
		{narrowColumn, "Other", "narrow", seal.ErrWrongLocation}, // two tables have it
		{narrowColumn, "Vault", "alias", fernet.ErrNotEncrypted},
	} {
		for _, strict := range []bool{false, true} {
			rows := query(t, &fakeRows{columns: []string{test.column}, rows: [][]any{{"PKA1B2C3D4"}}}, driver.Config{
				Keyring: ring(t, keyA), VerifyOnRead: strict, States: states.New(states.Encryption,
					states.Write, test.window),
				Columns: []column.Column{wideColumn, narrowColumn, safeColumn},
			}, test.entity)
			rows.Next()
			var s fieldcrypt.Secret
			err := rows.Scan(&s)
			if (err != nil) != (strict && test.want != nil) {
				t.Errorf("%+v, strict %v: the scan gives %v", test, strict, err)
			}
			if err == nil {
				_, err = s.Reveal()
			}
			if !errors.Is(err, test.want) {
				t.Errorf("%+v, strict %v: got %v", test, strict, err)
			}
		}
	}
}
