package driver_test

import (
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/states"
)

// TestReadBound reads tokens of every origin in a row of tenant b.
func TestReadBound(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA, keyB)
	inB := bound(t, r, rentedKey, "b")
	tokens := map[string]string{
		"its own":             encrypt(t, inB, "text"),
		"an earlier key's":    encrypt(t, bound(t, ring(t, keyB), rentedKey, "b"), "text"),
		"another tenant's":    encrypt(t, bound(t, r, rentedKey, "a"), "text"),
		"another column's":    encrypt(t, bound(t, r, rentedPIN, "b"), "text"),
		"another table's":     encrypt(t, bound(t, r, heldSecret, "b"), "text"),
		"unbound":             encrypt(t, r, "text"),
		"unbound, unknown":    encrypt(t, ring(t, keyC), "text"),
		"bound, unknown":      encrypt(t, bound(t, ring(t, keyC), rentedKey, "b"), "text"),
		"cut":                 encrypt(t, inB, "text")[:90],
		"no token":            "text",
		"unbound, previously": encrypt(t, ring(t, keyB), "text"),
	}
	opens := []string{"its own", "an earlier key's"}
	bare := []string{"unbound", "unbound, previously"}
	key := []column.Column{rentedKey}
	for name, test := range map[string]struct {
		cfg    driver.Config
		opens  []string
		tenant []any // other columns and their values
		all    error // the error for every secret that doesn't open
	}{
		"bound": {
			driver.Config{States: binding(states.Require, key...)},
			opens,
			[]any{"user_id", "b"},
			seal.ErrWrongLocation,
		},
		"window": {
			driver.Config{States: binding(states.Write, key...)},
			append(opens, bare...),
			[]any{"user_id", "b"},
			seal.ErrWrongLocation,
		},
		"window, unbound": {
			driver.Config{States: binding(states.Accept, key...)},
			append(opens, bare...),
			[]any{"user_id", "b"},
			seal.ErrWrongLocation,
		},
		"not bound": {
			driver.Config{States: binding(states.Require, rentedPIN)},
			bare,
			[]any{"user_id", "b"},
			fernet.ErrUnknownKey,
		},
		"no tenant": {
			driver.Config{States: binding(states.Require, key...)},
			nil,
			[]any{"other", "b"},
			seal.ErrNoTenant,
		},
		"NULL": {driver.Config{States: binding(states.Require, key...)}, nil, []any{"user_id", nil}, seal.ErrNoTenant},
	} {
		test.cfg.Keyring = r
		for kind, token := range tokens {
			result := &fakeRows{
				columns: []string{"id", "key", test.tenant[0].(string)},
				rows:    [][]any{{int64(1), token, test.tenant[1]}},
			}
			rows := query(t, result, test.cfg, "Rented")
			target := rented.ScanValue()
			var id sql.NullInt64
			var tenant sql.NullString
			if !rows.Next() {
				t.Fatal("no row")
			}
			if err := rows.Scan(&id, target, &tenant); err != nil {
				t.Fatal(err)
			}
			secret, err := rented.FromValue(target)
			if err != nil {
				t.Fatal(err)
			}
			got, err := secret.Reveal()
			want := error(nil)
			switch {
			case slices.Contains(test.opens, kind):
			case (kind == "cut" || kind == "no token") && test.opens != nil: // bound or not
				want = map[string]error{"cut": fernet.ErrCorrupt, "no token": fernet.ErrNotEncrypted}[kind]
			default:
				want = test.all
			}
			if !errors.Is(err, want) || (err == nil) != (got == "text") {
				t.Errorf("%s, %s: got %v, want %v", name, kind, err, want)
			}
			if kind == "unbound" && name == "bound" && !strings.Contains(err.Error(), "isn't bound") {
				t.Errorf("the error doesn't say that the token isn't bound: %v", err)
			}
			if kind == "another tenant's" && test.opens != nil && (!errors.Is(err, fernet.ErrUnknownKey) ||
				!errors.Is(err, fernet.ErrCorrupt)) {
				t.Errorf("%s: a moved token isn't ErrUnknownKey and ErrCorrupt: %v", name, err)
			}
		}
	}
}

