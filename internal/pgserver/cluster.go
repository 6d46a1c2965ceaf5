//go:build linux || darwin

package pgserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	superuser     = "postgres"
	startAttempts = 5                     // ports to try
	startTimeout  = 2 * time.Minute       // for one attempt, after creating the data directory
	pollInterval  = 20 * time.Millisecond // between two attempts to connect
	probeTimeout  = 10 * time.Second      // for one attempt to connect
	adminTimeout  = time.Minute           // for later connections
	stopTimeout   = 10 * time.Second      // before the server is killed
	maxLogTail    = 2000                  // bytes of log quoted in an error
	maxSocketPath = 103                   // bytes; 107 on Linux, 103 on macOS

	portAttempts     = 100          // to find a free port
	minPort, maxPort = 10000, 32768 // Linux assigns higher ports
)

// errPortTaken means that another program took the port first.
var errPortTaken = errors.New("the port is taken")

// cluster is a server started by this package: a data directory and its
// process.
type cluster struct {
	detached bool // outlives this process
	binDir   string
	settings []setting
	dir      *tempDir
	password string
	port     int
	proc     *process
	admin    *sql.DB
}

// newCluster creates a data directory, starts a server on it and waits until it
// accepts connections.
func newCluster(ctx context.Context, binDir string, cfg config, detached bool) (_ *cluster, err error) {
	dir, err := newTempDir(!cfg.onDisk)
	if err != nil {
		return nil, err
	}
	c := &cluster{detached: detached, binDir: binDir, settings: cfg.settings, dir: dir, password: rand.Text()}
	defer func() {
		if err != nil {
			_ = c.stop()
		}
	}()
	if cfg.copyOf != nil {
		err = c.copyFrom(ctx, cfg.copyOf)
	} else {
		err = c.initialize(ctx)
	}
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		port, err := FreePort(ctx)
		if err != nil {
			return nil, err
		}
		err = c.launch(ctx, port)
		if err == nil {
			return c, nil
		}
		if attempt == startAttempts || !errors.Is(err, errPortTaken) {
			return nil, err
		}
	}
}

func (c *cluster) dataDir() string { return filepath.Join(c.dir.path, "data") }
func (c *cluster) logFile() string { return filepath.Join(c.dir.path, "postgres.log") }

// url returns the maintenance database's URL.
func (c *cluster) url() url.URL {
	return url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, c.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
}

// initialize runs initdb. Every system has the locale C.
func (c *cluster) initialize(ctx context.Context) error {
	passwordFile := filepath.Join(c.dir.path, "password")
	if err := c.dir.writeFile("password", c.password+"\n"); err != nil {
		return err
	}
	defer func() { _ = os.Remove(passwordFile) }()
	cmd := exec.CommandContext(ctx, filepath.Join(c.binDir, "initdb"), "--pgdata="+c.dataDir(), "--username="+superuser,
		"--pwfile="+passwordFile, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
	return c.run(ctx, cmd)
}

// copyFrom runs pg_basebackup, which also writes a standby's settings.
func (c *cluster) copyFrom(ctx context.Context, primary *cluster) error {
	c.password = primary.password
	u := primary.url()
	u.User, u.Path = url.User(superuser), "" // command lines are public
	q := u.Query()
	q.Set("application_name", "standby")
	u.RawQuery = q.Encode()
	cmd := exec.CommandContext(ctx, filepath.Join(c.binDir, "pg_basebackup"), "--pgdata="+c.dataDir(),
		"--dbname="+u.String(), "--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-sync")
	cmd.Env = []string{"PGPASSWORD=" + c.password}
	return c.run(ctx, cmd)
}

// run runs a program that creates the data directory.
func (c *cluster) run(ctx context.Context, cmd *exec.Cmd) error {
	c.prepare(cmd)
	cmd.WaitDelay = time.Second // ends the server that initdb runs, if the context ends
	out, err := cmd.CombinedOutput()
	name := filepath.Base(cmd.Path)
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", name, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, tail(out))
	}
	return nil
}

// prepare makes a command run as the owner of the data directory, in the
// temporary directory, without the caller's environment variables for other
// servers.
func (c *cluster) prepare(cmd *exec.Cmd) {
	cmd.Dir = c.dir.path
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.dir.owner}
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PG") && !strings.HasPrefix(variable, "LC_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C", "HOME="+c.dir.path)
}

// launch starts the server on a port and waits until it answers. It returns
// errPortTaken if another program has the port.
func (c *cluster) launch(ctx context.Context, port int) error {
	c.port = port
	if err := c.dir.writeFile("postgresql.conf", c.conf()); err != nil {
		return err
	}
	log, err := os.Create(c.logFile())
	if err != nil {
		return fmt.Errorf("create the log: %w", err)
	}
	defer func() { _ = log.Close() }() // the server has its own copy
	cmd := exec.Command(filepath.Join(c.binDir, "postgres"), "-D", c.dataDir(),
		"-c", "config_file="+filepath.Join(c.dir.path, "postgresql.conf"))
	c.prepare(cmd)
	cmd.Stdout, cmd.Stderr = log, log
	if c.proc, err = startProcess(cmd, c.detached); err != nil {
		return err
	}
	return c.wait(ctx)
}

