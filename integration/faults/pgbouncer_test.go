//go:build linux

package faults

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/credent-go/credent/internal/pgserver"
)

// bouncer is a PgBouncer in transaction mode.
type bouncer struct {
	*trial
	config string
	addr   string
	cmd    *exec.Cmd
}

// pgBouncerClients is the number of writers, which share a few connections.
const pgBouncerClients = 64

// newBouncer starts PgBouncer in front of a URL's server.
func newBouncer(tr *trial, databaseURL string) *bouncer {
	tr.Helper()
	behind, err := url.Parse(databaseURL)
	if err != nil {
		tr.Fatal("the server's URL does not parse")
	}
	dir, err := os.MkdirTemp("/tmp", "credent-pgbouncer-") // the other user can't enter t.TempDir
	tr.must(err)
	tr.Cleanup(func() { _ = os.RemoveAll(dir) })
	number, err := pgserver.FreePort(tr.ctx)
	tr.must(err)
	port := strconv.Itoa(number)
	b := &bouncer{trial: tr, config: filepath.Join(dir, "pgbouncer.ini"), addr: net.JoinHostPort("127.0.0.1", port)}
	password, _ := behind.User.Password()
	for name, lines := range map[string][]string{
		"users.txt": {fmt.Sprintf("%q %q", behind.User.Username(), password)},
		"pgbouncer.ini": {
			"[databases]", fmt.Sprintf("* = host=%s port=%s", behind.Hostname(), behind.Port()),
			"[pgbouncer]", "listen_addr = 127.0.0.1", "listen_port = " + port, "unix_socket_dir =",
			"auth_type = scram-sha-256", "auth_file = " + filepath.Join(dir, "users.txt"),
			"pool_mode = transaction", "default_pool_size = 8", "max_client_conn = 400",
			"ignore_startup_parameters = extra_float_digits",
		},
	} {
		tr.must(os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	}
	if owner := unprivileged(tr); owner != nil {
		for _, path := range []string{dir, filepath.Join(dir, "users.txt"), b.config} {
			tr.must(os.Chown(path, int(owner.Uid), int(owner.Gid)))
		}
	}
	b.start()
	tr.Cleanup(b.kill)
	return b
}

// unprivileged returns a user for programs that refuse to run as root, or nil
// if this process doesn't run as root.
func unprivileged(tr *trial) *syscall.Credential {
	tr.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, err := strconv.ParseUint(u.Uid, 10, 32)
			tr.must(err)
			gid, err := strconv.ParseUint(u.Gid, 10, 32)
			tr.must(err)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	tr.Fatal("no user postgres or nobody on this system, and PgBouncer does not run as root")
	return nil
}

// start starts the program and waits until it answers.
func (b *bouncer) start() {
	b.Helper()
	program := "/usr/sbin/pgbouncer" // Debian's path, which isn't in everyone's PATH
	if _, err := os.Stat(program); err != nil {
		if program, err = exec.LookPath("pgbouncer"); err != nil {
			b.Fatal("PgBouncer is not installed: run make setup, or install the package pgbouncer")
		}
	}
	b.cmd = exec.Command(program, b.config)
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: unprivileged(b.trial), Pdeathsig: syscall.SIGKILL}
	b.must(b.cmd.Start())
	if !eventually(settleLimit, func() bool {
		conn, err := net.DialTimeout("tcp4", b.addr, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}) {
		b.Fatal("PgBouncer does not answer")
	}
}

func (b *bouncer) kill() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait() // reports the kill
}

func (b *bouncer) signal(s syscall.Signal) {
	b.Helper()
	b.must(b.cmd.Process.Signal(s))
}

// url returns a database's URL through PgBouncer.
func (b *bouncer) url(databaseURL string) string {
	u, _ := url.Parse(databaseURL) // newBouncer has parsed it
	u.Host = b.addr
	return u.String()
}

// pgBouncer lets many clients share few connections, and kills and freezes
// PgBouncer and its server connections.
func pgBouncer(tr *trial) {
	_, databaseURL := startServer(tr)
	w := newWorld(tr, databaseURL)
	b := newBouncer(tr, databaseURL)
	through := b.url(databaseURL)
	w.service(pgBouncerClients/2, "pgx", withParameter(through, "default_query_exec_mode=exec"))
	w.service(pgBouncerClients/2, "pq", withParameter(through, "binary_parameters=yes"))
	rounds := tr.pick(1, 6)
	w.start()
	for range rounds {
		w.await(4)
		w.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND " +
			"backend_type = 'client backend' AND application_name = '" + applicationName + "'")
		w.await(4)
		b.kill()
		b.start()
		w.await(4)
		b.signal(syscall.SIGSTOP)
		w.awaitDeadline()
		b.signal(syscall.SIGCONT)
		w.await(4)
	}
	w.pause()
	w.check()
	b.kill() // otherwise it keeps its connections
	tr.notef("%d clients; %d times each: connections ended, PgBouncer killed, frozen past the deadline; %s",
		pgBouncerClients, rounds, w.pauses())
	w.close()
}
