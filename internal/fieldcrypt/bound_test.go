package fieldcrypt_test

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// Columns with a tenant: of a schema that does not bind, and of one that does.
var (
	rented = fieldcrypt.NewField("key", 500)
	held   = fieldcrypt.NewField("secret", 500)
	_      = bind(
		fieldcrypt.Binding{ColumnInfo: rentedKey, Scanner: func() any { return rented }},
		fieldcrypt.Binding{ColumnInfo: rentedPIN},
		fieldcrypt.Binding{ColumnInfo: heldSecret, Scanner: func() any { return held }},
	)
	rentedKey  = fieldcrypt.ColumnInfo{Table: "rented", Name: "key", Size: 500, Type: "string", Tenant: "user_id"}
	rentedPIN  = fieldcrypt.ColumnInfo{Table: "rented", Name: "pin", Size: 500, Type: "string", Tenant: "user_id"}
	heldSecret = fieldcrypt.ColumnInfo{Table: "held", Name: "secret", Size: 500, Type: "string", Tenant: "org", Bound: true}
)

func bind(bindings ...fieldcrypt.Binding) bool {
	for i, b := range bindings {
		if b.Scanner == nil {
			bindings[i].Scanner = func() any { return nil }
		}
	}
	fieldcrypt.Bind(bindings...)
	return true
}

func bound(t *testing.T, r *fieldcrypt.Keyring, c fieldcrypt.ColumnInfo, tenant string) *fieldcrypt.Keyring {
	t.Helper()
	b, err := r.Bind(c, tenant)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The derived key was computed with Python's cryptography: HKDF(SHA256(), 32, None, info).derive(key).
func TestBindIsHKDF(t *testing.T) {
	t.Parallel()
	r := ring(t, "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=")
	b := bound(t, r, fieldcrypt.ColumnInfo{Table: "user_credentials", Name: "api_key"}, "user-1")
	want := ring(t, "1NVCm77I4PTgCZzQxTKm0LB0UJ5u8jLf4tXvyW762_0=")
	if got, err := want.Decrypt(seal(t, b, "text")); err != nil || got != "text" {
		t.Errorf("Python's key does not open it: %v", err)
	}
	if b.Primary().ID() != r.Primary().ID() {
		t.Error("a derived key has another ID than the one it comes from")
	}
	if _, err := (*fieldcrypt.Keyring)(nil).Bind(rentedKey, "a"); !errors.Is(err, fieldcrypt.ErrNoKey) {
		t.Errorf("no keyring: %v", err)
	}
}

func TestBoundTokensOpenNowhereElse(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA, keyB)
	places := []struct{ table, column, tenant string }{
		{"t", "c", "a"}, {"t", "c", "b"}, {"t", "d", "a"}, {"u", "c", "a"}, {"t", "c", ""}, {"t", "", "c\x00a"}, {"tc", "", "a"}, {"", "tc", "a"},
	}
	for _, from := range places {
		token := seal(t, bound(t, r, fieldcrypt.ColumnInfo{Table: from.table, Name: from.column}, from.tenant), "text")
		for _, to := range places {
			got, err := bound(t, r, fieldcrypt.ColumnInfo{Table: to.table, Name: to.column}, to.tenant).Decrypt(token)
			if from == to && (err != nil || got != "text") {
				t.Errorf("%q: %v", from, err)
			}
			if from != to && (!errors.Is(err, fieldcrypt.ErrUnknownKey) || got != "") {
				t.Errorf("from %q to %q: got %v", from, to, err)
			}
		}
		if _, err := r.Decrypt(token); !errors.Is(err, fieldcrypt.ErrUnknownKey) {
			t.Errorf("%q opens under the key itself: %v", from, err)
		}
	}
	if !strings.HasPrefix(seal(t, bound(t, r, rentedKey, "a"), ""), "gAAAA") {
		t.Error("not shaped like a token")
	}
}

