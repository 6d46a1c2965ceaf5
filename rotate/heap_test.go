package rotate_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// heapRows is the number of rows in these tests' heaps. A block holds about a
// dozen.
const heapRows = 600

// heap is a plain table on Postgres with tokens under an old key.
type heap struct {
	db        *sql.DB
	old, next string
}

func newHeap(t *testing.T) *heap { t.Helper(); return newHeapWith(t, 0, heapRows) }

// newHeapWith creates the table. Rows from one number to another are under the
// old key, and the others are under the new one. Its first rows are deleted, so
// that only their blocks have free space.
func newHeapWith(t *testing.T, from, to int) *heap {
	t.Helper()
	url := pgserver.DatabaseForTest(t, pgserver.Shared())
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return fillHeap(t, db, from, to)
}

func fillHeap(t *testing.T, db *sql.DB, from, to int) *heap {
	t.Helper()
	h := &heap{db: db, old: fernet.GenerateKey(), next: fernet.GenerateKey()}
	for _, statement := range append([]string{
		"CREATE TABLE t_bigint (number bigint PRIMARY KEY, secret varchar(500), note text NOT NULL) " +
			"WITH (autovacuum_enabled = off)",
		"CREATE INDEX ON t_bigint (note)",
		"INSERT INTO t_bigint SELECT -n, NULL, repeat('x', 500) FROM generate_series(1, 600) AS n",
	}, encrypted.ProgressTable("postgres")...) {
		exec(t, db, statement)
	}
	for n := range heapRows {
		key := h.next
		if n >= from && n < to {
			key = h.old
		}
		token, err := newRing(t, key).Encrypt(fmt.Sprint("secret ", n))
		if err != nil {
			t.Fatal(err)
		}
		exec(t, db, fmt.Sprintf("INSERT INTO t_bigint VALUES (%d, '%s', repeat('x', 500))", n, token))
	}
	exec(t, db, "DELETE FROM t_bigint WHERE number < 0")
	exec(t, db, "VACUUM (ANALYZE) t_bigint")
	return h
}

func (h *heap) ring(t *testing.T) *keyring.Keyring {
	t.Helper()
	return newRing(t, h.next, h.old)
}

func (h *heap) run(t *testing.T, cfg rotate.Config) (rotate.TableReport, error) {
	t.Helper()
	cfg.Columns = []string{"t_bigint.secret"}
	report, err := rotate.Run(t.Context(), h.db, h.ring(t), cfg)
	if report == nil {
		t.Fatal(err)
	}
	return report.Tables[0], err
}

// wantNext checks that the table has the given number of rows, with all tokens
// under the new key.
func (h *heap) wantNext(t *testing.T, want int64) {
	t.Helper()
	counts, err := rotate.VerifyWith(t.Context(), h.db, newRing(t, h.next),
		rotate.Config{Columns: []string{"t_bigint.secret"}})
	if err == nil {
		err = counts.Err()
	}
	if err != nil || counts[0].Rows != want || counts[0].Primary != want {
		t.Errorf("%v: %+v", err, counts)
	}
}

// isNext reports whether a row is under the new key.
func (h *heap) isNext(t *testing.T, n int) bool {
	t.Helper()
	var token string
	if err := h.db.QueryRowContext(t.Context(), "SELECT secret FROM t_bigint WHERE number = $1", n).
		Scan(&token); err != nil {
		t.Fatal(err)
	}
	_, err := newRing(t, h.next).Decrypt(token)
	return err == nil
}

