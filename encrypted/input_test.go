package encrypted_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/schema"
	_ "modernc.org/sqlite" // a database driver

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
)

// What GraphQL gives an input is the secret's text, and no printer shows it.
func TestInputUnmarshalGQL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		given any
		want  string
	}{
		{"CANARY", "CANARY"},
		{"", ""},
		{true, "true"},
		{map[string]any{"a": []any{"CANARY", 1.5}}, `{"a":["CANARY",1.5]}`},
	} {
		var in encrypted.Input
		if err := in.UnmarshalGQL(test.given); err != nil {
			t.Fatal(err)
		}
		if got, err := in.Reveal(); err != nil || got != test.want || in.IsZero() {
			t.Errorf("of %T: got %d bytes, %v", test.given, len(got), err)
		}
		var out bytes.Buffer
		in.MarshalGQL(&out)
		if printed := fmt.Sprintf("%v %+v %#v %s", in, in, &in, out.String()); strings.Contains(printed, "CANARY") ||
			!strings.HasSuffix(printed, `"[REDACTED]"`) {
			t.Errorf("it prints as %s", printed)
		}
	}
	in := encrypted.Input{Secret: encrypted.New("CANARY")}
	if err := in.UnmarshalGQL("[REDACTED]"); !errors.Is(err, encrypted.ErrRedacted) {
		t.Errorf("the redaction marker: got %v", err)
	}
	err := in.UnmarshalGQL(func() string { return "CANARY" })
	if err == nil || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("a function: got %v", err)
	}
	if err := in.UnmarshalGQL(nil); err != nil || !in.IsZero() {
		t.Errorf("null: got %v", err)
	}
}

// revealed returns what a setter is given for a text.
func revealed[T any](t *testing.T, text string) (got T, err error) {
	t.Helper()
	in := encrypted.Input{Secret: encrypted.New(text)}
	encrypted.SetInput(func(v encrypted.Value[T]) { got, err = v.Reveal() }, in)
	return got, err
}

// An input is decoded as its field's type, or fails without being quoted.
func TestSetInput(t *testing.T) {
	t.Parallel()
	if got, err := revealed[[]byte](t, "/wBDQU5BUlk="); err != nil || string(got) != "\xff\x00CANARY" {
		t.Errorf("bytes: %v", err)
	}
	want := time.Date(2031, 5, 6, 7, 8, 7, 5e8, time.UTC)
	if got, err := revealed[time.Time](t, "2031-05-06T09:08:07.5+02:00"); err != nil || !got.Equal(want) {
		t.Errorf("a time: %v, %v", got, err)
	}
	if got, err := revealed[map[string]int](t, `{"a":1}`); err != nil || got["a"] != 1 {
		t.Errorf("JSON: %v", err)
	}
	_, ofBytes := revealed[[]byte](t, "CANARY!")
	_, ofTime := revealed[time.Time](t, "CANARY")
	_, ofJSON := revealed[[]string](t, `["CANARY"`)
	_, ofType := revealed[[]string](t, `"CANARY"`)
	for _, err := range []error{ofBytes, ofTime, ofJSON, ofType} {
		if !errors.Is(err, encrypted.ErrValue) || strings.Contains(err.Error(), "CANARY") ||
			strings.Contains(err.Error(), "credent: ") {
			t.Errorf("got %v", err)
		}
	}
	absent := false
	encrypted.SetInput(func(v encrypted.Value[int]) { absent = v.IsZero() }, encrypted.Input{})
	if !absent {
		t.Error("an absent input sets a value")
	}
}

// annotation stands for entgql's of another package.
type annotation struct {
	Skip       int
	Directives []string `json:",omitempty"`
}

func (annotation) Name() string { return "EntGQL" }

// shown stands for one of entoas's.
type shown struct {
	Skip, ReadOnly bool
	Groups         []string
}

func (shown) Name() string { return "EntOAS" }

// A hidden field stays hidden, whatever annotations a schema's author adds.
func TestHiddenFromAPIs(t *testing.T) {
	t.Setenv(encrypted.ExtensionEnv, "1")
	const inputs = 16 | 32
	index := encrypted.BlindIndex("a").Fields()[0].Descriptor()
	for name, test := range map[string]struct {
		field *encrypted.Field
		skip  float64
	}{
		"hidden":      {encrypted.String("a"), 63},
		"input":       {encrypted.Time("a").APIInput(), 63 &^ inputs},
		"annotated":   {encrypted.Bytes("a").Annotations(annotation{Directives: []string{"d"}}), 63},
		"create only": {encrypted.String("a").APIInput().Annotations(annotation{Skip: 32}), 63 &^ 16},
		"no input":    {encrypted.String("a").Annotations(annotation{Skip: 16}).APIInput(), 63 &^ 32},
		"in a group":  {encrypted.String("a").Annotations(shown{Groups: []string{"g"}}), 63},
	} {
		if got := merged(t, test.field.Descriptor().Annotations, "EntGQL"); got["Skip"] != test.skip ||
			(name == "annotated") != (got["Directives"] != nil) {
			t.Errorf("%s: entgql has %v", name, got)
		}
		// ogent sets what is skipped and not read only as well.
		if got := merged(t, test.field.Descriptor().Annotations, "EntOAS"); got["Skip"] != true ||
			got["ReadOnly"] != true || (name == "in a group") != (got["Groups"] != nil) {
			t.Errorf("%s: entoas has %v", name, got)
		}
		if got := merged(t, test.field.Descriptor().Annotations, "ProtoSkip"); got == nil {
			t.Errorf("%s: entproto has the field", name)
		}
	}
	got := merged(t, index.Annotations, "EntGQL")
	if got["Skip"] != 63.0 || merged(t, index.Annotations, "ProtoSkip") == nil {
		t.Errorf("a digest: entgql has %v", got)
	}
}

// merged returns the annotations of a name as ent merges them, after JSON.
func merged(t *testing.T, all []schema.Annotation, name string) (values map[string]any) {
	t.Helper()
	var of schema.Annotation
	for _, a := range all {
		switch merger, ok := of.(schema.Merger); {
		case a.Name() != name:
		case of == nil:
			of = a
		case ok:
			of = merger.Merge(a)
		}
	}
	data, err := json.Marshal(of)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &values); err != nil {
		t.Fatal(err)
	}
	return values
}

// An input is a secret to the driver too: SQL that has one and doesn't say
// where it is stored is refused.
func TestInputInSQL(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", "file:"+t.TempDir()+"/input.db")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	drv, err := encrypted.NewDriver(entsql.OpenDB(dialect.SQLite, db), encrypted.Config{Keyring: ring})
	if err != nil {
		t.Fatal(err)
	}
	in := encrypted.Input{Secret: encrypted.New("CANARY")}
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE notes (body TEXT)"); err != nil {
		t.Fatal(err)
	}
	for name, arg := range map[string]any{
		"an input": in, "a pointer": &in, "a list": []any{in}, "a map": map[string]any{"a": in},
	} {
		err := drv.Exec(t.Context(), "INSERT INTO notes (body) VALUES (?)", []any{arg}, nil)
		if !errors.Is(err, encrypted.ErrNoLocation) || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