// More places than are kept.
func TestManyTenants(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA, keyB)
	old := ring(t, keyB)
	for i := range 3000 {
		tenant := fmt.Sprint(i % 1500)
		if _, err := bound(t, r, rentedKey, tenant).Decrypt(seal(t, bound(t, old, rentedKey, tenant), "x")); err != nil {
			t.Fatal(err)
		}
	}
}

// What a client reads, of tokens from everywhere, in a row of the tenant b.
func TestReadBound(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA, keyB)
	inB := bound(t, r, rentedKey, "b")
	tokens := map[string]string{
		"its own":             seal(t, inB, "text"),
		"an earlier key's":    seal(t, bound(t, ring(t, keyB), rentedKey, "b"), "text"),
		"another tenant's":    seal(t, bound(t, r, rentedKey, "a"), "text"),
		"another column's":    seal(t, bound(t, r, rentedPIN, "b"), "text"),
		"another table's":     seal(t, bound(t, r, heldSecret, "b"), "text"),
		"unbound":             seal(t, r, "text"),
		"unbound, unknown":    seal(t, ring(t, keyC), "text"),
		"bound, unknown":      seal(t, bound(t, ring(t, keyC), rentedKey, "b"), "text"),
		"cut":                 seal(t, inB, "text")[:90],
		"no token":            "text",
		"unbound, previously": seal(t, ring(t, keyB), "text"),
	}
	opens := []string{"its own", "an earlier key's"}
	bare := []string{"unbound", "unbound, previously"}
	key := []fieldcrypt.ColumnInfo{rentedKey}
	for name, test := range map[string]struct {
		cfg    fieldcrypt.DriverConfig
		opens  []string
		tenant []any // columns beside the key, and what they hold
		all    error // of what does not open
	}{
		"bound":           {fieldcrypt.DriverConfig{Bound: key}, opens, []any{"user_id", "b"}, fieldcrypt.ErrContext},
		"window":          {fieldcrypt.DriverConfig{Bound: key, Unbound: key}, append(opens, bare...), []any{"user_id", "b"}, fieldcrypt.ErrContext},
		"window, unbound": {fieldcrypt.DriverConfig{Unbound: key}, append(opens, bare...), []any{"user_id", "b"}, fieldcrypt.ErrContext},
		"not bound":       {fieldcrypt.DriverConfig{Bound: []fieldcrypt.ColumnInfo{rentedPIN}}, bare, []any{"user_id", "b"}, fieldcrypt.ErrUnknownKey},
		"no tenant":       {fieldcrypt.DriverConfig{Bound: key}, nil, []any{"other", "b"}, fieldcrypt.ErrContext},
		"NULL":            {fieldcrypt.DriverConfig{Bound: key}, nil, []any{"user_id", nil}, fieldcrypt.ErrContext},
	} {
		test.cfg.Keyring = r
		for kind, token := range tokens {
			result := &fakeRows{columns: []string{"id", "key", test.tenant[0].(string)}, rows: [][]any{{int64(1), token, test.tenant[1]}}}
			rows := query(t, result, test.cfg, `SELECT * FROM "rented"`)
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
			case (kind == "cut" || kind == "no token") && test.opens != nil: // whatever the context
				want = map[string]error{"cut": fieldcrypt.ErrCorrupt, "no token": fieldcrypt.ErrNotEncrypted}[kind]
			default:
				want = test.all
			}
			if !errors.Is(err, want) || (err == nil) != (got == "text") {
				t.Errorf("%s, %s: got %v, want %v", name, kind, err, want)
			}
			if kind == "unbound" && name == "bound" && !strings.Contains(err.Error(), "not bound") {
				t.Errorf("the error does not say that the token is not bound: %v", err)
			}
			if kind == "another tenant's" && test.opens != nil && (!errors.Is(err, fieldcrypt.ErrUnknownKey) || !errors.Is(err, fieldcrypt.ErrCorrupt)) {
				t.Errorf("%s: a moved token is no ErrUnknownKey and ErrCorrupt: %v", name, err)
			}
		}
	}
}

