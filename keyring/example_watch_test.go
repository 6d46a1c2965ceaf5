package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/credent-go/credent/keyring"
)

// A service reads its keys from a mounted file, and follows when an operator
// rewrites it.
func ExampleWatch() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	file := filepath.Join(dir, "keys")
	rewrite := func(text string) {
		if err := errors.Join(os.WriteFile(file+".new", []byte(text), 0o600),
			os.Rename(file+".new", file)); err != nil {
			log.Fatal(err)
		}
	}
	rewrite(oldKey)
	// This example's source reads one file, with the primary key first.
	// keyring.EnvSource reads the environment.
	source := func(context.Context) (*keyring.Keyring, error) {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		keys := []string{string(data[:44])}
		if len(data) > 44 {
			keys = append(keys, string(data[45:]))
		}
		return keyring.New(keys[0], keys[1:]...)
	}

	events := make(chan keyring.Event)
	ring, err := keyring.Watch(ctx, source, keyring.WatchConfig{
		Interval: 10 * time.Millisecond, // 30 seconds in a service
		Observe:  func(e keyring.Event) { events <- e },
	})
	if err != nil {
		log.Fatal(err)
	}
	token, err := ring.Encrypt("PK-MADE-UP") // a client with the keyring in a service
	if err != nil {
		log.Fatal(err)
	}

	rewrite(newKey + "," + oldKey)
	e := <-events
	fmt.Println(len(e.Before), "key before,", len(e.After), "now, error:", e.Err)
	fmt.Println(ring.Decrypt(token))

	rewrite(keyring.GenerateKey()) // a mistake that would make earlier values unreadable
	e = <-events
	fmt.Println(errors.Is(e.Err, keyring.ErrPrimaryRemoved), len(e.After), "keys stay")
	// Output:
	// 1 key before, 2 now, error: <nil>
	// PK-MADE-UP <nil>
	// true 2 keys stay
}
