//go:build linux

package faults

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/integration/sequence/ent"
	"github.com/credent-go/credent/integration/sequence/ent/card"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

// columns are the secrets of the application's own table: a pin, looked up
// within its tenant by a digest under the tenant's key, and an email, looked up
// across tenants.
var columns = []encrypted.Column{card.PinColumn, card.EmailColumn}

// applicationName distinguishes the application's connections from the suite's.
const applicationName = "faults"

// world is a database with Credent's and the application's tables, and a
// keyring for it. Its tenants have their own keys.
type world struct {
	*trial
	url  string // of the server itself
	key  string
	ring *keyring.Keyring

	writers []*writer
	began   int // number of writers created so far

	// epoch counts fail-overs. Writes that an asynchronous primary acknowledged
	// in an earlier epoch may be lost.
	epoch     atomic.Int64
	unsettled atomic.Bool // the writers don't know yet which writes are undone
	stop      func() bool
	closers   []func()
}

// newWorld creates the tables.
func newWorld(tr *trial, databaseURL string) *world {
	tr.Helper()
	w := &world{trial: tr, url: databaseURL, key: keyring.GenerateKey()}
	var err error
	w.ring, err = keyring.New(w.key)
	tr.must(err)
	db := w.pool("pgx", databaseURL, "suite")
	defer func() { _ = db.Close() }()
	tr.must(testopt.Apply(tr.ctx, db))
	tr.must(ent.NewClient(ent.Driver(entsql.OpenDB(dialect.Postgres, db))).Schema.Create(tr.ctx))
	for _, statements := range [][]string{
		encrypted.IndexTriggers(dialect.Postgres, columns...), encrypted.TenantTriggers(dialect.Postgres, columns...),
	} {
		for _, statement := range statements {
			w.exec(statement)
		}
	}
	return w
}

// pool opens a pool over a driver.
func (w *world) pool(driver, databaseURL, name string) *sql.DB {
	w.Helper()
	var opts []testopt.Option
	if driver == "pq" {
		opts = append(opts, testopt.OverPQ())
	}
	db, _, err := testopt.OpenDB(withParameter(databaseURL, "application_name="+name), opts...)
	w.must(err)
	return db
}

// exec runs a statement on the server itself.
func (w *world) exec(statement string, args ...any) {
	w.Helper()
	db := w.pool("pgx", w.url, "suite")
	defer func() { _ = db.Close() }()
	_, err := db.ExecContext(w.ctx, statement, args...)
	w.must(err)
}

func (w *world) value(dest any, query string, args ...any) {
	w.Helper()
	db := w.pool("pgx", w.url, "suite")
	defer func() { _ = db.Close() }()
	w.must(db.QueryRowContext(w.ctx, query, args...).Scan(dest))
}

// requireTenantKeys returns the states of the application's columns.
func requireTenantKeys() (list []encrypted.ColumnStates) {
	for _, c := range columns {
		list = append(list, encrypted.ColumnStates{Column: c, TenantKeys: encrypted.Require})
	}
	return list
}

// client returns a client of the application's table on a pool.
func (w *world) client(db *sql.DB) *ent.Client {
	w.Helper()
	drv, err := encrypted.NewDriver(entsql.OpenDB(dialect.Postgres, db), encrypted.Config{
		Keyring: w.ring, Columns: columns, States: requireTenantKeys(),
	})
	w.must(err)
	return ent.NewClient(ent.Driver(drv))
}

// service starts writers that share one client over a driver and a URL, as a
// service's goroutines do. They work once start is called.
func (w *world) service(writers int, driver, databaseURL string) {
	w.Helper()
	db := w.pool(driver, databaseURL, applicationName)
	db.SetMaxOpenConns(writers + 2)
	db.SetMaxIdleConns(writers)
	client := w.client(db)
	for range writers {
		w.began++
		w.writers = append(w.writers, newWriter(w, w.began, driver, client))
	}
	w.closers = append(w.closers, func() {
		if n := db.Stats().InUse; n > 0 {
			w.connections.Add(int64(n))
			w.Logf("%d connections of the %s pool are never given back", n, driver)
		}
		_ = db.Close()
	})
}

