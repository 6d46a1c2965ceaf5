//go:build linux || darwin

// Package pgreplica runs a Postgres primary with standbys for tests, and fails
// over between them.
//
// Call [Start] for a primary and [Server.AddStandby] for each standby. A
// promotion loses whatever the standby hasn't received. There are two kinds of
// lag: [Server.PauseReplay] hides received changes from readers until a
// promotion, and [Server.StopReceiving] cuts the standby off, so that a
// promotion loses every later commit. [Server.Kill] then ends the primary as if
// its machine had failed, [Server.Promote] makes a standby the primary, and
// [Server.Follow] makes another standby follow it.
//
// Replication is asynchronous unless [Server.Synchronous] asks for more.
// Package pgserver starts the servers from the installed binaries, even if the
// environment variable names a server. They need Postgres 13 or later, which
// lets a running standby change its primary.
package pgreplica

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/credent-go/credent/internal/pgserver"
)

const (
	maintenance  = "postgres"            // the database for commands
	pollInterval = 10 * time.Millisecond // between polls of a server
)

// Server is a primary or a standby. It is safe for concurrent use. The zero
// value is useless: use [Start].
type Server struct {
	server *pgserver.Server
	admin  *sql.DB
}

// Start returns a primary without standbys. Acknowledged commits survive
// [Server.Kill], but not a crash of the machine. [Server.Stop] ends the server.
func Start(ctx context.Context, opts ...pgserver.Option) (*Server, error) {
	opts = append([]pgserver.Option{pgserver.Private()}, opts...)
	for name, value := range map[string]string{
		"synchronous_commit": "on",
		// A killed server leaves its shared memory behind, so keep it in the
		// data directory, which Stop deletes.
		"dynamic_shared_memory_type": "mmap",
		"max_wal_senders":            "20",
	} {
		opts = append([]pgserver.Option{pgserver.WithSetting(name, value)}, opts...)
	}
	return start(ctx, opts)
}

// AddStandby starts a standby of s from a copy of its files, and returns when
// the standby answers.
func (s *Server) AddStandby(ctx context.Context, opts ...pgserver.Option) (*Server, error) {
	return start(ctx, append([]pgserver.Option{
		pgserver.CopyOf(s.server),
		pgserver.WithSetting("dynamic_shared_memory_type", "mmap"),
		pgserver.WithSetting("max_wal_senders", "20"), // a standby needs at least the primary's value
		pgserver.WithSetting("synchronous_commit", "on"),
		pgserver.WithSetting("wal_retrieve_retry_interval", "100ms"), // after the primary is gone
	}, opts...))
}

func start(ctx context.Context, opts []pgserver.Option) (*Server, error) {
	server, err := pgserver.Start(ctx, opts...)
	if err != nil {
		return nil, err
	}
	admin, err := sql.Open("postgres", server.URL(maintenance))
	if err != nil {
		return nil, errors.Join(errors.New("not a URL that the Postgres driver understands"), server.Stop())
	}
	return &Server{server, admin}, nil
}

// URL returns the postgres:// URL of a database on the server, with the
// superuser's password.
func (s *Server) URL(database string) string { return s.server.URL(database) }

// URL returns one URL for a database on several servers, for clients that look
// for the primary.
func URL(database string, servers ...*Server) (string, error) {
	var (
		hosts, ports []string
		all          *url.URL
	)
	for _, s := range servers {
		u, err := url.Parse(s.URL(database))
		if err != nil {
			return "", errors.New("a server has no valid URL") // the cause would quote it
		}
		hosts, ports, all = append(hosts, u.Hostname()), append(ports, u.Port()), u
	}
	if all == nil {
		return "", errors.New("no servers")
	}
	all.Host = ""
	q := all.Query()
	q.Set("host", strings.Join(hosts, ","))
	q.Set("port", strings.Join(ports, ","))
	q.Set("target_session_attrs", "read-write")
	all.RawQuery = q.Encode()
	return all.String(), nil
}

// CreateDatabase is like [pgserver.Server.CreateDatabase]; the database is
// replicated to the standbys.
func (s *Server) CreateDatabase(ctx context.Context, template string) (dbURL string, drop func() error, err error) {
	return s.server.CreateDatabase(ctx, template)
}

