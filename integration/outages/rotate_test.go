//go:build linux || darwin

package outages_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// waits records a run's waits.
type waits struct {
	mu    sync.Mutex
	errs  []error
	batch int // the smallest
	then  func(error)
	after chan struct{} // the first page waits for it
}

func (w *waits) progress(p rotate.Progress) {
	if w.after != nil {
		<-w.after
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.batch == 0 || p.Batch < w.batch {
		w.batch = p.Batch
	}
	if p.Waiting != nil {
		w.errs = append(w.errs, p.Waiting)
		if w.then != nil {
			w.then(p.Waiting)
		}
	}
}

// of counts the waits for an error.
func (w *waits) of(target error) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, err := range w.errs {
		if errors.Is(err, target) {
			n++
		}
	}
	return n
}

// TestRotateGoesOn ends sessions beside Run, Verify, DecryptToPlaintext and
// Encrypt. Each row is rewritten and counted once.
func TestRotateGoesOn(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, w *world) {
		const n = 2000
		w.fill(t, n)
		cutter := w.cut(t)
		saw := waits{after: cutter.first}
		report, err := rotate.Run(t.Context(), w.db, w.new, rotate.Config{
			Batch: 50, Workers: 3,
			Progress: saw.progress,
		})
		cutter.close()
		if err != nil || report.Rewritten() != n || report.Tables[0].Skipped != 0 {
			t.Errorf("got %+v, %v", report, err)
		}
		only, err := keyring.New(w.newKey)
		if err != nil {
			t.Fatal(err)
		}
		w.check(t, n, only)

		cutter = w.cut(t)
		saw = waits{after: cutter.first}
		counts, err := rotate.VerifyWith(t.Context(), w.db, w.new, rotate.Config{Batch: 20, Progress: saw.progress})
		cutter.close()
		if err != nil || counts.Err() != nil || counts[0].Rows != n || counts[0].Primary != n {
			t.Errorf("got %+v, %v", counts, err)
		}
	})
}

func TestEncryptGoesOn(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, w *world) {
		const n = 1000
		w.fill(t, n)
		w.exec(t, "ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_api_key_encrypted, DROP "+
			"CONSTRAINT user_credentials_secret_key_encrypted")
		for _, op := range []func(context.Context, rotate.Config) (*rotate.Report, error){
			func(ctx context.Context, cfg rotate.Config) (*rotate.Report, error) {
				return rotate.DecryptToPlaintext(ctx, w.db, w.old, cfg)
			},
			func(ctx context.Context, cfg rotate.Config) (*rotate.Report, error) {
				return rotate.Encrypt(ctx, w.db, w.old, cfg)
			},
		} {
			cutter := w.cut(t)
			saw := waits{after: cutter.first}
			report, err := op(t.Context(), rotate.Config{Batch: 50, Workers: 3, Progress: saw.progress})
			cutter.close()
			if err != nil || report.Rewritten() != n {
				t.Errorf("got %+v, %v", report, err)
			}
		}
		w.check(t, n, w.old)
	})
}

// TestRotateWaitsForLock locks a row until the run reports that it's waiting.
func TestRotateWaitsForLock(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, w *world) {
		const n = 100
		w.fill(t, n)
		w.exec(t, "ALTER ROLE CURRENT_USER IN DATABASE "+databaseOf(t, w)+" SET lock_timeout = '50ms'")
		tx, err := w.admin.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback() }()
		if _, err := tx.ExecContext(t.Context(), "SELECT FROM user_credentials ORDER BY id LIMIT 1 OFFSET 40 FOR "+
			"UPDATE"); err != nil {
			t.Fatal(err)
		}
		report, err := rotate.Run(t.Context(), w.db, w.new, rotate.Config{RetryFor: -1})
		var known *rotate.DatabaseError
		if !errors.Is(err, rotate.ErrLocked) || !errors.As(err, &known) || known.Tries != 1 || report.Rewritten() != 0 {
			t.Errorf("without retrying: got %+v, %v", report, err)
		}
		saw := waits{then: func(error) {}}
		saw.then = func(error) {
			if len(saw.errs) == 3 {
				_ = tx.Rollback()
			}
		}
		report, err = rotate.Run(t.Context(), w.db, w.new, rotate.Config{Workers: 1, Progress: saw.progress})
		if err != nil || report.Rewritten() != n || saw.of(rotate.ErrLocked) < 3 || saw.batch > n/2 {
			t.Errorf("got %+v, %v; it waited for %v, with %d rows at once", report, err, saw.errs, saw.batch)
		}
		w.check(t, n, w.new)
	})
}

