package fieldcrypt

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
)

// DriverConfig says how a driver of [NewDriver] encrypts and decrypts.
type DriverConfig struct {
	// Keyring encrypts and decrypts. Nil means the default one of the process, looked up when it is first needed.
	Keyring *Keyring
	// Strict makes a query fail when a secret in its result cannot be opened. Otherwise only revealing it fails.
	Strict bool
	// Plaintext are columns, by table and name, that may still hold plaintext: what does not begin like a token is then read
	// as it is stored. Everything is written encrypted all the same. NewDriver panics if one is no encrypted column.
	Plaintext []ColumnInfo
	// Bound are columns, by table and name, whose tokens are bound to table, column and tenant, beside those of which the schema
	// says so: what is written is bound, and what is not bound to its place is refused with [ErrContext] when it is revealed.
	// NewDriver panics if one is no encrypted column, or has no tenant.
	Bound []ColumnInfo
	// Unbound are columns, by table and name, whose tokens are read whether they are bound or not. It is the window in which
	// they are rewritten; whether what is written is bound does not depend on it. NewDriver panics as of Bound.
	Unbound []ColumnInfo
	// TenantKeys gives each tenant a data key of its own, in the table [TenantKeyTable], for the tokens of every column that has a
	// tenant. Those that are under Keyring itself are read all the same.
	TenantKeys bool
	// AllowTenantKeys reads what is under data keys of tenants, and writes under Keyring, unless TenantKeys says otherwise. Secrets
	// of tenants whose key was destroyed are refused all the same.
	AllowTenantKeys bool
	// OnReveal is called at each Reveal of a secret that the driver read, by the goroutine that reveals; nil for none.
	OnReveal func(Reveal)
}

// NewDriver wraps an ent driver: secrets among the arguments of statements are encrypted, also where ent hands them on
// as they are (upserts, modifiers), and secrets in results get the keyring they are revealed with. Times among the
// arguments are converted to UTC, since a timestamp column without zone keeps the wall clock it is given.
//
// The driver is safe for concurrent use, as far as the wrapped one is.
func NewDriver(drv dialect.Driver, cfg DriverConfig) dialect.Driver {
	return &cryptDriver{Driver: drv, conn: conn{next: drv, codec: newCodec(drv, cfg), dialect: drv.Dialect()}}
}

// newCodec makes a codec whose keys of tenants are read again, when they have to be, from the given pool.
func newCodec(pool dialect.ExecQuerier, cfg DriverConfig) *codec {
	checkColumns(cfg.Plaintext)
	checkTenants(cfg.Bound)
	checkTenants(cfg.Unbound)
	c := &codec{DriverConfig: cfg}
	if cfg.TenantKeys || cfg.AllowTenantKeys {
		c.tenants = newTenantKeys(pool)
		c.tenants.readOnly = !cfg.TenantKeys
	}
	for _, column := range Columns() {
		c.add(column)
	}
	c.schema = schema{key: c.key, watched: c.watched, index: c.index}
	return c
}

// codec holds what all connections and transactions of a driver share. It is immutable once made, but for what it remembers
// of statements, and safe for concurrent use.
type codec struct {
	DriverConfig
	tables     []encryptedTable
	schema     schema      // of the tables
	sources    []Follow    // of tenants, where columns' keys depend on them
	scopes     bool        // there are columns whose keys depend on column and tenant
	tenants    *tenantKeys // nil if tenants have no keys of their own
	statements statements
}

// keyring returns the client's keyring. A nil codec is that of no client.
func (c *codec) keyring() (*Keyring, error) {
	if c != nil && c.Keyring != nil {
		return c.Keyring, nil
	}
	return Default()
}

