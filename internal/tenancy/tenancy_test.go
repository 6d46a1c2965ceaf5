package tenancy_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/principal"
	"github.com/credent-go/credent/internal/tenancy"
)

// recorder is a driver and its transactions. It records calls, and fails those
// in fail.
type recorder struct {
	name  string
	calls []string
	fail  map[string]error // by call
	rows  int              // rows of each result
	found string           // the result of a guard's check
}

func (r *recorder) call(format string, args ...any) error {
	call := fmt.Sprintf(format, args...)
	r.calls = append(r.calls, call)
	return r.fail[call]
}

// take returns the calls since the last take.
func (r *recorder) take() []string {
	calls := r.calls
	r.calls = nil
	return calls
}

func (r *recorder) Dialect() string { return r.name }
func (r *recorder) Close() error    { return r.call("close") }
func (r *recorder) Commit() error   { return r.call("commit") }
func (r *recorder) Rollback() error { return r.call("rollback") }

func (r *recorder) Tx(context.Context) (dialect.Tx, error) { return r, r.call("begin") }

func (r *recorder) Exec(_ context.Context, query string, args, _ any) error {
	if argv := args.([]any); len(argv) > 0 {
		return r.call("%s %q", query, argv)
	}
	return r.call("%s", query)
}

func (r *recorder) Query(ctx context.Context, query string, args, v any) error {
	v.(*entsql.Rows).ColumnScanner = &result{recorder: r, left: r.rows}
	return r.Exec(ctx, query, args, nil)
}

// result has empty rows.
type result struct {
	*recorder
	left int
}

func (r *result) Next() bool          { r.left--; return r.left >= 0 }
func (r *result) NextResultSet() bool { return true }
func (r *result) Err() error          { return r.fail["rows"] }
func (r *result) Close() error        { return r.call("close rows") }
func (r *result) Scan(dest ...any) error {
	switch len(dest) {
	case 1:
		*dest[0].(*string) = r.found
	case 2:
		*dest[1].(*bool) = r.found == ""
	}
	return nil
}
func (r *result) Columns() ([]string, error)              { return nil, nil }
func (r *result) ColumnTypes() ([]*sql.ColumnType, error) { return nil, nil }

// full has all methods of ent's driver.
type full struct{ *recorder }

func (r full) BeginTx(_ context.Context, opts *sql.TxOptions) (dialect.Tx, error) {
	return r, r.call("begin read-only %v", opts.ReadOnly)
}

func (r full) Tx(ctx context.Context) (dialect.Tx, error) {
	_, err := r.recorder.Tx(ctx)
	return r, err
}

func (r full) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return nil, r.Exec(ctx, query, args, nil)
}

func (r full) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return nil, r.Exec(ctx, query, args, nil)
}

func newDriver() (*recorder, dialect.Driver) {
	r := &recorder{name: dialect.Postgres, fail: map[string]error{}}
	return r, tenancy.NewDriver(full{r}, nil)
}

const (
	stmt    = "UPDATE t"
	setU1   = `SELECT credent_set_user($1) ["u1"]`
	setU2   = `SELECT credent_set_user($1) ["u2"]`
	setNone = `SELECT credent_set_user($1) [""]`
)

func TestUser(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	if user, ok := principal.User(ctx); user != "" || ok {
		t.Errorf("none: %q, %v", user, ok)
	}
	ctx = principal.WithUser(ctx, "u1")
	if user, ok := principal.User(ctx); user != "u1" || !ok {
		t.Errorf("u1: %q, %v", user, ok)
	}
	if user, ok := principal.User(principal.WithUser(ctx, "")); user != "" || !ok {
		t.Errorf("empty: %q, %v", user, ok)
	}
}

