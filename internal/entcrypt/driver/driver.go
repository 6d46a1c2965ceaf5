// Package driver has the ent driver that joins an ent client and its keys.
//
// It replaces stamped arguments by tokens and digests, by their type, with the
// client's keyring, and sends the statement's text as it got it. It tells the
// secrets of a result their keyring, row and tenant by the names of the
// result's columns. It refuses secrets that nobody said the place of.
package driver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/entcrypt/result"
	"github.com/credent-go/credent/internal/entcrypt/statement"
	"github.com/credent-go/credent/internal/entcrypt/unique"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/sqlrows"
)

// ErrDialect means that a database is neither Postgres nor SQLite.
var ErrDialect = errors.New("encrypted fields need Postgres or SQLite: the CHECK that keeps plaintext out, the blind index's " +
	"bytes and RETURNING work differently elsewhere")

// Config says how a driver encrypts and decrypts. The zero value uses the
// process's keyring.
type Config struct {
	// Keyring encrypts and decrypts. Nil means the process's keyring, looked
	// up when it is first needed.
	Keyring *keyring.Keyring
	// Columns are the client's encrypted columns; nil means every column of
	// the process. They tell the secrets of a result apart that ent scans into
	// the caller's own types.
	Columns []column.Column
	// Strict makes a query fail if a secret in its result doesn't open.
	// Otherwise only revealing it fails.
	Strict bool
	// Plaintext are columns that may still hold plaintext: what doesn't begin
	// like a token reads as it is stored. Every write encrypts all the same.
	Plaintext []column.Column
	// Bound are columns whose tokens are bound to table, column and tenant,
	// beside those the schema binds: what is written is bound, and revealing a
	// token that isn't bound to its place is a [seal.ErrContext].
	Bound []column.Column
	// Unbound are columns whose tokens read whether they are bound or not. It
	// is the window in which they are rewritten, and doesn't affect writes.
	Unbound []column.Column
	// TenantKeys gives each tenant a data key of its own, in the table
	// [tenantkey.Table], for every column that has a tenant. Tokens under
	// Keyring itself read all the same.
	TenantKeys bool
	// AllowTenantKeys reads what is under tenants' keys, and writes under
	// Keyring unless TenantKeys is set. Secrets of tenants whose key was
	// destroyed are refused all the same.
	AllowTenantKeys bool
	// OnReveal is called at each Reveal of a secret that the driver read, by
	// the goroutine that reveals; nil for nobody. With it a secret that was
	// read holds the values of its query's context.
	OnReveal func(seal.Reveal)
}

// New wraps an ent driver. The result is safe for concurrent use as far as the
// wrapped one is. Errors: [ErrDialect]; [column.ErrNoColumn] for a column that
// isn't encrypted, or has no tenant to bind it to.
func New(drv dialect.Driver, cfg Config) (dialect.Driver, error) {
	if d := drv.Dialect(); d != dialect.Postgres && d != dialect.SQLite {
		return nil, fmt.Errorf("credent: the dialect is %s: %w", d, ErrDialect)
	}
	policy, err := newPolicy(drv, cfg)
	if err != nil {
		return nil, err
	}
	return wrap(drv, policy), nil
}

// NewSealer returns a sealer that encrypts as a driver of [New] does, and what
// wraps such drivers: they share the keys that the sealer prepares.
func NewSealer(cfg Config) (statement.Sealer, func(dialect.Driver) dialect.Driver, error) {
	policy, err := newPolicy(nil, cfg)
	return statement.Sealer{Policy: policy}, func(drv dialect.Driver) dialect.Driver { return wrap(drv, policy) }, err
}

func wrap(drv dialect.Driver, policy *seal.Policy) dialect.Driver {
	return &cryptDriver{Driver: drv, conn: conn{statement.Conn{
		Next: drv, Policy: policy, Dialect: drv.Dialect(), Read: read, Gaps: new(unique.Memory),
	}}}
}

// read implements statement.Conn's Read.
func read(ctx context.Context, on statement.Conn, query string, args []any) (*entsql.Rows, error) {
	rows := new(entsql.Rows)
	if err := on.Next.Query(ctx, query, args, rows); err != nil {
		return nil, err
	}
	return rows, result.WrapLenient(ctx, on.Policy, statement.Store{Conn: on}, rows)
}

// newPolicy makes a policy that reads forgotten keys of tenants again from
// pool.
func newPolicy(pool dialect.ExecQuerier, cfg Config) (*seal.Policy, error) {
	for i, c := range slices.Concat(cfg.Plaintext, cfg.Bound, cfg.Unbound) {
		known, err := column.Known(c)
		if err == nil && i >= len(cfg.Plaintext) {
			err = known.CheckTenant()
		}
		if err != nil {
			return nil, err
		}
	}
	p := &seal.Policy{
		Ring: cfg.Keyring, Plaintext: cfg.Plaintext, Bound: cfg.Bound, Unbound: cfg.Unbound, OnReveal: cfg.OnReveal,
		Columns: cfg.Columns, Strict: cfg.Strict,
	}
	if cfg.TenantKeys || cfg.AllowTenantKeys {
		p.Tenants = tenantkey.NewCache(statement.Store{Conn: statement.Conn{Next: pool, Policy: p}}, !cfg.TenantKeys)
	}
	if p.Columns == nil {
		p.Columns = column.All()
	}
	for i := range p.Columns {
		p.Scopes = p.Scopes || p.IsScoped(&p.Columns[i])
	}
	return p, nil
}

