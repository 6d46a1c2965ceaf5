package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/kms"
)

const (
	localURL = "base64key://smGbjm71Nxd1Ig5FS0wj9SlbzAIrnolCz9bQQ6uAhl4="
	otherURL = "base64key://Nxd1Ig5FS0wj9SlbzAIrnolCz9bQQ6uAhl4smGbjm70="
)

// command runs the command as a shell would, and returns its output. ran is the
// program that exec would run.
func command(t *testing.T, input string, args ...string) (out string, ran []string, err error) {
	t.Helper()
	var buffer bytes.Buffer
	a := &app{in: strings.NewReader(input), out: &buffer, run: func(path string, args, env []string) error {
		ran = append(append([]string{path}, args...), env...)
		return nil
	}}
	root := a.command()
	root.SetArgs(args)
	root.SetOut(&buffer)
	root.SetErr(&buffer)
	err = root.ExecuteContext(t.Context())
	return strings.TrimSpace(buffer.String()), ran, err
}

// TestRotation performs a rotation and a change of service with the commands
// alone.
func TestRotation(t *testing.T) {
	oldKey, earlier := keyring.GenerateKey(), keyring.GenerateKey()
	for _, name := range []string{
		"ENCRYPTION_KEY", "ENCRYPTION_KEY_FILE", "ENCRYPTION_KEY_PREVIOUS",
		kms.EnvKeyringFile, envTo,
	} {
		t.Setenv(name, "")
	}
	t.Setenv(kms.EnvURL, localURL)
	must := func(input string, args ...string) string {
		out, _, err := command(t, input, args...)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		if strings.Contains(out, oldKey) || strings.Contains(out, earlier) {
			t.Fatalf("%v printed a key", args)
		}
		return out
	}
	check := func() [][]string {
		var keys [][]string
		for line := range strings.Lines(must("", "unwrap", "--check")) {
			keys = append(keys, strings.Fields(line))
		}
		return keys
	}
	set := func(text string) { t.Setenv(kms.EnvKeyring, text) }

	set(must(oldKey+"\r\n"+earlier+"\n", "wrap"))
	if got := check(); len(got) != 2 || got[0][1] != "primary" || got[1][1] != "previous" {
		t.Fatalf("wrapped %v", got)
	}
	set(must("", "remove-key", check()[1][0]))
	set(must("", "add-key"))
	oldID, newID := check()[0][0], check()[1][0]
	set(must("", "promote", newID))
	if got := check(); got[0][0] != newID || got[1][0] != oldID {
		t.Fatalf("promoted %v", got)
	}
	set(must("", "remove-key", oldID))
	t.Setenv(envTo, otherURL)
	set(must("", "rewrap"))
	t.Setenv(envTo, "")
	t.Setenv(kms.EnvURL, otherURL)
	if got := check(); len(got) != 1 || got[0][0] != newID {
		t.Errorf("in the end: %v", got)
	}
}

func TestExec(t *testing.T) {
	key, earlier := keyring.GenerateKey(), keyring.GenerateKey()
	t.Setenv("ENCRYPTION_KEY", key)
	t.Setenv("ENCRYPTION_KEY_PREVIOUS", earlier)
	t.Setenv("ENCRYPTION_KEY_FILE", "")
	t.Setenv(kms.EnvKeyringFile, "")
	t.Setenv(kms.EnvURL, localURL)
	text, _, err := command(t, "", "wrap", "--env")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("ENCRYPTION_KEY", "")
	t.Setenv("ENCRYPTION_KEY_PREVIOUS", "stale")
	t.Setenv(kms.EnvKeyring, text)
	out, ran, err := command(t, "", "exec", "--", "sh", "-c", "true")
	if err != nil || out != "" {
		t.Fatalf("printed %q, %v", out, err)
	}
	if !strings.HasSuffix(ran[0], "/sh") || !slices.Equal(ran[1:4], []string{"sh", "-c", "true"}) {
		t.Errorf("ran %q", ran[:4])
	}
	for _, want := range []string{"ENCRYPTION_KEY=" + key, "ENCRYPTION_KEY_PREVIOUS=" + earlier} {
		if !slices.Contains(ran, want) {
			t.Errorf("the environment lacks %.24s…", want)
		}
	}
	for _, variable := range ran {
		if strings.HasPrefix(variable, "ENCRYPTION_KEYRING") || strings.HasSuffix(variable, "=stale") {
			t.Errorf("the environment has %.24s…", variable)
		}
	}
}

func TestRefusals(t *testing.T) {
	key := keyring.GenerateKey()
	for _, name := range []string{
		"ENCRYPTION_KEY", "ENCRYPTION_KEY_FILE", "ENCRYPTION_KEY_PREVIOUS",
		kms.EnvKeyringFile, envTo,
	} {
		t.Setenv(name, "")
	}
	t.Setenv(kms.EnvURL, localURL)
	text, _, err := command(t, "", "wrap", "--generate")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(kms.EnvKeyring, text)
	for name, test := range map[string]struct {
		input string
		args  []string
	}{
		"no keys":               {"", []string{"wrap"}},
		"short key":             {key[:20], []string{"wrap"}},
		"key twice":             {key + "\n" + key, []string{"wrap"}},
		"huge input":            {strings.Repeat(key, 2000), []string{"wrap"}},
		"empty environment":     {"", []string{"wrap", "--env"}},
		"both":                  {"", []string{"wrap", "--env", "--generate"}},
		"key as an argument":    {"", []string{"wrap", key}},
		"unwrap to be seen":     {"", []string{"unwrap"}},
		"key in place of an ID": {"", []string{"promote", key}},
		"key that is a flag":    {"", []string{"promote", "-" + key[1:]}},
		"key that is an option": {"", []string{"promote", "--" + key[2:]}},
		"ID of nothing":         {"", []string{"remove-key", "01234567"}},
		"no ID":                 {"", []string{"promote"}},
		"no program":            {"", []string{"exec"}},
		"unknown command":       {"", []string{key}},
	} {
		out, ran, err := command(t, test.input, test.args...)
		if err == nil || ran != nil {
			t.Errorf("%s: it succeeded", name)
			continue
		}
		if strings.Contains(out+err.Error(), key[2:20]) {
			t.Errorf("%s: the key is repeated: %v", name, err)
		}
	}
	t.Setenv(kms.EnvURL, "")
	for _, args := range [][]string{
		{"wrap", "--generate"},
		{"unwrap", "--check"},
		{"rewrap"},
		{"add-key"},
		{"exec", "--", "true"},
	} {
		if _, _, err := command(t, "", args...); err == nil || !strings.Contains(err.Error(), kms.EnvURL) {
			t.Errorf("%v without a URL: %v", args, err)
		}
	}
}
