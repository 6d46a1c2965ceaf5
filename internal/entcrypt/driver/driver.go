// Package driver is the ent driver that joins an ent client and its keys.
//
// It replaces stamped arguments with tokens and digests, by their type, using
// the client's keyring, and sends the statement's text unchanged. It gives the
// secrets in a result their keyring, row and tenant, by the names of the
// result's columns. It refuses secrets without a known location.
package driver

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/entcrypt/condition"
	"github.com/credent-go/credent/internal/entcrypt/owner"
	"github.com/credent-go/credent/internal/entcrypt/pending"
	"github.com/credent-go/credent/internal/entcrypt/record"
	"github.com/credent-go/credent/internal/entcrypt/result"
	"github.com/credent-go/credent/internal/entcrypt/shared"
	"github.com/credent-go/credent/internal/entcrypt/sqltext"
	"github.com/credent-go/credent/internal/entcrypt/statement"
	"github.com/credent-go/credent/internal/entcrypt/unique"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/nilarg"
	"github.com/credent-go/credent/internal/observe"
	"github.com/credent-go/credent/internal/sqlrows"
	"github.com/credent-go/credent/internal/states"
)

// ErrDialect means that a database is neither Postgres nor SQLite.
var ErrDialect = errors.New("encrypted fields need Postgres or SQLite: the CHECK that keeps plaintext out, the blind " +
	"index's bytes and RETURNING work differently elsewhere")

// Config configures a driver. The zero value uses the process's keyring.
type Config struct {
	// Keyring encrypts and decrypts. Nil means the process's keyring, looked
	// up when it is first needed.
	Keyring *keyring.Ring
	// Columns are the client's encrypted columns; nil means every column of the
	// process. The driver uses them to find the column of a secret that ent
	// scans into a caller's type.
	Columns []column.Column
	// VerifyOnRead makes a query fail if a secret in its result doesn't open.
	// Without it, only revealing the secret fails.
	VerifyOnRead bool
	// States gives columns other states than the default, such as
	//
	//	{Column: integration.RefreshTokenColumn, Binding: encrypted.Write}
	//
	// A column's states in the database's table credent_states come first; a
	// client with other states is refused with [states.ErrStateMismatch].
	States states.Table
	// OnReveal, if not nil, is called at each Reveal of a secret that the
	// driver read, in the revealing goroutine. With it, such a secret keeps the
	// values of its query's context.
	OnReveal func(seal.Reveal)
	// Trail, if not nil, records reads and writes. If the database requires a
	// trail, a driver of [Follow] without one refuses to write and reveal:
	// [states.ErrTrailRequired].
	Trail record.Trail
	// Observer is called for every value that the driver seals or opens.
	Observer observe.Observer
	// Refuse, if not nil, may refuse a statement by its context.
	Refuse func(context.Context) error
}

// New wraps an ent driver. The result is safe for concurrent use if drv is.
// Errors: [ErrDialect]; [states.ErrInvalidStates]; [column.ErrNoColumn] for a
// column that isn't encrypted, or has no tenant.
func New(drv dialect.Driver, cfg Config) (dialect.Driver, error) {
	return newDriver(drv, drv, cfg, false)
}

// Follow is like New, and the driver follows the states in the database. It
// reads them with its first statement, or with [Read].
func Follow(drv dialect.Driver, cfg Config) (dialect.Driver, error) {
	return newDriver(drv, drv, cfg, true)
}

// FollowStandby is like Follow, for a standby. It follows the states on the
// standby, which match the data there. Tenants' keys that the standby lacks, or
// that expired before a secret is revealed, are read from the primary.
func FollowStandby(standby, primary dialect.Driver, cfg Config) (dialect.Driver, error) {
	drv, err := newDriver(standby, primary, cfg, true)
	if d, ok := drv.(*cryptDriver); ok {
		d.standby = true
	}
	return drv, err
}

func newDriver(drv, keys dialect.Driver, cfg Config, follows bool) (dialect.Driver, error) {
	if err := nilarg.Check("the driver", drv); err != nil {
		return nil, fmt.Errorf("credent: %w", err)
	}
	if d := drv.Dialect(); d != dialect.Postgres && d != dialect.SQLite {
		return nil, fmt.Errorf("credent: the dialect is %s: %w", d, ErrDialect)
	}
	l, err := newLive(keys, cfg, follows)
	if err != nil {
		return nil, err
	}
	return wrap(drv, l), nil
}