func (h *heap) value(t *testing.T, query string) (n int64) {
	t.Helper()
	if err := h.db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// keepCopies creates a trigger that stores a copy of the old row next to the
// new one.
func (h *heap) keepCopies(t *testing.T) {
	t.Helper()
	exec(t, h.db, `CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO t_bigint VALUES (OLD.number + 10000, OLD.secret, OLD.note);
		RETURN NULL; END $$`)
	exec(t, h.db, "CREATE TRIGGER keep AFTER UPDATE ON t_bigint FOR EACH ROW WHEN (OLD.number < 10000) "+
		"EXECUTE FUNCTION keep()")
}

// betweenPages calls f once, after the first non-empty page.
func betweenPages(f func()) func(rotate.Progress) {
	var once sync.Once
	return func(p rotate.Progress) {
		if p.Read > 0 {
			once.Do(f)
		}
	}
}

const blockOf = "SELECT coalesce(min((ctid::text::point)[0]), -1)::bigint FROM t_bigint WHERE number "

// A row under the old key that is moved behind the run, by a change of another
// column, is rewritten before the run ends.
func TestRowsMovedBehindTheRun(t *testing.T) {
	t.Parallel()
	for name, from := range map[string]int{"all to do": 0, "only these to do": 500} {
		t.Run(name, func(t *testing.T) { t.Parallel(); movedBehind(t, newHeapWith(t, from, 516)) })
	}
}

func movedBehind(t *testing.T, h *heap) {
	t.Helper()
	todo := int64(516)
	if h.isNext(t, 0) {
		todo = 16
	}
	first, where := h.value(t, blockOf+">= 0"), int64(0)
	const moved = "BETWEEN 500 AND 515"
	report, err := h.run(t, rotate.Config{Batch: 20, Workers: 1, Progress: betweenPages(func() {
		exec(t, h.db, "UPDATE t_bigint SET note = repeat('y', 500) WHERE number "+moved)
		where = h.value(t, blockOf+moved)
	})})
	if err != nil {
		t.Fatal(err)
	}
	// One pass over the heap, a snapshot with the moved rows, and an empty one.
	// On a busy machine, two pages may be read already when their rows are
	// moved, and those rows count twice.
	const pages = 2 * 20
	if report.Rewritten != todo || report.Passes != 3 || report.Rows < heapRows || report.Rows > heapRows+pages {
		t.Errorf("%+v", report)
	}
	if where >= first {
		t.Errorf("the rows moved to block %d, and the run began at block %d", where, first)
	}
	h.wantNext(t, heapRows)
}

// A run reads each row once, and skips rows that it has written itself. So does
// the next run, even with other transactions open.
func TestOwnRowsAreLeftOut(t *testing.T) {
	t.Parallel()
	h := newHeap(t)
	open, err := h.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Rollback() }()
	if _, err := open.ExecContext(t.Context(), "CREATE TABLE held ()"); err != nil { // assigns a transaction number
		t.Fatal(err)
	}
	report, err := h.run(t, rotate.Config{Batch: 20, Workers: 3})
	if err != nil || report.Rewritten != heapRows || report.Rows != heapRows || report.Passes != 2 {
		t.Errorf("%+v, %v", report, err)
	}
	again, err := h.run(t, rotate.Config{Batch: 20, Workers: 3})
	if err != nil || again.Rewritten != 0 || again.Rows != 0 || again.Passes != 1 || again.ChangedSince.IsZero() {
		t.Errorf("nothing to do: %+v, %v", again, err)
	}
	h.wantNext(t, heapRows)
}

// VACUUM FULL moves all rows, also to blocks that the run has passed, and keeps
// their transaction numbers.
func TestVacuumFullAmidARun(t *testing.T) {
	t.Parallel()
	h := newHeap(t)
	first := h.value(t, blockOf+">= 0")
	report, err := h.run(t, rotate.Config{Batch: 20, Workers: 1, Progress: betweenPages(func() {
		exec(t, h.db, "VACUUM FULL t_bigint")
	})})
	if err != nil {
		t.Fatal(err)
	}
	if first < heapRows/20 {
		t.Fatalf("the rows began in block %d: they moved nowhere", first)
	}
	if report.Rewritten != heapRows || report.Passes < 3 {
		t.Errorf("%+v", report)
	}
	h.wantNext(t, heapRows)
}

// An ALTER TABLE that rewrites the table while the snapshot waits for it hides
// no rows. A snapshot taken earlier would show an empty table.
func TestRewrittenTableAmidARun(t *testing.T) {
	t.Parallel()
	h := newHeap(t)
	token, err := newRing(t, h.old).Encrypt("late")
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	committed := make(chan error, 1)
	report, err := h.run(t, rotate.Config{Batch: 20, Progress: func(p rotate.Progress) {
		if p.Pass == 2 {
			once.Do(func() { // the snapshot begins
				exec(t, h.db, "UPDATE t_bigint SET secret = '"+token+"' WHERE number = 7")
				tx, err := h.db.BeginTx(t.Context(), nil)
				if err == nil {
					_, err = tx.ExecContext(t.Context(), "ALTER TABLE t_bigint ALTER note TYPE varchar(2000)")
				}
				if err != nil {
					committed <- err
					return
				}
				go func() {
					var err error
					for waits := false; !waits && err == nil; {
						err = h.db.QueryRowContext(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity "+
							"WHERE datname = current_database() AND wait_event_type = 'Lock')").Scan(&waits)
					}
					committed <- errors.Join(err, tx.Commit())
				}()
			})
		}
	}})
	if err := errors.Join(err, <-committed); err != nil || report.Rewritten != heapRows+1 {
		t.Errorf("%+v, %v", report, err)
	}
	h.wantNext(t, heapRows)
}

// An ALTER TABLE during a snapshot waits for one page at most, and the run
// doesn't wait for the ALTER TABLE.
func TestAlterTableAmidASnapshot(t *testing.T) {
	t.Parallel()
	h := newHeap(t)
	token, err := newRing(t, h.old).Encrypt("late")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	altered := make(chan error, 1)
	amid := betweenPages(func() {
		go func() {
			_, err := h.db.ExecContext(ctx, "ALTER TABLE t_bigint ADD COLUMN more text")
			altered <- err
		}()
	})
	var once sync.Once
	report, err := rotate.Run(ctx, h.db, h.ring(t), rotate.Config{
		Columns: []string{"t_bigint.secret"}, Batch: 20, Workers: 1, Progress: func(p rotate.Progress) {
			if p.Pass == 2 {
				once.Do(func() { exec(t, h.db, "UPDATE t_bigint SET secret = '"+token+"' WHERE number < 200") })
				amid(p)
			}
		},
	})
	if err := errors.Join(err, <-altered); err != nil || report.Rewritten() != heapRows+200 {
		t.Errorf("%+v, %v", report, err)
	}
	h.wantNext(t, heapRows)
}

