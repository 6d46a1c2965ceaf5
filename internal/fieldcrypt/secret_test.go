package fieldcrypt_test

import (
	"bytes"
	"database/sql"
	"database/sql/driver"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/keysource"
)

var (
	_ sql.Scanner = (*fieldcrypt.Secret)(nil)
	_ error       = (*fieldcrypt.Error)(nil)
)

func TestSecretNew(t *testing.T) {
	t.Parallel()
	for name, plaintext := range plaintexts {
		s := fieldcrypt.New(plaintext)
		if got, err := s.Reveal(); err != nil || got != plaintext {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if s.IsZero() {
			t.Errorf("%s: the secret is absent", name)
		}
	}
	var zero fieldcrypt.Secret
	if got, err := zero.Reveal(); err != nil || got != "" || !zero.IsZero() {
		t.Errorf("absent: got %q, %v", got, err)
	}
}

func TestSecretEqual(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	var (
		zero    fieldcrypt.Secret
		empty   = fieldcrypt.New("")
		text    = fieldcrypt.New("text")
		read    = fieldcrypt.Stored(encrypt(t, r, "text"), opener(r))
		damaged = fieldcrypt.Stored(encrypt(t, ring(t, keyB), "text"), opener(r))
	)
	for name, test := range map[string]struct {
		a, b fieldcrypt.Secret
		want bool
	}{
		"absent":               {zero, fieldcrypt.Secret{}, true},
		"absent and empty":     {zero, empty, false},
		"absent and damaged":   {zero, damaged, false},
		"same":                 {text, fieldcrypt.New("text"), true},
		"copy":                 {text, text, true},
		"other":                {text, fieldcrypt.New("texts"), false},
		"other case":           {text, fieldcrypt.New("Text"), false},
		"plaintext and stored": {text, read, true},
		"two tokens":           {read, fieldcrypt.Stored(encrypt(t, r, "text"), opener(r)), true},
		"damaged":              {damaged, damaged, false},
		"damaged and same":     {damaged, text, false},
	} {
		if got := test.a.Equal(test.b); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
		if got := test.b.Equal(test.a); got != test.want {
			t.Errorf("%s, the other way: got %v", name, got)
		}
	}
}

// A secret that database/sql scanned has no keyring until OpenedBy sets one.
func TestSecretRevealStored(t *testing.T) {
	t.Setenv(keysource.EnvKey, keyA) // must not be used
	r := ring(t, keyB, keyA)
	s := scanned(t, encrypt(t, ring(t, keyA), "text"))
	var detail *fieldcrypt.Error
	if got, err := s.Reveal(); got != "" || !errors.Is(err, fieldcrypt.ErrNoOpener) || !errors.As(err, &detail) ||
		detail.Op != "decrypt" {
		t.Errorf("without a keyring: got %q, %v, want ErrNoOpener", got, err)
	}
	if s.IsZero() {
		t.Error("a stored secret is absent")
	}
	if got, err := s.OpenedBy(opener(new(keyring.Ring))).Reveal(); got != "" || !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("without a key: got %q, %v, want ErrNoKey", got, err)
	}
	if got, err := s.OpenedBy(opener(r)).Reveal(); err != nil || got != "text" {
		t.Errorf("with a key: got %q, %v", got, err)
	}
	if _, err := s.Reveal(); !errors.Is(err, fieldcrypt.ErrNoOpener) {
		t.Errorf("OpenedBy changed the secret: %v", err)
	}
	if got, err := fieldcrypt.New("new").OpenedBy(opener(r)).Reveal(); err != nil || got != "new" {
		t.Errorf("a secret that isn't stored: got %q, %v", got, err)
	}
	if absent := (fieldcrypt.Secret{}).OpenedBy(opener(r)); !absent.IsZero() {
		t.Error("an absent secret is present")
	}
	for name, test := range map[string]struct {
		value string
		want  error
	}{
		"foreign key": {encrypt(t, ring(t, keyC), "text"), fernet.ErrUnknownKey},
		"truncated":   {encrypt(t, ring(t, keyA), "text")[:60], fernet.ErrCorrupt},
		"plaintext":   {"PKA1B2C3D4E5F6G7H8I9", fernet.ErrNotEncrypted},
		"empty":       {"", fernet.ErrNotEncrypted},
	} {
		got, err := scanned(t, test.value).OpenedBy(opener(r)).Reveal()
		var detail *fieldcrypt.Error
		if got != "" || !errors.Is(err, test.want) || !errors.As(err, &detail) || detail.Op != "decrypt" {
			t.Errorf("%s: got %q, %v, want %v", name, got, err, test.want)
		}
	}
}