// execQuerier is what ent's drivers and transactions have in common; the last two back the clients' ExecContext and
// QueryContext.
type execQuerier interface {
	dialect.ExecQuerier
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// conn decorates a driver or a transaction.
type conn struct {
	next    dialect.ExecQuerier
	codec   *codec
	dialect string
	inTx    bool
	tx      *tenantTx // nil outside of a transaction
}

// in returns the same of a transaction. snapshot says that it may see only what was committed before it began.
func (c conn) in(tx dialect.Tx, snapshot bool) conn {
	c.next, c.inTx, c.tx = tx, true, &tenantTx{snapshot: snapshot}
	return c
}

// Exec encrypts secrets among the arguments.
func (c conn) Exec(ctx context.Context, query string, args, v any) error {
	argv, ok := args.([]any)
	if !ok {
		return c.next.Exec(ctx, query, args, v) // which refuses it
	}
	return c.inOneTx(ctx, func(c conn) error {
		s, err := c.sealAlone(ctx, query, argv)
		if err != nil {
			return err
		}
		if err := c.next.Exec(ctx, s.query, s.args, v); err != nil {
			return err
		}
		return runAll(ctx, s.claims, c.next)
	})
}

// Query encrypts secrets among the arguments, and gives those in the result the keyring.
func (c conn) Query(ctx context.Context, query string, args, v any) error {
	argv, ok := args.([]any)
	if !ok {
		return c.next.Query(ctx, query, args, v) // which refuses it
	}
	s, err := c.seal(ctx, query, argv)
	if err != nil {
		return err
	}
	rows, ok := v.(*entsql.Rows)
	if ok && len(s.claims) > 0 {
		err = c.queryClaiming(ctx, s.query, s.args, s.claims, rows)
	} else {
		err = c.next.Query(ctx, s.query, s.args, v)
	}
	if err != nil {
		return err
	}
	// ent's schema inspection needs the bare rows back, so only results that may hold secrets are wrapped.
	if ok && c.codec.names(query) {
		rows.ColumnScanner = &scanner{ColumnScanner: rows.ColumnScanner, codec: c.codec, query: query, tenants: c.tenantRows(ctx)}
	}
	return nil
}

// sealAlone is seal for a statement that inOneTx runs. It returns an errNeedsTx if that is needed.
func (c conn) sealAlone(ctx context.Context, query string, args []any) (sealed, error) {
	s, err := c.seal(ctx, query, args)
	if err == nil && len(s.claims) > 0 && !c.inTx {
		err = errClaim
	}
	return s, err
}

// ExecContext encrypts secrets among the arguments.
func (c conn) ExecContext(ctx context.Context, query string, args ...any) (result sql.Result, err error) {
	err = c.inOneTx(ctx, func(c conn) error {
		next, ok := c.next.(execQuerier)
		if !ok {
			return fmt.Errorf("fieldcrypt: %T has no ExecContext", c.next)
		}
		s, err := c.sealAlone(ctx, query, args)
		if err != nil {
			return err
		}
		if result, err = next.ExecContext(ctx, s.query, s.args...); err != nil {
			return err
		}
		return runAll(ctx, s.claims, c.next)
	})
	return result, err
}

// QueryContext encrypts secrets among the arguments. The rows are database/sql's own: secrets scanned from them reveal
// with the default keyring.
func (c conn) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	next, ok := c.next.(execQuerier)
	if !ok {
		return nil, fmt.Errorf("fieldcrypt: %T has no QueryContext", c.next)
	}
	s, err := c.seal(ctx, query, args)
	if err != nil {
		return nil, err
	}
	if len(s.claims) > 0 {
		return nil, &Error{Op: "index", Err: fmt.Errorf("%w: while the keyring has several keys, store by ExecContext", ErrIndex)}
	}
	return next.QueryContext(ctx, s.query, s.args...)
}

// cryptDriver is the driver of NewDriver.
type cryptDriver struct {
	dialect.Driver // for Close and Dialect
	conn
}

// Exec is that of conn; both embedded values have one.
func (d *cryptDriver) Exec(ctx context.Context, query string, args, v any) error {
	return d.conn.Exec(ctx, query, args, v)
}

// Query is that of conn.
func (d *cryptDriver) Query(ctx context.Context, query string, args, v any) error {
	return d.conn.Query(ctx, query, args, v)
}

// Tx starts a transaction whose statements encrypt and decrypt likewise.
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
		return nil, errors.New("fieldcrypt: the wrapped driver has no BeginTx")
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

// Exec is that of conn; both embedded values have one.
func (t *cryptTx) Exec(ctx context.Context, query string, args, v any) error {
	return t.conn.Exec(ctx, query, args, v)
}

// Query is that of conn.
func (t *cryptTx) Query(ctx context.Context, query string, args, v any) error {
	return t.conn.Query(ctx, query, args, v)
}
