package fieldcrypt

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
)

// lookUp finds whose the row of a table with the given primary key is, and keeps that from being changed until the transaction
// ends. It reports false if there is no such row.
type lookUp func(ctx context.Context, t *encryptedTable, id any) (tenant string, found bool, err error)

// writes reports whether a statement may write to a table whose keys depend on the tenant.
func (c *codec) writes(query string) bool {
	verb, _, _ := strings.Cut(strings.TrimLeft(query, " \t\r\n"), " ")
	if strings.EqualFold(verb, "SELECT") {
		return false
	}
	query = strings.ToLower(query)
	return slices.ContainsFunc(c.tables, func(t encryptedTable) bool {
		return t.tenant != "" && strings.Contains(query, strings.ToLower(t.name))
	}) || slices.ContainsFunc(c.sources, func(f Follow) bool { return strings.Contains(query, strings.ToLower(f.Source)) })
}

// owners returns, for each argument that is a secret of a column whose keys depend on the tenant, whose the row is that it is
// stored in. It refuses, with an [ErrContext], statements of which that is not known, and such as would leave a token in the row
// of another tenant. The arguments it returns are those to send.
func (c *codec) owners(ctx context.Context, query string, args []any, look lookUp) ([]any, []owner, error) {
	if !c.writes(query) {
		return args, nil, nil
	}
	s := c.statements.read(query, args, c.schema)
	if f := c.source(s.table); f != nil {
		return args, nil, f.check(ctx, s)
	}
	t := c.table(s.table)
	if t == nil || t.tenant == "" {
		return args, nil, nil
	}
	w := ownership{statement: s, table: t, args: args, owners: make([]owner, len(args))}
	var err error
	switch {
	case s.bad || s.foreign:
		err = w.refuse("", "use plain statements, with each value an argument of its own")
	case s.insert != nil:
		err = w.ofInsert()
	default:
		err = w.ofUpdate(ctx, look)
	}
	if err != nil {
		return nil, nil, err
	}
	return w.args, w.owners, nil
}

// check refuses a statement that changes what tenants follow, unless somebody sees to their tokens.
func (f *Follow) check(ctx context.Context, s *statement) error {
	changes := s.bad || s.foreign
	for _, a := range s.sets {
		changes = changes || a.kind != same
	}
	if !changes || isMoving(ctx) {
		return nil
	}
	return &Error{Op: "encrypt", Err: fmt.Errorf("%w: tokens of %s depend on %s.%s: change that by an update of the client's that sets it, "+
		"in a transaction, in which they are encrypted anew", ErrContext, f.Table, f.Source, f.SourceColumn)}
}

// ownership finds whose rows a statement stores secrets in.
type ownership struct {
	*statement
	table  *encryptedTable
	args   []any
	owners []owner // by argument

	missing bool // there is no row that was looked up
}

// refuse returns an ErrContext that says what to do.
func (w *ownership) refuse(column, format string, args ...any) error {
	e := &Error{Op: "encrypt", Err: fmt.Errorf("%w: tokens of %s depend on the row's %s: %s",
		ErrContext, w.table.name, w.table.tenant, fmt.Sprintf(format, args...))}
	if column != "" {
		e.Table, e.Column = w.table.name, column
	}
	return e
}

// tenantOf returns the tenant that a cell has.
func (w *ownership) tenantOf(c cell) owner {
	if c.kind != argument {
		return owner{}
	}
	text, ok := tenantText(w.args[c.arg])
	return owner{tenant: text, known: ok}
}

// stores notes whose the row is that a cell's secret is stored in, and refuses what is no secret: a token of another place, say.
func (w *ownership) stores(column string, c cell, of owner) error {
	switch {
	case c.kind == unset, c.kind == null, c.kind == same:
	case c.kind == argument && isSecret(w.args[c.arg]):
		if !of.known {
			return w.refuse(column, "set %s in the same row, as an argument", w.table.tenant)
		}
		w.owners[c.arg] = of
	case c.kind == argument && isAbsent(w.args[c.arg]):
	default:
		return w.refuse(column, "what is stored must be an argument, and a secret")
	}
	return nil
}