// start lets the writers work, until stop.
func (w *world) start() {
	ctx, cancel := context.WithCancel(w.ctx)
	var wg sync.WaitGroup
	ended := make(chan struct{})
	for _, writer := range w.writers {
		wg.Go(func() { writer.work(ctx) })
	}
	go func() {
		wg.Wait()
		close(ended)
	}()
	w.stop = func() bool {
		cancel()
		select {
		case <-ended:
			return true
		case <-time.After(stuckAfter):
			return false
		}
	}
}

// pause stops the writers. Writers that don't stop are stuck, and the trial
// can't continue.
func (w *world) pause() {
	w.Helper()
	if w.stop() {
		return
	}
	for _, writer := range w.writers {
		if at := writer.since.Load(); at != 0 {
			took := time.Since(time.Unix(0, at)).Round(time.Second)
			w.found(&w.stuck, "an operation over %s has not returned after %s", writer.driver, took)
		}
	}
	w.Fatal("writers are stuck")
}

// await waits until each writer has done n more operations.
func (w *world) await(n int) {
	w.Helper()
	var want []int64
	for _, writer := range w.writers {
		want = append(want, writer.done.Load()+int64(n))
	}
	ok := eventually(recoverLimit, func() bool {
		for i, writer := range w.writers {
			if writer.done.Load() < want[i] {
				return false
			}
		}
		return true
	})
	if ok {
		return
	}
	for i, writer := range w.writers {
		if writer.done.Load() < want[i] {
			w.found(&w.stuck, "a writer over %s does not recover within %s: %v", writer.driver, recoverLimit,
				writer.lastError())
		}
	}
}

// pauses returns the longest wait of the writers over each driver.
func (w *world) pauses() string {
	longest := make(map[string]time.Duration)
	for _, r := range w.writers {
		longest[r.driver] = max(longest[r.driver], r.longest)
	}
	var list []string
	for _, driver := range slices.Sorted(maps.Keys(longest)) {
		list = append(list, fmt.Sprintf("%s %.1f s", driver, longest[driver].Seconds()))
	}
	return "the longest pause of a writer: " + strings.Join(list, ", ")
}

// close ends the application, and counts the connections it leaves open.
func (w *world) close() {
	w.Helper()
	for _, c := range w.closers {
		c()
	}
	w.closers = nil
	db := w.pool("pgx", w.url, "suite")
	defer func() { _ = db.Close() }()
	var left int
	query := "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND " +
		"pid <> pg_backend_pid() AND datname = current_database() AND application_name <> 'suite'"
	var err error
	eventually(settleLimit, func() bool {
		err = db.QueryRowContext(w.ctx, query).Scan(&left)
		return err == nil && left == 0
	})
	if err != nil {
		w.Fatalf("count the connections: %v", err)
	}
	if left > 0 {
		w.connections.Add(int64(left))
		w.Logf("%d connections are left on the server", left)
	}
}

// isTransient reports whether an error is about the fault alone, and not about
// secrets, keys or rows.
func isTransient(err error) bool {
	for _, target := range []error{
		credent.ErrCorrupt, credent.ErrUnknownKey, credent.ErrNotEncrypted, credent.ErrWrongLocation,
		credent.ErrShredded, credent.ErrUnderKeyring, credent.ErrValue, credent.ErrNoKey,
	} {
		if errors.Is(err, target) {
			return false
		}
	}
	return true
}

// withParameter adds parameters to a URL.
func withParameter(databaseURL, parameters string) string {
	if strings.Contains(databaseURL, "?") {
		return databaseURL + "&" + parameters
	}
	return databaseURL + "?" + parameters
}