// revive waits until the server answers. It restarts a server that has ended or
// ends meanwhile, because a missing prerequisite may exist now.
func (c *cluster) revive(ctx context.Context) error {
	admin := c.admin
	err := c.wait(ctx)
	select {
	case <-c.proc.exited:
		err = c.launch(ctx, c.port)
	default:
	}
	if c.admin != admin {
		err = errors.Join(err, c.admin.Close())
		c.admin = admin // reopens its connections
	}
	return err
}

// conf returns the configuration: initdb's settings, then ours. The last
// setting of a name wins.
func (c *cluster) conf() string {
	sockets := c.dir.path
	if len(filepath.Join(sockets, fmt.Sprintf(".s.PGSQL.%d", c.port))) > maxSocketPath {
		sockets = "" // no sockets
	}
	settings := []setting{
		{"listen_addresses", "127.0.0.1"},
		{"port", strconv.Itoa(c.port)},
		{"unix_socket_directories", sockets},
		{"max_connections", "500"},
		{"fsync", "off"},
		{"synchronous_commit", "off"},
		{"full_page_writes", "off"},
		{"TimeZone", sessionTimeZone},
	}
	if c.dir.inMemory {
		settings = append(settings, setting{"max_wal_size", walInMemory})
	}
	var b strings.Builder
	fmt.Fprintf(&b, "include %s\n", quoteSetting(filepath.Join(c.dataDir(), "postgresql.conf")))
	for _, s := range append(settings, c.settings...) {
		fmt.Fprintf(&b, "%s = %s\n", s.name, quoteSetting(s.value))
	}
	return b.String()
}

// quoteSetting quotes a value for postgresql.conf, in which a backslash
// escapes.
func quoteSetting(value string) string {
	return "'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(value) + "'"
}

// FreePort returns a port of 127.0.0.1 that is currently free. It avoids the
// ports that systems assign to clients, and to servers without a fixed port:
// another program could be assigned such a port before the server starts or
// between its end and a restart.
func FreePort(ctx context.Context) (port int, err error) {
	for range portAttempts {
		port = minPort + mathrand.IntN(maxPort-minPort) //nolint:gosec // no secret
		var l net.Listener
		l, err = new(net.ListenConfig).Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			err = l.Close()
		}
		if err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}

// wait connects until the server answers. Only our server accepts the password,
// so another program on the port can't pass for it.
func (c *cluster) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	u := c.url()
	probe, err := openAdmin(u, probeTimeout)
	if err != nil {
		return err
	}
	defer func() { _ = probe.Close() }()
	retry := time.NewTicker(pollInterval)
	defer retry.Stop()
	for {
		pingErr := probe.PingContext(ctx)
		if pingErr == nil {
			c.admin, err = openAdmin(u, adminTimeout)
			return err
		}
		select {
		case <-c.proc.exited:
			return fmt.Errorf("it ended at once: %w%s", c.exitCause(), c.logTail())
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w (last: %w)%s", ctx.Err(), pingErr, c.logTail())
		case <-retry.C:
		}
	}
}

// openAdmin opens a pool for a server's URL. The driver honors a context while
// dialing, but not while waiting for the first answer, which never comes if
// something other than Postgres listens: only connect_timeout ends that wait.
// It is set to timeout, in whole seconds, unless the URL sets it.
func openAdmin(u url.URL, timeout time.Duration) (*sql.DB, error) {
	query := u.Query()
	if !query.Has("connect_timeout") {
		query.Set("connect_timeout", strconv.Itoa(int(timeout.Seconds())))
	}
	u.RawQuery = query.Encode()
	db, err := sql.Open("postgres", u.String())
	if err != nil {
		return nil, errors.New("not a URL that the Postgres driver understands") // the driver's error quotes the URL
	}
	return db, nil
}

// exitCause returns errPortTaken if the server ended for that reason, because a
// second attempt may then succeed.
func (c *cluster) exitCause() error {
	log, _ := os.ReadFile(c.logFile())
	if bytes.Contains(log, []byte("could not create any TCP/IP sockets")) {
		return errPortTaken
	}
	return c.proc.err
}

// logTail returns the end of the log, starting on a new line.
func (c *cluster) logTail() string {
	log, err := os.ReadFile(c.logFile())
	if err != nil || len(log) == 0 {
		return ""
	}
	return "\n" + tail(log)
}

// tail returns the last lines of an output.
func tail(out []byte) string {
	out = bytes.TrimSpace(out)
	if len(out) > maxLogTail {
		out = out[len(out)-maxLogTail:]
		if i := bytes.IndexByte(out, '\n'); i >= 0 {
			out = out[i+1:]
		}
	}
	return string(out)
}

// stop ends the server, if it is running, and deletes its files.
func (c *cluster) stop() error {
	if c.proc != nil {
		c.proc.stop(stopTimeout)
	}
	return c.dir.remove()
}