// isAbsent reports whether an argument stores as NULL.
func isAbsent(arg any) bool {
	switch arg := arg.(type) {
	case nil:
		return true
	case Secret:
		return true // one that is present is a secret
	case *Secret:
		return true
	case sql.Null[Secret]:
		return true
	case sql.NamedArg:
		return isAbsent(arg.Value)
	}
	return false
}

func (w *ownership) ofInsert() error {
	place := func(column string) int { return slices.Index(w.watched, column) }
	rows := make([]owner, len(w.insert.rows))
	for i, row := range w.insert.rows {
		rows[i] = w.tenantOf(row.cells[place(w.table.tenant)])
		for _, column := range w.table.scoped {
			if err := w.stores(column, row.cells[place(column)], rows[i]); err != nil {
				return err
			}
		}
	}
	if len(w.sets) == 0 {
		return nil
	}
	return w.ofConflict(rows)
}

// ofConflict looks at what an upsert does with a row that is there already: whose that is is known if the conflict is about the
// tenant as well, or if it becomes that of the new row, and then every token must be made anew.
func (w *ownership) ofConflict(rows []owner) error {
	to, sure := owner{}, slices.Contains(w.target, w.table.tenant)
	if len(rows) == 1 {
		to = rows[0]
	}
	moved := false
	if via := w.assigned(w.table.via); via.kind != unset && via.kind != same &&
		(via.kind != excluded || w.assigned(w.table.tenant).kind != excluded) {
		return w.refuse("", "an upsert that sets %s must set it, %s and all secrets to those of the new row, as UpdateNewValues does",
			w.table.via, w.table.tenant)
	}
	switch tenant := w.assigned(w.table.tenant); tenant.kind {
	case unset, same:
	case excluded:
		moved, sure = !sure, true
	case argument:
		to = w.tenantOf(tenant)
		moved, sure = true, to.known && !slices.ContainsFunc(rows, func(row owner) bool { return row != to })
	default:
		return w.refuse("", "set %s to an argument, or to that of the new row", w.table.tenant)
	}
	for _, column := range w.table.scoped {
		c := w.assigned(column)
		switch {
		case moved && (c.kind == unset || c.kind == same):
			return w.refuse(column, "the upsert sets %s and must set this too", w.table.tenant)
		case c.kind == unset, c.kind == same, c.kind == null:
		case !sure:
			return w.refuse(column, "the row that is there may be another's: let the upsert set %s and all secrets too, as UpdateNewValues "+
				"does, or have %[1]s among the columns of ON CONFLICT", w.table.tenant)
		case c.kind == excluded:
		default:
			if err := w.stores(column, c, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// ofUpdate looks up whose the row is, unless the statement makes it somebody's with all of its secrets.
func (w *ownership) ofUpdate(ctx context.Context, look lookUp) error {
	tenant, stored, kept := w.assigned(w.table.tenant), false, false
	for _, column := range w.table.scoped {
		switch w.assigned(column).kind {
		case unset, same:
			kept = true
		case null:
		default:
			stored = true
		}
	}
	to := w.tenantOf(tenant)
	moved := tenant.kind != unset && tenant.kind != same
	if via := w.assigned(w.table.via); via.kind != unset && via.kind != same {
		if !moved {
			return w.refuse("", "an update that sets %s must set %s and all secrets too", w.table.via, w.table.tenant)
		}
		now, err := w.now(ctx, look)
		if err != nil {
			return err
		}
		if !w.missing && now == to { // the trigger takes it for one that was not set
			return w.refuse("", "an update that sets %s must set another %s than the row has", w.table.via, w.table.tenant)
		}
	}
	switch {
	case !moved && !stored:
		return nil
	case moved && !to.known:
		return w.refuse("", "set %s to an argument", w.table.tenant)
	case moved && !kept:
	default:
		now, err := w.now(ctx, look)
		if err != nil {
			return err
		}
		if moved && !w.missing && now != to {
			return w.refuse("", "an update that changes %s must set all of its secrets too", w.table.tenant)
		}
		to = now
	}
	for _, column := range w.table.scoped {
		if err := w.stores(column, w.assigned(column), to); err != nil {
			return err
		}
	}
	return nil
}

// now looks up whose the one row of an update is. If there is none, the statement is made to find none either.
func (w *ownership) now(ctx context.Context, look lookUp) (owner, error) {
	switch {
	case !w.one || w.id < 0 || w.id >= len(w.args):
		return owner{}, w.refuse("", "choose one row by its id")
	case w.qualified:
		return owner{}, w.refuse("", "name the table without its schema")
	case look == nil:
		return owner{}, &Error{Op: "encrypt", Err: fmt.Errorf("%w: an update with RETURNING cannot look up the %s that tokens of %s depend on; %w",
			ErrContext, w.table.tenant, w.table.name, errNeedsTx)}
	}
	id := w.args[w.id]
	if named, ok := id.(sql.NamedArg); ok {
		id = named.Value
	}
	tenant, found, err := look(ctx, w.table, id)
	if err != nil {
		return owner{}, &Error{Op: "encrypt", Table: w.table.name, Err: fmt.Errorf("look up %s: %w", w.table.tenant, err)}
	}
	if !found {
		w.args = slices.Clone(w.args)
		w.args[w.id] = nothing(w.args[w.id])
		w.missing = true
	}
	return owner{tenant: tenant, known: true}, nil
}

// nothing returns NULL in place of an argument: no row's primary key equals it.
func nothing(arg any) any {
	if named, ok := arg.(sql.NamedArg); ok {
		named.Value = nil
		return named
	}
	return nil
}

// errNeedsTx means that a statement needs more than one, in a transaction, and is in none.
var errNeedsTx = errors.New("run it in a transaction")

// lookUp returns how a transaction finds whose a row is; outside of one nil.
func (c conn) lookUp() lookUp {
	if !c.inTx {
		return nil
	}
	return c.tenantOf
}

// inOneTx runs a statement, in a transaction of its own if it needs one and is in none.
func (c conn) inOneTx(ctx context.Context, run func(conn) error) error {
	err := run(c)
	drv, ok := c.next.(dialect.Driver)
	if !ok || c.inTx || !errors.Is(err, errNeedsTx) {
		return err
	}
	tx, err := drv.Tx(ctx)
	if err != nil {
		return err
	}
	returned := false
	defer func() {
		if !returned { // but panicked, in a normaliser of the caller's, say
			_ = tx.Rollback()
		}
	}()
	err = run(c.in(tx, false))
	returned = true
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// tenantOf is a lookUp.
func (c conn) tenantOf(ctx context.Context, t *encryptedTable, id any) (tenant string, found bool, err error) {
	query := fmt.Sprintf("SELECT CAST(%s AS TEXT) FROM %s WHERE %s = ",
		QuoteName(t.tenant), QuoteName(t.name), QuoteName(t.columns[0].key()))
	if c.dialect == dialect.Postgres {
		query += "$1 FOR NO KEY UPDATE"
	} else {
		query += "?"
	}
	rows := new(entsql.Rows)
	if err := c.next.Query(ctx, query, []any{id}, rows); err != nil {
		return "", false, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if !rows.Next() {
		return "", false, rows.Err()
	}
	var text sql.NullString
	if err := rows.Scan(&text); err != nil {
		return "", false, err
	}
	if !text.Valid {
		return "", false, fmt.Errorf("%w: it is NULL", ErrContext)
	}
	return text.String, true, nil
}
