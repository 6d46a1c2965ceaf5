package store

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

// The tests in this file pin what is not protected against, for
// docs/threat-model.md. One that fails means that the page promises too little.

// A token is not bound to its row or column: anyone who can write to the
// database can exchange two, or put an old one back.
func TestTokensCanBeSwapped(t *testing.T) {
	t.Parallel()
	env := testdb.New(t)
	first := env.Credential(t, env.Account(t, "u1"), "PK1", "s1")
	second := env.Credential(t, env.Account(t, "u2"), "PK2", "s2")
	var old string
	env.Value(t, &old, "SELECT api_key FROM user_credentials WHERE id = $1", first.ID)
	env.Exec(t, "UPDATE user_credentials AS a SET api_key = b.secret_key FROM user_credentials AS b WHERE a.id = $1 "+
		"AND b.id = $2", first.ID, second.ID)
	if got := testdb.Reveal(t, env.Client.UserCredential.GetX(t.Context(), first.ID).APIKey); got != "s2" {
		t.Errorf("after the swap: %q", got)
	}
	first.Update().SetAPIKey(credent.NewSecret("PK-new")).ExecX(t.Context())
	env.Exec(t, "UPDATE user_credentials SET api_key = $1 WHERE id = $2", old, first.ID)
	if got := testdb.Reveal(t, env.Client.UserCredential.GetX(t.Context(), first.ID).APIKey); got != "PK1" {
		t.Errorf("after the old token was put back: %q", got)
	}
}

// A token shows when it was written, and how long the plaintext is in steps of
// 16 bytes.
func TestTokensShowTimeAndLength(t *testing.T) {
	t.Parallel()
	env := testdb.New(t)
	account := env.Account(t, "u1")
	lengths := make(map[int]int)
	for _, n := range []int{0, 15, 16, 31, 32} {
		created := env.Credential(t, account, strings.Repeat("x", n), "s")
		var token string
		env.Value(t, &token, "SELECT api_key FROM user_credentials WHERE id = $1", created.ID)
		raw, err := base64.URLEncoding.DecodeString(token)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(binary.BigEndian.Uint64(raw[1:9])), 0)
		if age := time.Since(at); age < -time.Second || age > time.Minute {
			t.Errorf("the token of a value written now says %v", at)
		}
		lengths[n] = len(token)
	}
	if lengths[0] != lengths[15] || lengths[16] != lengths[31] || lengths[15] == lengths[16] ||
		lengths[31] == lengths[32] {
		t.Errorf("lengths of tokens by length of plaintext: %v", lengths)
	}
}

// heapEnv makes the test binary a program that lists credentials, dumps its
// heap to the named file, and exits.
const heapEnv = "CREDENT_TEST_HEAP_DUMP"

// What is listed and not revealed is not in the memory of the process; what is
// revealed is.
func TestPlaintextInMemory(t *testing.T) {
	if path := os.Getenv(heapEnv); path != "" {
		dumpHeap(t, path, os.Getenv("CREDENT_TEST_REVEAL") != "")
		return
	}
	t.Parallel()
	env := testdb.New(t)
	account := env.Account(t, "u1")
	for range 20 {
		env.Credential(t, account, testdb.Canary, testdb.Canary)
	}
	for mode, want := range map[string]bool{"": false, "reveal": true} {
		path := filepath.Join(t.TempDir(), "heap")
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPlaintextInMemory$")
		cmd.Env = append(os.Environ(), heapEnv+"="+path, "CREDENT_TEST_REVEAL="+mode,
			"CREDENT_TEST_URL="+env.URL, "ENCRYPTION_KEY="+env.Key)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		heap, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(heap, []byte("user_credentials")) {
			t.Fatal("the dump has none of the program's memory")
		}
		// The program itself has the canary in its read-only data, which is not
		// in the dump.
		if got := bytes.Contains(heap, []byte(testdb.Canary)); got != want {
			t.Errorf("mode %q: plaintext in memory: %v, want %v", mode, got, want)
		}
	}
}

func dumpHeap(t *testing.T, path string, withReveal bool) {
	t.Helper()
	client, err := testopt.Open(t.Context(), os.Getenv("CREDENT_TEST_URL"))
	if err != nil {
		t.Fatal(err)
	}
	var revealed []string
	credentials := client.UserCredential.Query().AllX(t.Context())
	if len(credentials) != 20 {
		t.Fatalf("%d credentials", len(credentials))
	}
	if withReveal {
		for _, c := range credentials {
			revealed = append(revealed, testdb.Reveal(t, c.APIKey))
		}
	}
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	debug.WriteHeapDump(file.Fd())
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if len(credentials) == 0 && len(revealed) == 0 {
		t.Fatal("unreachable; keeps both alive")
	}
}
