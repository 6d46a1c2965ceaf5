package auditrow_test

import (
	"encoding/hex"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/auditrow"
	ring "github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

const (
	keyA = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="
	keyB = "EBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8="

	// Hash and MAC of newRow under keyA.
	pinnedHash = "cca922c91ebd34b809647cb46486f08de9e468fe77a44ac52e443a22d365212d"
	pinnedMAC  = "2e30ab2f0229e5dc09a00334c7e6dde4a3e8b2e7e0d3a7f411b722ea26bd74b5"
)

func newRow() auditrow.Row {
	return auditrow.Row{
		ID: uuid.MustParse("019a0000-0000-7000-8000-000000000001"), At: 1795775430123456,
		Writer: uuid.MustParse("019a0000-0000-4000-8000-000000000002"), Seq: 7, Prev: auditrow.Digest{1, 2, 3}, Rows: 1,
		Texts: auditrow.Texts{
			Action: "reveal", Actor: "ada", Tenant: "user-1", Table: "user_credentials", Column: "api_key", Row: "17",
			KeyID: "ff4b7028", Outcome: "ok", Request: "r-1", Note: "é", Signer: "ff4b7028",
		},
	}
}

func newKeys(t *testing.T, keys ...string) *auditrow.Keys {
	t.Helper()
	r, err := ring.New(keys[0], keys[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	k, err := auditrow.NewKeys(r)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestHash pins the encoding, because stored MACs depend on it. Python's
// hashlib computes the same hash.
func TestHash(t *testing.T) {
	t.Parallel()
	r := newRow()
	hash := r.Hash()
	if got := hex.EncodeToString(hash[:]); got != pinnedHash {
		t.Errorf("got %s, want %s", got, pinnedHash)
	}
	newKeys(t, keyA).Sign(&r)
	if got := hex.EncodeToString(r.MAC[:]); got != pinnedMAC {
		t.Errorf("got %s, want %s", got, pinnedMAC)
	}
}

// TestEachField changes each field and expects the MAC to detect it.
func TestEachField(t *testing.T) {
	t.Parallel()
	keys := newKeys(t, keyA)
	signed := newRow()
	keys.Sign(&signed)
	if _, answer := keys.Check(&signed); answer != auditrow.Valid {
		t.Fatalf("got %v", answer)
	}
	changed := 0
	var change func(r *auditrow.Row, v reflect.Value)
	change = func(r *auditrow.Row, v reflect.Value) {
		for i := range v.NumField() {
			field, name := v.Field(i), v.Type().Field(i).Name
			old := reflect.New(field.Type()).Elem()
			old.Set(field)
			switch {
			case name == "Place":
				continue
			case name == "Texts":
				change(r, field)
				continue
			case field.Kind() == reflect.String:
				field.SetString(field.String() + "x")
			case field.Kind() == reflect.Int64:
				field.SetInt(field.Int() + 1)
			default:
				field.Index(0).SetUint(field.Index(0).Uint() ^ 1)
			}
			if _, answer := keys.Check(r); answer == auditrow.Valid {
				t.Errorf("%s is not covered by the MAC", name)
			}
			changed++
			field.Set(old)
		}
	}
	r := signed
	change(&r, reflect.ValueOf(&r).Elem())
	if changed != 19 { // includes Malformed
		t.Errorf("%d fields were changed", changed)
	}
	// Moving characters from one field to the next changes the MAC.
	r = signed
	r.Actor, r.Tenant = r.Actor+r.Tenant[:1], r.Tenant[1:]
	if _, answer := keys.Check(&r); answer != auditrow.Forged {
		t.Error("fields run into each other")
	}
	if _, answer := newKeys(t, keyB).Check(&signed); answer != auditrow.Unknown {
		t.Errorf("another keyring: %v", answer)
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	links := make([]auditrow.Link, 300)
	ranges := make([]auditrow.Range, 300)
	for i := range links {
		links[i] = auditrow.Link{ID: uuid.New(), At: int64(i) - 5, Hash: auditrow.Digest{byte(i)}}
		ranges[i] = auditrow.Range{Writer: uuid.New(), To: int64(i) + 1, Hash: auditrow.Digest{byte(i)}}
		if i%2 == 0 {
			ranges[i].From, ranges[i].Prev = 1, auditrow.Digest{31: byte(i)}
		}
	}
	var gotLinks []auditrow.Link
	for _, r := range auditrow.Lines(auditrow.Texts{Action: "link"}, links) {
		some, err := auditrow.Links(r.Row)
		if err != nil || len(r.Row) > auditrow.MaxLines || int(r.Rows) != len(some) {
			t.Fatalf("%d lines of %d bytes: %v", r.Rows, len(r.Row), err)
		}
		gotLinks = append(gotLinks, some...)
	}
	if !slices.Equal(gotLinks, links) {
		t.Error("links changed in the round trip")
	}
	var gotRanges []auditrow.Range
	for _, r := range auditrow.Lines(auditrow.Texts{}, ranges) {
		some, err := auditrow.Ranges(r.Row)
		if err != nil {
			t.Fatal(err)
		}
		gotRanges = append(gotRanges, some...)
	}
	if !slices.Equal(gotRanges, ranges) {
		t.Error("ranges changed in the round trip")
	}
	none, err := auditrow.Ranges(auditrow.Lines[auditrow.Range](auditrow.Texts{}, nil)[0].Row)
	if err != nil || len(none) != 0 {
		t.Errorf("no lines: got %v, %v", none, err)
	}
}

// FuzzLines checks that any line that parses is written back unchanged.
func FuzzLines(f *testing.F) {
	f.Add(auditrow.Link{ID: uuid.New(), At: 1}.String())
	f.Add(auditrow.Range{Writer: uuid.New(), To: 1}.String())
	f.Add(auditrow.Range{Writer: uuid.New(), From: 1, To: 2}.String())
	f.Fuzz(func(t *testing.T, row string) {
		if links, err := auditrow.Links(row); err == nil {
			again, err := auditrow.Links(auditrow.Lines(auditrow.Texts{}, links)[0].Row)
			if err != nil || len(links) < 50 && !slices.Equal(again, links) {
				t.Errorf("%q: %v", row, err)
			}
		}
		if ranges, err := auditrow.Ranges(row); err == nil {
			again, err := auditrow.Ranges(auditrow.Lines(auditrow.Texts{}, ranges)[0].Row)
			if err != nil || len(ranges) < 50 && !slices.Equal(again, ranges) {
				t.Errorf("%q: %v", row, err)
			}
		}
	})
}

func TestClean(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{"plain é", "plain é"},
		{"12345678", "12345678"},
		{"123456789", "12345…"},
		{"1234é56789", "1234…"},
		{"a\x00b", "a\uFFFDb"},
		{"\xff", "\uFFFD"},
		{strings.Repeat("\xff\xff", 9), "\uFFFD"},
		{strings.Repeat("é", 9), "éé…"},
	} {
		got := auditrow.Clean(test.text, 8)
		if got != test.want || len(got) > 8 || !utf8.ValidString(got) {
			t.Errorf("%q: got %q, want %q", test.text, got, test.want)
		}
	}
}
