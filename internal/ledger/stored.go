package ledger

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Stored is a ledger in the database. It is safe for concurrent use. Each
// method runs one statement or one transaction, so it works through a pooler
// that gives each transaction another session.
type Stored struct {
	db    *sql.DB
	sql   statements
	goal  string
	table string
	owner string
	lease time.Duration
}

// NewStored returns the ledger of a job. goal is a hash of everything that
// defines the job, and table is the table's name.
func NewStored(db *sql.DB, sqlite bool, goal, table string) *Stored {
	return &Stored{db: db, sql: statementsOf(sqlite), goal: goal, table: table, owner: rand.Text(), lease: Lease}
}

// LeaseFor changes the duration of leases, for tests.
func (s *Stored) LeaseFor(d time.Duration) { s.lease = d }

// Usable reports whether the table exists and the role may use it.
func Usable(ctx context.Context, db *sql.DB, sqlite bool) (ok bool, err error) {
	err = db.QueryRowContext(ctx, statementsOf(sqlite).usable).Scan(&ok)
	return ok, err
}

func (s *Stored) worker(n int) string { return fmt.Sprintf("%s/%d", s.owner, n) }

// Open returns the state of a job that has begun, and true, or begins it.
func (s *Stored) Open(ctx context.Context, plan func() (Plan, error)) (State, bool, error) {
	state, err := s.check(ctx, s.db)
	if err == nil || !errors.Is(err, ErrLost) {
		return state, err == nil, err
	}
	p, err := plan()
	if err != nil {
		return State{}, false, err
	}
	made, err := s.begin(ctx, p)
	if err != nil {
		return State{}, false, err
	}
	state, err = s.State(ctx)
	return state, !made, err
}

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// check returns the job's state if its parts cover all keys.
func (s *Stored) check(ctx context.Context, on querier) (state State, err error) {
	if state, err = s.state(ctx, on); err != nil {
		return State{}, err
	}
	rows, err := on.QueryContext(ctx, s.sql.bounds, s.goal, s.table)
	if err != nil {
		return State{}, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var digest string
	var parts []Part
	for rows.Next() {
		p := Part{}
		var of string
		if err := rows.Scan(&p.Number, &p.After, &p.UpTo, &of); err != nil {
			return State{}, err
		}
		if p.Number == 0 {
			digest = of
			continue
		}
		parts = append(parts, p)
	}
	if err := rows.Err(); err != nil {
		return State{}, err
	}
	if digestOf(parts) != digest {
		return State{}, ErrLost
	}
	return state, nil
}

// digestOf returns a digest that shows whether parts are the planned ones.
func digestOf(parts []Part) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d %q %q\n", p.Number, p.After, p.UpTo)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// begin stores a plan, and reports whether it was the first to do so. It
// deletes an incomplete plan and long-abandoned jobs.
func (s *Stored) begin(ctx context.Context, p Plan) (made bool, err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }() // has no effect after the commit
	parts := p.parts()
	digest := digestOf(parts)
	first := func() (bool, error) {
		result, err := tx.ExecContext(ctx, s.sql.begin, s.goal, s.table, len(parts), p.Began, digest)
		if err != nil {
			return false, err
		}
		n, err := result.RowsAffected()
		return n > 0, err
	}
	made, err = first()
	if err != nil {
		return false, err
	}
	if !made {
		if _, err := s.check(ctx, tx); !errors.Is(err, ErrLost) {
			return false, err // another process was first
		}
		if _, err := tx.ExecContext(ctx, s.sql.drop, s.goal, s.table); err != nil {
			return false, err
		}
		if made, err = first(); err != nil || !made {
			return false, err
		}
	} else if _, err := tx.ExecContext(ctx, s.sql.clear, s.goal, s.table); err != nil {
		return false, err
	}
	if _, err := tx.ExecContext(ctx, s.sql.expire); err != nil {
		return false, err
	}
	for len(parts) > 0 {
		some := parts[:min(len(parts), 100)]
		parts = parts[len(some):]
		var values []string
		var args []any
		for _, part := range some {
			n := len(args)
			values = append(values, fmt.Sprintf("($%d, $%d, %d, 1, 0, $%d, $%d, %s)", n+1, n+2, part.Number, n+3,
				n+4, s.sql.now))
			args = append(args, s.goal, s.table, part.After, part.UpTo)
		}
		if _, err := tx.ExecContext(ctx, s.sql.part+strings.Join(values, ", ")+" ON CONFLICT DO NOTHING",
			args...); err != nil {
			return false, err
		}
	}
	return true, tx.Commit()
}

