package driver_test

import (
	"bytes"
	sqldriver "database/sql/driver"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"reflect"
	"runtime/debug"
	"strings"
	"testing"
	"text/template"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/davecgh/go-spew/spew"
	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
)

const canary = "PKCANARY7Qz4Wv9Tm2Xr5Lb8Nd3Hs6Jf1Gp0Ky"

// traces returns the substrings that give a text away in output: its parts of 9
// bytes, in every form that printers use for bytes. All are in lower case.
func traces(text string) []string {
	var all []string
	for i := 0; i+9 <= len(text) && i <= 18; i += 9 {
		part := []byte(text[i : i+9])
		all = append(all,
			string(part),
			hex.EncodeToString(part),
			fmt.Sprintf("% x", part),
			strings.ReplaceAll(fmt.Sprintf("%# x", part), " ", ", "),
			strings.Trim(fmt.Sprintf("%d", part), "[]"),
			strings.ReplaceAll(strings.Trim(fmt.Sprintf("%d", part), "[]"), " ", ","),
			base64.StdEncoding.EncodeToString(part),
			base64.URLEncoding.EncodeToString(part),
		)
	}
	for i := range all {
		all[i] = strings.ToLower(all[i])
	}
	return all
}

// leaks returns the first trace in output.
func leaks(output string, all []string) (trace string, found bool) {
	// Printers of bytes differ in their white space.
	output = strings.ToLower(strings.Join(strings.Fields(output), " "))
	for _, trace := range all {
		if strings.Contains(output, trace) {
			return trace, true
		}
	}
	return "", false
}

// printer prints a value as logs and messages may.
type printer struct {
	name  string
	print func(v any) string
}

// printers returns all printers. If one fails, its error counts as output.
func printers() []printer {
	all := []printer{
		{"fmt.Sprint", func(v any) string { return fmt.Sprint(v) }},
		{"fmt.Sprintln", func(v any) string { return fmt.Sprintln("value:", v) }},
		{"error", func(v any) string { return fmt.Errorf("outer: %w", fmt.Errorf("value %v", v)).Error() }},
		{"log", func(v any) string {
			var b strings.Builder
			log.New(&b, "", 0).Print(v)
			return b.String()
		}},
		{"slog text", func(v any) string {
			return logged(v, func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) })
		}},
		{"slog JSON", func(v any) string {
			return logged(v, func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) })
		}},
		{"JSON", func(v any) string { return encoded(json.Marshal(v)) }},
		{"XML", func(v any) string { return encoded(xml.Marshal(v)) }},
		{"YAML", func(v any) string { return encoded(yaml.Marshal(v)) }},
		{"gob", func(v any) string {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(v)
			return encoded(b.Bytes(), err)
		}},
		{"text/template", func(v any) string {
			var b strings.Builder
			t := template.Must(template.New("").Parse(`{{.}} {{printf "%+v" .}} {{print .}} {{html .}} {{js .}}`))
			return fmt.Sprint(t.Execute(&b, v), b.String())
		}},
		{"html/template", func(v any) string {
			var b strings.Builder
			t := htmltemplate.Must(htmltemplate.New("").Parse(`<a title="{{.}}">{{.}}</a><script>x = {{.}}</script>`))
			return fmt.Sprint(t.Execute(&b, v), b.String())
		}},
		{"spew", func(v any) string { return spew.Sdump(v) }},
		{"spew without methods", func(v any) string {
			config := spew.ConfigState{Indent: " ", DisableMethods: true, DisablePointerMethods: true}
			return config.Sdump(v) + config.Sprintf("%#+v", v)
		}},
		{"cmp", func(v any) string {
			var nothing any
			return cmp.Diff(nothing, v, cmp.Exporter(func(reflect.Type) bool { return true }))
		}},
		{"panic", func(v any) (out string) {
			defer func() { out = fmt.Sprint(recover(), string(debug.Stack())) }()
			panic(v)
		}},
	}
	for _, verb := range strings.Split("%v %+v %#v %s %q %+q %#q %x %X % x %#x %d %o %b %t %c %U %e %g %64.40s %z",
		" %") {
		verb = "%" + strings.TrimPrefix(verb, "%")
		all = append(all, printer{"fmt " + verb, func(v any) string { return fmt.Sprintf(verb, v) }})
	}
	for i, p := range all {
		all[i].print = func(v any) (out string) {
			defer func() {
				if r := recover(); r != nil {
					out = fmt.Sprint("panic: ", r)
				}
			}()
			return p.print(v)
		}
	}
	return all
}

