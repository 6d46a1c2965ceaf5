package main

import (
	"path/filepath"
	"testing"

	"github.com/credent-go/credent/keyring"
)

func TestRun(t *testing.T) {
	t.Setenv("ENCRYPTION_KEY", keyring.GenerateKey())
	file := filepath.Join(t.TempDir(), "oauth.db")
	for range 2 { // the user is already connected the second time
		if err := run(t.Context(), file); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("ENCRYPTION_KEY", keyring.GenerateKey())
	if err := run(t.Context(), file); err == nil {
		t.Error("it starts with another key")
	}
}
