//go:build linux || darwin

// Package pgserver provides a throwaway Postgres for tests and maintainers'
// commands.
//
// Call [Start] once per process, with [Shared] in tests, then
// [Server.CreateDatabase] once per test, and [Server.Stop] at the end. Start
// uses the server that CREDENT_TEST_DATABASE_URL names. Without that variable,
// it starts a server from the installed binaries, in a temporary directory, on
// a free port of 127.0.0.1. Without binaries it fails, so that no test passes
// without a database. On Linux, the directory is in memory if there is enough,
// unless TMPDIR sets the place for temporary files.
//
// A server that it starts is tuned for speed and loses its data in a crash. It
// accepts connections only from this machine, with a random password. Its
// sessions use New York's time zone, so that code that relies on UTC sessions
// fails in tests. It ends with the process that started it: on Linux even if
// that is killed, elsewhere when it is told to stop or its files are deleted.
//
// The package supports Linux and macOS, and promises nothing to users outside
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
// URL with one of its databases and a role that may create databases.
const EnvURL = "CREDENT_TEST_DATABASE_URL"

// minVersion is the oldest supported server version, as a server_version_num.
const minVersion = 120000

// sessionTimeZone is deliberately not UTC, and has daylight saving time: see
// the package comment.
const sessionTimeZone = "America/New_York"

// Server is a running Postgres. It is safe for concurrent use. The zero value
// is useless: use [Start].
type Server struct {
	base    url.URL // the maintenance database
	admin   *sql.DB // a pool on it
	version int     // server_version_num
	binDir  string
	ours    bool     // false if EnvURL names it
	cluster *cluster // nil unless only this process uses the server

	stopOnce sync.Once
	stopErr  error
}

// Option configures [Start].
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

// WithSetting sets a server parameter, as a line of postgresql.conf would, such
// as log_statement to all. The last setting of a name wins and overrides this
// package's settings, except the listen addresses, which it refuses. A server
// named by [EnvURL] can't be changed: Start checks instead that the parameter
// has the value, written as SHOW prints it, and fails otherwise.
func WithSetting(name, value string) Option {
	return func(c *config) error {
		if !settingName.MatchString(name) {
			return fmt.Errorf("setting %q: not a parameter name", name)
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

// Private makes Start start its own server in any case, for settings that a
// server named by [EnvURL] may lack.
func Private() Option {
	return func(c *config) error {
		c.private = true
		return nil
	}
}

// OnDisk makes Start put a server's files on disk even if there is enough
// memory, for measurements and large amounts of data.
func OnDisk() Option {
	return func(c *config) error {
		c.onDisk = true
		return nil
	}
}

// CopyOf makes Start start a standby of another server, from a copy of its
// files made by pg_basebackup. It has the same databases, roles and passwords.
// Package pgreplica starts such standbys.
func CopyOf(s *Server) Option {
	return func(c *config) error {
		if s.cluster == nil {
			return fmt.Errorf("a copy of the server that %s names: only a server started here can be copied", EnvURL)
		}
		c.private, c.copyOf = true, s.cluster
		return nil
	}
}

// Start returns a server that accepts connections. Starting one takes one to
// three seconds. The context limits the start, not the server's lifetime.
// Errors say what to do, and include the end of the log if the server doesn't
// come up.
func Start(ctx context.Context, opts ...Option) (*Server, error) {
	return start(ctx, os.Getenv(EnvURL), installed(), opts...)
}

// start is Start with its environment passed as arguments.
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
			return nil, errors.New("a shared server takes no settings, and can't be private, on disk or a copy")
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

// URL returns the postgres:// URL, with password, of a database on the server,
// whether it exists or not. It has sslmode=disable, unless [EnvURL] says
// otherwise.
func (s *Server) URL(database string) string {
	u := s.base
	u.Path, u.RawPath = "/"+database, ""
	return u.String()
}

// BinDir returns the directory of pg_dump and psql for the server. For a server
// named by [EnvURL], it is the first one on PATH, or the installed binaries,
// whatever their version; "" if there are none.
func (s *Server) BinDir() string { return s.binDir }

// LogFile returns the path of the server's log, which [Server.Stop] deletes, or
// "" for a shared server and one named by [EnvURL].
func (s *Server) LogFile() string {
	if s.cluster == nil {
		return ""
	}
	return s.cluster.logFile()
}

// Kill ends the server and all of its connections in the middle of any work, as
// if its machine had failed, and keeps the files. On macOS, the server ends its
// processes itself, because they can't be found from outside. It fails for a
// server named by [EnvURL].
func (s *Server) Kill() error {
	if s.cluster == nil {
		return fmt.Errorf("kill: the server that %s names isn't ours", EnvURL)
	}
	s.cluster.proc.kill()
	return nil
}

// Revive restarts the server on its files and port, if it has ended, and
// returns when it answers. It fails for a server named by [EnvURL].
func (s *Server) Revive(ctx context.Context) error {
	if s.cluster == nil {
		return fmt.Errorf("revive: the server that %s names isn't ours", EnvURL)
	}
	if err := s.cluster.revive(ctx); err != nil {
		return fmt.Errorf("revive: %w", err)
	}
	return nil
}

// Stop ends the server and its connections at once, and deletes its files. A
// server named by [EnvURL] keeps running, and so does a shared one with other
// users; both keep databases that weren't dropped. Calls after the first do
// nothing and return the same error.
func (s *Server) Stop() error {
	s.stopOnce.Do(func() {
		_ = s.admin.Close() // a connection cut by a crash can't say goodbye
		if s.cluster != nil {
			s.stopErr = s.cluster.stop()
		}
		if s.stopErr != nil {
			s.stopErr = fmt.Errorf("stop: %w", s.stopErr)
		}
	})
	return s.stopErr
}