// If another table takes the name of the one that the last snapshot should have
// read, it is processed too.
func TestAnotherTableAmidASnapshot(t *testing.T) {
	t.Parallel()
	h := newHeap(t)
	exec(t, h.db, "CREATE TABLE t_other (LIKE t_bigint INCLUDING ALL)")
	exec(t, h.db, "INSERT INTO t_other SELECT * FROM t_bigint")
	var once sync.Once
	_, err := h.run(t, rotate.Config{Batch: 20, Progress: func(p rotate.Progress) {
		if p.Pass == 2 {
			once.Do(func() {
				exec(t, h.db, "ALTER TABLE t_bigint RENAME TO t_before; ALTER TABLE t_other RENAME TO t_bigint")
			})
		}
	}})
	if err != nil {
		t.Error(err)
	}
	h.wantNext(t, heapRows)
}

// Rows that a trigger wrote together with ours aren't ours, even in a later run
// when the trigger is gone.
func TestTriggerIsGoneInTheNextRun(t *testing.T) {
	t.Parallel()
	h := newHeap(t)
	h.keepCopies(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := rotate.Run(ctx, h.db, h.ring(t), rotate.Config{
		Columns: []string{"t_bigint.secret"}, Batch: 20, Workers: 1, Progress: func(p rotate.Progress) {
			if p.Read >= heapRows/2 {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	exec(t, h.db, "DROP TRIGGER keep ON t_bigint")
	copies := h.value(t, "SELECT count(*) FROM t_bigint WHERE number >= 10000")
	if copies == 0 {
		t.Fatal("the trigger wrote nothing")
	}
	if report, err := h.run(t, rotate.Config{Batch: 20}); err != nil {
		t.Errorf("%+v, %v", report, err)
	}
	h.wantNext(t, heapRows+copies)
}

// Rows that a trigger writes together with ours aren't ours.
func TestTriggersThatWriteMore(t *testing.T) {
	t.Parallel()
	h := newHeap(t)
	h.keepCopies(t)
	report, err := h.run(t, rotate.Config{Batch: 50})
	if err != nil || report.Rewritten != 2*heapRows {
		t.Errorf("%+v, %v", report, err)
	}
	h.wantNext(t, 2*heapRows)
}

// A trigger that keeps an old row or token keeps the run from ending as if all
// were done.
func TestTriggersThatKeepARow(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"row": "RETURN NULL", "token": "NEW.secret = OLD.secret; RETURN NEW"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHeap(t)
			exec(t, h.db, "CREATE FUNCTION credent_keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "+
				body+"; END $$")
			exec(t, h.db, "CREATE TRIGGER keep BEFORE UPDATE ON t_bigint FOR EACH ROW WHEN (OLD.number = 77) "+
				"EXECUTE FUNCTION credent_keep()")
			if report, err := h.run(t, rotate.Config{}); !errors.Is(err, rotate.ErrNotDone) {
				t.Errorf("%+v, %v", report, err)
			}
		})
	}
}

// If the keyring is replaced during a run, the run starts over with the new
// one.
func TestKeyringReplacedAmidARun(t *testing.T) {
	t.Parallel()
	h := newHeap(t)
	ring, third := h.ring(t), fernet.GenerateKey()
	var replaced error
	report, err := rotate.Run(t.Context(), h.db, ring, rotate.Config{
		Columns: []string{"t_bigint.secret"}, Batch: 20, Workers: 1,
		Progress: betweenPages(func() { _, replaced = ring.Replace(newRing(t, third, h.next, h.old)) }),
	})
	if err != nil || replaced != nil {
		t.Fatal(err, replaced)
	}
	if report.Rewritten() <= heapRows {
		t.Errorf("%+v", report)
	}
	h.next = third
	h.wantNext(t, heapRows)
}

// A pool of one connection suffices, though it can't keep a snapshot open while
// rows are written.
func TestOneConnection(t *testing.T) {
	t.Parallel()
	h := newHeap(t)
	h.db.SetMaxOpenConns(1)
	report, err := h.run(t, rotate.Config{Batch: 20, Workers: 1, Progress: betweenPages(func() {
		exec(t, h.db, "UPDATE t_bigint SET note = repeat('y', 500) WHERE number > 500")
	})})
	if err != nil || report.Rewritten != heapRows {
		t.Errorf("%+v, %v", report, err)
	}
	h.wantNext(t, heapRows)
}
