package blindindex_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

const (
	keyA = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=" // from the Fernet spec's vectors
	keyB = "3vYpT7mQx0bL2nKcR9sWfZ1gHjUe5aDq8iOy4MtXk6E="
)

// ring makes a keyring, or fails the test.
func ring(tb testing.TB, primary string, previous ...string) *keyring.Ring {
	tb.Helper()
	r, err := keyring.New(primary, previous...)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func set(tb testing.TB, primary string, previous ...string) blindindex.Keys {
	tb.Helper()
	s, err := keyring.Load(ring(tb, primary, previous...))
	if err != nil {
		tb.Fatal(err)
	}
	return blindindex.Keys{Set: s}
}

// The table chest has columns with blind indexes.
var (
	pin = register(column.Column{Client: "test", Table: "chest", Name: "pin", Size: 500, Index: "pin_index"},
		blindindex.Config{})
	code = register(column.Column{Client: "test", Table: "chest", Name: "code", Size: 500, Index: "code_index"},
		blindindex.Config{Bits: 12, Normalize: strings.ToLower})
	seat = register(column.Column{Client: "test", Table: "chest", Name: "seat", Size: 500, Index: "seat_index"},
		blindindex.Config{Unique: true})
)

func register(c column.Column, cfg blindindex.Config) column.Column {
	f := column.NewField(c.Name, c.Size)
	var digest any = blindindex.Field{Config: cfg} // as ent's descriptor holds it
	return column.Register(column.Binding{
		Column: c, Scanner: func() any { return f },
		Digest: func() any { return digest },
	})
}

// digestOf makes a digest as documented, without the package.
func digestOf(t *testing.T, key, column, plaintext string) []byte {
	t.Helper()
	raw, err := base64.URLEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	subkey, err := hkdf.Key(sha256.New, raw, nil, "credent blind index v1\x00chest\x00"+column, 32)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, subkey)
	mac.Write([]byte(plaintext))
	return mac.Sum(nil)
}

// Only the driver writes digests, and nobody reads them.
func TestField(t *testing.T) {
	t.Parallel()
	var f blindindex.Field
	if v, err := f.Value(blindindex.Stored{}); v != nil || err != nil {
		t.Errorf("got %v, %v", v, err)
	}
	target := f.ScanValue()
	if err := target.Scan([]byte("digest")); err != nil {
		t.Error(err)
	}
	if got, err := f.FromValue(target); err != nil || got != (blindindex.Stored{}) {
		t.Errorf("got %v, %v", got, err)
	}
	if fmt.Sprintf("%#v %v", target, target) != "blindindex.Discard{} {}" {
		t.Errorf("the target keeps something: %#v", target)
	}
}

