package integration

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

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/testopt"
)

const (
	bouncerPoolSize = 3 // connections to the server, for all clients
	bouncerTimeout  = 10 * time.Second
)

// findPgBouncer returns the program, which Debian has in a directory that is
// not in everybody's PATH.
func findPgBouncer() (string, error) {
	for _, path := range []string{"/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer"} {
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		return "", errors.New("PgBouncer is not installed, and what WithUser promises about it cannot be tested without: " +
			"run make setup, or install the package pgbouncer")
	}
	return path, nil
}

// unprivileged returns a user for a program that refuses to run as root, or nil
// if the tests do not.
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

// startPgBouncer runs PgBouncer in transaction mode before the database of a
// URL, and returns the URL that goes by it.
func startPgBouncer(t *testing.T, databaseURL string) string {
	t.Helper()
	program, err := findPgBouncer()
	if err != nil {
		t.Fatal(err)
	}
	behind, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal("the database's URL does not parse")
	}
	password, _ := behind.User.Password()
	dir, err := os.MkdirTemp("/tmp", "credent-pgbouncer-") //nolint:usetesting // t.TempDir lies where the other user cannot enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	port := freePort(t)
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
			fmt.Sprintf("default_pool_size = %d", bouncerPoolSize),
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

// runPgBouncer starts the program and returns what it logs. It ends with the
// test, and with this process: a shell waits for the end of its input, which
// comes also if this process is killed.
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
		_ = cmd.Wait() // tells how it was ended
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

func freePort(t *testing.T) int {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func waitForPgBouncer(t *testing.T, url string, log fmt.Stringer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bouncerTimeout)
	defer cancel()
	db := openDB(t, url)
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

// pooled are the ways to connect through PgBouncer in transaction mode. pgx
// prepares statements under names by default, which stay with a connection to
// the server that the next transaction need not get.
var pooled = map[string]struct {
	parameters string
	opts       []testopt.Option
	userless   bool // statements without a user may have parameters
}{
	// It sends parameters in a second message: between the two, outside of a
	// transaction, PgBouncer may change the connection. Statements of a user
	// are in one.
	"pq": {"", nil, false},
	// Everything in one message.
	"pq, binary parameters": {"&binary_parameters=yes", nil, true},
	"pgx, exec":             {"&default_query_exec_mode=exec", []testopt.Option{testopt.WithPGX()}, true},
	"pgx, simple protocol":  {"&default_query_exec_mode=simple_protocol", []testopt.Option{testopt.WithPGX()}, true},
}

func TestPgBouncer(t *testing.T) {
	t.Parallel()
	for name, way := range pooled {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			through := startPgBouncer(t, s.serviceURL) + way.parameters
			db := openDB(t, through, way.opts...)
			db.SetMaxOpenConns(manyClients)
			db.SetMaxIdleConns(manyClients)
			client := must(testopt.NewClient(db, "postgres", append(way.opts, testopt.WithKeyring(s.ring))...))
			mixUsers(t, client, way.userless)

			if n := s.mismatches(t); n != 0 {
				t.Errorf("%d credentials differ from their account", n)
			}
			var n int
			if s.value(t, &n, "SELECT count(*) FROM user_credentials WHERE user_id LIKE 'w%'"); n != manyClients*manyRounds {
				t.Errorf("%d credentials, want %d", n, manyClients*manyRounds)
			}
			if s.value(t, &n, "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND application_name <> 'direct' "+
				"AND datname = current_database()", s.role); n == 0 || n > bouncerPoolSize+1 { // and the service's own client
				t.Errorf("%d connections to the server, so they were not shared", n)
			}
			// The connections to the server, one by one: transactions that are
			// open at the same time have different ones.
			seen := map[int]bool{}
			for range bouncerPoolSize {
				tx, err := db.BeginTx(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = tx.Rollback() }()
				var pid, rows int
				var user string
				if err := tx.QueryRowContext(t.Context(), "SELECT pg_backend_pid(), coalesce(current_setting('app.user_id', true), ''), "+
					"(SELECT count(*) FROM user_credentials)").Scan(&pid, &user, &rows); err != nil {
					t.Fatal(err)
				}
				if seen[pid] = true; user != "" || rows != 0 {
					t.Errorf("connection %d is %q's, and sees %d rows", pid, user, rows)
				}
			}
			if len(seen) != bouncerPoolSize {
				t.Errorf("%d connections, want %d", len(seen), bouncerPoolSize)
			}
		})
	}
}

// Two clients take turns on one connection to the server, in the middle of what
// each of them does.
func TestPgBouncerTakesTurns(t *testing.T) {
	t.Parallel()
	for name, way := range pooled {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			through := startPgBouncer(t, s.serviceURL) + way.parameters
			opts := append(way.opts, testopt.WithKeyring(s.ring))
			first, second := open(t, through, opts...), open(t, through, append(opts, testopt.RequireRowSecurity())...)
			for range 20 {
				tx, err := first.Tx(as(t, "u1"))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([]string{"u1", "u1"}, usersSeen(t, as(t, "u1"), tx.UserCredential.Query())); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff([]string{"u2"}, usersSeen(t, as(t, "u2"), second.UserCredential.Query())); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff([]string{"u1", "u1"}, usersSeen(t, as(t, "u1"), tx.UserCredential.Query())); diff != "" {
					t.Error(diff)
				}
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
				if got := usersSeen(t, t.Context(), second.UserCredential.Query()); len(got) != 0 {
					t.Errorf("without a user: %v", got)
				}
			}
		})
	}
}
