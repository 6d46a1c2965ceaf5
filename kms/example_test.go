package kms_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/kms"
	"github.com/credent-go/credent/open/sqlite"
)

// exampleURL contains the key itself. In production, it is like
// awskms://alias/credent?region=eu-central-1 and not secret.
const exampleURL = "base64key://smGbjm71Nxd1Ig5FS0wj9SlbzAIrnolCz9bQQ6uAhl4="

func ExampleWrap() {
	ctx := context.Background()
	wrapped, err := kms.Wrap(ctx, exampleURL, keyring.GenerateKey())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(wrapped[:18])

	ring, err := kms.Unwrap(ctx, exampleURL, wrapped)
	fmt.Println(ring, err)

	_, err = kms.Unwrap(ctx, exampleURL, wrapped[:60])
	fmt.Println(errors.Is(err, kms.ErrNotWrapped) || errors.Is(err, kms.ErrRefused))
	// Output:
	// credent-keyring-1.
	// [REDACTED] <nil>
	// true
}

func ExampleUnwrap() {
	_, err := kms.Unwrap(context.Background(), exampleURL, "gAAAA…")
	fmt.Println(errors.Is(err, kms.ErrNotWrapped), err)
	// Output: true kms: not a wrapped keyring: it does not begin with credent-keyring-1
}

// The steps of a rotation. Each produces a new text for the services.
func ExampleRewrap() {
	ctx := context.Background()
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	text, err := kms.Wrap(ctx, exampleURL, oldKey)
	if err != nil {
		log.Fatal(err)
	}
	id := func(key string) string {
		ring, err := keyring.New(key)
		if err != nil {
			log.Fatal(err)
		}
		return ring.Primary().ID()
	}
	for _, step := range []kms.Change{kms.AddKey(newKey), kms.Promote(id(newKey)), kms.RemoveKey(id(oldKey))} {
		if text, err = kms.Rewrap(ctx, exampleURL, text, exampleURL, step); err != nil {
			log.Fatal(err)
		}
		ring, err := kms.Unwrap(ctx, exampleURL, text)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(len(ring.Keys()), "keys, the new one is primary:", ring.Primary().ID() == id(newKey))
	}
	// Output:
	// 2 keys, the new one is primary: false
	// 2 keys, the new one is primary: true
	// 1 keys, the new one is primary: true
}

// A service unwraps its keyring at the start, and follows when the text is
// replaced.
func ExampleEnvSource() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	wrapped, err := kms.Wrap(ctx, exampleURL, keyring.GenerateKey())
	if err != nil {
		log.Fatal(err)
	}
	// Set by the operator.
	if err := errors.Join(os.Setenv("ENCRYPTION_KEY", ""), os.Setenv("ENCRYPTION_KEYRING_URL", exampleURL),
		os.Setenv("ENCRYPTION_KEYRING", wrapped)); err != nil {
		log.Fatal(err)
	}

	ring, err := keyring.Watch(ctx, kms.EnvSource(), keyring.WatchConfig{})
	if err != nil {
		log.Fatal(err)
	}
	client, err := credent.Open(ctx, "sqlite::memory:", credent.Config{Migrate: true, Keyring: ring},
		credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	fmt.Println(client.UserCredential.Query().Count(ctx))
	// Output: 0 <nil>
}

func ExampleFromEnv() {
	if err := errors.Join(os.Setenv("ENCRYPTION_KEY", ""), os.Setenv("ENCRYPTION_KEYRING_URL", exampleURL),
		os.Setenv("ENCRYPTION_KEYRING", "")); err != nil {
		log.Fatal(err)
	}
	_, err := kms.FromEnv(context.Background())
	fmt.Println(errors.Is(err, credent.ErrNoKey), err)
	// Output: true kms: no encryption key: set ENCRYPTION_KEYRING or ENCRYPTION_KEYRING_FILE
}

// The text may come from anywhere, such as the service's own configuration.
func ExampleSource() {
	ctx := context.Background()
	wrapped, err := kms.Wrap(ctx, exampleURL, keyring.GenerateKey())
	if err != nil {
		log.Fatal(err)
	}
	source := kms.Source(exampleURL, func(context.Context) (string, error) { return wrapped, nil })
	ring, err := source(ctx)
	fmt.Println(len(ring.Keys()), err)
	// Output: 1 <nil>
}

func ExampleInsecureKeys() {
	ctx := context.Background()
	key := keyring.GenerateKey()
	wrapped, err := kms.Wrap(ctx, exampleURL, key)
	if err != nil {
		log.Fatal(err)
	}
	keys, err := kms.InsecureKeys(ctx, exampleURL, wrapped)
	fmt.Println(len(keys), keys[0] == key, err)
	// Output: 1 true <nil>
}
