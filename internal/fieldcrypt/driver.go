package fieldcrypt

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

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
	scopes     bool        // there are columns whose keys depend on column and tenant
	tenants    *tenantKeys // nil if tenants have no keys of their own
	statements statements
}

// encryptedTable is a table with encrypted columns.
type encryptedTable struct {
	name    string
	quoted  [2]string // as ent writes it for Postgres and for SQLite
	columns []ColumnInfo
	watched []string // those with a blind index, and the indexes; and the columns below

	tenant string   // column that says whose a row is; "" if no column's keys depend on it
	scoped []string // the columns whose keys do
}

func (c *codec) add(column ColumnInfo) {
	t := c.table(column.Table)
	if t == nil {
		quoted := [2]string{`"` + column.Table + `"`, "`" + column.Table + "`"}
		c.tables = append(c.tables, encryptedTable{name: column.Table, quoted: quoted})
		t = &c.tables[len(c.tables)-1]
	}
	t.columns = append(t.columns, column)
	watch := func(name string) {
		if !slices.Contains(t.watched, name) {
			t.watched = append(t.watched, name)
		}
	}
	if column.Index != "" {
		watch(column.Name)
		watch(column.Index)
	}
	if c.isScoped(column) {
		c.scopes = true
		t.tenant, t.scoped = column.Tenant, append(t.scoped, column.Name)
		watch(column.Tenant)
		watch(column.Name)
	}
}

// table returns what is known of a table, or nil.
func (c *codec) table(name string) *encryptedTable {
	for i := range c.tables {
		if c.tables[i].name == name {
			return &c.tables[i]
		}
	}
	return nil
}

// names reports whether a statement names a table with encrypted columns.
func (c *codec) names(query string) bool {
	return slices.ContainsFunc(c.tables, func(t encryptedTable) bool { return t.in(query) })
}

func (t encryptedTable) in(query string) bool {
	return strings.Contains(query, t.quoted[0]) || strings.Contains(query, t.quoted[1])
}

// column returns an encrypted column of a table. Of one that is not known it returns the size only, that of the table's
// widest; and 0 if it has none.
func (c *codec) column(table, name string) ColumnInfo {
	var widest ColumnInfo
	if t := c.table(table); t != nil {
		for _, column := range t.columns {
			if column.Name == name {
				return column
			}
			widest.Size = max(widest.Size, column.Size)
		}
	}
	return widest
}

// key returns the column of a table's primary key.
func (c *codec) key(table string) string {
	if t := c.table(table); t != nil {
		return t.columns[0].key()
	}
	return defaultKey
}

// watched returns the columns of a table of which a statement's cells are wanted.
func (c *codec) watched(table string) []string {
	if t := c.table(table); t != nil {
		return t.watched
	}
	return nil
}

// index returns the column of another's blind index, or "".
func (c *codec) index(table, name string) string {
	return c.column(table, name).Index
}

// storesIndexed reports whether a statement without secrets may store NULL, or something else, in a column with a blind index.
func (c *codec) storesIndexed(query string) bool {
	query = strings.TrimLeft(query, " \t\r\n")
	if len(query) < len("UPDATE") || !strings.EqualFold(query[:6], "UPDATE") && !strings.EqualFold(query[:6], "INSERT") {
		return false
	}
	return slices.ContainsFunc(c.tables, func(t encryptedTable) bool {
		return strings.Contains(query, t.name) &&
			slices.ContainsFunc(t.watched, func(name string) bool { return strings.Contains(query, name) })
	})
}

// keyOf returns the column of the primary key of the table that a query names, if it names one.
func (c *codec) keyOf(query string) string {
	found := ""
	for _, t := range c.tables {
		if t.in(query) {
			if found != "" {
				return defaultKey
			}
			found = t.columns[0].key()
		}
	}
	return found
}

// columnOf returns the encrypted column of a name in the tables that a query names, or nil if it is in none or in several.
func (c *codec) columnOf(query, name string) *ColumnInfo {
	var found *ColumnInfo
	for _, t := range c.tables {
		for i := range t.columns {
			if t.columns[i].Name != name || !t.in(query) {
				continue
			}
			if found != nil {
				return nil
			}
			found = &t.columns[i]
		}
	}
	return found
}