// Read makes a driver of [Follow] read the database's states. Errors:
// [states.ErrStateMismatch], [states.ErrInvalidStates],
// [states.ErrTrailRequired], and the database's.
func Read(ctx context.Context, drv dialect.Driver) error {
	if of, ok := drv.(interface{ Primary() dialect.Driver }); ok { // drv also has a standby
		drv = of.Primary()
	}
	d, ok := drv.(*cryptDriver)
	if !ok {
		return nil
	}
	p, err := d.live.policy(ctx, d.Conn)
	if err == nil && d.live.recorder(p) == (record.Refusing{}) {
		err = record.ErrNoTrail
	}
	return err
}

// read implements statement.Conn's Read.
func read(ctx context.Context, on statement.Conn, query string, args []any) (*entsql.Rows, error) {
	rows := new(entsql.Rows)
	if err := on.Next.Query(ctx, query, args, rows); err != nil {
		return nil, err
	}
	return rows, result.WrapLenient(ctx, on.Policy, statement.Store{Conn: on}, rows)
}

// Sealer encrypts like a driver of [Follow].
type Sealer struct {
	statement.Sealer
	live *live
}

// NewSealer returns a sealer, and a function that wraps drivers so that they
// share its keys and states.
func NewSealer(cfg Config) (*Sealer, func(dialect.Driver) dialect.Driver, error) {
	l, err := newLive(nil, cfg, true)
	if err != nil {
		return nil, nil, err
	}
	s := &Sealer{statement.Sealer{Policy: l.now.Load().policy, Tx: &tenantkey.Tx{Snapshot: true, Prepared: true}}, l}
	return s, func(drv dialect.Driver) dialect.Driver {
		d := &cryptDriver{Driver: drv, conn: connOf(drv, sealing{s})}
		d.conn.Tx = s.Tx
		return d
	}, nil
}

// Prepare reads the database's states if they are due, and the tenants' keys;
// see [statement.Sealer].
func (s *Sealer) Prepare(ctx context.Context, tx dialect.ExecQuerier, d string, tenants []string) (err error) {
	if s.Policy, err = s.live.policy(ctx, statement.Conn{Next: tx, Dialect: d}); err != nil {
		return err
	}
	if s.live.trail == nil && s.Policy.Record != nil {
		return record.ErrNoTrail
	}
	return s.Sealer.Prepare(ctx, tx, d, tenants)
}

// sealing is the policy of a sealer.
type sealing struct{ *Sealer }

func (s sealing) policy(context.Context, statement.Conn) (*seal.Policy, error) { return s.Policy, nil }

// recorder implements policies: the caller records what it stores.
func (sealing) recorder(*seal.Policy) record.Trail { return nil }

func wrap(drv dialect.Driver, l *live) dialect.Driver {
	return &cryptDriver{Driver: drv, conn: connOf(drv, l)}
}

func connOf(drv dialect.Driver, policies policies) conn {
	return conn{Conn: statement.Conn{
		Next: drv, Dialect: drv.Dialect(), Read: read, Gaps: new(unique.Memory),
		Tables: new(owner.Tables),
	}, live: policies}
}

// policies returns the policy and the trail of a statement.
type policies interface {
	policy(ctx context.Context, on statement.Conn) (*seal.Policy, error)
	recorder(p *seal.Policy) record.Trail
}

// conn decorates a driver or a transaction.
type conn struct {
	statement.Conn
	live    policies
	pending *pending.Entries // the transaction's entries; nil outside one
	standby bool             // the server is read-only
	tries   int              // retries of a change after ErrChanged
}

// again returns the connection for a second run of a statement, if the error
// calls for one.
func (c conn) again(s statement.Sealed, args []any, err error) (conn, bool) {
	switch {
	case s.IsTrap(err):
		c.Disarm(args)
		return c, true
	case s.Conditional && condition.IsRefused(err):
		c.Careful = true // the server lacks a key: ask it first
		return c, true
	}
	return c, false
}