func databaseOf(t *testing.T, w *world) (name string) {
	t.Helper()
	if err := w.admin.QueryRowContext(t.Context(), "SELECT current_database()").Scan(&name); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestRotateAfterDeadlock creates a deadlock with a session that Postgres
// doesn't choose as its victim.
func TestRotateAfterDeadlock(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, w *world) {
		const n = 200
		w.fill(t, n)
		conn, err := w.admin.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		exec := func(query string) {
			if _, err := conn.ExecContext(t.Context(), query); err != nil {
				t.Error(err)
			}
		}
		// A row that the run doesn't update first, in key order or in storage
		// order.
		exec("SET deadlock_timeout = '1h'")
		exec("BEGIN")
		exec(`SELECT FROM user_credentials WHERE id NOT IN (SELECT id FROM user_credentials ORDER BY id LIMIT 50)
			AND ctid NOT IN (SELECT ctid FROM user_credentials ORDER BY ctid LIMIT 50) LIMIT 1 FOR UPDATE`)
		var saw waits
		done := make(chan error, 1)
		go func() {
			// A page of all rows, in key order, is one statement.
			report, err := rotate.Run(t.Context(), w.db, w.new, rotate.Config{Workers: 1, Progress: saw.progress})
			if err == nil && report.Rewritten() != n {
				err = errors.New("not all rows were rewritten")
			}
			done <- err
		}()
		for waiting := 0; waiting == 0; time.Sleep(5 * time.Millisecond) {
			if err := w.admin.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = "+
				"current_database() AND wait_event_type = 'Lock'").
				Scan(&waiting); err != nil {
				t.Fatal(err)
			}
		}
		exec("SELECT FROM user_credentials FOR UPDATE") // including rows that the run has updated
		exec("COMMIT")
		if err := <-done; err != nil || saw.of(rotate.ErrConflict) == 0 {
			t.Errorf("got %v; it waited for %v", err, saw.errs)
		}
		w.check(t, n, w.new)
	})
}

// TestRotateHalvesBatch has slow updates, and a server that ends statements.
func TestRotateHalvesBatch(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, w *world) {
		const n = 60
		w.fill(t, n)
		w.exec(t, `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END'`)
		w.exec(t, "CREATE TRIGGER slow BEFORE UPDATE ON user_credentials FOR EACH ROW EXECUTE FUNCTION slow()")
		w.exec(t, "ALTER ROLE CURRENT_USER IN DATABASE "+databaseOf(t, w)+" SET statement_timeout = '500ms'")
		var saw waits
		report, err := rotate.Run(t.Context(), w.db, w.new, rotate.Config{Progress: saw.progress})
		if err != nil || report.Rewritten() != n || saw.batch >= 60 || saw.batch < 1 {
			t.Errorf("got %+v, %v; with %d rows at once, it waited for %v", report, err, saw.batch, saw.errs)
		}
		w.check(t, n, w.new)
	})
}

// TestRotateWithoutConnections uses a role with one connection, which another
// session holds.
func TestRotateWithoutConnections(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, w *world) {
		const n = 50
		w.fill(t, n)
		role := "limited_" + w.driver
		w.exec(t, "CREATE ROLE "+role+" LOGIN PASSWORD 'p' CONNECTION LIMIT 1")
		own := func(owner string) string {
			return fmt.Sprintf(`DO 'DECLARE t text; BEGIN FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = ''public'' LOOP
				EXECUTE format(''ALTER TABLE public.%%I OWNER TO %s'', t); END LOOP; END'`, owner)
		}
		w.exec(t, own(role))
		t.Cleanup(func() {
			_, _ = w.admin.ExecContext(context.WithoutCancel(t.Context()),
				own("CURRENT_USER")+"; DROP OWNED BY "+role+"; DROP ROLE "+role)
		})
		url := asRole(t, w.url, role, "p")
		holder, err := openPool(t, "postgres", url).Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var saw waits
		saw.then = func(error) { _ = holder.Raw(func(any) error { return errBad }) }
		limited := openPool(t, w.driver, url)
		limited.SetMaxOpenConns(1)
		if _, err := rotate.Run(t.Context(), limited, w.new, rotate.Config{RetryFor: -1}); !errors.Is(err,
			rotate.ErrTooManyConnections) {
			t.Errorf("without retrying: got %v", err)
		}
		report, err := rotate.Run(t.Context(), limited, w.new, rotate.Config{Progress: saw.progress})
		if err != nil || report.Rewritten() != n || saw.of(rotate.ErrTooManyConnections) == 0 {
			t.Errorf("got %+v, %v; it waited for %v", report, err, saw.errs)
		}
		w.check(t, n, w.new)
	})
}

// TestRotateEndsWithContext cancels a waiting run.
func TestRotateEndsWithContext(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, w *world) {
		w.fill(t, 100)
		w.exec(t, "ALTER ROLE CURRENT_USER IN DATABASE "+databaseOf(t, w)+" SET lock_timeout = '20ms'")
		tx, err := w.admin.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback() }()
		if _, err := tx.ExecContext(t.Context(), "SELECT FROM user_credentials FOR UPDATE"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		saw := waits{then: func(error) { cancel() }}
		report, err := rotate.Run(ctx, w.db, w.new, rotate.Config{Workers: 1, Progress: saw.progress})
		if !errors.Is(err, context.Canceled) || report == nil || report.Rewritten() != 0 ||
			saw.of(rotate.ErrLocked) != 1 {
			t.Errorf("got %+v, %v; it waited for %v", report, err, saw.errs)
		}
	})
}