// keyring returns the client's keyring. A nil codec is that of no client.
func (c *codec) keyring() (*Keyring, error) {
	if c != nil && c.Keyring != nil {
		return c.Keyring, nil
	}
	return Default()
}

// sealed is a statement as it is to be run: with blind indexes kept in step, secrets encrypted and times in UTC.
type sealed struct {
	query  string
	args   []any
	claims []claim // to be run after it, in the same transaction
}

// seal is that of the codec, with the keys of tenants from the connection's database.
func (c conn) seal(ctx context.Context, query string, args []any) (sealed, error) {
	return c.codec.seal(ctx, query, args, c.lookUp(), c.sealKeys)
}

// seal returns a statement as it is to be run. The given slice is not changed. look finds whose a row is; nil if that cannot be
// done here. keys gives the keys of tenants.
func (c *codec) seal(ctx context.Context, query string, args []any, look lookUp, keys keySource) (sealed, error) {
	args = untyped(args)
	s, err := c.statements.check(query, args, c.schema)
	if err != nil {
		return sealed{}, err
	}
	secrets := s != nil
	if s == nil && c.storesIndexed(query) {
		s = c.statements.read(query, args, c.schema)
	}
	var owners []owner
	if c.scopes {
		if args, owners, err = c.owners(ctx, query, args, look); err != nil {
			return sealed{}, err
		}
		if err := c.giveKeys(ctx, owners, keys); err != nil {
			return sealed{}, err
		}
	}
	result := sealed{query: query}
	if result.args, err = c.sealAll(query, args, s, owners); err != nil || s == nil || s.plan == nil {
		return result, err
	}
	switch {
	case s.plan.err == nil:
		result.query = s.plan.query
		result.args, result.claims, err = s.plan.apply(c, s.table, args, result.args)
		return result, err
	case secrets:
		return sealed{}, &Error{Op: "index", Table: s.table, Err: s.plan.err}
	}
	return result, nil // SQL of the caller's that is not understood and has no secret
}

// sealAll returns the arguments sealed, of a statement that was read if it has secrets. owners say whose rows they are stored in,
// or are nil.
func (c *codec) sealAll(query string, args []any, s *statement, owners []owner) ([]any, error) {
	sealed := args
	for i, arg := range args {
		var to ColumnInfo
		if s != nil {
			to = c.column(s.table, s.places[i].column)
		}
		var of owner
		if owners != nil {
			of = owners[i]
		}
		value, changed, err := c.sealOne(arg, to, of)
		if err != nil {
			return nil, err
		}
		if !changed {
			if isMarker(arg) && c.names(query) {
				return nil, &Error{Op: "encrypt", Err: ErrRedacted}
			}
			continue
		}
		if &sealed[0] == &args[0] {
			sealed = append([]any(nil), args...)
		}
		sealed[i] = value
	}
	return sealed, nil
}

func (c *codec) sealOne(arg any, to ColumnInfo, of owner) (value any, changed bool, err error) {
	switch arg := arg.(type) {
	case *pending:
		token, err := c.sealPending(arg, to, of)
		return token, true, err
	case *lookup:
		ring, err := c.keyring()
		if err != nil {
			return nil, false, arg.column.wrap("look up", err)
		}
		digests, err := arg.encode(ring)
		return digests, true, err
	case Secret:
		token, err := c.sealRaw(arg, to, of)
		return token, true, err
	case *Secret:
		if arg == nil {
			return nil, true, nil
		}
		token, err := c.sealRaw(*arg, to, of)
		return token, true, err
	case sql.Null[Secret]:
		if !arg.Valid {
			return nil, true, nil
		}
		token, err := c.sealRaw(arg.V, to, of)
		return token, true, err
	case time.Time:
		if arg.Location() == time.UTC {
			return nil, false, nil
		}
		return arg.UTC(), true, nil
	case *time.Time:
		if arg == nil {
			return nil, true, nil
		}
		return arg.UTC(), true, nil
	case sql.NullTime:
		arg.Time = arg.Time.UTC()
		return arg, true, nil
	case sql.Null[time.Time]:
		arg.V = arg.V.UTC()
		return arg, true, nil
	case sql.NamedArg:
		arg.Value, changed, err = c.sealOne(arg.Value, to, of)
		return arg, changed, err
	}
	return nil, false, nil
}

