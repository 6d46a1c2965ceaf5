package main

import (
	"path/filepath"
	"testing"

	"github.com/credent-go/credent"
)

func TestRun(t *testing.T) {
	t.Setenv("ENCRYPTION_KEY", credent.GenerateKey())
	url := "sqlite:" + filepath.Join(t.TempDir(), "service.db")
	for range 2 { // the second time the account is there
		if err := run(t.Context(), url); err != nil {
			t.Fatal(err)
		}
	}
	client, err := credent.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	stored := client.UserCredential.Query().OnlyX(t.Context())
	if apiKey, err := stored.APIKey.Reveal(); err != nil || apiKey != "PKMADEUP0123456789AB" {
		t.Errorf("stored %q, %v", apiKey, err)
	}
}
