package rotation

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/rotate"
)

// onTerminal is a Python program that runs a command on its own terminal, 100
// columns wide, and prints its output.
const onTerminal = `
import fcntl, os, pty, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
while True:
    try:
        data = os.read(fd, 4096)
    except OSError: # the command has ended
        break
    if not data:
        break
    sys.stdout.buffer.write(data)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`

// On a terminal a bar on one line shows the completed part, the rate and the
// time left, and disappears at the end.
func TestProgressBar(t *testing.T) {
	t.Parallel()
	env := testdb.New(t)
	r := newRotation(t, env, 300)
	cmd := exec.CommandContext(t.Context(), testdb.Python(), "-c", onTerminal, os.Args[0], "rotate", "--batch", "10",
		"--rate", "300")
	cmd.Env = append(os.Environ(), testdb.EnvCommand+"=1", "DATABASE_URL="+env.URL, "ENCRYPTION_KEY="+r.newKey,
		"ENCRYPTION_KEY_PREVIOUS="+r.oldKey, "TERM=xterm")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, pattern := range []string{
		`user_credentials, pass 1 +[0-9]+% \|█* *\| \([0-9]+/300, [0-9]+ rows/s\) \[[0-9]+s:[0-9]+s\]`,
		`user_credentials, pass 2 `,
		`\r\s*\r?user_credentials \(api_key, secret_key\): 300 rows read, 300 rewritten\r\n  2 tokens rewritten in credent_canary\r\n$`,
	} {
		if !regexp.MustCompile(pattern).Match(out) {
			t.Errorf("no %s in %q", pattern, out)
		}
	}
	if n := strings.Count(string(out), "\n"); n != 2 {
		t.Errorf("the output has %d lines, including the result's two: %q", n, out)
	}
	if counts, err := rotate.Verify(t.Context(), env.DB, r.after); err != nil || counts.Err() != nil {
		t.Errorf("%v, %v", err, counts.Err())
	}
}
