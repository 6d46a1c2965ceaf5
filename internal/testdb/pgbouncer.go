package testdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/internal/testopt"
)

const (
	// BouncerPoolSize is the number of connections that all clients share.
	BouncerPoolSize = 3
	bouncerTimeout  = time.Minute
)

// findPgBouncer returns the program's path. Debian installs it in a directory
// that isn't on every user's PATH.
func findPgBouncer() (string, error) {
	for _, path := range []string{"/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer"} {
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		return "", errors.New("PgBouncer is not installed, and WithUser's promises about it can't be tested " +
			"without: run make setup, or install the package pgbouncer")
	}
	return path, nil
}

// unprivileged returns a user for a program that refuses to run as root, or nil
// if the tests don't run as root.
func unprivileged(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			t.Fatal(err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	t.Fatal("no user postgres or nobody on this system, and PgBouncer does not run as root")
	return nil
}

// StartPgBouncer runs PgBouncer in transaction mode in front of a database, and
// returns the URL that goes through it.
func StartPgBouncer(t *testing.T, databaseURL string) string {
	t.Helper()
	program, err := findPgBouncer()
	if err != nil {
		t.Fatal(err)
	}
	behind, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal("the database's URL is malformed")
	}
	password, _ := behind.User.Password()
	dir, err := os.MkdirTemp("/tmp", "credent-pgbouncer-") //nolint:usetesting // the other user can't enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	port, err := pgserver.FreePort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	owner := unprivileged(t)
	for name, content := range map[string]string{
		"users.txt": fmt.Sprintf("%q %q\n", behind.User.Username(), password),
		"pgbouncer.ini": strings.Join([]string{
			"[databases]",
			fmt.Sprintf("* = host=%s port=%s", behind.Hostname(), behind.Port()),
			"[pgbouncer]",
			"listen_addr = 127.0.0.1",
			fmt.Sprintf("listen_port = %d", port),
			"unix_socket_dir =",
			"auth_type = scram-sha-256",
			"auth_file = " + filepath.Join(dir, "users.txt"),
			"pool_mode = transaction",
			fmt.Sprintf("default_pool_size = %d", BouncerPoolSize),
			"max_client_conn = 200",
			// lib/pq sends it.
			"ignore_startup_parameters = extra_float_digits",
			"",
		}, "\n"),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		giveAway(t, owner, path)
	}
	giveAway(t, owner, dir)
	log := runPgBouncer(t, owner, program, filepath.Join(dir, "pgbouncer.ini"))
	through := *behind
	through.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	waitForPgBouncer(t, through.String(), log)
	return through.String()
}

func giveAway(t *testing.T, owner *syscall.Credential, path string) {
	t.Helper()
	if owner == nil {
		return
	}
	if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
}

// runPgBouncer starts the program and returns its log. It ends with the test
// and with this process: a shell waits for the end of its input, which also
// comes if this process is killed.
func runPgBouncer(t *testing.T, owner *syscall.Credential, program, config string) fmt.Stringer {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `"$0" "$1" & read -r _; kill -KILL $!; wait`, program, config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	cmd.Dir = filepath.Dir(config)
	log := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait() // the error says how it ended
		if t.Failed() {
			t.Logf("PgBouncer's log begins:\n%.2000s", log)
		}
	})
	return log
}

// lockedBuffer is written to by one goroutine and read by another.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func waitForPgBouncer(t *testing.T, url string, log fmt.Stringer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bouncerTimeout)
	defer cancel()
	db := OpenDB(t, url)
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("PgBouncer does not answer: %v\n%.2000s", err, log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Pooled lists ways to connect through PgBouncer in transaction mode. By
// default, pgx prepares named statements, which stay with a server connection
// that the next transaction may not get.
var Pooled = map[string]struct {
	Parameters string
	Opts       []testopt.Option
	Userless   bool // statements without a user may have parameters
}{
	// lib/pq sends parameters in a second message. Outside a transaction,
	// PgBouncer may switch the connection between the two. A user's statements
	// run in a transaction.
	"pq": {"", Drivers["pq"], false},
	// One message for everything.
	"pq, binary parameters": {"&binary_parameters=yes", Drivers["pq"], true},
	// pgx detects the pooler.
	"pgx":                  {"", nil, true},
	"pgx, exec":            {"&default_query_exec_mode=exec", nil, true},
	"pgx, simple protocol": {"&default_query_exec_mode=simple_protocol", nil, true},
}
