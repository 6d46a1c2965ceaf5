package fernet_test

import (
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
)

// vector is an entry of verify.json or invalid.json. Their clocks and TTLs are
// ignored, since stored tokens don't expire.
type vector struct {
	Desc, Token, Src, Secret string
}

func vectors(tb testing.TB, file string) []vector {
	tb.Helper()
	data, err := os.ReadFile("testdata/" + file)
	if err != nil {
		tb.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(data, &all); err != nil {
		tb.Fatal(err)
	}
	if len(all) == 0 {
		tb.Fatalf("%s is empty", file)
	}
	return all
}

func TestVerifyVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "verify.json") {
		if got, err := ring(t, v.Secret).Decrypt(v.Token); err != nil || got != v.Src {
			t.Errorf("got %q, %v, want %q", got, err, v.Src)
		}
	}
}

// TestInvalidVectors runs every vector that the Fernet spec calls invalid. Two
// of them are invalid only by the clock, so they open here.
func TestInvalidVectors(t *testing.T) {
	t.Parallel()
	want := map[string]error{
		"incorrect mac":  fernet.ErrUnknownKey,
		"too short":      fernet.ErrCorrupt,
		"invalid base64": fernet.ErrNotEncrypted,
		"payload size not multiple of block size": fernet.ErrCorrupt,
		"payload padding error":                   fernet.ErrCorrupt,
		"incorrect IV (causes padding error)":     fernet.ErrCorrupt,
		"far-future TS (unacceptable clock skew)": nil,
		"expired TTL": nil,
	}
	got := make(map[string]error)
	for _, v := range vectors(t, "invalid.json") {
		plaintext, err := ring(t, v.Secret).Decrypt(v.Token)
		got[v.Desc] = err
		if err == nil && plaintext != "" { // both have an empty plaintext
			t.Errorf("%s: got %q, want an empty text", v.Desc, plaintext)
		}
	}
	same := cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) && errors.Is(b, a) })
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
}
