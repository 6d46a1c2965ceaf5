//go:build linux || darwin

// Package pgserver gives tests and maintainers' commands a throw-away Postgres.
//
// Call [Start] once per process, with [Shared] in tests, then
// [Server.CreateDatabase] once per test, and [Server.Stop] at the end. Start
// takes the server that CREDENT_TEST_DATABASE_URL names; without that variable
// it starts one of its own from the binaries installed on the machine, in a
// temporary directory, on a free port of 127.0.0.1; without binaries it fails.
// The directory is in memory on a Linux with enough of it, unless TMPDIR says
// where to put temporary files.
// It never stands in for a database with nothing, so that no test passes
// without one.
//
// A server of its own is tuned for speed and loses its data in a crash. It
// takes connections from this machine only, with a random password, and its
// sessions are in New York's time zone, so that code which relies on a session
// in UTC fails where it is tested. It ends with the process that started it: on
// Linux also when that is killed, elsewhere when it is told to stop or sees its
// files gone.
//
// The package is for Linux and macOS, and promises nothing to anyone outside
// this module.
package pgserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
)

// EnvURL is the environment variable that names a running server: a postgres://
// URL of a database on it and of a role that may create databases.
const EnvURL = "CREDENT_TEST_DATABASE_URL"

// minVersion is the oldest supported server, in the form of server_version_num.
const minVersion = 120000

// sessionTimeZone is not UTC, and has daylight saving time, on purpose: see the
// package comment.
const sessionTimeZone = "America/New_York"

// Server is a running Postgres. It is safe for concurrent use. The zero value
// is useless: use [Start].
type Server struct {
	base    url.URL // of the maintenance database
	admin   *sql.DB // connected to it
	version int     // server_version_num
	binDir  string
	ours    bool     // or else the one that EnvURL names
	cluster *cluster // nil if the server is not this process's alone

	stopOnce sync.Once
	stopErr  error
}

// Option changes what [Start] does.
type Option func(*config) error

type config struct {
	settings []setting
	private  bool
	copyOf   *cluster
	shared   bool
	onDisk   bool
}

type setting struct{ name, value string }

