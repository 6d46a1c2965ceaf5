package kms_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"gocloud.dev/secrets"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/kms"
)

// Two local services, and keys to wrap, all made up.
const (
	localURL = "base64key://smGbjm71Nxd1Ig5FS0wj9SlbzAIrnolCz9bQQ6uAhl4="
	otherURL = "base64key://Nxd1Ig5FS0wj9SlbzAIrnolCz9bQQ6uAhl4smGbjm70="
	keyA     = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="
	keyB     = "3vYpT7mQx0bL2nKcR9sWfZ1gHjUe5aDq8iOy4MtXk6E="
	keyC     = "Q0kq9xF2uZ7bW1nTy5cV8mRj3pLs6hGd4aKe0iXoUwA="
)

// secretsOf lists texts that no output may contain a part of.
var secretsOf = []string{keyA, keyB, keyC, strings.TrimPrefix(localURL, "base64key://"), strings.TrimPrefix(otherURL,
	"base64key://")}

// noSecrets fails the test if a text contains 8 consecutive characters of a
// key, plain or in base64.
func noSecrets(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range secretsOf {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
			for i := 0; i+8 <= len(form); i++ {
				if strings.Contains(text, form[i:i+8]) {
					t.Fatalf("%s has a part of a key", where)
				}
			}
		}
	}
}

// printed formats an error with every verb.
func printed(err error) string {
	return fmt.Sprintf("%v %+v %#v %s %q %x", err, err, err, err, err, err)
}

