package credent_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/open/libpq"
	"github.com/credent-go/credent/open/sqlite"
)

// lite lets SQLite in.
var lite = credent.WithDriver(sqlite.Driver())

// TestBadURL opens URLs that were written for another program, or are
// malformed. The error says what is wrong, and quotes neither the URL nor a
// part of it, over both drivers.
func TestBadURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"":                                      "it is empty",
		"postgresql+psycopg2://u:IN-VAIN@h/d":   "remove +psycopg2",
		`"postgres://u:IN-VAIN@h/d"`:            "in quotes",
		"postgres://u:12/IN-VAIN@127.0.0.1:1/d": "a slash that isn't percent-encoded",
		"postgres://u:IN%VAIN@127.0.0.1:1/d":    "a percent sign",
		"postgres://u:p@IN-VAIN/d?schema=public": "schema (write " +
			"options=-csearch_path%3DSCHEMA)",
		"postgres://u:p@h/d?sslmode=IN-VAIN":                              "its sslmode must be one of",
		"postgres://u:p@h/d?keepalives=IN-VAIN":                           "its keepalives must be one of",
		"postgres://u:p@h/d?connect_timeout=5s":                           "a whole number of seconds",
		"postgres://u:p@h/d?sslmode=disable&min_protocol_version=IN-VAIN": "its min_protocol_version must be one of",
		"sqlite:":                                                    "it has no file",
		"sqlite:a?b=%zzIN-VAIN":                                      "its parameters don't parse",
		"sqlite:file:IN-VAIN":                                        "it has two schemes",
		"sqlite:a?mode=IN-VAIN":                                      "its mode must be ro or rw or rwc or memory",
		"sqlite:a?_txlock=deferred":                                  "its _txlock must be immediate",
		"sqlite:a?_fk=0":                                             "its _fk must be on",
		"sqlite:a?_busy_timeout=5s":                                  "its _busy_timeout must be a whole number",
		"sqlite:a?_pragma=foreign_keys%20=%200":                      "turns off foreign keys or checks",
		"sqlite:a?_pragma=x(1);pragma%20foreign_keys=IN-VAIN":        "its parameters don't parse",
		"sqlite:a?_pragma=x(1)%3Bpragma%20main.foreign_keys=0":       "turns off foreign keys or checks",
		"sqlite:a?_pragma=foreign_keys(1)%3Bpragma%20foreign_keys=0": "turns off foreign keys or checks",
		"sqlite:a?_pragma=IGNORE_CHECK_CONSTRAINTS(1)":               "turns off foreign keys or checks",
		"mysql://u:IN-VAIN@h/d":                                      "it is for MySQL",
	} {
		for name, opts := range map[string][]credent.Option{
			"lib/pq": {lite, credent.WithDriver(libpq.Driver())},
			"pgx":    {lite},
		} {
			db, _, err := credent.OpenDB(url, opts...)
			if err == nil {
				_ = db.Close()
			}
			if !errors.Is(err, credent.ErrURL) || !strings.Contains(err.Error(), want) ||
				!strings.HasPrefix(err.Error(), "open: bad database URL: ") {
				t.Errorf("%s over %s: got %v, want %s", url, name, err, want)
			}
			if err != nil && strings.Contains(err.Error(), "VAIN") {
				t.Errorf("%s over %s: the error quotes it: %v", url, name, err)
			}
		}
	}
}

// TestGoodURL has what the drivers take and other checks could refuse.
func TestGoodURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://", "postgres:///d", "postgres://u:p@ss@h/d", "postgres://a,b/d?port=1,2",
		"postgres://u@/d?host=/tmp",
		"postgresql://u:p%2F@[::1]:5432/d?sslmode=disable&statement_timeout=5000", "sqlite:a.db?mode=ro",
		"sqlite::memory:",
	} {
		for name, opts := range map[string][]credent.Option{
			"lib/pq": {lite, credent.WithDriver(libpq.Driver())},
			"pgx":    {lite},
		} {
			db, _, err := credent.OpenDB(url, opts...)
			if err != nil {
				t.Errorf("%s over %s: %v", url, name, err)
				continue
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestBusyTimeoutOfURL(t *testing.T) {
	for parameters, want := range map[string]int{
		"":                                       5000,
		"?mode=rwc":                              5000,
		"?_pragma=busy_timeout(60000)":           60000,
		"?_busy_timeout=70000":                   70000,
		"?_timeout=80000&_pragma=synchronous(0)": 80000,
	} {
		db, _, err := credent.OpenDB("sqlite:"+t.TempDir()+"/x.db"+parameters, lite)
		if err != nil {
			t.Fatal(err)
		}
		var got, foreignKeys int
		if err := db.QueryRowContext(t.Context(), "PRAGMA busy_timeout").Scan(&got); err != nil || got != want {
			t.Errorf("%s: busy_timeout %d, want %d: %v", parameters, got, want, err)
		}
		if err := db.QueryRowContext(t.Context(), "PRAGMA foreign_keys").Scan(&foreignKeys); err != nil ||
			foreignKeys != 1 {
			t.Errorf("%s: foreign_keys %d, %v", parameters, foreignKeys, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
