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
	// A new primary key encrypts; the old one still opens what it encrypted.
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

// The default keyring, for clients without their own, follows the key files
// that the environment names.
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
	// Keys in the environment can't change, but keys in files can.
	watched, err := keyring.Watch(ctx, keyring.EnvSource, keyring.WatchConfig{Keyring: ring, AllowPrimaryRemoval: true})
	fmt.Println(watched == ring, err)
	// Output: true <nil>
}

// Any function that returns a keyring can be a source. A service calls it once,
// or watches it.
func ExampleEnvSource() {
	if err := os.Setenv(keyring.EnvKey, keyring.GenerateKey()); err != nil {
		log.Fatal(err)
	}
	var source keyring.Source = keyring.EnvSource
	ring, err := source(context.Background())
	fmt.Println(len(ring.Primary().ID()), "digits name the primary key,", err)
	// Output: 8 digits name the primary key, <nil>
}

// An operator adds a new primary key, and values under the old key still open.
// Replace refuses a keyring without the old key.
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