func encoded(data []byte, err error) string { return fmt.Sprintf("%s %v %+v", data, err, err) }

func logged(v any, handler func(io.Writer) slog.Handler) string {
	var b strings.Builder
	logger := slog.New(handler(&b))
	logger.With("with", v).WithGroup("g").Info("message", "arg", v, slog.Group("group", "inner", v), "any", []any{v})
	return b.String()
}

// nested returns a value inside every kind of container.
func nested[T any](v T) map[string]any {
	type exported struct{ Field T }
	type unexported struct{ field T }
	type deep struct {
		Inner struct{ field *T }
		Any   any
	}
	d := deep{Any: v}
	d.Inner.field = &v
	return map[string]any{
		"itself":                v,
		"pointer":               &v,
		"exported field":        exported{v},
		"unexported field":      unexported{v},
		"pointer to unexported": &unexported{v},
		"deep":                  []any{map[string]any{"d": &d}},
		"slice":                 []T{v},
		"slice of pointers":     []*T{&v},
		"array":                 [1]T{v},
		"map":                   map[string]T{"key": v},
		"map of any":            map[any]any{"key": unexported{v}},
		"interface":             []any{v, &v},
		"function":              func() T { return v },
	}
}

// subject is a value that holds something secret, in every container.
type subject struct {
	name   string
	places map[string]any
}

func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	keyText := fernet.GenerateKey()
	r := ring(t, keyText, fernet.GenerateKey())
	token := encrypt(t, r, canary)
	foreign := encrypt(t, ring(t, fernet.GenerateKey()), canary)
	rawKey, err := base64.URLEncoding.DecodeString(keyText)
	if err != nil {
		t.Fatal(err)
	}
	var secrets []string
	// Without the token's first 9 characters, which all tokens have in common.
	for _, text := range []string{canary, keyText, string(rawKey), string(rawKey[16:]), token[20:], foreign[20:]} {
		secrets = append(secrets, traces(text)...)
	}

	subjects := subjectsOf(t, r, keyText, token, foreign)
	all := printers()
	for _, s := range subjects {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for place, v := range s.places {
				for _, p := range all {
					if trace, found := leaks(p.print(v), secrets); found {
						t.Errorf("%s, %s: %s printed %q", s.name, place, p.name, trace)
					}
				}
			}
		})
	}
}

func subjectsOf(t *testing.T, r *keyring.Ring, keyText, token, foreign string) []subject {
	t.Helper()
	cfg := driver.Config{Keyring: r}
	fresh, read := fieldcrypt.New(canary), scanned(t, token)
	result := &fakeRows{columns: []string{"id", "wide"}, rows: [][]any{{int64(1), foreign}}}
	rows := query(t, result, cfg, "Vault")
	rows.Next()
	target := wide.ScanValue()
	var id int64
	if err := rows.Scan(&id, target); err != nil {
		t.Fatal(err)
	}
	result.rows = nil // they hold the token, openly
	owned, err := wide.FromValue(target)
	if err != nil {
		t.Fatal(err)
	}
	arg, err := wide.Value(fresh)
	if err != nil {
		t.Fatal(err)
	}
	inserted, digest := stamped(t, "chest", "pin", must(chest.Value(fresh)), nil)
	selector := entsql.Select("*").From(entsql.Table("chest"))
	blindindex.Lookup(chestPIN, fresh)(selector)
	_, lookup := selector.Query()
	sealer, _, err := driver.NewSealer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	subjects := []subject{
		{"Secret", nested(fresh)},
		{"stored Secret", nested(read)},
		{"stored Secret with an opener", nested(read.OpenedBy(seal.NewOpenerAt(r, wideColumn, "", false)))},
		{"Value", nested(fieldcrypt.NewValue(map[string]string{canary: canary}))},
		{"Value of bytes", nested(fieldcrypt.NewValue([]byte(canary)))},
		{"stored Value", nested(storedValue(t, token))},
		{"Secret of a client", nested(owned)},
		{"Key", nested(*r.Primary())},
		{"pointer to Key", nested(r.Primary())},
		{"Keyring", nested(*r)},
		{"pointer to Keyring", nested(r)},
		{"TenantKey", nested(tenantkey.Key{Data: r.Primary()})},
		{"argument", nested(arg)},
		{"argument of a spec", nested(inserted)},
		{"argument itself", nested(*inserted.(*column.Arg))},
		{"digest", nested(digest)},
		{"digest itself", nested(*digest.(*column.Digest))},
		{"argument of At", nested(stamp.At(fresh, chestPIN, "b"))},
		{"argument of At, stored", nested(stamp.At(owned, chestPIN, nil))},
		{"argument of DigestOf", nested(stamp.DigestOf(fresh, chestPIN, nil))},
		{"guard", nested(&column.Guard{Columns: []column.Column{rentedKey}, Stored: "b", ID: 7})},
		{"refusal", nested(stamp.At(fieldcrypt.New(strings.Repeat(canary, 20)), wideColumn, nil))},
		{"digests", nested(lookup[0])},
		{"digests themselves", nested(*lookup[0].(*blindindex.Digests))},
		{"arguments", nested([]any{inserted, digest, lookup[0]})},
		{"scan target", nested(target)},
		{"driver", nested(newDriver(t, new(recorder), cfg))},
		{"driver's configuration", nested(cfg)},
		{"sealer", nested(sealer)},
		{"rows", nested(rows)},
		{"field", nested(wide)},
		{"opener", nested(seal.NewOpenerAt(r, heldSecret, "b", true))},
	}
	for name, err := range leakErrors(t, owned, keyText) {
		subjects = append(subjects,
			subject{name, nested(err)},
			subject{name + ", wrapped", nested(fmt.Errorf("outer: %w", errors.Join(err, io.EOF)))})
	}
	return subjects
}

