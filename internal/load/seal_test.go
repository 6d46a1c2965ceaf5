package load

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/hooks"
)

func newTestSealer(tb testing.TB) (*sealer, *keyring.Ring) {
	tb.Helper()
	ring, err := keyring.New(fernet.GenerateKey())
	if err != nil {
		tb.Fatal(err)
	}
	s, err := newSealer(dialect.Postgres, Sealing{
		Driver: driver.Config{Keyring: ring},
		NewClient: func(drv dialect.Driver) *ent.Client {
			client := ent.NewClient(ent.Driver(drv))
			hooks.Install(client, hooks.Config{})
			return client
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return s, ring
}

// sent is a driver that records the arguments of an INSERT by column.
type sent struct {
	recorder
	args map[string]any
}

var inserted = regexp.MustCompile(`^INSERT INTO "user_credentials" \(([^)]+)\) VALUES`)

// Exec implements dialect.ExecQuerier.
func (d *sent) Exec(_ context.Context, query string, args, _ any) error {
	match := inserted.FindStringSubmatch(query)
	argv, ok := args.([]any)
	if match == nil || !ok {
		return errOnlyCreate
	}
	names := strings.Split(match[1], ", ")
	if len(names) != len(argv) {
		return errOnlyCreate
	}
	d.args = make(map[string]any)
	for i, name := range names {
		d.args[strings.Trim(name, `"`)] = argv[i]
	}
	return nil
}

// created returns the values that a row's Create sends, in the order of
// columns.
func created(ctx context.Context, s *sealer, row Row) ([]any, error) {
	d := &sent{recorder: recorder{name: dialect.Postgres}}
	drv, err := driver.New(d, s.cfg.Driver)
	if err != nil {
		return nil, err
	}
	through := *s
	through.client = s.cfg.NewClient(drv)
	if _, err := through.create(ctx, row, nil); err != nil {
		return nil, err
	}
	values := make([]any, len(columns))
	for i, name := range columns {
		values[i] = d.args[name]
		delete(d.args, name)
	}
	if len(d.args) > 0 {
		return nil, errOnlyCreate
	}
	return values, nil
}

// TestQuickIsACreate checks that quick accepts only rows that a Create accepts,
// and returns the same values.
func TestQuickIsACreate(t *testing.T) {
	t.Parallel()
	at := time.Date(2027, 1, 31, 16, 0, 0, 123456789, time.FixedZone("", 3600))
	good := func(change func(*Row)) Row {
		row := Row{
			ID: uuid.New(), UserAccountID: uuid.New(), UserID: "user-1", CredentialType: "alpaca",
			APIKey: fieldcrypt.New("key"), SecretKey: fieldcrypt.New("secret"), CreatedAt: at, UpdatedAt: at,
		}
		change(&row)
		return row
	}
	stored := ent.UserCredential{}.APIKey
	for name, test := range map[string]struct {
		row   Row
		quick bool
	}{
		"least":    {good(func(*Row) {}), true},
		"expires":  {good(func(r *Row) { r.ExpiresAt = &at }), true},
		"inactive": {good(func(r *Row) { r.Inactive = true }), true},
		"empty secrets": {
			good(func(r *Row) { r.APIKey, r.SecretKey = fieldcrypt.New(""), fieldcrypt.New("") }),
			true,
		},
		"longest secret": {good(func(r *Row) { r.APIKey = fieldcrypt.New(strings.Repeat("x", 303)) }), true},
		"longest names": {good(
			func(r *Row) { r.UserID = strings.Repeat("é", 255); r.CredentialType = strings.Repeat("é", 50) }), true},
		"no account":            {good(func(r *Row) { r.UserAccountID = uuid.Nil }), false},
		"no user":               {good(func(r *Row) { r.UserID = "" }), false},
		"long user":             {good(func(r *Row) { r.UserID = strings.Repeat("é", 256) }), false},
		"no type":               {good(func(r *Row) { r.CredentialType = "" }), false},
		"long type":             {good(func(r *Row) { r.CredentialType = strings.Repeat("é", 51) }), false},
		"absent key":            {good(func(r *Row) { r.APIKey = stored }), false},
		"absent secret":         {good(func(r *Row) { r.SecretKey = stored }), false},
		"long secret":           {good(func(r *Row) { r.SecretKey = fieldcrypt.New(strings.Repeat("x", 304)) }), false},
		"redaction marker":      {good(func(r *Row) { r.APIKey = fieldcrypt.New(fieldcrypt.Redacted) }), false},
		"secret not UTF-8":      {good(func(r *Row) { r.APIKey = fieldcrypt.New("\xff") }), false},
		"secret key of no text": {good(func(r *Row) { r.SecretKey = fieldcrypt.New("a\xc3") }), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, ring := newTestSealer(t)
			quick := s.quick(test.row)
			if (quick != nil) != test.quick {
				t.Fatalf("quick: got %t, want %t", quick != nil, test.quick)
			}
			slow, err := created(t.Context(), s, test.row)
			if quick == nil {
				if err == nil && test.row.UserAccountID != uuid.Nil { // the database refuses it
					t.Fatal("a Create accepts it")
				}
				return
			}
			if err != nil {
				t.Fatalf("a Create refuses it: %v", err)
			}
			if len(quick) != len(columns) || len(slow) != len(columns) {
				t.Fatalf("got %d and %d values, want %d", len(quick), len(slow), len(columns))
			}
			for i, name := range columns {
				a, b := quick[i], slow[i]
				if name == usercredential.FieldAPIKey || name == usercredential.FieldSecretKey {
					a, b = opened(t, ring, a), opened(t, ring, b)
				}
				if diff := cmp.Diff(b, a); diff != "" {
					t.Errorf("%s, a Create's and the quick one:\n%s", name, diff)
				}
			}
		})
	}
}

// opened returns a token's plaintext.
func opened(t *testing.T, ring *keyring.Ring, value any) string {
	t.Helper()
	token, ok := value.(string)
	if !ok {
		t.Fatalf("got a %T for a token", value)
	}
	text, err := ring.Decrypt(token)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestQuickDefaults checks that quick applies a Create's defaults: a new key,
// the current time, active.
func TestQuickDefaults(t *testing.T) {
	t.Parallel()
	s, _ := newTestSealer(t)
	row := Row{
		UserAccountID: uuid.New(), UserID: "user-1", CredentialType: "alpaca",
		APIKey: fieldcrypt.New("key"), SecretKey: fieldcrypt.New("secret"),
	}
	before := time.Now().UTC().Truncate(time.Microsecond)
	for name, seal := range map[string]func() []any{
		"quick":    func() []any { return s.quick(row) },
		"a Create": func() []any { values, _ := created(t.Context(), s, row); return values },
	} {
		values := seal()
		if len(values) != len(columns) {
			t.Fatalf("%s: got %d values", name, len(values))
		}
		if id, err := uuid.Parse(fmt.Sprint(values[idPlace])); err != nil || id == uuid.Nil {
			t.Errorf("%s: id: got %v", name, values[idPlace])
		}
		for i, column := range columns {
			switch column {
			case usercredential.FieldCreatedAt, usercredential.FieldUpdatedAt:
				if at, ok := values[i].(time.Time); !ok || at.Before(before) || at.After(time.Now()) ||
					at.Location() != time.UTC {
					t.Errorf("%s: %s: got %v", name, column, values[i])
				}
			case usercredential.FieldIsActive:
				if values[i] != true {
					t.Errorf("%s: is_active: got %v", name, values[i])
				}
			case usercredential.FieldExpiresAt:
				if values[i] != nil {
					t.Errorf("%s: expires_at: got %v", name, values[i])
				}
			}
		}
	}
}

// TestColumns fails when the schema has a column that quick doesn't set.
func TestColumns(t *testing.T) {
	t.Parallel()
	want := []string{
		"id", "is_active", "created_at", "updated_at", "api_key_index", "user_account_id", "user_id", "credential_type",
		"api_key", "secret_key", "expires_at",
	}
	if diff := cmp.Diff(want, columns); diff != "" {
		t.Errorf("columns; bring quick up to date:\n%s", diff)
	}
	if columns[idPlace] != usercredential.FieldID {
		t.Error("the primary key's column has moved")
	}
}