func TestSecretScan(t *testing.T) {
	t.Parallel()
	token := encrypt(t, ring(t, keyA), "text")
	opens := opener(ring(t, keyA))

	buffer := []byte(token)
	var s fieldcrypt.Secret
	if err := s.Scan(buffer); err != nil {
		t.Fatal(err)
	}
	clear(buffer) // drivers reuse it for the next row
	if got, err := s.OpenedBy(opens).Reveal(); err != nil || got != "text" {
		t.Errorf("[]byte: got %q, %v", got, err)
	}

	if err := s.Scan(token); err != nil {
		t.Fatal(err)
	}
	if got, err := s.OpenedBy(opens).Reveal(); err != nil || got != "text" {
		t.Errorf("string: got %q, %v", got, err)
	}

	if err := s.Scan(nil); err != nil || !s.IsZero() {
		t.Errorf("NULL: got %v, absent %v", err, s.IsZero())
	}

	const canary = 4711_0815
	for _, src := range []any{int64(canary), float64(canary), true, []string{token}, struct{}{}} {
		s := fieldcrypt.New("before")
		err := s.Scan(src)
		if !errors.Is(err, fernet.ErrNotEncrypted) {
			t.Errorf("%T: got %v, want ErrNotEncrypted", src, err)
		} else if strings.Contains(err.Error(), "4711") || strings.Contains(err.Error(), token) {
			t.Errorf("%T: the error quotes the value: %v", src, err)
		}
	}
}

func TestSecretJSON(t *testing.T) {
	t.Parallel()
	type config struct {
		Key fieldcrypt.Secret `json:"key"`
	}
	for name, test := range map[string]struct {
		in   string
		want fieldcrypt.Secret
		err  error
	}{
		"string":     {`{"key":"PK\u0041\n"}`, fieldcrypt.New("PKA\n"), nil},
		"non-ASCII":  {`{"key":"ключ"}`, fieldcrypt.New("ключ"), nil},
		"empty":      {`{"key":""}`, fieldcrypt.New(""), nil},
		"null":       {`{"key":null}`, fieldcrypt.Secret{}, nil},
		"missing":    {`{}`, fieldcrypt.Secret{}, nil},
		"marker":     {`{"key":"[REDACTED]"}`, fieldcrypt.Secret{}, fieldcrypt.ErrRedacted},
		"escaped":    {`{"key":"\u005bREDACTED]"}`, fieldcrypt.Secret{}, fieldcrypt.ErrRedacted},
		"number":     {`{"key":4711}`, fieldcrypt.Secret{}, errAny},
		"object":     {`{"key":{"a":"canary4711"}}`, fieldcrypt.Secret{}, errAny},
		"array":      {`{"key":["canary4711"]}`, fieldcrypt.Secret{}, errAny},
		"not UTF-8":  {"{\"key\":\"canary4711\xff\"}", fieldcrypt.Secret{}, errAny},
		"pair":       {`{"key":"\\\uD83D\uDE00\ufffd"}`, fieldcrypt.New("\\😀\ufffd"), nil},
		"high half":  {`{"key":"4711\ud800cd"}`, fieldcrypt.Secret{}, errAny},
		"low half":   {`{"key":"4711\ude00"}`, fieldcrypt.Secret{}, errAny},
		"two highs":  {`{"key":"4711\ud83d\ud83d"}`, fieldcrypt.Secret{}, errAny},
		"half, text": {`{"key":"4711\ud83d\\ude00"}`, fieldcrypt.Secret{}, errAny},
		"true":       {`{"key":true}`, fieldcrypt.Secret{}, errAny},
		"incomplete": {`{"key":"canary4711`, fieldcrypt.Secret{}, errAny},
	} {
		var got config
		err := json.Unmarshal([]byte(test.in), &got)
		switch {
		case test.err == nil && err != nil, test.err != nil && err == nil:
			t.Errorf("%s: got error %v, want %v", name, err, test.err)
		case test.err != nil && !errors.Is(test.err, errAny) && !errors.Is(err, test.err):
			t.Errorf("%s: got error %v, want %v", name, err, test.err)
		case err != nil && strings.Contains(err.Error(), "4711"):
			t.Errorf("%s: the error quotes the input: %v", name, err)
		case !got.Key.Equal(test.want):
			t.Errorf("%s: got a different secret", name)
		}
	}

	// Marshaled secrets can't be unmarshaled, except absent ones.
	for want, s := range map[string]fieldcrypt.Secret{
		`{"key":"[REDACTED]"}`: fieldcrypt.New("text"), `{"key":null}`: {},
	} {
		data, err := json.Marshal(config{s})
		if err != nil || string(data) != want {
			t.Errorf("got %s, %v, want %s", data, err, want)
		}
		var back config
		if err := json.Unmarshal(data, &back); !s.IsZero() && !errors.Is(err, fieldcrypt.ErrRedacted) {
			t.Errorf("got %v, want ErrRedacted", err)
		}
	}
}