func storedValue(t *testing.T, token string) (v fieldcrypt.Value[string]) {
	t.Helper()
	if err := v.Scan(token); err != nil {
		t.Fatal(err)
	}
	return v
}

// leakErrors returns the errors of every function that takes something secret.
func leakErrors(t *testing.T, unreadable fieldcrypt.Secret, keyText string) map[string]error {
	t.Helper()
	errs := make(map[string]error)
	_, errs["error of Reveal"] = unreadable.Reveal()
	_, errs["error of ParseKey"] = fernet.ParseKey(keyText + "A")
	_, errs["error of ParseKey, not base64"] = fernet.ParseKey(keyText[:43] + "!")
	_, errs["error of New"] = keyring.New(keyText, keyText)
	_, errs["error of Decrypt"] = ring(t, keyText).Decrypt(canary)
	_, errs["error of Field.Value"] = wide.Value(fieldcrypt.New(strings.Repeat(canary, 10)))
	_, errs["error of Field.Value, stored"] = wide.Value(unreadable)
	_, errs["error of Field.FromValue"] = wide.FromValue(canary)
	_, errs["error of MarshalJSON"] = json.Marshal(map[string]any{"a": fieldcrypt.New(canary), "b": func() {}})
	errs["error of UnmarshalJSON"] = json.Unmarshal([]byte(`{"`+canary+`":1}`), new(fieldcrypt.Secret))
	errs["error of Scan"] = new(fieldcrypt.Secret).Scan([]string{canary})
	drv := newDriver(t, new(recorder), driver.Config{Keyring: ring(t, keyText)})
	for name, arg := range map[string]any{
		"bare":      fieldcrypt.New(canary),
		"in a list": []fieldcrypt.Secret{fieldcrypt.New(canary)},
		"too long":  stamp.At(fieldcrypt.New(strings.Repeat(canary, 10)), wideColumn, nil),
		"no secret": stamp.At(canary, wideColumn, nil),
		"no digest": stamp.At(fieldcrypt.New(canary), chestPIN, nil),
		"digest":    stamp.DigestOf(fieldcrypt.New(canary), chestPIN, nil),
		"no tenant": stamp.At(fieldcrypt.New(canary), heldSecret, nil),
		"stored":    stamp.At(unreadable, wideColumn, nil),
	} {
		errs["error of Exec, "+name] = drv.Exec(t.Context(), insert, []any{arg}, nil)
		_, errs["error of database/sql, "+name] = sqldriver.DefaultParameterConverter.ConvertValue(arg)
	}
	for name, err := range errs {
		if err == nil {
			t.Errorf("%s: there is no error", name)
		}
	}
	return errs
}