// LogFile returns the path of the server's log, which [Server.Stop] deletes.
func (s *Server) LogFile() string { return s.server.LogFile() }

// Synchronous makes each commit on the primary wait until any given number of
// standbys have it on disk; 0 turns this off.
func (s *Server) Synchronous(ctx context.Context, standbys int) error {
	names := ""
	if standbys > 0 {
		names = fmt.Sprintf("ANY %d (*)", standbys)
	}
	const name = "synchronous_standby_names"
	if err := s.set(ctx, name, names); err != nil {
		return err
	}
	if err := s.until(ctx, "set "+name, "SELECT current_setting('"+name+"') = "+pq.QuoteLiteral(names)); err != nil {
		return err
	}
	// The checkpointer enables synchronous waiting only after it has reread its
	// settings.
	return s.exec(ctx, "set "+name, "CHECKPOINT")
}

// StopReceiving cuts a standby off from its primary, and returns when it has
// stopped receiving. [Server.Follow] reconnects it. Neither works while the
// standby's replay is paused.
func (s *Server) StopReceiving(ctx context.Context) error {
	if err := s.set(ctx, "primary_conninfo", ""); err != nil {
		return err
	}
	return s.until(ctx, "stop receiving", "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)")
}

// Follow makes a standby follow a primary: its former one, or a promoted
// standby that shares its history. It returns when the standby is connected.
func (s *Server) Follow(ctx context.Context, primary *Server) error {
	u, err := url.Parse(primary.URL(""))
	if err != nil {
		return errors.New("follow: the primary has no valid URL") // the cause would quote it
	}
	u.Path = ""
	if err := s.set(ctx, "primary_conninfo", u.String()); err != nil {
		return err
	}
	return s.until(ctx, "follow", "SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')")
}

// PauseReplay makes a standby receive changes without showing them, until
// [Server.ResumeReplay] or [Server.Promote].
func (s *Server) PauseReplay(ctx context.Context) error {
	if err := s.exec(ctx, "pause replay", "SELECT pg_wal_replay_pause()"); err != nil {
		return err
	}
	// Since Postgres 14, replay pauses only before the next record.
	return s.until(ctx, "pause replay", "SELECT pg_is_wal_replay_paused()")
}

// ResumeReplay undoes [Server.PauseReplay].
func (s *Server) ResumeReplay(ctx context.Context) error {
	return s.exec(ctx, "resume replay", "SELECT pg_wal_replay_resume()")
}

// WaitFor returns when a standby shows everything that the primary had written
// at the time of the call.
func (s *Server) WaitFor(ctx context.Context, primary *Server) error {
	var position string
	if err := primary.admin.QueryRowContext(ctx, "SELECT pg_current_wal_lsn()").Scan(&position); err != nil {
		return fmt.Errorf("ask the primary for its position: %w", err)
	}
	return s.until(ctx, "wait for the primary's position",
		"SELECT pg_last_wal_replay_lsn() >= "+pq.QuoteLiteral(position)+"::pg_lsn")
}

// Promote makes a standby the primary, and returns when it accepts writes.
func (s *Server) Promote(ctx context.Context) error {
	if err := s.exec(ctx, "promote", "SELECT pg_promote(false)"); err != nil {
		return err
	}
	return s.until(ctx, "promote", "SELECT NOT pg_is_in_recovery()")
}

// Kill ends the server and its connections at once, in the middle of any work,
// as if its machine had failed.
func (s *Server) Kill() error { return s.server.Kill() }

// Stop ends the server at once, if it is running, and deletes its files.
func (s *Server) Stop() error { return errors.Join(s.admin.Close(), s.server.Stop()) }

// set changes a setting of the running server. Errors don't quote the value,
// which may contain a password.
func (s *Server) set(ctx context.Context, name, value string) error {
	if err := s.exec(ctx, "set "+name, "ALTER SYSTEM SET "+name+" = "+pq.QuoteLiteral(value)); err != nil {
		return err
	}
	return s.exec(ctx, "set "+name, "SELECT pg_reload_conf()")
}

func (s *Server) exec(ctx context.Context, what, query string) error {
	if _, err := s.admin.ExecContext(ctx, query); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// until polls until the query returns true.
func (s *Server) until(ctx context.Context, what, query string) error {
	for {
		var done bool
		if err := s.admin.QueryRowContext(ctx, query).Scan(&done); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}