// sealRaw encrypts a secret that comes without its column, as from an upsert's or a modifier's setter. Where the statement
// stores it is known as far as its text says so.
func (c *codec) sealRaw(s Secret, to ColumnInfo, of owner) (any, error) {
	if s.IsZero() {
		return nil, nil
	}
	token, err := func() (string, error) {
		if _, err := c.keyring(); err != nil {
			return "", err
		}
		plaintext, err := s.Reveal()
		if err != nil {
			return "", err
		}
		size := to.Size
		if size == 0 {
			size = TokenLen(len(plaintext)) // no table of ours: no limit is known
		}
		if err := checkPlaintext(plaintext, size, to.Type == bytesType || s.inner().binary); err != nil {
			return "", err
		}
		if !c.scopes {
			return c.encrypt(nil, plaintext, of)
		}
		column := to // a copy, or every statement's would be on the heap
		return c.encrypt(&column, plaintext, of)
	}()
	if err != nil {
		return nil, to.wrap("encrypt", err)
	}
	return token, nil
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
		return runAll(ctx, s.claims, c.next, c.dialect)
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
		return runAll(ctx, s.claims, c.next, c.dialect)
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

// scanner hands the keyring, the column and the row's primary key to the secrets of a result.
type scanner struct {
	entsql.ColumnScanner
	codec *codec
	query string

	tenants *tenantRows // nil if tenants have no keys of their own

	names []string // of the result's columns, from the first secret on
	key   int      // the place of the primary key among them, -1 if there is none

	tenantOf string // the column whose place tenant is
	tenant   int    // -1 if there is none
}

// Scan scans a row and completes the secrets in it.
func (s *scanner) Scan(dest ...any) error {
	if err := s.ColumnScanner.Scan(dest...); err != nil {
		return err
	}
	var row any
	for i, d := range dest {
		in := scannedSecret(d)
		if in == nil || !in.stored {
			continue
		}
		if s.names == nil {
			names, err := s.Columns()
			if err != nil {
				return err
			}
			s.names, s.key = names, slices.Index(names, s.codec.keyOf(s.query))
		}
		if row == nil {
			row = s.rowID(dest)
		}
		if in.column == nil && i < len(s.names) {
			in.column = s.codec.columnOf(s.query, s.names[i])
		}
		in.window = in.column != nil && slices.ContainsFunc(s.codec.Plaintext, in.column.isSame)
		in.codec = s.codec
		in.row = row
		if s.codec.scopes {
			s.scope(in, dest)
		}
		if s.codec.Strict && !s.tenants.verifyLater(in) {
			if _, err := in.open(); err != nil {
				return in.wrap("decrypt", err)
			}
		}
	}
	return nil
}

// scannedSecret returns what was scanned into a target of ent's or of the caller's, or nil.
func scannedSecret(dest any) *inner {
	var secret *Secret
	switch d := dest.(type) {
	case *sql.NullString, *sql.NullBool, *sql.NullTime, *sql.NullInt64: // ent's; quicker than asking below
		return nil
	case *scanned:
		secret = &d.secret
	case interface{ target() *Secret }:
		secret = d.target()
	case **Secret:
		secret = *d
	case *sql.Null[Secret]:
		if d.Valid {
			secret = &d.V
		}
	case **sql.Null[Secret]: // of a struct of the caller's, by ent
		if *d != nil && (*d).Valid {
			secret = &(*d).V
		}
	}
	if secret == nil || secret.IsZero() {
		return nil
	}
	return secret.inner()
}

// rowID returns a copy of the row's primary key, as callers scan all rows into one variable, or nil if there is none.
func (s *scanner) rowID(dest []any) any {
	if s.key < 0 || s.key >= len(dest) {
		return nil
	}
	if id := reflect.ValueOf(dest[s.key]); id.Kind() == reflect.Pointer && !id.IsNil() {
		return id.Elem().Interface()
	}
	return nil
}