func wrapped(t *testing.T, url, primary string, previous ...string) string {
	t.Helper()
	text, err := kms.Wrap(t.Context(), url, primary, previous...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func idOf(t *testing.T, key string) string {
	t.Helper()
	ring, err := keyring.New(key)
	if err != nil {
		t.Fatal(err)
	}
	return ring.Primary().ID()
}

func idsOf(ring *keyring.Keyring) string {
	var ids []string
	for _, key := range ring.Keys() {
		ids = append(ids, key.ID())
	}
	return strings.Join(ids, " ")
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, keys := range [][]string{{keyA}, {keyA, keyB}, {keyC, keyB, keyA}, {keyA + "\n", " " + keyB}} {
		text := wrapped(t, localURL, keys[0], keys[1:]...)
		noSecrets(t, "the wrapped text", text)
		if again := wrapped(t, localURL, keys[0], keys[1:]...); again == text || strings.ContainsAny(text, " \n") {
			t.Error("the text is the same twice, or has white space")
		}
		for _, form := range []string{text, text + "\n", "\r\n " + text + "\r\n"} {
			ring, err := kms.Unwrap(t.Context(), localURL, form)
			if err != nil {
				t.Fatal(err)
			}
			want, err := keyring.New(keys[0], keys[1:]...)
			if err != nil || idsOf(ring) != idsOf(want) {
				t.Errorf("got keys %s, want %s, %v", idsOf(ring), idsOf(want), err)
			}
		}
	}
}

func TestWrapRefuses(t *testing.T) {
	t.Parallel()
	var many []string
	for range 87 {
		many = append(many, keyring.GenerateKey())
	}
	for name, test := range map[string]struct {
		url  string
		keys []string
		want error
	}{
		"no key":                   {localURL, []string{""}, credent.ErrNoKey},
		"short key":                {localURL, []string{keyA[:40]}, credent.ErrBadKey},
		"all zero":                 {localURL, []string{strings.Repeat("A", 43) + "="}, credent.ErrBadKey},
		"duplicate":                {localURL, []string{keyA, keyB, keyA}, credent.ErrBadKey},
		"too many":                 {localURL, many, nil},
		"no URL":                   {"", []string{keyA}, kms.ErrURL},
		"no scheme":                {strings.TrimPrefix(localURL, "base64key://"), []string{keyA}, kms.ErrURL},
		"malformed URL":            {localURL + "%zz\x7f", []string{keyA}, kms.ErrURL},
		"unknown scheme":           {"nokms://key", []string{keyA}, kms.ErrURL},
		"driver not imported":      {"awskms://key?region=eu-central-1", []string{keyA}, kms.ErrURL},
		"random key":               {"base64key://", []string{keyA}, kms.ErrURL},
		"short local key":          {localURL[:len(localURL)-8], []string{keyA}, kms.ErrURL},
		"parameter of a local key": {localURL + "?x=" + keyB, []string{keyA}, kms.ErrURL},
		"Vault without a key":      {"hashivault://", []string{keyA}, kms.ErrURL},
		"Vault, other parameter":   {"hashivault://key?token=" + keyB, []string{keyA}, kms.ErrURL},
		"Vault with a password":    {"hashivault://me:" + keyB + "@key", []string{keyA}, kms.ErrURL},
	} {
		text, err := kms.Wrap(t.Context(), test.url, test.keys[0], test.keys[1:]...)
		if err == nil || text != "" || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: got %q, %v, want error %v", name, text, err, test.want)
			continue
		}
		noSecrets(t, name, printed(err))
	}
}

// seal wraps the test's document.
func seal(t *testing.T, document string) string {
	t.Helper()
	keeper, err := secrets.OpenKeeper(context.Background(), localURL)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, err := keeper.Encrypt(t.Context(), []byte(document))
	if err := errors.Join(err, keeper.Close()); err != nil {
		t.Fatal(err)
	}
	return "credent-keyring-1." + base64.URLEncoding.EncodeToString(ciphertext)
}

func TestUnwrapRefuses(t *testing.T) {
	t.Parallel()
	good := wrapped(t, localURL, keyA, keyB)
	body := strings.TrimPrefix(good, "credent-keyring-1.")
	one := `"` + keyA + `"`
	if _, err := kms.Unwrap(t.Context(), localURL, seal(t, `{"version":1,"keys":[`+one+`]}`)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		text string
		want error
	}{
		"empty":             {"", kms.ErrNotWrapped},
		"a key":             {keyA, kms.ErrNotWrapped},
		"only the prefix":   {"credent-keyring-1.", kms.ErrNotWrapped},
		"without prefix":    {body, kms.ErrNotWrapped},
		"version 2":         {"credent-keyring-2." + body, kms.ErrVersion},
		"version 01":        {"credent-keyring-01." + body, kms.ErrNotWrapped},
		"no version":        {"credent-keyring-." + body, kms.ErrNotWrapped},
		"cut":               {good[:len(good)-5], kms.ErrNotWrapped},
		"cut at a group":    {good[:len(good)-4], kms.ErrRefused},
		"line break inside": {good[:40] + "\n" + good[40:], kms.ErrNotWrapped},
		"huge":              {good + strings.Repeat("A", 70<<10), kms.ErrNotWrapped},
		"another character": {good[:30] + "!" + good[31:], kms.ErrNotWrapped},
		"altered": {
			good[:60] + map[bool]string{true: "A", false: "B"}[good[60] != 'A'] + good[61:],
			kms.ErrRefused,
		},
		"not JSON":            {seal(t, keyA), kms.ErrNotWrapped},
		"nothing inside":      {seal(t, ""), kms.ErrNotWrapped},
		"no version inside":   {seal(t, `{"keys":[`+one+`]}`), kms.ErrNotWrapped},
		"version 2 inside":    {seal(t, `{"version":2,"secrets":{}}`), kms.ErrVersion},
		"another field":       {seal(t, `{"version":1,"keys":[`+one+`],"x":1}`), kms.ErrNotWrapped},
		"a field twice":       {seal(t, `{"version":1,"keys":["`+keyB+`"],"keys":[`+one+`]}`), kms.ErrNotWrapped},
		"other letter case":   {seal(t, `{"version":1,"Keys":[`+one+`]}`), kms.ErrNotWrapped},
		"white space":         {seal(t, `{"version":1, "keys":[`+one+`]}`), kms.ErrNotWrapped},
		"something follows":   {seal(t, `{"version":1,"keys":[`+one+`]}x`), kms.ErrNotWrapped},
		"no keys":             {seal(t, `{"version":1,"keys":[]}`), credent.ErrNoKey},
		"null for keys":       {seal(t, `{"version":1,"keys":null}`), credent.ErrNoKey},
		"a bad key":           {seal(t, `{"version":1,"keys":["`+keyA[:30]+`"]}`), credent.ErrBadKey},
		"a key twice":         {seal(t, `{"version":1,"keys":[`+one+`,`+one+`]}`), credent.ErrBadKey},
		"a number for a key":  {seal(t, `{"version":1,"keys":[7]}`), kms.ErrNotWrapped},
		"wrapped for another": {wrapped(t, otherURL, keyA), kms.ErrRefused},
	} {
		ring, err := kms.Unwrap(t.Context(), localURL, test.text)
		if !errors.Is(err, test.want) || ring != nil {
			t.Errorf("%s: got %v, want error %v", name, err, test.want)
			continue
		}
		noSecrets(t, name, printed(err))
	}
}

func TestRewrap(t *testing.T) {
	t.Parallel()
	text := wrapped(t, localURL, keyA)
	for _, step := range []struct {
		name    string
		from    string
		to      string
		changes []kms.Change
		want    string
		err     error
	}{
		{"to another service", localURL, otherURL, nil, idOf(t, keyA), nil},
		{"add", otherURL, otherURL, []kms.Change{kms.AddKey(keyB)}, idOf(t, keyA) + " " + idOf(t, keyB), nil},
		{"add again", otherURL, otherURL, []kms.Change{kms.AddKey(keyB)}, "", credent.ErrBadKey},
		{"add a bad one", otherURL, otherURL, []kms.Change{kms.AddKey(keyC[:9])}, "", credent.ErrBadKey},
		{"remove the primary one", otherURL, otherURL, []kms.Change{kms.RemoveKey(idOf(t, keyA))}, "", kms.ErrKeyID},
		{"remove another", otherURL, otherURL, []kms.Change{kms.RemoveKey(keyC)}, "", kms.ErrKeyID},
		{
			"promote", otherURL, otherURL,
			[]kms.Change{kms.Promote(idOf(t, keyB))},
			idOf(t, keyB) + " " + idOf(t, keyA), nil,
		},
		{"promote another", otherURL, otherURL, []kms.Change{kms.Promote(keyC)}, "", kms.ErrKeyID},
		{"add a third", otherURL, otherURL, []kms.Change{kms.AddKey(keyC)}, idOf(t, keyB) + " " + idOf(t, keyA) + " " +
			idOf(t, keyC), nil},
		{"promote the last", otherURL, otherURL, []kms.Change{kms.Promote(idOf(t, keyC))}, idOf(t, keyC) + " " + idOf(t,
			keyB) + " " + idOf(t, keyA), nil},
		{"remove, and back", otherURL, localURL, []kms.Change{
			kms.RemoveKey(idOf(t, keyA)),
			kms.RemoveKey(idOf(t, keyB)),
		}, idOf(t, keyC), nil},
		{"by the wrong service", otherURL, localURL, nil, "", kms.ErrRefused},
	} {
		next, err := kms.Rewrap(t.Context(), step.from, text, step.to, step.changes...)
		if !errors.Is(err, step.err) || (next == "") != (err != nil) {
			t.Fatalf("%s: %v, want %v", step.name, err, step.err)
		}
		if err != nil {
			noSecrets(t, step.name, printed(err))
			continue
		}
		text = next
		ring, err := kms.Unwrap(t.Context(), step.to, text)
		if err != nil || idsOf(ring) != step.want {
			t.Fatalf("%s: keys %s, want %s, %v", step.name, idsOf(ring), step.want, err)
		}
	}
}
