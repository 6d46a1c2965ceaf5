package column_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
)

// revealErrors has every error that revealing a stored secret may return. None
// quotes the value.
var revealErrors = map[string]error{
	"credent: decrypt vault.wide: " + fernet.ErrNotEncrypted.Error(): fernet.ErrNotEncrypted,
	"credent: decrypt vault.wide: " + fernet.ErrCorrupt.Error():      fernet.ErrCorrupt,
	"credent: decrypt vault.wide: " + fernet.ErrUnknownKey.Error():   fernet.ErrUnknownKey,
}

func FuzzScan(f *testing.F) {
	data, err := os.ReadFile("../fernet/testdata/verify.json")
	if err != nil {
		f.Fatal(err)
	}
	var vectors []struct{ Token string }
	if err := json.Unmarshal(data, &vectors); err != nil || len(vectors) == 0 {
		f.Fatal(err)
	}
	for _, v := range vectors {
		f.Add(v.Token)
		f.Add(v.Token + v.Token)
		f.Add(strings.TrimRight(v.Token, "="))
	}
	for _, token := range []string{
		"", "gAAAA", "PKA1B2C3D4E5F6G7H8I9", fieldcrypt.Redacted, "gAAAA\x00\xff",
		encrypt(f, ring(f, keyA), "text"),
	} {
		f.Add(token)
	}
	useDefault(f, keyA)
	r := ring(f, keyA)
	f.Fuzz(func(t *testing.T, value string) {
		want, wantErr := r.Decrypt(value)
		buffer := []byte(value)
		target := wide.ScanValue()
		if err := target.Scan(buffer); err != nil {
			t.Fatal(err)
		}
		clear(buffer)
		s, err := wide.FromValue(target)
		if err != nil || s.IsZero() {
			t.Fatalf("absent %v, %v", s.IsZero(), err)
		}
		got, err := s.Reveal()
		if got != want || (err == nil) != (wantErr == nil) {
			t.Errorf("got %q, %v, want %q, %v", got, err, want, wantErr)
		}
		if err != nil && !errors.Is(err, revealErrors[err.Error()]) {
			t.Errorf("got %v", err)
		}
	})
}