// errAny stands for an error of any kind in tables.
var errAny = errors.New("any error")

func TestSecretText(t *testing.T) {
	t.Parallel()
	var s fieldcrypt.Secret
	text := []byte("text")
	if err := s.UnmarshalText(text); err != nil {
		t.Fatal(err)
	}
	clear(text)
	if !s.Equal(fieldcrypt.New("text")) {
		t.Error("the text was not copied")
	}
	if err := s.UnmarshalText([]byte(fieldcrypt.Redacted)); !errors.Is(err, fieldcrypt.ErrRedacted) {
		t.Errorf("marker: got %v, want ErrRedacted", err)
	}
	if !s.Equal(fieldcrypt.New("text")) {
		t.Error("a refused text replaced the secret")
	}
	if data, err := s.MarshalText(); err != nil || string(data) != fieldcrypt.Redacted {
		t.Errorf("got %s, %v", data, err)
	}
}

func TestSecretGob(t *testing.T) {
	t.Parallel()
	err := gob.NewEncoder(new(bytes.Buffer)).Encode(struct{ Key fieldcrypt.Secret }{fieldcrypt.New("text")})
	if err == nil || !strings.Contains(err.Error(), "cannot be gob-encoded") {
		t.Errorf("got %v", err)
	}
}

// TestSecretIsNoArgument passes a secret to database/sql without Credent's
// driver, which must refuse it.
func TestSecretIsNoArgument(t *testing.T) {
	t.Parallel()
	s := fieldcrypt.New("text")
	for _, arg := range []any{s, &s} {
		if v, err := driver.DefaultParameterConverter.ConvertValue(arg); !errors.Is(err, fieldcrypt.ErrNoDriver) {
			t.Errorf("%T becomes a %T, %v, want ErrNoDriver", arg, v, err)
		}
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]*fieldcrypt.Error{
		"credent: scan: damaged token": {Op: "scan", Err: fernet.ErrCorrupt},
		"credent: decrypt t.c of row 7: damaged token": {
			Op: "decrypt", Table: "t", Column: "c", Row: "7",
			Err: fernet.ErrCorrupt,
		},
		"credent: encrypt t.c: secret too long: 9 of 5": {
			Op: "encrypt", Table: "t", Column: "c",
			Err: fmt.Errorf("%w: 9 of 5", column.ErrTooLong),
		},
	} {
		if got := err.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if !errors.Is(fmt.Errorf("outer: %w", err), errors.Unwrap(err)) {
			t.Errorf("%v does not unwrap", err)
		}
	}
}

func TestRowText(t *testing.T) {
	t.Parallel()
	type named string
	id := uuid.New()
	for _, test := range []struct {
		id   any
		want string
	}{
		{nil, ""},
		{7, "7"},
		{int64(-7), "-7"},
		{uint8(7), "7"},
		{"seven", "seven"},
		{named("seven"), "seven"},
		{id, id.String()},
		{sql.NullInt64{Int64: 7, Valid: true}, "7"},
		{sql.NullInt64{}, ""},
		{sql.NullString{String: "seven", Valid: true}, "seven"},
		{sql.NullString{}, ""},
		{[]byte("seven"), ""},
		{true, ""},
		{struct{}{}, ""},
	} {
		if got := fieldcrypt.RowText(test.id); got != test.want {
			t.Errorf("%T %v: got %q, want %q", test.id, test.id, got, test.want)
		}
	}
}
