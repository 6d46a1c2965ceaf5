package rotate_test

import (
	"database/sql"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/credent-go/credent/internal/pgreplica"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/rotate"
)

// A verification in heap order counts each row of one snapshot once, whatever
// happens to the table or the snapshot meanwhile.
func TestVerifyOfOneMoment(t *testing.T) {
	t.Parallel()
	const killed = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity " +
		"WHERE datname = current_database() AND state = 'idle in transaction'"
	for name, statement := range map[string]string{
		"rows move to the front":        "UPDATE t_bigint SET note = repeat('y', 500) WHERE number >= 400",
		"rows go":                       "DELETE FROM t_bigint WHERE number >= 100",
		"rows come":                     "INSERT INTO t_bigint SELECT number + 1000, secret, note FROM t_bigint",
		"VACUUM FULL":                   "VACUUM FULL t_bigint",
		"the table is written anew":     "ALTER TABLE t_bigint ALTER note TYPE varchar(2000)",
		"the snapshot loses its moment": killed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHeap(t)
			var read []int64
			var mu sync.Mutex
			amid := betweenPages(func() {
				if statement != killed {
					exec(t, h.db, statement)
				} else if h.value(t, killed) == 0 {
					t.Error("there is no snapshot")
				}
			})
			counts, err := rotate.VerifyWith(t.Context(), h.db, newRing(t, h.old), rotate.Config{
				Columns: []string{"t_bigint.secret"}, Batch: 20, Workers: 2,
				Progress: func(p rotate.Progress) {
					mu.Lock()
					read = append(read, p.Read)
					mu.Unlock()
					amid(p)
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if c := counts[0]; c.Rows != heapRows || c.Primary != heapRows {
				t.Errorf("%d rows, %d under the key", c.Rows, c.Primary)
			}
			if last := read[len(read)-1]; last != heapRows {
				t.Errorf("it says that it read %d rows", last)
			}
		})
	}
}

// Without a snapshot, rows are counted as of the reading of their page: if
// quarantined secrets are reported on the way, with a rate limit, and with a
// single connection.
func TestVerifyPageByPage(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]rotate.Config{
		"quarantine": {Quarantine: func([]rotate.Quarantined) error { return nil }},
		"limit":      {RowsPerSecond: 1_000_000},
		"one":        {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHeap(t)
			if name == "one" {
				h.db.SetMaxOpenConns(1)
			}
			cfg.Columns, cfg.Batch, cfg.Workers = []string{"t_bigint.secret"}, 20, 1
			cfg.Progress = betweenPages(func() { exec(t, h.db, "DELETE FROM t_bigint WHERE number >= 500") })
			counts, err := rotate.VerifyWith(t.Context(), h.db, newRing(t, h.old), cfg)
			if err != nil || counts[0].Rows != 500 {
				t.Errorf("%d rows, %v", counts[0].Rows, err)
			}
		})
	}
}

// A standby ends long snapshots, so the table is counted page by page.
func TestVerifyOnAStandby(t *testing.T) {
	t.Parallel()
	pgserver.SkipShort(t)
	primary, err := pgreplica.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = primary.Stop() })
	standby, err := primary.AddStandby(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = standby.Stop() })
	var pools [2]*sql.DB
	for i, server := range []*pgreplica.Server{primary, standby} {
		if pools[i], err = sql.Open("pgx", server.URL("postgres")); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = pools[i].Close() }()
	}
	h := fillHeap(t, pools[0], 0, heapRows)
	if err := standby.WaitFor(t.Context(), primary); err != nil {
		t.Fatal(err)
	}
	counts, err := rotate.VerifyWith(t.Context(), pools[1], newRing(t, h.old),
		rotate.Config{Columns: []string{"t_bigint.secret"}, Batch: 20, RetryFor: time.Second})
	if err != nil || counts[0].Rows != heapRows {
		t.Errorf("%+v, %v", counts, err)
	}
}

// Roles with access to some columns only, or with one connection, can verify
// too.
func TestVerifyByAPoorRole(t *testing.T) {
	t.Parallel()
	for name, statements := range map[string][]string{
		"some columns": {
			"CREATE ROLE poor_columns LOGIN PASSWORD 'poor'", "GRANT SELECT (number, secret) ON t_bigint TO " +
				"poor_columns",
		},
		"one connection": {
			"CREATE ROLE poor_connection LOGIN PASSWORD 'poor' CONNECTION LIMIT 1",
			"GRANT SELECT ON t_bigint TO poor_connection",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := privateServer(t)
			db := openURL(t, server, "")
			h := fillHeap(t, db, 0, heapRows)
			for _, statement := range statements {
				exec(t, h.db, statement)
			}
			var role string
			if err := db.QueryRowContext(t.Context(), "SELECT rolname FROM pg_roles WHERE rolname LIKE 'poor%'").
				Scan(&role); err != nil {
				t.Fatal(err)
			}
			counts, err := rotate.VerifyWith(t.Context(), openURL(t, server, role), newRing(t, h.old), rotate.Config{
				Columns: []string{"t_bigint.secret"}, Batch: 20, Workers: 1, RetryFor: time.Second,
			})
			if err != nil || counts[0].Rows != heapRows {
				t.Errorf("%+v, %v", counts, err)
			}
		})
	}
}

func privateServer(t *testing.T) *pgserver.Server {
	t.Helper()
	return pgserver.ForTest(t, pgserver.Private())
}

// openURL opens a database of the server, as a role with the password "poor" if
// one is given.
func openURL(t *testing.T, server *pgserver.Server, role string) *sql.DB {
	t.Helper()
	u, err := url.Parse(server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if role != "" {
		u.User = url.UserPassword(role, "poor")
	}
	db, err := sql.Open("pgx", u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}