// Rows of database/sql do not say whose they are; a caller can.
func TestInRow(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	target := held.ScanValue()
	if err := target.Scan(seal(t, bound(t, r, heldSecret, "b"), "text")); err != nil {
		t.Fatal(err)
	}
	secret, err := held.FromValue(target)
	if err != nil {
		t.Fatal(err)
	}
	secret = secret.WithKeyring(r)
	if _, err := secret.Reveal(); !errors.Is(err, fieldcrypt.ErrContext) {
		t.Errorf("without a tenant: %v", err)
	}
	if got, err := secret.InRow(heldSecret, "b").Reveal(); err != nil || got != "text" {
		t.Errorf("got %v", err)
	}
	if _, err := secret.InRow(heldSecret, "c").Reveal(); !errors.Is(err, fieldcrypt.ErrContext) {
		t.Errorf("another's: %v", err)
	}
	if got, err := fieldcrypt.New("new").InRow(heldSecret, "c").Reveal(); err != nil || got != "new" {
		t.Errorf("one that is not stored: %v", err)
	}
}

// Each type that ent scans a tenant into, and each that a statement may have, gives the same text.
func TestTenantText(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	type custom string
	n, text := 42, "user-1"
	r := ring(t, keyA)
	for name, test := range map[string]struct {
		arg  any
		want string
	}{
		"string": {text, text}, "pointer": {&text, text}, "bytes": {[]byte(text), text}, "custom": {custom(text), text},
		"UUID": {id, id.String()}, "UUID pointer": {&id, id.String()}, "int": {n, "42"}, "int pointer": {&n, "42"},
		"uint8": {uint8(7), "7"}, "NullString": {sql.NullString{String: text, Valid: true}, text},
		"NullInt64": {&sql.NullInt64{Int64: -3, Valid: true}, "-3"}, "Null": {sql.Null[string]{V: text, Valid: true}, text},
		"empty": {"", ""},
	} {
		rec := new(recorder)
		drv := fieldcrypt.NewDriver(rec, fieldcrypt.DriverConfig{Keyring: r})
		args := []any{fieldcrypt.New("text"), test.arg}
		if err := drv.Exec(t.Context(), `INSERT INTO "held" ("secret", "org") VALUES ($1, $2)`, args, nil); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := bound(t, r, heldSecret, test.want).Decrypt(rec.args[0].(string)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, arg := range map[string]any{
		"nil": nil, "nil pointer": (*string)(nil), "NULL": sql.NullString{}, "bool": true, "struct": struct{}{}, "secret": fieldcrypt.New("x"),
	} {
		drv := fieldcrypt.NewDriver(new(recorder), fieldcrypt.DriverConfig{Keyring: r})
		args := []any{fieldcrypt.New("text"), arg}
		err := drv.Exec(t.Context(), `INSERT INTO "held" ("secret", "org") VALUES ($1, $2)`, args, nil)
		if !errors.Is(err, fieldcrypt.ErrContext) {
			t.Errorf("%s: got %v, want ErrContext", name, err)
		}
	}
}

// A client without the driver cannot know whose a row is.
func TestBoundWithoutDriver(t *testing.T) {
	useDefault(t, keyA)
	value, err := held.Value(fieldcrypt.New("text"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := value.(driver.Valuer).Value(); !errors.Is(err, fieldcrypt.ErrContext) {
		t.Errorf("got %v", err)
	}
}

func TestBoundConfig(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]fieldcrypt.ColumnInfo{
		"none": {Table: "rented", Name: "none"}, "no tenant": {Table: "vault", Name: "wide"},
	} {
		for _, cfg := range []fieldcrypt.DriverConfig{{Bound: []fieldcrypt.ColumnInfo{c}}, {Unbound: []fieldcrypt.ColumnInfo{c}}} {
			func() {
				defer func() {
					if reason := recover(); reason == nil || !strings.Contains(fmt.Sprint(reason), c.String()) {
						t.Errorf("%s: %v", name, reason)
					}
				}()
				fieldcrypt.NewDriver(new(recorder), cfg)
			}()
		}
	}
}