// Exec seals the arguments.
func (c conn) Exec(ctx context.Context, query string, args, v any) error {
	argv, ok := args.([]any)
	if !ok {
		return c.Next.Exec(ctx, query, args, v) // it refuses args
	}
	on, s, err := c.prepare(ctx, query, argv, record.Use{Writes: true, Change: record.ChangeOf(ctx)})
	if err != nil {
		return err
	}
	result, ok := v.(*sql.Result)
	if !ok {
		result = new(sql.Result)
	}
	if s.Nothing {
		*result = sqlrows.NoRows{}
	} else if err = on.Next.Exec(ctx, query, s.Args, result); err != nil {
		if c, again := c.again(s, argv, err); again {
			_ = on.rollback(nil) // the failed statement undid itself
			return c.Exec(ctx, query, args, v)
		}
		return on.rollback(err)
	}
	err = on.finishExec(ctx, s, *result)
	if errors.Is(err, record.ErrChanged) && on.own != nil && c.tries < maxTries {
		c.tries++
		return c.Exec(ctx, query, args, v)
	}
	return err
}

// maxTries is how often a change is retried after [record.ErrChanged].
const maxTries = 5

// Query seals the arguments, and gives the secrets in the result their keyring,
// row and tenant.
func (c conn) Query(ctx context.Context, query string, args, v any) error {
	argv, ok := args.([]any)
	rows, ok2 := v.(*entsql.Rows)
	if !ok || !ok2 {
		return fmt.Errorf("credent: a query with arguments of %T into a %T", args, v)
	}
	if asked, err := c.answer(ctx); asked {
		return cmp.Or(err, errAsked)
	}
	c.Careful = c.Careful || c.Dialect == dialect.SQLite // some SQLite drivers run a query only when its rows are read
	on, s, err := c.prepare(ctx, query, argv, record.Use{Reads: record.IsQuery(ctx, query)})
	if err != nil {
		return err
	}
	if s.Nothing {
		return on.rollback(errNoRow)
	}
	if err := on.Next.Query(ctx, query, s.Args, v); err != nil {
		if c, again := c.again(s, argv, err); again {
			_ = on.rollback(nil) // the failed statement undid itself
			return c.Query(ctx, query, args, v)
		}
		return on.rollback(err)
	}
	if on.own != nil || s.Ends() || on.record != nil {
		replayed, err := on.then(ctx, s, rows.ColumnScanner) //nolint:rowserrcheck // the caller's to check
		if err != nil {
			return err
		}
		rows.ColumnScanner = replayed
	}
	c.Policy = on.Policy
	return result.Wrap(on.pending.In(ctx), c.Policy, statement.Store{Conn: c.Conn}, rows)
}

// ExecContext seals the arguments.
func (c conn) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	control := sqltext.IsControl(query)
	on, s, err := c.prepare(ctx, query, args, record.Use{Raw: true, Writes: !control, Reads: control})
	if err != nil {
		return nil, err
	}
	next, ok := on.Next.(shared.ExecQuerier)
	if !ok {
		return nil, on.rollback(fmt.Errorf("credent: %T has no ExecContext", on.Next))
	}
	var result sql.Result = sqlrows.NoRows{}
	if !s.Nothing {
		if result, err = next.ExecContext(ctx, query, s.Args...); err != nil {
			if c, again := c.again(s, args, err); again {
				_ = on.rollback(nil) // as in Exec
				return c.ExecContext(ctx, query, args...)
			}
			return nil, on.rollback(err)
		}
	}
	c.pending.SQL(query)
	return result, on.finishExec(ctx, s, result)
}

// QueryContext seals the arguments. The rows are database/sql's, so secrets
// scanned from them don't get a keyring.
func (c conn) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	on, s, err := c.prepare(ctx, query, args, record.Use{Raw: true})
	if err != nil {
		return nil, err
	}
	next, ok := on.Next.(shared.ExecQuerier)
	switch {
	case !ok:
		return nil, on.rollback(fmt.Errorf("credent: %T has no QueryContext", on.Next))
	case s.Nothing:
		return nil, on.rollback(errNoRow)
	}
	rows, err := next.QueryContext(ctx, query, s.Args...)
	if err != nil {
		if c, again := c.again(s, args, err); again {
			_ = on.rollback(nil) // as in Exec
			return c.QueryContext(ctx, query, args...)
		}
		return nil, on.rollback(err)
	}
	c.pending.SQL(query)
	if on.own == nil && !s.Ends() && on.record == nil {
		return rows, nil
	}
	return on.then(ctx, s, rows)
}
