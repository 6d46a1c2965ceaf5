package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/credent-go/credent/keyring"
)

func ExampleGenerateKey() {
	key := keyring.GenerateKey()
	fmt.Println(len(key), "characters")
	// Output: 44 characters
}

func ExampleNew() {
	// A new primary key encrypts; the old one still opens its tokens.
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	before, err := keyring.New(oldKey)
	if err != nil {
		log.Fatal(err)
	}
	token, err := before.Encrypt("PK-MADE-UP")
	if err != nil {
		log.Fatal(err)
	}
	after, err := keyring.New(newKey, oldKey)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(after.Decrypt(token))

	_, err = keyring.New("too short")
	fmt.Println(errors.Is(err, keyring.ErrBadKey), err)
	// Output:
	// PK-MADE-UP <nil>
	// true credent: key 1 of 1: bad encryption key: it has 9 characters, and a key has 44
}

func ExampleFromEnv() {
	if err := os.Setenv(keyring.EnvKey, keyring.GenerateKey()); err != nil {
		log.Fatal(err)
	}
	ring, err := keyring.FromEnv()
	fmt.Println(ring, len(ring.Keys()), err)
	// Output: [REDACTED] 1 <nil>
}

// Default is the keyring of clients without their own. It is refreshed from the
// files that the environment names.
func ExampleDefault() {
	if err := os.Setenv(keyring.EnvKey, keyring.GenerateKey()); err != nil {
		log.Fatal(err)
	}
	ring, err := keyring.Default()
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// The environment's own keys can't change; a file's can.
	watched, err := keyring.Watch(ctx, keyring.EnvSource, keyring.WatchConfig{Keyring: ring, AllowPrimaryRemoval: true})
	fmt.Println(watched == ring, err)
	// Output: true <nil>
}

// A source may be any function that returns keys. A service calls the source
// once, or watches it.
func ExampleEnvSource() {
	if err := os.Setenv(keyring.EnvKey, keyring.GenerateKey()); err != nil {
		log.Fatal(err)
	}
	var source keyring.Source = keyring.EnvSource
	ring, err := source(context.Background())
	fmt.Println(len(ring.Primary().ID()), "digits name the primary key,", err)
	// Output: 8 digits name the primary key, <nil>
}

// An operator adds a new primary key; the old one's tokens still open. Without
// the old key Replace refuses.
func ExampleKeyring_Replace() {
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	must := func(ring *keyring.Keyring, err error) *keyring.Keyring {
		if err != nil {
			log.Fatal(err)
		}
		return ring
	}
	ring := must(keyring.New(oldKey))
	_, err := ring.Replace(must(keyring.New(newKey)))
	fmt.Println(errors.Is(err, keyring.ErrPrimaryRemoved))
	fmt.Println(ring.Replace(must(keyring.New(newKey, oldKey))))
	// Output:
	// true
	// true <nil>
}