// A tenant has the same text in every type that ent scans it into and that a
// statement may have.
func TestTenants(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	type custom string
	n, text := 42, "user-1"
	r := ring(t, keyA)
	value := func() any {
		v, err := held.Value(fieldcrypt.New("text"))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for name, test := range map[string]struct {
		tenant any
		want   string
	}{
		"string": {text, text}, "pointer": {&text, text}, "bytes": {[]byte(text), text}, "custom": {custom(text), text},
		"UUID": {id, id.String()}, "UUID pointer": {&id, id.String()}, "int": {n, "42"}, "int pointer": {&n, "42"},
		"uint8": {uint8(7), "7"}, "NullString": {sql.NullString{String: text, Valid: true}, text},
		"NullInt64": {&sql.NullInt64{Int64: -3, Valid: true}, "-3"},
		"Null":      {sql.Null[string]{V: text, Valid: true}, text},
		"empty":     {"", ""},
	} {
		rec := new(recorder)
		arg, _ := stamped(t, "held", "secret", value(), test.tenant)
		for _, arg := range []any{arg, stamp.At(fieldcrypt.New("text"), heldSecret, test.tenant)} {
			rec.changed = 1
			if err := newDriver(t, rec, driver.Config{Keyring: r}).Exec(t.Context(), insert, []any{arg},
				nil); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if _, err := bound(t, r, heldSecret, test.want).Decrypt(rec.executed[0].(string)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for name, tenant := range map[string]any{
		"nil": nil, "nil pointer": (*string)(nil), "NULL": sql.NullString{}, "bool": true, "struct": struct{}{},
		"secret": fieldcrypt.New("x"),
	} {
		arg, _ := stamped(t, "held", "secret", value(), tenant)
		for _, arg := range []any{arg, stamp.At(fieldcrypt.New("text"), heldSecret, tenant)} {
			rec := new(recorder)
			err := newDriver(t, rec, driver.Config{Keyring: r}).Exec(t.Context(), insert, []any{arg}, nil)
			if !errors.Is(err, seal.ErrNoTenant) || !strings.Contains(err.Error(), "org") || len(rec.calls) > 0 {
				t.Errorf("%s: got %v after %v, want ErrNoTenant", name, err, rec.calls)
			}
		}
	}
}

// A bound column that is read under another name can't be opened, nor can a
// column if several tables have its name. The errors say why. A token that
// isn't bound opens under another name only if no column requires more.
func TestReadByAnotherName(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	token := encrypt(t, bound(t, r, heldSecret, "b"), "text")
	other := column.Column{Client: "test", Entity: "Lost", Table: "lost", Name: "secret", Size: 500}
	for name, test := range map[string]struct {
		entity  string
		columns []string
		want    error
	}{
		"its own name":        {"Held", []string{"id", "secret", "org"}, nil},
		"alias":               {"Held", []string{"id", "alias", "org"}, fernet.ErrUnknownKey},
		"tenant not selected": {"Held", []string{"id", "secret", "other"}, seal.ErrNoTenant},
		"ambiguous":           {"Other", []string{"id", "secret", "org"}, seal.ErrWrongLocation},
	} {
		result := &fakeRows{columns: test.columns, rows: [][]any{{int64(1), token, "b"}}}
		rows := query(t, result, driver.Config{Keyring: r, Columns: []column.Column{heldSecret, other}}, test.entity)
		rows.Next()
		var (
			id     int64
			secret fieldcrypt.Secret
			tenant sql.NullString
		)
		if err := rows.Scan(&id, &secret, &tenant); err != nil {
			t.Fatal(err)
		}
		got, err := secret.Reveal()
		if !errors.Is(err, test.want) || (err == nil) != (got == "text") {
			t.Errorf("%s: got %q, %v, want %v", name, got, err, test.want)
		}
		if name == "alias" && !strings.Contains(err.Error(), "its own name") {
			t.Errorf("the error doesn't say what to do: %v", err)
		}
		// A secret that ent scans into the entity knows its column.
		if test.entity == "Held" && test.columns[2] == "org" {
			result.next = 0
			rows = query(t, result, driver.Config{Keyring: r, Columns: []column.Column{heldSecret, other}}, test.entity)
			rows.Next()
			target := held.ScanValue()
			if err := rows.Scan(&id, target, &tenant); err != nil {
				t.Fatal(err)
			}
			secret, err := held.FromValue(target)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := secret.Reveal(); err != nil || got != "text" {
				t.Errorf("%s, of the entity: got %q, %v", name, got, err)
			}
		}
	}
	rented := []column.Column{rentedKey, wideColumn}
	for name, test := range map[string]struct {
		states states.Table
		want   error
	}{
		"binding, write":       {binding(states.Write, rentedKey), nil},
		"binding, require":     {binding(states.Require, rentedKey), seal.ErrWrongLocation},
		"tenant keys, write":   {tenantKeys(states.Write), nil},
		"tenant keys, require": {tenantKeys(states.Require), seal.ErrWrongLocation},
	} {
		planted := &fakeRows{columns: []string{"id", "alias"}, rows: [][]any{{int64(1), encrypt(t, r, "text")}}}
		rows := query(t, planted, driver.Config{Keyring: r, Columns: rented, States: test.states}, "Rented")
		rows.Next()
		var (
			id     int64
			secret fieldcrypt.Secret
		)
		if err := rows.Scan(&id, &secret); err != nil {
			t.Fatal(err)
		}
		if got, err := secret.Reveal(); !errors.Is(err, test.want) || (err == nil) != (got == "text") ||
			err != nil && !strings.Contains(err.Error(), "its own name") {
			t.Errorf("%s: a planted token: got %q, %v, want %v", name, got, err, test.want)
		}
	}
}

// Errors name the row by its primary key, which may have any name.
func TestPrimaryKeyOfAnotherName(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ entity, column, secret, want string }{
		{"Ledger", "serial", "hook", "7"},
		{"Ledger", "id", "hook", ""},
		{"Vault", "id", "wide", "7"},
		{"Vault", "serial", "wide", ""},
		{"Other", "id", "unknown", "7"},
	} {
		result := &fakeRows{columns: []string{test.column, test.secret}, rows: [][]any{{int64(7), "gAAAA"}}}
		rows := query(t, result, driver.Config{Keyring: ring(t, keyA)}, test.entity)
		rows.Next()
		var (
			id int64
			s  fieldcrypt.Secret
		)
		if err := rows.Scan(&id, &s); err != nil {
			t.Fatal(err)
		}
		var detail *fieldcrypt.Error
		if _, err := s.Reveal(); !errors.As(err, &detail) || detail.Row != test.want {
			t.Errorf("%s, %s: got %v, want row %q", test.entity, test.column, err, test.want)
		}
	}
}