var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$`)

// WithSetting sets a server parameter, as a line of postgresql.conf would:
// log_statement to all, for one. The last setting of a name wins, also over
// this package's settings, except where to listen, which is refused. A server
// named by [EnvURL] cannot be changed: for it Start checks that the parameter
// has the value, written as SHOW prints it, and fails otherwise.
func WithSetting(name, value string) Option {
	return func(c *config) error {
		if !settingName.MatchString(name) {
			return fmt.Errorf("setting %q: not a name of a parameter", name)
		}
		switch strings.ToLower(name) {
		case "port", "listen_addresses", "unix_socket_directories":
			return fmt.Errorf("setting %s: chosen by this package", name)
		}
		if strings.ContainsAny(value, "\r\n\x00") {
			return fmt.Errorf("setting %s: the value has a line break or a zero byte", name)
		}
		c.settings = append(c.settings, setting{name, value})
		return nil
	}
}

// Private makes Start run a server of its own in any case, for settings that a
// server named by [EnvURL] need not have.
func Private() Option {
	return func(c *config) error {
		c.private = true
		return nil
	}
}

// OnDisk makes Start put a server's files on a disk also where there is memory
// for them, as measurements want it, and much data.
func OnDisk() Option {
	return func(c *config) error {
		c.onDisk = true
		return nil
	}
}

// CopyOf makes Start run a server of its own with another server's files, as
// pg_basebackup copies them, which goes on as its standby: it has the same
// databases, roles and passwords. Package pgreplica starts these.
func CopyOf(s *Server) Option {
	return func(c *config) error {
		if s.cluster == nil {
			return fmt.Errorf("a copy of the server that %s names: only a server started here has copies", EnvURL)
		}
		c.private, c.copyOf = true, s.cluster
		return nil
	}
}

// Start returns a server that accepts connections, which takes one to three
// seconds if it has to be started. The context limits the start, not the life
// of the server. Errors say what to do, and hold the end of the server's log if
// it does not come up.
func Start(ctx context.Context, opts ...Option) (*Server, error) {
	return start(ctx, os.Getenv(EnvURL), installed(), opts...)
}

// start is Start with the surroundings as arguments.
func start(ctx context.Context, externalURL string, search binarySearch, opts ...Option) (*Server, error) {
	var cfg config
	for _, opt := range opts {
		if err := opt(&cfg); err != nil {
			return nil, fmt.Errorf("%w", err)
		}
	}
	if externalURL != "" && !cfg.private {
		return external(ctx, externalURL, search, cfg)
	}
	binDir, err := search.serverDir(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	var s *Server
	if cfg.shared {
		if cfg.private || cfg.copyOf != nil || cfg.onDisk || len(cfg.settings) > 0 {
			return nil, errors.New("a shared server takes no settings, and isn't private, on a disk or a copy")
		}
		if s, err = startShared(ctx, binDir, sharedIdle); err != nil {
			return nil, fmt.Errorf("start the shared server of %s: %w", binDir, err)
		}
	} else {
		c, err := newCluster(ctx, binDir, cfg, false)
		if err != nil {
			return nil, fmt.Errorf("start the server of %s: %w", binDir, err)
		}
		s = &Server{base: c.url(), admin: c.admin, ours: true, cluster: c}
	}
	s.binDir = binDir
	if s.version, err = serverVersion(ctx, s.admin); err != nil {
		_ = s.Stop()
		return nil, fmt.Errorf("server of %s: %w", binDir, err)
	}
	return s, nil
}

// serverVersion returns server_version_num and refuses servers that are too
// old.
func serverVersion(ctx context.Context, db *sql.DB) (int, error) {
	var version int
	if err := db.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return 0, fmt.Errorf("ask for its version: %w", err)
	}
	if version < minVersion {
		return 0, fmt.Errorf("it is Postgres %d, and %d is the oldest supported", version/10000, minVersion/10000)
	}
	return version, nil
}

// URL returns the postgres:// URL of a database on the server, existing or not,
// with the password. It has sslmode=disable, unless [EnvURL] says otherwise.
func (s *Server) URL(database string) string {
	u := s.base
	u.Path, u.RawPath = "/"+database, ""
	return u.String()
}

// BinDir returns the directory of pg_dump and psql that fit the server. For a
// server named by [EnvURL] that is the first on PATH, or else of the installed
// binaries, whatever their version; "" if there are none.
func (s *Server) BinDir() string { return s.binDir }

// LogFile returns the path of the server's log, which [Server.Stop] deletes, or
// "" for a shared server and one named by [EnvURL].
func (s *Server) LogFile() string {
	if s.cluster == nil {
		return ""
	}
	return s.cluster.logFile()
}

// Kill ends the server and all of its connections in the middle of whatever
// they do, as if its machine was gone, and leaves the files. On macOS, which
// has no way to find the server's processes, the server ends them itself. It
// fails for a server named by [EnvURL].
func (s *Server) Kill() error {
	if s.cluster == nil {
		return fmt.Errorf("kill: the server that %s names isn't ours", EnvURL)
	}
	s.cluster.proc.kill()
	return nil
}

// Revive starts the server again on its files and its port, if it has ended,
// and returns when it answers. It fails for a server named by [EnvURL].
func (s *Server) Revive(ctx context.Context) error {
	if s.cluster == nil {
		return fmt.Errorf("revive: the server that %s names isn't ours", EnvURL)
	}
	if err := s.cluster.revive(ctx); err != nil {
		return fmt.Errorf("revive: %w", err)
	}
	return nil
}

// Stop ends the server at once, connections included, and deletes its files. A
// server named by [EnvURL], and a shared one while others use it, runs on, with
// the databases that have not been dropped. Calls after the first do nothing
// and return the same error.
func (s *Server) Stop() error {
	s.stopOnce.Do(func() {
		_ = s.admin.Close() // a connection that a crash has cut can't say goodbye
		if s.cluster != nil {
			s.stopErr = s.cluster.stop()
		}
		if s.stopErr != nil {
			s.stopErr = fmt.Errorf("stop: %w", s.stopErr)
		}
	})
	return s.stopErr
}