// TestLeaksAreFound tests the detector, with the same printers and containers
// and types that don't redact.
func TestLeaksAreFound(t *testing.T) {
	t.Parallel()
	type open struct{ Text string }
	type closed struct{ text string }
	secrets := traces(canary)
	// Printers that see only exported fields.
	skips := map[string]bool{"JSON": true, "slog JSON": true, "XML": true, "YAML": true, "gob": true}
	for _, p := range printers() {
		if !find(p, canary, secrets) {
			t.Errorf("%s of a string: nothing found in %q", p.name, p.print(canary))
		}
		for place, v := range nested(closed{canary}) {
			if !skips[p.name] && place == "unexported field" && !find(p, v, secrets) {
				t.Errorf("%s of an %s: nothing found in %q", p.name, place, p.print(v))
			}
		}
		for place, v := range nested(open{canary}) {
			if place == "exported field" && !find(p, v, secrets) {
				t.Errorf("%s of an %s: nothing found in %q", p.name, place, p.print(v))
			}
		}
	}
	for name, output := range map[string]string{
		"hexadecimal": hex.EncodeToString([]byte(canary)), "base64": base64.StdEncoding.EncodeToString([]byte(canary)),
		"upper case": strings.ToUpper(canary), "hex dump": hex.Dump([]byte(canary)), "numbers": fmt.Sprintf("%d",
			[]byte(canary)),
		"Go syntax": fmt.Sprintf("%#v", []byte(canary)), "middle": canary[9:20],
	} {
		if _, found := leaks(output, secrets); !found {
			t.Errorf("%s: nothing found in %q", name, output)
		}
	}
	if trace, found := leaks("[REDACTED] PK CANARY", secrets); found {
		t.Errorf("found %q in harmless output", trace)
	}
}

func find(p printer, v any, secrets []string) bool {
	_, found := leaks(p.print(v), secrets)
	return found
}

// TestRedaction fails if a type doesn't print as the marker, even if the output
// is harmless.
func TestRedaction(t *testing.T) {
	t.Parallel()
	arg, err := wide.Value(fieldcrypt.New(canary))
	if err != nil {
		t.Fatal(err)
	}
	r := ring(t, keyA)
	inserted, digest := stamped(t, "chest", "pin", must(chest.Value(fieldcrypt.New(canary))), nil)
	selector := entsql.Select("*").From(entsql.Table("chest"))
	blindindex.Lookup(chestPIN, fieldcrypt.New(canary))(selector)
	_, lookup := selector.Query()
	for _, v := range []any{
		fieldcrypt.New(canary),
		fieldcrypt.Secret{},
		fieldcrypt.NewValue(canary),
		fieldcrypt.Value[int]{},
		r, r.Primary(), arg,
		inserted, digest, lookup[0], stamp.At(fieldcrypt.New(canary), wideColumn, nil),
		stamp.DigestOf(fieldcrypt.New(canary), chestPIN, nil),
		&column.Guard{Stored: canary}, &column.Refusal{Err: errors.New(canary)},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10s", "%z"} {
			if got := fmt.Sprintf(verb, v); got != fieldcrypt.Redacted {
				t.Errorf("%s of a %T: got %q", verb, v, got)
			}
		}
		if got := v.(fmt.Stringer).String() + v.(fmt.GoStringer).GoString(); got != fieldcrypt.Redacted+
			fieldcrypt.Redacted {
			t.Errorf("%T: got %q", v, got)
		}
		if got := logged(v, func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) }); strings.Count(got,
			fieldcrypt.Redacted) != 4 {
			t.Errorf("%T: got %s", v, got)
		}
	}
}

// TestCrash runs in a child process of TestPanicLeaksNothing.
func TestCrash(t *testing.T) {
	what := os.Getenv("FIELDCRYPT_TEST_CRASH")
	if what == "" {
		t.Skip("only as a child of TestPanicLeaksNothing")
	}
	r := ring(t, keyA)
	switch s := fieldcrypt.New(canary); what {
	case "string":
		panic(canary)
	case "Secret":
		panic(s)
	case "pointer":
		panic(&s)
	case "Keyring":
		panic(r)
	case "error":
		_, err := wide.Value(fieldcrypt.New(strings.Repeat(canary, 10)))
		panic(err)
	case "argument":
		panic(stamp.At(s, wideColumn, nil))
	}
}

// TestPanicLeaksNothing reads the runtime's output for an unrecovered panic.
func TestPanicLeaksNothing(t *testing.T) {
	t.Parallel()
	secrets := append(traces(canary), traces(keyA)...)
	for _, what := range []string{"string", "Secret", "pointer", "Keyring", "error", "argument"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrash$")
		cmd.Env = append(os.Environ(), "FIELDCRYPT_TEST_CRASH="+what, "GOTRACEBACK=all")
		output, err := cmd.CombinedOutput()
		if err == nil || !bytes.Contains(output, []byte("panic: ")) {
			t.Fatalf("%s: no panic: %v\n%s", what, err, output)
		}
		trace, found := leaks(string(output), secrets)
		if control := what == "string"; found != control {
			t.Errorf("panic with a %s: found %v %q", what, found, trace)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