// State returns the progress of the current pass. Errors: [ErrLost].
func (s *Stored) State(ctx context.Context) (State, error) { return s.state(ctx, s.db) }

func (s *Stored) state(ctx context.Context, on querier) (state State, err error) {
	var parts, there int
	err = on.QueryRowContext(ctx, s.sql.state, s.owner+"/%", s.goal, s.table).
		Scan(&state.Pass, &state.Since, &state.Began,
			&parts, &there, &state.Left, &state.Free, &state.Counts.Read, &state.Counts.Found, &state.Counts.Skipped,
			&state.Counts.Quarantined, &state.Others)
	if errors.Is(err, sql.ErrNoRows) || err == nil && parts != there {
		return State{}, ErrLost
	}
	return state, err
}

// Claim assigns a free part of the pass to a worker; false if there is none. A
// worker has one part at a time.
func (s *Stored) Claim(ctx context.Context, worker, pass int) (p Part, ok bool, err error) {
	me := s.worker(worker)
	err = s.db.QueryRowContext(ctx, s.sql.claim(pass, s.lease), me, s.goal, s.table, s.goal, s.table, me, me,
		s.goal, s.table).
		Scan(&p.Number, &p.After, &p.UpTo, &p.Pass, &p.At, &p.Counts.Read, &p.Counts.Found, &p.Counts.Skipped,
			&p.Counts.Quarantined)
	if errors.Is(err, sql.ErrNoRows) {
		return Part{}, false, nil
	}
	return p, err == nil, err
}

// Save stores a worker's position and keeps the part, or releases it. It
// reports whether the worker still had the part.
func (s *Stored) Save(ctx context.Context, worker int, p Part, release bool) (bool, error) {
	lease := s.sql.until(s.lease)
	if release {
		lease = "NULL"
	}
	return s.update(ctx, "lease_until = "+lease, worker, p)
}

// Finish marks a worker's part as finished. It reports whether the worker still
// had the part. Finishing a part twice has no effect.
func (s *Stored) Finish(ctx context.Context, worker int, p Part) (bool, error) {
	return s.update(ctx, fmt.Sprintf("lease_until = NULL, done_pass = %d", p.Pass), worker, p)
}

func (s *Stored) update(ctx context.Context, set string, worker int, p Part) (bool, error) {
	result, err := s.db.ExecContext(ctx, s.sql.save(set), p.At, p.Counts.Read, p.Counts.Found, p.Counts.Skipped,
		p.Counts.Quarantined, s.goal, s.table, s.worker(worker), p.Number, p.Pass)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// Leave releases all parts of this process's workers, including a part given to
// a worker that stopped before it got the answer.
func (s *Stored) Leave(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, s.sql.leave, s.goal, s.table, s.owner+"/%")
	return err
}

// Next begins the pass after the given one, unless it has begun. since says
// which rows the pass reads, and began is the caller's data. A pass over only
// some rows begins only if all parts are finished and no row was skipped.
func (s *Stored) Next(ctx context.Context, from int, since, began string) error {
	args, relies := []any{since, began, s.goal, s.table}, ""
	if since != "" {
		args, relies = append(args, s.goal, s.table), allRight
	}
	_, err := s.db.ExecContext(ctx, s.sql.next(from, relies), args...)
	return err
}

// NextWhole is Next for a pass that can't be divided: the worker with the first
// part processes all of it, and the other parts count as finished. It keeps the
// positions and the number of values that the previous pass quarantined, which
// the pass after this one needs.
func (s *Stored) NextWhole(ctx context.Context, from int, since, began string) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // has no effect after the commit
	result, err := tx.ExecContext(ctx, s.sql.next(from, allWritten), since, began, s.goal, s.table, s.goal, s.table)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); n == 0 || err != nil {
		return err // another process has begun it
	}
	if _, err := tx.ExecContext(ctx, s.sql.whole(from), s.goal, s.table); err != nil {
		return err
	}
	return tx.Commit()
}

// Positions returns the saved positions of all parts.
func (s *Stored) Positions(ctx context.Context) (all []string, err error) {
	rows, err := s.db.QueryContext(ctx, s.sql.positions, s.goal, s.table)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var at string
		if err := rows.Scan(&at); err != nil {
			return nil, err
		}
		all = append(all, at)
	}
	return all, rows.Err()
}

// Drop deletes the job.
func (s *Stored) Drop(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, s.sql.drop, s.goal, s.table)
	return err
}