// execQuerier is what ent's drivers and transactions have in common. The last
// two methods back a client's ExecContext and QueryContext.
type execQuerier interface {
	dialect.ExecQuerier
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// conn decorates a driver or a transaction.
type conn struct{ statement.Conn }

// Exec seals the arguments.
func (c conn) Exec(ctx context.Context, query string, args, v any) error {
	argv, ok := args.([]any)
	if !ok {
		return c.Next.Exec(ctx, query, args, v) // which refuses it
	}
	on, s, err := c.prepare(ctx, query, argv)
	if err != nil {
		return err
	}
	result, ok := v.(*sql.Result)
	if !ok {
		result = new(sql.Result)
	}
	if s.Nothing {
		*result = noRows{}
	} else if err = on.Next.Exec(ctx, query, s.Args, result); s.IsTrap(err) {
		c.Disarm(argv)
		return c.Exec(ctx, query, args, v)
	} else if err != nil {
		return on.rollback(err)
	}
	return on.finishExec(ctx, s, *result)
}

// Query seals the arguments, and tells the secrets of the result their
// keyring, row and tenant.
func (c conn) Query(ctx context.Context, query string, args, v any) error {
	argv, ok := args.([]any)
	rows, ok2 := v.(*entsql.Rows)
	if !ok || !ok2 {
		return fmt.Errorf("credent: a query with arguments of %T into a %T", args, v)
	}
	if c.answer(ctx) {
		return errAsked
	}
	on, s, err := c.prepare(ctx, query, argv)
	if err != nil {
		return err
	}
	if s.Nothing {
		return on.rollback(errNoRow)
	}
	switch err := on.Next.Query(ctx, query, s.Args, v); {
	case s.IsTrap(err):
		c.Disarm(argv)
		return c.Query(ctx, query, args, v)
	case err != nil:
		return on.rollback(err)
	}
	if on.own != nil || s.Ends() {
		replayed, err := sqlrows.Then(rows.ColumnScanner, //nolint:rowserrcheck // the caller's to check
			func(n int64, err error) error { return on.finish(ctx, s, n, err) })
		if err != nil {
			return err
		}
		rows.ColumnScanner = replayed
	}
	return result.Wrap(ctx, c.Policy, statement.Store{Conn: c.Conn}, rows)
}

// ExecContext seals the arguments.
func (c conn) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	on, s, err := c.prepare(ctx, query, args)
	if err != nil {
		return nil, err
	}
	next, ok := on.Next.(execQuerier)
	if !ok {
		return nil, on.rollback(fmt.Errorf("credent: %T has no ExecContext", on.Next))
	}
	var result sql.Result = noRows{}
	if !s.Nothing {
		if result, err = next.ExecContext(ctx, query, s.Args...); s.IsTrap(err) {
			c.Disarm(args)
			return c.ExecContext(ctx, query, args...)
		} else if err != nil {
			return nil, on.rollback(err)
		}
	}
	return result, on.finishExec(ctx, s, result)
}

// QueryContext seals the arguments. The rows are database/sql's own: nobody
// can tell the secrets scanned from them their keyring.
func (c conn) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	on, s, err := c.prepare(ctx, query, args)
	if err != nil {
		return nil, err
	}
	next, ok := on.Next.(execQuerier)
	switch {
	case !ok:
		return nil, on.rollback(fmt.Errorf("credent: %T has no QueryContext", on.Next))
	case s.Nothing:
		return nil, on.rollback(errNoRow)
	}
	rows, err := next.QueryContext(ctx, query, s.Args...)
	switch {
	case s.IsTrap(err):
		c.Disarm(args)
		return c.QueryContext(ctx, query, args...)
	case err != nil:
		return nil, on.rollback(err)
	case on.own == nil && !s.Ends():
		return rows, nil
	}
	return sqlrows.Then(rows, func(n int64, err error) error { return on.finish(ctx, s, n, err) })
}

// cryptDriver is the driver of New.
type cryptDriver struct {
	dialect.Driver // for Close and Dialect
	conn
}

// Exec calls conn's; both embedded values have one.
func (d *cryptDriver) Exec(ctx context.Context, query string, args, v any) error {
	return d.conn.Exec(ctx, query, args, v)
}

// Query calls conn's.
func (d *cryptDriver) Query(ctx context.Context, query string, args, v any) error {
	return d.conn.Query(ctx, query, args, v)
}

// Tx starts a transaction whose statements encrypt and decrypt alike.
func (d *cryptDriver) Tx(ctx context.Context) (dialect.Tx, error) {
	tx, err := d.Driver.Tx(ctx)
	if err != nil {
		return nil, err
	}
	return &cryptTx{Tx: tx, conn: d.in(tx, false)}, nil
}

// BeginTx is Tx with options.
func (d *cryptDriver) BeginTx(ctx context.Context, opts *sql.TxOptions) (dialect.Tx, error) {
	beginner, ok := d.Driver.(interface {
		BeginTx(context.Context, *sql.TxOptions) (dialect.Tx, error)
	})
	if !ok {
		return nil, errors.New("credent: the wrapped driver has no BeginTx")
	}
	tx, err := beginner.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &cryptTx{Tx: tx, conn: d.in(tx, opts != nil && opts.Isolation > sql.LevelReadCommitted)}, nil
}

// cryptTx is a transaction of a cryptDriver.
type cryptTx struct {
	dialect.Tx // for Commit and Rollback
	conn
}

// Exec calls conn's; both embedded values have one.
func (t *cryptTx) Exec(ctx context.Context, query string, args, v any) error {
	return t.conn.Exec(ctx, query, args, v)
}

// Query calls conn's.
func (t *cryptTx) Query(ctx context.Context, query string, args, v any) error {
	return t.conn.Query(ctx, query, args, v)
}