// TestLookup prints the arguments that a logger between ent and Credent's
// driver sees, and encodes them as the database receives them.
func TestLookup(t *testing.T) {
	t.Parallel()
	var d blindindex.Digester
	for dialectName, wants := range map[string][2]string{
		dialect.Postgres: {
			`SELECT * FROM "chest" WHERE "chest"."pin_index" = ANY ((SELECT CASE WHEN $1::boolean AND EXISTS (SELECT 1 FROM "chest" AS ` +
				`credent_gap WHERE credent_gap."pin_index" IS NULL AND credent_gap."pin" IS NOT NULL ORDER BY credent_gap."pin_index" ` +
				`LIMIT 1) THEN 'credent: rows without a digest'::text::bytea[] ELSE $2::bytea[] END)::bytea[])`,
			`{"\\x%x","\\x%x"}`,
		},
		dialect.SQLite: {
			"SELECT * FROM `chest` WHERE `chest`.`pin_index` IN (SELECT unhex(value) FROM json_each(?))", `["%x","%x"]`,
		},
		dialect.MySQL: {},
	} {
		selector := entsql.Dialect(dialectName).Select("*").From(entsql.Table("chest"))
		blindindex.Lookup(pin, fieldcrypt.New("PKA1B2C3"))(selector)
		query, args := selector.Query()
		for _, text := range []string{
			fmt.Sprint(args...), fmt.Sprintf("%#v %+v %q", args, args, args),
			asJSON(t, args),
		} {
			if strings.Contains(text, "PKA1B2C3") || !strings.Contains(text, fieldcrypt.Redacted) {
				t.Errorf("%s: the arguments print as %s", dialectName, text)
			}
		}
		arg, ok := args[len(args)-1].(*blindindex.Digests)
		if !ok || len(args) > 2 {
			t.Fatalf("%s: the first argument is a %T", dialectName, args[0])
		}
		got, err := arg.Encode(&d, set(t, keyB, keyA))
		if dialectName == dialect.MySQL {
			if !errors.Is(err, errors.ErrUnsupported) || got != "" {
				t.Errorf("MySQL: got %q, %v", got, err)
			}
			continue
		}
		want := fmt.Sprintf(wants[1], digestOf(t, keyB, "pin", "PKA1B2C3"), digestOf(t, keyA, "pin", "PKA1B2C3"))
		if err != nil || query != wants[0] || got != want {
			t.Errorf("%s: got %s, %s, %v", dialectName, query, got, err)
		}
		if got, err := arg.Value(); got != nil || !errors.Is(err, fieldcrypt.ErrNoDriver) {
			t.Errorf("%s: without a driver: %v, %v", dialectName, got, err)
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A lookup that can't work fails with an error of its own.
func TestLookupErrors(t *testing.T) {
	t.Parallel()
	var d blindindex.Digester
	var unread fieldcrypt.Secret
	if err := unread.Scan("gAAAA-canary"); err != nil {
		t.Fatal(err)
	}
	errAny := errors.New("any error")
	for name, test := range map[string]struct {
		column column.Column
		value  any
		want   error
	}{
		"no index":   {column.Column{Table: "vault", Name: "wide", Size: 500}, fieldcrypt.New("text"), errAny},
		"absent":     {pin, fieldcrypt.Secret{}, errAny},
		"nil":        {pin, (*fieldcrypt.Secret)(nil), errAny},
		"text":       {pin, "canary", fieldcrypt.ErrValue},
		"unreadable": {pin, unread, fieldcrypt.ErrNoOpener},
		"not registered": {
			column.Column{Table: "t", Name: "c", Index: "i"},
			fieldcrypt.New("text"),
			column.ErrNotRegistered,
		},
	} {
		selector := entsql.Dialect(dialect.Postgres).Select("*").From(entsql.Table("chest"))
		blindindex.Lookup(test.column, test.value)(selector)
		_, args := selector.Query()
		arg := args[len(args)-1].(*blindindex.Digests)
		_, err := arg.Encode(&d, set(t, keyA))
		if err == nil || !errors.Is(test.want, errAny) && !errors.Is(err, test.want) ||
			strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		if _, again := arg.Value(); again == nil || name != "not registered" && again.Error() != err.Error() {
			t.Errorf("%s: without a driver: got %v, want %v", name, again, err)
		}
	}
	if _, err := func() (string, error) {
		selector := entsql.Dialect(dialect.SQLite).Select("*").From(entsql.Table("chest"))
		blindindex.Lookup(pin, fieldcrypt.NewValue([]byte("text")))(selector)
		_, args := selector.Query()
		return args[0].(*blindindex.Digests).Encode(&d, set(t, keyA))
	}(); err != nil {
		t.Errorf("a value: %v", err)
	}
}

// Digests have the configured bits of the normalized text, under each key. A
// unique index is claimed under all keys, in the same order in every process.
func TestDigestForms(t *testing.T) {
	t.Parallel()
	var d blindindex.Digester
	one, two := ring(t, keyA), ring(t, keyB, keyA)
	digest := func(r *keyring.Ring, c column.Column, text string) []byte {
		t.Helper()
		got, err := d.Primary(r, c, text)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := digest(one, pin, "text"); len(got) != 32 || bytes.Equal(got, digest(one, pin, "Text")) ||
		bytes.Equal(got, digest(two, pin, "text")) {
		t.Errorf("pin: %d bytes, or two texts or keys have the same digest", len(got))
	}
	if bytes.Equal(digest(one, pin, "text"), digest(one, seat, "text")) {
		t.Error("two columns have the same digest")
	}
	if got := digest(one, code, "TeXt"); len(got) != 2 || got[1]&0x0f != 0 ||
		!bytes.Equal(got, digest(one, code, "text")) {
		t.Errorf("code: %d bytes, or more than 12 bits, or not normalized", len(got))
	}
	all, err := d.All(two, pin, "text")
	if err != nil || len(all) != 2 || !bytes.Equal(all[0], digest(two, pin, "text")) ||
		!bytes.Equal(all[1], digest(one, pin, "text")) {
		t.Errorf("all: %d digests, or not the keys' digests, %v", len(all), err)
	}
	for c, least := range map[*column.Column]int{&pin: 0, &seat: 2} {
		first, steps, err := d.Claim(set(t, keyB, keyA), c, "text")
		if err != nil || len(steps) < least || least == 0 && len(steps) > 1 ||
			least > 0 && !bytes.Equal(first, steps[0]) {
			t.Errorf("%s: %d steps, %v", c, len(steps), err)
		}
		if last := append([][]byte{first}, steps...)[len(steps)]; !bytes.Equal(last, digest(two, *c, "text")) {
			t.Errorf("%s: the last digest isn't under the primary key", c)
		}
	}
	// Another row may have a digest under the key Also.
	beside := set(t, keyB)
	beside.Also = ring(t, keyA).Primary()
	_, steps, err := d.Claim(beside, &seat, "text")
	want := [][]byte{digest(one, seat, "text"), digest(two, seat, "text")}
	if slices.SortFunc(want, bytes.Compare); !bytes.Equal(want[1], digest(two, seat, "text")) {
		want = append(want, digest(two, seat, "text"))
	}
	if err != nil || !slices.EqualFunc(steps, want, bytes.Equal) {
		t.Errorf("with Also: %x, %v, want %x", steps, err, want)
	}
}

// TestEarlierNames makes a column's digests under all its names. A unique index
// claims them one after another, ending with the digest under the current name
// and the primary key.
func TestEarlierNames(t *testing.T) {
	t.Parallel()
	named := func(name, was string, unique bool) column.Column {
		return register(column.Column{Client: "names", Table: "chest", Name: name, Size: 500, Index: "index", Was: was},
			blindindex.Config{Unique: unique})
	}
	var d blindindex.Digester
	for _, unique := range []bool{false, true} {
		now := named(fmt.Sprint("lock", unique), "chest.bolt,chest.bar", unique)
		for _, keys := range [][]string{{keyA}, {keyA, keyB}} {
			r := ring(t, keys[0], keys[1:]...)
			var want [][]byte
			for _, name := range []string{now.Name, "bolt", "bar"} {
				for _, key := range keys {
					want = append(want, digestOf(t, key, name, "text"))
				}
			}
			got, err := d.All(r, now, "text")
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("All: %v\n%s", err, diff)
			}
			if primary, err := d.Primary(r, now, "text"); err != nil || !slices.Equal(primary, want[0]) {
				t.Errorf("Primary: %x, %v", primary, err)
			}
			first, steps, err := d.Claim(set(t, keys[0], keys[1:]...), &now, "text")
			if err != nil || !unique && (len(steps) > 0 || !slices.Equal(first, want[0])) {
				t.Errorf("Claim: %x, %x, %v", first, steps, err)
			}
			if !unique {
				continue
			}
			for _, digest := range want {
				if !slices.ContainsFunc(steps, func(step []byte) bool { return slices.Equal(step, digest) }) {
					t.Errorf("%x is not claimed", digest)
				}
			}
			if !slices.Equal(first, steps[0]) || !slices.Equal(steps[len(steps)-1], want[0]) {
				t.Errorf("Claim begins with %x and ends with %x", first, steps[len(steps)-1])
			}
		}
	}
}