// The calls that reach the server, for each way to run a statement.
func TestCalls(t *testing.T) {
	t.Parallel()
	u1, u2 := principal.WithUser(t.Context(), "u1"), principal.WithUser(t.Context(), "u2")
	none, empty := t.Context(), principal.WithUser(t.Context(), "")
	query := func(ctx context.Context, drv dialect.ExecQuerier, read int) error {
		var rows entsql.Rows
		if err := drv.Query(ctx, stmt, []any{}, &rows); err != nil {
			return err
		}
		for range read {
			rows.Next()
		}
		return errors.Join(rows.Err(), rows.Close(), rows.Close())
	}
	inTx := func(drv dialect.Driver, ctxs ...context.Context) error {
		tx, err := drv.Tx(ctxs[0])
		if err != nil {
			return err
		}
		for _, ctx := range ctxs[1:] {
			if err := tx.Exec(ctx, stmt, []any{}, nil); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		return tx.Commit()
	}
	type raw interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
		BeginTx(ctx context.Context, opts *sql.TxOptions) (dialect.Tx, error)
	}
	for name, test := range map[string]struct {
		run  func(drv dialect.Driver) error
		want []string
	}{
		"exec, no user": {
			func(drv dialect.Driver) error { return drv.Exec(none, stmt, []any{}, nil) },
			[]string{stmt},
		},
		"exec": {
			func(drv dialect.Driver) error { return drv.Exec(u1, stmt, []any{}, nil) },
			[]string{"begin", setU1, stmt, "commit"},
		},
		"exec, empty": {
			func(drv dialect.Driver) error { return drv.Exec(empty, stmt, []any{}, nil) },
			[]string{"begin", setNone, stmt, "commit"},
		},
		"query, no user": {
			func(drv dialect.Driver) error { return query(none, drv, 3) },
			[]string{stmt, "close rows", "close rows"},
		},
		"query": {
			func(drv dialect.Driver) error { return query(u1, drv, 3) },
			[]string{"begin", setU1, stmt, "close rows", "commit"},
		},
		"closed early": {
			func(drv dialect.Driver) error { return query(u1, drv, 1) },
			[]string{"begin", setU1, stmt, "close rows", "commit"},
		},
		"transaction": {
			func(drv dialect.Driver) error { return inTx(drv, u1, u1, u1) },
			[]string{"begin", setU1, stmt, stmt, "commit"},
		},
		"other users in it": {
			func(drv dialect.Driver) error { return inTx(drv, u1, u2, u2, none, none, empty, u1) },
			[]string{"begin", setU1, setU2, stmt, stmt, setNone, stmt, stmt, stmt, setU1, stmt, "commit"},
		},
		"begun without a user": {
			func(drv dialect.Driver) error { return inTx(drv, none, none, u1, none) },
			[]string{"begin", stmt, setU1, stmt, setNone, stmt, "commit"},
		},
		"begun by empty": {
			func(drv dialect.Driver) error { return inTx(drv, empty, none) },
			[]string{"begin", setNone, stmt, "commit"},
		},
		"options": {func(drv dialect.Driver) error {
			tx, err := drv.(raw).BeginTx(u1, &sql.TxOptions{ReadOnly: true})
			return errors.Join(err, tx.Rollback())
		}, []string{"begin read-only true", setU1, "rollback"}},
		"SQL, no user": {func(drv dialect.Driver) error {
			_, err := drv.(raw).ExecContext(none, stmt)
			_, queryErr := drv.(raw).QueryContext(none, stmt) //nolint:rowserrcheck,sqlclosecheck // they are nil
			return errors.Join(err, queryErr)
		}, []string{stmt, stmt}},
		"SQL": {func(drv dialect.Driver) error {
			_, err := drv.(raw).ExecContext(u1, stmt)
			return err
		}, []string{"begin", setU1, stmt, "commit"}},
		// After raw SQL, the user is unknown.
		"SQL in a transaction": {func(drv dialect.Driver) error {
			tx, err := drv.Tx(u1)
			for _, text := range []string{stmt, "savepoint a", " ROLLBACK TO a ;\n", "ROLLBACK TO a; SELECT 1", stmt} {
				_, execErr := tx.(raw2).ExecContext(u1, text)
				err = errors.Join(err, execErr)
			}
			_, queryErr := tx.(raw2).QueryContext(u1, stmt) //nolint:rowserrcheck,sqlclosecheck // they are nil
			return errors.Join(err, queryErr, tx.Exec(u1, stmt, []any{}, nil), tx.Exec(u1, stmt, []any{}, nil))
		}, []string{
			"begin", setU1, stmt, "savepoint a", " ROLLBACK TO a ;\n", setU1, "ROLLBACK TO a; SELECT 1", setU1, stmt,
			setU1, stmt, setU1, stmt, stmt,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, drv := newDriver()
			r.rows = 2
			if err := test.run(drv); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(test.want, r.take()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

type raw2 interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Every failure is reported, and leaves no transaction open.
func TestFailures(t *testing.T) {
	t.Parallel()
	ctx := principal.WithUser(t.Context(), "u1")
	exec := func(drv dialect.Driver) error { return drv.Exec(ctx, stmt, []any{}, nil) }
	query := func(drv dialect.Driver) error {
		var rows entsql.Rows
		if err := drv.Query(ctx, stmt, []any{}, &rows); err != nil {
			return err
		}
		for rows.Next() {
		}
		return rows.Err()
	}
	early := func(drv dialect.Driver) error {
		var rows entsql.Rows
		if err := drv.Query(ctx, stmt, []any{}, &rows); err != nil {
			return err
		}
		return rows.Close()
	}
	failure := errors.New("failure")
	for name, run := range map[string]func(dialect.Driver) error{"exec": exec, "query": query, "closed early": early} {
		for _, where := range []string{"begin", setU1, stmt, "rows", "close rows", "commit"} {
			if name == "exec" && (where == "rows" || where == "close rows") {
				continue
			}
			r, drv := newDriver()
			r.fail[where] = failure
			if err := run(drv); !errors.Is(err, failure) {
				t.Errorf("%s: %s failed: %v", name, where, err)
			}
			calls := r.take()
			ended := slices.Contains(calls, "rollback")
			if where == "commit" { // even a failed commit ends the transaction
				ended = true
			}
			if where != "begin" && !ended {
				t.Errorf("%s: %s failed, and the transaction is open: %q", name, where, calls)
			}
			if where != "commit" && slices.Contains(calls, "commit") {
				t.Errorf("%s: %s failed, and was committed: %q", name, where, calls)
			}
		}
		// A failed rollback is reported as well, unless the transaction had
		// already ended.
		for rollback, told := range map[error]bool{errors.New("broken"): true, sql.ErrTxDone: false} {
			r, drv := newDriver()
			r.fail[stmt], r.fail["rollback"] = failure, rollback
			if err := run(drv); !errors.Is(err, failure) || errors.Is(err, rollback) != told {
				t.Errorf("%s: the rollback failed: %v", name, err)
			}
		}
	}
}

func TestUserIsSetAgainIfThatFailed(t *testing.T) {
	t.Parallel()
	u1, u2 := principal.WithUser(t.Context(), "u1"), principal.WithUser(t.Context(), "u2")
	r, drv := newDriver()
	tx, err := drv.Tx(u1)
	if err != nil {
		t.Fatal(err)
	}
	failure := errors.New("failure")
	r.fail[setU2] = failure
	if err := tx.Exec(u2, stmt, []any{}, nil); !errors.Is(err, failure) {
		t.Error(err)
	}
	if err := tx.Exec(u1, stmt, []any{}, nil); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"begin", setU1, setU2, setU1, stmt}, r.take()); diff != "" {
		t.Error(diff)
	}
}

func TestOtherDatabases(t *testing.T) {
	t.Parallel()
	ctx := principal.WithUser(t.Context(), "u1")
	for _, name := range []string{dialect.SQLite, dialect.MySQL} {
		r, drv := newDriver()
		r.name = name
		tx, err := drv.Tx(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.take()
		var rows entsql.Rows
		_, txErr := drv.Tx(ctx)
		_, execErr := drv.(raw2).ExecContext(ctx, stmt)
		_, queryErr := drv.(raw2).QueryContext(ctx, stmt) //nolint:rowserrcheck,sqlclosecheck // they are nil
		_, txExecErr := tx.(raw2).ExecContext(ctx, stmt)
		_, txQueryErr := tx.(raw2).QueryContext(ctx, "SAVEPOINT a") //nolint:rowserrcheck,sqlclosecheck // they are nil
		for i, err := range []error{
			txErr, execErr, queryErr, txExecErr, txQueryErr, drv.Exec(ctx, stmt, []any{}, nil),
			drv.Query(ctx, stmt, []any{}, &rows),
			tx.Exec(ctx, stmt, []any{}, nil), tx.Query(ctx, stmt, []any{}, &rows),
		} {
			if !errors.Is(err, tenancy.ErrUnsupported) {
				t.Errorf("%s, %d: %v", name, i, err)
			}
		}
		if calls := r.take(); len(calls) != 0 {
			t.Errorf("%s got the calls %q", name, calls)
		}
	}
}

// If a driver lacks methods of ent's, they return an error.
func TestPoorDriver(t *testing.T) {
	t.Parallel()
	ctx := principal.WithUser(t.Context(), "u1")
	r := &recorder{name: dialect.Postgres}
	drv := tenancy.NewDriver(r, nil)
	tx, err := drv.Tx(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, beginErr := drv.(interface {
		BeginTx(ctx context.Context, opts *sql.TxOptions) (dialect.Tx, error)
	}).BeginTx(ctx, &sql.TxOptions{})
	_, execErr := drv.(raw2).ExecContext(t.Context(), stmt)
	_, queryErr := drv.(raw2).QueryContext(t.Context(), stmt) //nolint:rowserrcheck,sqlclosecheck // they are nil
	_, txExecErr := tx.(raw2).ExecContext(ctx, stmt)
	_, txQueryErr := tx.(raw2).QueryContext(ctx, stmt)  //nolint:rowserrcheck,sqlclosecheck // they are nil
	_, needsTxErr := drv.(raw2).QueryContext(ctx, stmt) //nolint:rowserrcheck,sqlclosecheck // they are nil
	targetErr := drv.Query(ctx, stmt, []any{}, &sql.Rows{})
	for name, err := range map[string]error{
		"BeginTx": beginErr, "ExecContext": execErr, "QueryContext": queryErr,
		"ExecContext in a transaction":  txExecErr,
		"QueryContext in a transaction": txQueryErr, "another target": targetErr,
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if !errors.Is(needsTxErr, tenancy.ErrNeedsTx) {
		t.Error(needsTxErr)
	}
	if err := drv.Exec(ctx, stmt, []any{}, nil); err != nil {
		t.Error(err)
	}
}

// A reader's transactions are always read-only.
func TestReader(t *testing.T) {
	t.Parallel()
	r := &recorder{name: dialect.Postgres}
	drv := tenancy.NewReader(full{r}, nil)
	ctx := principal.WithUser(t.Context(), "u")
	var rows entsql.Rows
	if err := drv.Query(ctx, "SELECT", []any{}, &rows); err != nil {
		t.Fatal(err)
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := drv.Tx(ctx); err != nil {
		t.Fatal(err)
	}
	calls := r.take()
	set := calls[1]
	want := []string{"begin read-only true", set, "SELECT", "close rows", "commit", "begin read-only true", set}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Error(diff)
	}
	if err := drv.Query(t.Context(), "SELECT", []any{}, &rows); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"SELECT"}, r.take()); diff != "" {
		t.Error(diff)
	}
}
