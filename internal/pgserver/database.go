//go:build linux || darwin

package pgserver

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/lib/pq"
)

// dropTimeout limits dropping one database.
const dropTimeout = 2 * time.Minute

// CreateDatabase creates a database with a unique name and returns its URL and
// a function that drops it.
//
// The database is a copy of the template, given by name or by a URL that
// CreateDatabase returned. Nobody may be connected to the template meanwhile.
// If template is "", the database is empty, in UTF-8 and sorted by bytes. The
// drop function ends open connections. It works after ctx is cancelled, may be
// called twice, and fails after [Server.Stop].
func (s *Server) CreateDatabase(ctx context.Context, template string) (dbURL string, drop func() error, err error) {
	name := "credent_test_" + strings.ToLower(rand.Text())
	create := "CREATE DATABASE " + pq.QuoteIdentifier(name)
	if template == "" {
		create += " TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
	} else {
		create += " TEMPLATE " + pq.QuoteIdentifier(databaseName(template))
	}
	if s.ours && s.version >= 150000 {
		create += " STRATEGY FILE_COPY" // takes half the time without fsync
	}
	if _, err := s.admin.ExecContext(ctx, create); err != nil {
		return "", nil, fmt.Errorf("create database: %w", err)
	}
	if !s.ours { // our own server has it in postgresql.conf
		alter := "ALTER DATABASE " + pq.QuoteIdentifier(name) + " SET TimeZone = " + pq.QuoteLiteral(sessionTimeZone)
		if _, err := s.admin.ExecContext(ctx, alter); err != nil {
			_ = s.dropDatabase(name)
			return "", nil, fmt.Errorf("set the time zone of a database: %w", err)
		}
	}
	return s.URL(name), func() error { return s.dropDatabase(name) }, nil
}

// databaseName returns the name of a URL's database, and any other text
// unchanged.
func databaseName(nameOrURL string) string {
	if u, err := url.Parse(nameOrURL); err == nil && strings.HasPrefix(u.Scheme, "postgres") {
		return strings.TrimPrefix(u.Path, "/")
	}
	return nameOrURL
}

// dropDatabase uses its own context, because a test's context is cancelled
// before cleanup.
func (s *Server) dropDatabase(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
	defer cancel()
	drop := "DROP DATABASE IF EXISTS " + pq.QuoteIdentifier(name)
	if s.version >= 130000 {
		drop += " WITH (FORCE)"
	} else if _, err := s.admin.ExecContext(ctx,
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name); err != nil {
		return fmt.Errorf("end the connections to %s: %w", name, err)
	}
	if _, err := s.admin.ExecContext(ctx, drop); err != nil {
		return fmt.Errorf("drop %s: %w", name, err)
	}
	return nil
}
