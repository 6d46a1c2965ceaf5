package open_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/open"
	"github.com/credent-go/credent/open/libpq"
	"github.com/credent-go/credent/open/sqlite"
)

var server *pgserver.Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if server, err = pgserver.Start(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = server.Stop() }()
	// Most tests wait for a deadline, and take no processor.
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// forms are ways to reach Postgres.
var forms = map[string][]open.Driver{"pgx": nil, "lib/pq": {libpq.Driver()}}

// parts are what a URL of the test's server is made of.
type parts struct{ user, password, host, port, socket string }

func serverParts(t *testing.T) parts {
	t.Helper()
	u, err := url.Parse(server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	p := parts{u.User.Username(), password, u.Hostname(), u.Port(), ""}
	db := connect(t, server.URL("postgres"), open.Config{})
	const query = "SELECT split_part(current_setting('unix_socket_directories'), ',', 1)"
	if err := db.QueryRowContext(t.Context(), query).Scan(&p.socket); err != nil {
		t.Fatal(err)
	}
	return p
}

func connect(t *testing.T, databaseURL string, cfg open.Config) *sql.DB {
	t.Helper()
	db, _, err := open.DB(databaseURL, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// TestForms connects by every form that psql takes, over both drivers.
func TestForms(t *testing.T) {
	p := serverParts(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	refused := freePort(t)
	section := "\nhost=" + p.host + "\nport=" + p.port + "\nuser=" + p.user + "\npassword=" + p.password + "\n"
	services := write("services.conf", "# a comment\n[blue]"+section+"[wrong]\nhost="+dir+"\nport=1\nsslmode=require\n")
	_ = write("pg_service.conf", "[blue]"+section)
	passwords := write("pw", "127.0.0.1:"+refused+":*:*:wrong\n"+
		p.host+":"+p.port+":*:"+p.user+":"+p.password+"\n"+p.socket+":"+p.port+":*:*:"+p.password+"\n")
	login, at := p.user+":"+p.password, p.host+":"+p.port
	plain := "postgres://" + login + "@" + at + "/postgres?sslmode=disable"
	words := "user=" + p.user + " password=" + p.password + " dbname=postgres"
	socket := strings.ReplaceAll(p.socket, "/", "%2F")
	all := map[string]string{
		"PGHOST": p.host, "PGPORT": p.port, "PGUSER": p.user, "PGPASSWORD": p.password,
		"PGDATABASE": "postgres", "PGSSLMODE": "disable",
	}
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	_ = write("home/.pg_service.conf", "[green]"+section+"dbname=postgres\nsslmode=disable\nkeepalives_idle=5\n")
	for name, test := range map[string]struct {
		url string
		env map[string]string
	}{
		"plain":          {plain, nil},
		"postgresql":     {"postgresql://" + login + "@" + at + "/postgres?sslmode=disable", nil},
		"sslmode=prefer": {"postgres://" + login + "@" + at + "/postgres?sslmode=prefer", nil},
		"two hosts with ports": {"postgres://" + login + "@127.0.0.1:" + refused + "," + at +
			"/postgres?sslmode=disable", nil},
		"target_session_attrs": {"postgres://" + login + "@127.0.0.1:" + refused + "," + at +
			"/postgres?sslmode=disable&target_session_attrs=read-write", nil},
		"target primary": {"postgres://" + login + "@" + at + "," + at +
			"/postgres?sslmode=disable&target_session_attrs=primary", nil},
		"hosts in parameters": {"postgres://" + login + "@/postgres?host=127.0.0.1," + p.host + "&port=" + refused +
			"," + p.port + "&sslmode=disable", nil},
		"keywords": {"host=" + p.host + " port=" + p.port + " user=" + p.user + " password='" +
			p.password + "' dbname=postgres sslmode=disable", nil},
		"keywords with spaces": {"host = " + p.host + "  port = " + p.port +
			" options = '-c lock_timeout=7s' sslmode=disable " + words, nil},
		"keywords, two hosts":     {"host=127.0.0.1," + p.host + " port=" + refused + "," + p.port + " " + words, nil},
		"socket as a parameter":   {"postgres://" + login + "@/postgres?host=" + p.socket + "&port=" + p.port, nil},
		"socket, percent-encoded": {"postgres://" + login + "@" + socket + ":" + p.port + "/postgres", nil},
		"socket, keywords":        {"host=" + p.socket + " port=" + p.port + " " + words, nil},
		"bare, PGHOST":            {"postgres://", all},
		"bare, a database":        {"postgres:///postgres", all},
		"keywords, PGHOST":        {"dbname=postgres", all},
		"PGOPTIONS":               {"postgres://", with(all, "PGOPTIONS", "-c lock_timeout=7s")},
		"service": {
			"postgres:///postgres?service=blue&sslmode=disable",
			map[string]string{"PGSERVICEFILE": services},
		},
		"servicefile": {"service=blue dbname=postgres sslmode=disable servicefile=" + services, nil},
		"PGSERVICE": {"postgres:///postgres", map[string]string{
			"PGSERVICEFILE": services,
			"PGSERVICE":     "blue",
		}},
		"~/.pg_service.conf": {"service=green", map[string]string{"HOME": home}},
		"PGSYSCONFDIR": {"postgres:///postgres?service=blue", map[string]string{
			"PGSYSCONFDIR": dir,
			"HOME":         dir,
		}},
		"passfile": {"postgres://" + p.user + "@" + at + "/postgres?sslmode=disable&passfile=" +
			passwords, nil},
		"PGPASSFILE": {
			"postgres://" + p.user + "@" + at + "/postgres?sslmode=disable",
			map[string]string{"PGPASSFILE": passwords},
		},
		"channel_binding=prefer":  {plain + "&channel_binding=prefer", nil},
		"channel_binding=disable": {plain + "&channel_binding=disable", nil},
		"hostaddr": {"postgres://" + login + "@no.such.host.invalid:" + p.port +
			"/postgres?sslmode=disable&hostaddr=" + p.host, nil},
		"keepalives": {plain + "&keepalives=1&keepalives_idle=5&keepalives_interval=2" +
			"&keepalives_count=3&tcp_user_timeout=9000", nil},
		"gssencmode":           {plain + "&gssencmode=prefer", nil},
		"application_name":     {plain + "&fallback_application_name=x", nil},
		"settings":             {plain + "&lock_timeout=7s&options=-c%20lock_timeout%3D7s", nil},
		"connect_timeout":      {plain + "&connect_timeout=5", nil},
		"a pooler's parameter": {plain + "&default_query_exec_mode=exec&binary_parameters=yes", nil},
		"user in the parameters": {"postgres://" + at + "/postgres?sslmode=disable&user=" + p.user + "&password=" +
			p.password, nil},
		"socket before a host": {"host=" + dir + "," + p.host + " port=1," + p.port + " sslmode=prefer " + words, nil},
		"host before a socket, sslmode=require": {
			"host=127.0.0.1," + p.socket + " port=" + refused + "," + p.port + " sslmode=require " + words, nil,
		},
		"keywords on lines": {"host=" + p.host + "\n  port=" + p.port + "\n  sslmode=disable\n" + words + "\n", nil},
		"read-only": {
			plain + "&target_session_attrs=read-only&options=-c%20default_transaction_read_only%3Don", nil,
		},
		"random": {plain + "&load_balance_hosts=random", nil},
		"PGHOSTADDR": {
			"postgres://" + login + "@no.such.host.invalid:" + p.port + "/postgres?sslmode=disable",
			map[string]string{"PGHOSTADDR": p.host},
		},
		"PGSERVICE, overridden": {plain, map[string]string{"PGSERVICEFILE": services, "PGSERVICE": "wrong"}},
		"passfile, a socket": {
			"host=" + p.socket + " port=" + p.port + " user=" + p.user + " dbname=postgres",
			map[string]string{"PGPASSFILE": passwords},
		},
		"passfile, the second host": {"postgres://" + p.user + "@127.0.0.1:" + refused + "," + at +
			"/postgres?sslmode=disable&passfile=" + passwords, nil},
		"percent-encoded database": {"postgres://" + login + "@" + at + "/%70ostgres?sslmode=disable", nil},
	} {
		for driver, drivers := range forms {
			t.Run(name+"/"+driver, func(t *testing.T) {
				for _, unset := range []string{"PGHOST", "PGSERVICE", "PGCHANNELBINDING"} {
					if test.env[unset] == "" && os.Getenv(unset) != "" {
						t.Fatalf("unset %s for the tests", unset)
					}
				}
				for variable, value := range test.env {
					t.Setenv(variable, value)
				}
				db := connect(t, test.url, open.Config{Drivers: drivers})
				var database, lockTimeout string
				row := db.QueryRowContext(t.Context(), "SELECT current_database(), current_setting('lock_timeout')")
				if err := row.Scan(&database, &lockTimeout); err != nil {
					t.Fatal(err)
				}
				if database != "postgres" {
					t.Errorf("connected to %s", database)
				}
				want := strings.Contains(test.url+test.env["PGOPTIONS"], "lock_timeout")
				if want != (lockTimeout == "7s") {
					t.Errorf("lock_timeout is %s", lockTimeout)
				}
			})
		}
	}
}

func with(m map[string]string, name, value string) map[string]string {
	m = maps.Clone(m)
	m[name] = value
	return m
}

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := pgserver.FreePort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// TestConnectErrors has connections fail. No error says more than what went
// wrong: not the password, the URL, a host or a parameter's value.
func TestConnectErrors(t *testing.T) {
	t.Parallel()
	p := serverParts(t)
	at := p.host + ":" + p.port
	for name, test := range map[string]struct{ url, want string }{
		"refused": {
			"postgres://IN-VAIN:IN-VAIN@127.0.0.1:" + freePort(t) + "/IN-VAIN?sslmode=disable",
			"connection refused",
		},
		"no such host": {
			"postgres://IN-VAIN:IN-VAIN@in-vain.invalid/IN-VAIN?sslmode=disable",
			"its host name isn't known",
		},
		"no such socket":   {"postgres://IN-VAIN:IN-VAIN@/IN-VAIN?host=/IN-VAIN", "no such file or directory"},
		"wrong password":   {"postgres://" + p.user + ":IN-VAIN@" + at + "/postgres?sslmode=disable", "28P01"},
		"no such database": {"postgres://" + p.user + ":" + p.password + "@" + at + "/x?sslmode=disable", "3D000"},
		"no such setting": {"postgres://" + p.user + ":" + p.password + "@" + at +
			"/postgres?sslmode=disable&my_setting=IN-VAIN", "my_setting"},
		"no TLS": {"postgres://IN-VAIN:IN-VAIN@" + at + "/IN-VAIN?sslmode=require", "TLS|SSL"},
		"no TLS after a socket": {"host=/IN-VAIN,127.0.0.1 port=1," + p.port + " sslmode=require user=" + p.user +
			" password=" + p.password, "TLS|SSL"},
		"no socket without a file": {"host=@IN-VAIN user=u password=IN-VAIN dbname=d", "connection refused"},
		"no certificate": {
			"postgres://u:IN-VAIN@" + at + "/d?sslmode=verify-full&sslrootcert=/IN-VAIN",
			"can't be read|does not accept",
		},
		"several": {
			"postgres://IN-VAIN:IN-VAIN@127.0.0.1:" + freePort(t) +
				",in-vain.invalid/IN-VAIN?sslmode=disable",
			"connection refused; its host name isn't known|its host name isn't known; connection refused",
		},
	} {
		for driver, drivers := range forms {
			db, _, err := open.DB(test.url, open.Config{Drivers: drivers})
			if err == nil {
				err = db.PingContext(t.Context())
				_ = db.Close()
				if !errors.Is(err, open.ErrConnect) {
					t.Errorf("%s over %s: %v is no ErrConnect", name, driver, err)
				}
			}
			if err == nil {
				continue
			}
			found := false
			for want := range strings.SplitSeq(test.want, "|") {
				found = found || strings.Contains(err.Error(), want)
			}
			if text := strings.ToUpper(err.Error()); !found || strings.Contains(text, "VAIN") || strings.Contains(text,
				"127.0.0.1") {
				t.Errorf("%s over %s: %v", name, driver, err)
			}
		}
	}
}

// TestNeedsDriver has URLs whose driver is not there.
func TestNeedsDriver(t *testing.T) {
	t.Parallel()
	_, _, err := open.DB("sqlite:IN-VAIN.db", open.Config{})
	if !errors.Is(err, open.ErrNoDriver) || !errors.Is(err, open.ErrURL) || !strings.Contains(err.Error(),
		"open/sqlite, and add sqlite.Driver()") ||
		strings.Contains(err.Error(), "VAIN") {
		t.Error(err)
	}
	db, dialect, err := open.DB("sqlite::memory:", open.Config{Drivers: []open.Driver{sqlite.Driver()}})
	if err != nil || dialect != "sqlite3" {
		t.Fatal(dialect, err)
	}
	defer func() { _ = db.Close() }()
	var on int
	if err := db.QueryRowContext(t.Context(), "PRAGMA foreign_keys").Scan(&on); err != nil || on != 1 {
		t.Error(on, err)
	}
}

// TestFiles opens files that can't be opened, and a database in memory, which
// has one connection.
func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := open.Config{Drivers: []open.Driver{sqlite.Driver()}}
	for url, want := range map[string]string{
		"sqlite:" + dir + "/IN-VAIN/x.db":                        "the file's folder doesn't exist",
		"sqlite:" + dir:                                          "it is a folder",
		"sqlite:" + dir + "/IN-VAIN?mode=ro":                     "there is no such file, and it can't be made",
		"sqlite:" + text + "?_pragma=user_version":               "the file is not an SQLite database",
		"sqlite:" + dir + "/x.db?_pragma=key(IN-VAIN)":           "does not accept one of its parameters",
		"sqlite:" + dir + "/x.db?vfs=IN-VAIN":                    "does not accept one of its parameters",
		"sqlite:" + dir + "/x.db?_journal_mode=IN-VAIN":          "does not accept one of its parameters",
		"sqlite:" + dir + "/a#b%25 c.db?_pragma=foreign_keys=on": "",
		"sqlite:x?mode=memory":                                   "",
	} {
		db := connect(t, url, cfg)
		_, err := db.ExecContext(t.Context(), "CREATE TABLE t (n int)")
		if want != "" {
			if !errors.Is(err, open.ErrConnect) || !strings.Contains(err.Error(), want) ||
				strings.Contains(err.Error(), "VAIN") || strings.Contains(err.Error(), dir) {
				t.Errorf("%s: got %v, want %s", url, err, want)
			}
			continue
		}
		if err != nil || strings.Contains(url, "memory") != (db.Stats().MaxOpenConnections == 1) {
			t.Errorf("%s: %v with %d connections", url, err, db.Stats().MaxOpenConnections)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "a#b%25 c.db")); err != nil {
		t.Error(err)
	}
}

// TestJSON stores jsonb values, as ent's field.JSON does, beside values with
// the types of a row: nothing sets binary_parameters (lib/pq#528).
func TestJSON(t *testing.T) {
	t.Parallel()
	for driver, drivers := range forms {
		db := connect(t, server.URL("postgres"), open.Config{Drivers: drivers})
		for _, arg := range []any{json.RawMessage(`{"a": 1}`), []byte(`{"a": 1}`), `{"a": 1}`} {
			var got []byte
			row := db.QueryRowContext(t.Context(), "SELECT $1::jsonb", arg)
			if err := row.Scan(&got); err != nil || string(got) != `{"a": 1}` {
				t.Errorf("%T over %s: got %s, %v", arg, driver, got, err)
			}
		}
	}
}
