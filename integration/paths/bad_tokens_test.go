package paths

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/keyring"
)

// badTokens returns damaged copies of a good token that the column's CHECK
// accepts.
func badTokens(t *testing.T, good string) map[string]string {
	t.Helper()
	foreign, err := testdb.Keyring(t, keyring.GenerateKey()).Encrypt("foreign")
	if err != nil {
		t.Fatal(err)
	}
	flip := func(i int) string {
		b := []byte(good)
		if b[i]++; b[i] == 'Z'+1 || b[i] == 'z'+1 || b[i] == '9'+1 || b[i] == '-'+1 || b[i] == '_'+1 {
			b[i] = 'A'
		}
		return string(b)
	}
	unpadded := strings.TrimRight(good, "=")
	return map[string]string{
		"another key":         foreign,
		"only the prefix":     "gAAAA",
		"prefix and text":     "gAAAA plaintext by mistake",
		"a broken signature":  flip(len(unpadded) - 3),
		"a broken ciphertext": flip(50),
		"a broken IV":         flip(15),
		"a broken time":       flip(9),
		"cut by a character":  good[:len(good)-1],
		"cut by four":         good[:len(good)-4],
		"cut in half":         good[:len(good)/2],
		"doubled":             good + good,
		"without padding":     unpadded,
		"more padding":        good + "=",
		"trailing garbage":    good + "!!!!",
		"trailing characters": good + "AAAA",
		"a line break":        good + "\n",
		"a break inside":      good[:20] + "\r\n" + good[20:],
		"a space inside":      good[:20] + " " + good[20:],
		"standard alphabet":   good[:20] + "+/" + good[22:],
		"of other characters": good[:20] + "ÄÖ" + good[22:],
		"control characters":  good[:20] + "\x01\x7f" + good[22:],
		"the marker":          "gAAAA[REDACTED]",
		"as long as can be":   "gAAAA" + strings.Repeat("x", 495),
	}
}

// failing runs the command, which must fail, and returns its output.
func failing(t *testing.T, url, key string, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(cmd.Environ(), testdb.EnvCommand+"=1", "DATABASE_URL="+url, "ENCRYPTION_KEY="+key)
	var out, note strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &note
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("%q: %v, want exit code 1\n%s", args, err, note.String())
	}
	return out.String(), note.String()
}

// listed runs the commands that check every token. doctor counts the bad ones,
// and verify lists the reasons by column and row.
func listed(t *testing.T, url, key string) (bad map[string]string, output string) {
	t.Helper()
	out, note := failing(t, url, key, "doctor", "--json")
	var report struct{ Checks []struct{ Bad int } }
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	lines, result := failing(t, url, key, "verify", "--quarantine", "-")
	bad = make(map[string]string)
	for line := range strings.Lines(lines) {
		var q struct{ Table, Column, Row, Reason string }
		if err := json.Unmarshal([]byte(line), &q); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		bad[q.Table+"."+q.Column+" "+q.Row] = q.Reason
	}
	n := 0
	for _, check := range report.Checks {
		n += check.Bad
	}
	if n != len(bad) {
		t.Errorf("doctor counts %d bad tokens, and verify lists %d", n, len(bad))
	}
	return bad, out + note + lines + result
}

// TestBadTokens has good rows beside bad tokens of every kind, in either
// column. Nothing panics, every good secret opens, and both Reveal and credent
// verify say which ones are bad; with a wrong key verify lists every row.
func TestBadTokens(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		account := env.Account(t, "u1")
		good := make(map[uuid.UUID]bool)
		for range 5 {
			good[env.Credential(t, account, "good api", "good secret").ID] = true
		}
		want, tokens := make(map[string]string), make(map[uuid.UUID]string)
		model := env.Credential(t, account, "x", "x")
		for kind, token := range badTokens(t, env.Tokens(t)[model.ID].APIKey) {
			for _, column := range []string{"api_key", "secret_key"} {
				id := env.Credential(t, account, "good api", "good secret").ID
				env.Exec(t, env.Placeholders("UPDATE user_credentials SET "+column+" = $1 WHERE id = $2"), token, id)
				want["user_credentials."+column+" "+id.String()], tokens[id] = kind, token
			}
		}
		if len(want) < 40 {
			t.Fatalf("%d bad tokens", len(want))
		}

		found, all := make(map[string]bool), env.Client.UserCredential.Query().AllX(ctx)
		for _, c := range all {
			for column, s := range map[string]credent.Secret{"api_key": c.APIKey, "secret_key": c.SecretKey} {
				at := "user_credentials." + column + " " + c.ID.String()
				got, err := s.Reveal()
				if want[at] == "" {
					if err != nil {
						t.Errorf("%s: %v", at, err)
					}
					continue
				}
				var detail *credent.Error
				if got != "" || !errors.Is(err, credent.ErrCorrupt) || !errors.As(err, &detail) ||
					"user_credentials."+detail.Column+" "+detail.Row != at ||
					strings.Contains(err.Error(), tokens[c.ID]) {
					t.Errorf("%s: revealed %q, %v", want[at], got, err)
				}
				found[at] = true
			}
		}
		if len(found) != len(want) || len(all) != len(good)+1+len(want) {
			t.Errorf("%d rows with %d bad tokens, want %d", len(all), len(found), len(want))
		}

		named, output := listed(t, env.URL, env.Key)
		for at, kind := range want {
			if named[at] == "" {
				t.Errorf("verify does not list %s: %s", kind, at)
			}
		}
		if len(named) != len(want) || strings.Contains(output, "gAAAA") || strings.Contains(output, "good") {
			t.Errorf("verify lists %d: %s", len(named), output)
		}
		if named, _ := listed(t, env.URL, keyring.GenerateKey()); len(named) != 2*len(all) {
			t.Errorf("with a wrong key, verify lists %d of %d", len(named), 2*len(all))
		}
	})
}

// TestPlaintextIsSentToEncrypt has a database with plaintext, which migrations
// and adoption refuse. Both say what to do.
func TestPlaintextIsSentToEncrypt(t *testing.T) {
	t.Parallel()
	url := testdb.NewDatabase(t, "")
	testdb.Twin(t, url, "", nil, "create-all")
	db := testdb.OpenDB(t, url)
	if _, err := db.ExecContext(t.Context(), "INSERT INTO user_accounts (id, user_id, account_name) VALUES "+
		"(gen_random_uuid(), 'u1', 'n');INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, "+
		"api_key, secret_key) SELECT gen_random_uuid(), id, user_id, 'alpaca', 'PLAINCANARY', 'PLAINCANARY' FROM "+
		"user_accounts"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"migrate", "adopt"}, {
		"migrate", "apply", "--baseline",
		"20261124030000",
	}, {"verify"}} {
		out, note := failing(t, url, keyring.GenerateKey(), args...)
		if !strings.Contains(note, "run `credent encrypt`") || strings.Count(note, "\n") != 1 ||
			strings.Contains(out+note, "PLAINCANARY") {
			t.Errorf("%q: %s%s", args, out, note)
		}
	}
}
