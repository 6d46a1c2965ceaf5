package credent_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/open/sqlite"
)

// TestDefaultKeyringReloads rewrites the file of the default keyring: clients
// without their own keyring follow.
func TestDefaultKeyringReloads(t *testing.T) {
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	path := filepath.Join(t.TempDir(), "keys")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, oldKey)
	for _, name := range []string{"ENCRYPTION_KEY", "ENCRYPTION_KEY_PREVIOUS", "ENCRYPTION_KEY_PREVIOUS_FILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("ENCRYPTION_KEY_FILE", path)
	ring, err := keyring.Default()
	if err != nil {
		t.Fatal(err)
	}
	// Examples may have loaded it from the environment before. This test is
	// about its changes.
	if _, err := ring.ReplaceRemovingPrimary(ringOf(t, oldKey)); err != nil {
		t.Fatal(err)
	}
	client, err := credent.Open(t.Context(), "sqlite::memory:", credent.Config{Migrate: true},
		credent.WithDriver(sqlite.Driver()))
	if err != nil {
		t.Fatal(err)
	}
	defer closeClient(client)
	store(client)
	events := make(chan keyring.Event, 100)
	watched, err := keyring.Watch(t.Context(), keyring.EnvSource, keyring.WatchConfig{
		Interval: time.Millisecond, Keyring: ring, Observe: func(e keyring.Event) { events <- e },
	})
	if err != nil || watched != ring {
		t.Fatalf("got %v, %v", watched, err)
	}
	before := client.UserCredential.Query().OnlyX(t.Context())

	previous := filepath.Join(t.TempDir(), "previous")
	write(previous, oldKey)
	write(path+".new", newKey)
	// Changes only this process's environment; for a moment, the keyring has
	// the key twice.
	t.Setenv("ENCRYPTION_KEY_PREVIOUS_FILE", previous)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	for e := range events {
		if e.Err == nil {
			break
		}
		if !errors.Is(e.Err, keyring.ErrBadKey) || strings.Contains(e.Err.Error(), oldKey[:8]) {
			t.Fatal(e.Err)
		}
	}
	for name, secret := range map[string]credent.Secret{
		"read before": before.APIKey, "read after": client.UserCredential.Query().OnlyX(t.Context()).APIKey,
	} {
		if got, err := secret.Reveal(); err != nil || got != "PK-MADE-UP" {
			t.Errorf("%s: revealed %q, %v", name, got, err)
		}
	}
	if got, want := ring.Primary().ID(), ringOf(t, newKey).Primary().ID(); got != want {
		t.Errorf("primary key %s, want %s", got, want)
	}
}

func ringOf(t *testing.T, primary string) *keyring.Keyring {
	t.Helper()
	ring, err := keyring.New(primary)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}
