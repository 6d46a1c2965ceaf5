package replica_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"entgo.io/ent"
	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/replica"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/internal/tenancy"
)

// server counts its queries and statements, and fails if it has an error.
type server struct {
	dialect.Driver
	asked, closed int
	err           error
	rows          entsql.ColumnScanner
}

func (s *server) Query(_ context.Context, _ string, _, v any) error {
	s.asked++
	if s.err == nil {
		v.(*entsql.Rows).ColumnScanner = s.rows
	}
	return s.err
}

func (s *server) Exec(context.Context, string, any, any) error {
	s.asked++
	return s.err
}

func (s *server) BeginTx(context.Context, *sql.TxOptions) (dialect.Tx, error) { return s, nil }

func (*server) Commit() error   { return nil }
func (*server) Rollback() error { return nil }

func (s *server) Close() error {
	s.closed++
	return nil
}

// result is a result without rows that ends with an error.
type result struct {
	entsql.ColumnScanner
	err error
}

func (r result) Err() error   { return r.err }
func (r result) Close() error { return r.err }

// answer is a server's error.
type answer string

func (a answer) Error() string    { return string(a) }
func (a answer) SQLState() string { return string(a) }

var errLost = errors.New("lost")

// reading returns the context of ent's query in a request.
func reading(ctx context.Context) context.Context {
	return replica.WithRequest(ent.NewQueryContext(ctx, &ent.QueryContext{}))
}

func query(ctx context.Context, d dialect.Driver, text string) error {
	return d.Query(ctx, text, []any{}, new(entsql.Rows))
}

func TestFailures(t *testing.T) {
	t.Parallel()
	row := &tenancy.RowSecurityError{Role: "r", Cause: "c", Remedy: "m"}
	for name, test := range map[string]struct {
		err             error
		want            error // without a tell function
		told, toPrimary bool  // with one
		restsAfterwards bool
		wroteAfterwards bool
	}{
		"no answer":          {errLost, replica.ErrReader, true, true, true, false},
		"no such table":      {answer("42P01"), replica.ErrReader, true, true, false, false},
		"conflict":           {answer("40001"), replica.ErrReader, true, true, false, false},
		"it writes":          {answer("25006"), nil, false, true, false, true},
		"row-level security": {row, tenancy.ErrRowSecurity, false, false, false, false},
		"no row-level security": {
			fmt.Errorf("x: %w", tenancy.ErrUnsupported), tenancy.ErrUnsupported, false,
			false, false, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				primary, standby := &server{rows: result{}}, &server{err: test.err}
				d := replica.New(primary, replica.Standby{Driver: standby}, nil)
				time.Sleep(time.Second)
				if err := query(reading(t.Context()), d, "SELECT 1"); !errors.Is(err, test.want) ||
					(err == nil) != (test.want == nil) {
					t.Errorf("without tell: got %v, want %v", err, test.want)
				}
				if got := primary.asked == 1; got != (test.want == nil) {
					t.Errorf("the primary was asked %d times", primary.asked)
				}

				var told []error
				primary, standby = &server{rows: result{}}, &server{err: test.err}
				d = replica.New(primary, replica.Standby{Driver: standby},
					func(_ context.Context, err error) { told = append(told, err) })
				ctx := reading(t.Context())
				err := query(ctx, d, "SELECT 1")
				if (err == nil) != test.toPrimary || (len(told) == 1) != test.told ||
					(primary.asked == 1) != test.toPrimary {
					t.Errorf("got %v, told %v, the primary was asked %d times", err, told, primary.asked)
				}
				_ = query(ctx, d, "SELECT 1")
				if rests := standby.asked == 1; rests != (test.restsAfterwards || test.wroteAfterwards) {
					t.Errorf("the standby was asked %d times", standby.asked)
				}
				if test.restsAfterwards {
					if len(told) != 2 || !errors.Is(told[1], errLost) {
						t.Errorf("told %v about a query that the standby didn't get", told)
					}
					time.Sleep(replica.Rest)
					standby.err, standby.rows = nil, result{}
					if err := query(reading(t.Context()), d, "SELECT 1"); err != nil || standby.asked != 2 ||
						len(told) != 2 {
						t.Errorf("got %v, asked %d times, told %v", err, standby.asked, told)
					}
				}
			})
		})
	}
}

// If the standby's states differ from the service's, the standby is at fault:
// it doesn't have the current ones yet.
func TestOldStates(t *testing.T) {
	t.Parallel()
	told := 0
	primary, standby := &server{rows: result{}}, &server{err: fmt.Errorf("credent: %w", states.ErrStateMismatch)}
	if err := query(reading(t.Context()), replica.New(primary, standby, nil), "SELECT 1"); !errors.Is(err,
		replica.ErrReader) ||
		!errors.Is(err, states.ErrStateMismatch) {
		t.Errorf("got %v", err)
	}
	d := replica.New(primary, standby, func(context.Context, error) { told++ })
	if err := query(reading(t.Context()), d, "SELECT 1"); err != nil || told != 1 || primary.asked != 1 {
		t.Errorf("got %v, told %d times, asked %d times", err, told, primary.asked)
	}
}

