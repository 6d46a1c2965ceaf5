package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/credenttest"
)

func TestMain(m *testing.M) { os.Exit(credenttest.Main(m)) }

func TestRun(t *testing.T) {
	t.Setenv("ENCRYPTION_KEY", credent.GenerateKey())
	url := "sqlite:" + filepath.Join(t.TempDir(), "service.db")
	for range 2 { // the second time the account is there
		if err := run(t.Context(), url, ""); err != nil {
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

// As a member of credent_app it works for its user, and as the owner it is refused.
func TestRunAsMember(t *testing.T) {
	t.Setenv("ENCRYPTION_KEY", credent.GenerateKey())
	owner := credenttest.EmptyURL(t)
	if err := run(t.Context(), owner, ""); err != nil {
		t.Fatal(err)
	}
	service := credenttest.AppURL(t, owner)
	for range 2 {
		if err := run(t.Context(), service, owner); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(t.Context(), owner+"&application_name=service", owner); !errors.Is(err, credent.ErrRowSecurity) {
		t.Errorf("as the owner: %v", err)
	}
}
