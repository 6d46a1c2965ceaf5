//go:build linux || darwin

package pgserver_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/credent-go/credent/internal/pgserver"
)

// envHelper makes the test binary start a server and wait to be killed.
const envHelper = "CREDENT_PGSERVER_TEST_HELPER"

// server runs the installed binaries and is shared by the tests.
var server *pgserver.Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	_ = os.Unsetenv(pgserver.EnvURL) // fails only for malformed names
	s, err := pgserver.Start(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if os.Getenv(envHelper) != "" {
		fmt.Println(s.URL("postgres"))
		fmt.Println(s.LogFile())
		select {}
	}
	server = s
	code := m.Run()
	if err := s.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func TestStart(t *testing.T) {
	t.Parallel()
	db := open(t, server.URL("postgres"))
	for name, want := range map[string]string{
		"listen_addresses":    "127.0.0.1",
		"max_connections":     "500",
		"fsync":               "off",
		"synchronous_commit":  "off",
		"full_page_writes":    "off",
		"TimeZone":            "America/New_York",
		"server_encoding":     "UTF8",
		"password_encryption": "scram-sha-256",
	} {
		if got := query(t, db, "SELECT current_setting($1)", name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	for _, program := range []string{"pg_dump", "psql"} {
		if _, err := os.Stat(filepath.Join(server.BinDir(), program)); err != nil {
			t.Error(err)
		}
	}
	log, err := os.ReadFile(server.LogFile())
	if err != nil || !strings.Contains(string(log), "ready to accept connections") {
		t.Errorf("log = %q, %v", log, err)
	}
	sockets := query(t, db, "SELECT current_setting($1)", "unix_socket_directories")
	if sockets != "" && sockets != filepath.Dir(server.LogFile()) { // none if the path would be too long
		t.Errorf("unix_socket_directories = %q, want the directory of %q", sockets, server.LogFile())
	}
}

func TestURL(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(server.URL("a b/ü"))
	if err != nil {
		t.Fatal(err)
	}
	if u.Scheme != "postgres" || u.Hostname() != "127.0.0.1" || u.Path != "/a b/ü" || u.RawQuery != "sslmode=disable" {
		t.Errorf("URL = %s", u.Redacted())
	}
	u.User = url.UserPassword(u.User.Username(), "wrong")
	u.Path = "/postgres"
	if code := sqlState(ping(t, u.String())); code != "28P01" {
		t.Errorf("with a wrong password: SQLSTATE %q, want 28P01", code)
	}
}

func TestCreateDatabase(t *testing.T) {
	t.Parallel()
	first, dropFirst := create(t, server, "")
	second, _ := create(t, server, "")
	if first == second {
		t.Fatalf("the same database twice: %s", first)
	}
	db := open(t, first)
	if got := query(t, db, "SHOW TimeZone"); got != "America/New_York" {
		t.Errorf("TimeZone = %q", got)
	}
	execute(t, db, "CREATE TABLE t (c int)")
	for range 2 { // an open connection is left the first time
		if err := dropFirst(); err != nil {
			t.Errorf("drop: %v", err)
		}
	}
	if code := sqlState(ping(t, first)); code != "3D000" {
		t.Errorf("after the drop: SQLSTATE %q, want 3D000", code)
	}
	if err := ping(t, second); err != nil {
		t.Errorf("the other database: %v", err)
	}
}

func TestCreateDatabaseTemplate(t *testing.T) {
	t.Parallel()
	template, _ := create(t, server, "")
	db, err := sql.Open("postgres", template)
	if err != nil {
		t.Fatal(err)
	}
	execute(t, db, "CREATE TABLE t AS SELECT 'from the template' AS c")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(template)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, name := range []string{template, strings.TrimPrefix(u.Path, "/"), template, template} {
		wg.Go(func() {
			clone, drop, err := server.CreateDatabase(t.Context(), name)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() {
				if err := drop(); err != nil {
					t.Error(err)
				}
			}()
			clonedDB, err := sql.Open("postgres", clone)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = clonedDB.Close() }()
			var got string
			if err := clonedDB.QueryRow("SELECT c FROM t").Scan(&got); err != nil || got != "from the template" {
				t.Errorf("clone has %q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if _, _, err := server.CreateDatabase(t.Context(), "no such database"); sqlState(err) != "3D000" {
		t.Errorf("without the template: %v, want SQLSTATE 3D000", err)
	}
}

func TestWithSetting(t *testing.T) {
	t.Parallel()
	const odd = `it's a \ backslash = #1`
	s, err := pgserver.Start(t.Context(),
		pgserver.WithSetting("log_statement", "all"),
		pgserver.WithSetting("max_connections", "20"),
		pgserver.WithSetting("credent.odd", odd))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	db := open(t, s.URL("postgres"))
	if got := query(t, db, "SHOW max_connections"); got != "20" {
		t.Errorf("max_connections = %q, want the option's value", got)
	}
	if got := query(t, db, "SHOW credent.odd"); got != odd {
		t.Errorf("credent.odd = %q, want %q", got, odd)
	}
	log, err := os.ReadFile(s.LogFile())
	if err != nil || !strings.Contains(string(log), "SHOW credent.odd") {
		t.Errorf("the log lacks the statement: %q, %v", log, err)
	}
}

func TestWithSettingErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ test, name, value, want string }{
		{"unknown value", "log_statement", "some", `invalid value for parameter "log_statement": "some"`},
		{"unknown name", "no_such_parameter", "1", "unrecognized configuration parameter"},
		{"port", "Port", "5432", "chosen by this package"},
		{"injection by name", "a = 1\nb", "1", "not a parameter name"},
		{"injection by value", "log_statement", "all\nfsync = on", "line break"},
	} {
		t.Run(tt.test, func(t *testing.T) {
			t.Parallel()
			s, err := pgserver.Start(t.Context(), pgserver.WithSetting(tt.name, tt.value))
			if err == nil {
				stop(t, s)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestStartCanceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := pgserver.Start(ctx)
	if err == nil {
		stop(t, s)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	s, err := pgserver.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	db := open(t, s.URL("postgres"))
	execute(t, db, "SELECT 1")
	_, drop, err := s.CreateDatabase(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // an open connection is left the first time
		if err := s.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	if err := ping(t, s.URL("postgres")); err == nil {
		t.Error("the server is still running")
	}
	if _, err := os.Stat(filepath.Dir(s.LogFile())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary directory is still there: %v", err)
	}
	if err := drop(); err == nil {
		t.Error("drop without a server succeeded")
	}
}

func TestExternal(t *testing.T) {
	t.Setenv(pgserver.EnvURL, strings.TrimSuffix(server.URL("postgres"), "?sslmode=disable"))
	s, err := pgserver.Start(t.Context(), pgserver.WithSetting("max_connections", "500"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.URL("x"), server.URL("x"); got != want {
		t.Errorf("URL = %s, want %s", got, want)
	}
	if s.LogFile() != "" {
		t.Errorf("LogFile = %q, want none", s.LogFile())
	}
	if _, err := os.Stat(filepath.Join(s.BinDir(), "pg_dump")); err != nil || s.BinDir() == "" {
		t.Errorf("BinDir = %q: %v", s.BinDir(), err)
	}
	template, drop := create(t, s, "")
	clone, _ := create(t, s, template)
	if got := query(t, open(t, clone), "SHOW TimeZone"); got != "America/New_York" {
		t.Errorf("TimeZone = %q", got)
	}
	if err := drop(); err != nil {
		t.Error(err)
	}
	kept, _ := create(t, server, "")
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if err := ping(t, kept); err != nil {
		t.Errorf("after Stop: %v", err)
	}
}

func TestExternalErrors(t *testing.T) {
	const password = "pa55word"
	db := open(t, server.URL("postgres"))
	execute(t, db, "CREATE ROLE humble LOGIN PASSWORD '"+password+"'")
	defer execute(t, db, "DROP ROLE humble") // not in t.Cleanup, where t.Context is done
	u, err := url.Parse(server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	host := u.Host
	u.User = url.UserPassword("humble", password)
	silent := listen(t).Addr().String()
	for _, tt := range []struct {
		test, url, want string
		opts            []pgserver.Option
	}{
		{test: "role may not create databases", url: u.String(), want: `role "humble" may not create databases`},
		{
			test: "nobody listens", url: "postgres://u:" + password + "@127.0.0.1:" + unusedPort(t) + "/",
			want: "cannot connect",
		},
		{
			test: "wrong password", url: "postgres://postgres:" + password + "@" + host + "/postgres",
			want: "cannot connect",
		},
		{test: "no database", url: server.URL("nothing"), want: "cannot connect"},
		{
			test: "not Postgres", url: "postgres://u:" + password + "@" + silent + "/?connect_timeout=1",
			want: "cannot connect",
		},
		{test: "other scheme", url: "mysql://u:" + password + "@h/", want: "not of the form"},
		{test: "key and value", url: "host=h password=" + password, want: "not of the form"},
		{test: "unescaped password", url: "postgres://u:" + password + "/#@h/", want: "not of the form"},
		{test: "control character", url: "postgres://u:" + password + "\x01@h/", want: "not of the form"},
		{test: "unknown parameter", url: "postgres://u:" + password + "@h/?sslmode=maybe", want: pgserver.EnvURL},
		{
			test: "setting", url: server.URL("postgres"), want: `log_statement is "none", and must be "all"`,
			opts: []pgserver.Option{pgserver.WithSetting("log_statement", "all")},
		},
		{
			test: "unknown setting", url: server.URL("postgres"), want: `no.such is "", and must be "1"`,
			opts: []pgserver.Option{pgserver.WithSetting("no.such", "1")},
		},
	} {
		t.Run(tt.test, func(t *testing.T) {
			t.Setenv(pgserver.EnvURL, tt.url)
			s, err := pgserver.Start(t.Context(), tt.opts...)
			if err == nil {
				stop(t, s)
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), pgserver.EnvURL) {
				t.Errorf("error %q, want one with %q and the variable's name", err, tt.want)
			}
			if strings.Contains(err.Error(), password) {
				t.Errorf("error %q has the password", err)
			}
		})
	}
}

func create(t *testing.T, s *pgserver.Server, template string) (dbURL string, drop func() error) {
	t.Helper()
	dbURL, drop, err := s.CreateDatabase(t.Context(), template)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(); err != nil && s == server {
			t.Error(err)
		}
	})
	return dbURL, drop
}

func stop(t *testing.T, s *pgserver.Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

func open(t *testing.T, dbURL string) *sql.DB {
	t.Helper()
	db, err := sql.Open("postgres", dbURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func ping(t *testing.T, dbURL string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return open(t, dbURL).PingContext(ctx)
}

func query(t *testing.T, db *sql.DB, query string, args ...any) (text string) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

func execute(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

// sqlState returns the code of an error that Postgres sent, or "".
func sqlState(err error) string {
	var pqErr *pq.Error
	if errors.As(err, &pqErr) {
		return string(pqErr.Code)
	}
	return ""
}

// unusedPort returns a port without a listener.
func unusedPort(t *testing.T) string {
	t.Helper()
	l := listen(t)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// listen returns a listener that accepts connections but never answers.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}