// A read-only transaction counts as a write once it runs more than queries.
func TestReadOnlyTx(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		do     func(ctx context.Context, tx dialect.Tx) error
		writes bool
	}{
		"nothing": {func(context.Context, dialect.Tx) error { return nil }, false},
		"a query": {func(ctx context.Context, tx dialect.Tx) error {
			return tx.Query(ctx, "SELECT 1", []any{}, new(entsql.Rows))
		}, false},
		"returns": {func(ctx context.Context, tx dialect.Tx) error {
			return tx.Query(ctx, "DELETE FROM t RETURNING id", []any{}, new(entsql.Rows))
		}, true},
		"executes": {func(ctx context.Context, tx dialect.Tx) error {
			return tx.Exec(ctx, "SET TRANSACTION READ WRITE", []any{}, nil)
		}, true},
	} {
		for _, claimed := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				primary, standby := &server{rows: result{}}, &server{rows: result{}}
				d := replica.New(primary, replica.Standby{Driver: standby}, nil)
				ctx := reading(t.Context())
				in := ctx
				if !claimed {
					in = ent.NewQueryContext(t.Context(), &ent.QueryContext{})
				}
				tx, err := d.BeginTx(in, &sql.TxOptions{ReadOnly: true})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				if err := errors.Join(test.do(in, tx), tx.Commit()); err != nil {
					t.Fatal(err)
				}
				if err := query(ctx, d, "SELECT 1"); err != nil || (standby.asked == 0) != test.writes {
					t.Errorf("%s: got %v, and the standby was asked %d times", name, err, standby.asked)
				}
			})
		}
	}
}

// A context that ended isn't the standby's fault, and the primary isn't asked.
func TestEnded(t *testing.T) {
	t.Parallel()
	primary, standby := new(server), &server{err: context.Canceled}
	d := replica.New(primary, replica.Standby{Driver: standby},
		func(_ context.Context, err error) { t.Errorf("told %v", err) })
	ctx, cancel := context.WithCancel(reading(t.Context()))
	cancel()
	if err := query(ctx, d, "SELECT 1"); !errors.Is(err, context.Canceled) || errors.Is(err, replica.ErrReader) ||
		primary.asked > 0 {
		t.Errorf("got %v", err)
	}
}

// A result that breaks off returns the error. The query isn't run again.
func TestBreaksOff(t *testing.T) {
	t.Parallel()
	primary, standby := new(server), &server{rows: result{err: errLost}}
	d := replica.New(primary, replica.Standby{Driver: standby},
		func(_ context.Context, err error) { t.Errorf("told %v", err) })
	var rows entsql.Rows
	if err := d.Query(reading(t.Context()), "SELECT 1", []any{}, &rows); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"Err": rows.Err(), "Close": rows.Close()} {
		if !errors.Is(err, replica.ErrReader) || !errors.Is(err, errLost) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A mutation in a query's context, by an interceptor for instance, is a write.
func TestMutationInQuery(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"INSERT INTO t DEFAULT VALUES RETURNING id",
		"WITH x AS (DELETE FROM t) SELECT 1", "select 1",
	} {
		primary, standby := &server{rows: result{}}, &server{rows: result{}}
		d := replica.New(primary, replica.Standby{Driver: standby}, nil)
		ctx := reading(t.Context())
		for _, text := range []string{text, "SELECT 1"} {
			if err := query(ctx, d, text); err != nil {
				t.Fatal(err)
			}
		}
		if primary.asked != 2 || standby.asked != 0 {
			t.Errorf("%s: the primary was asked %d times, and the standby %d times", text, primary.asked, standby.asked)
		}
	}
}

// A write without a request lasts until its rows end: a request that begins
// before that must see it.
func TestWritesUntilItsRowsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		primary, standby := &server{rows: result{}}, &server{rows: result{}}
		d := replica.New(primary, replica.Standby{Driver: standby}, nil)
		var rows entsql.Rows
		if err := d.Query(t.Context(), "INSERT INTO t DEFAULT VALUES RETURNING id", []any{}, &rows); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		ctx := reading(t.Context())
		time.Sleep(time.Second)
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		if err := query(ctx, d, "SELECT 1"); err != nil || standby.asked > 0 {
			t.Errorf("got %v, and the standby was asked %d times", err, standby.asked)
		}
	})
}

// A standby refuses statements and transactions.
func TestStandby(t *testing.T) {
	t.Parallel()
	asked := new(server)
	s := replica.Standby{Driver: asked}
	err1 := s.Exec(t.Context(), "DELETE FROM t", []any{}, new(sql.Result))
	_, err2 := s.ExecContext(t.Context(), "DELETE FROM t")
	_, err3 := s.Tx(t.Context())
	for _, err := range []error{err1, err2, err3} {
		if err == nil || asked.asked > 0 {
			t.Errorf("got %v", err)
		}
	}
	other := new(server)
	if err := replica.New(other, s, nil).Close(); err != nil || asked.closed != 1 || other.closed != 1 {
		t.Errorf("closed %d and %d times, %v", other.closed, asked.closed, err)
	}
}
