package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/keyring"
)

// Types and values of states. They are documented where they point.
type (
	// State says what a column accepts and writes under one protection; see
	// encrypted.State.
	State = states.State
	// Protection is what a state is about. String returns "encryption",
	// "binding" or "tenant-keys".
	Protection = states.Protection
	// StoredState is a state in the database.
	//
	//   - Column string: as TABLE.COLUMN or SCHEMA.TABLE.COLUMN
	//   - Protection Protection, State State
	//   - ChangedAt time.Time: in UTC
	StoredState = states.Stored
)

// The protections.
const (
	// Encryption stores tokens instead of plaintext.
	Encryption = states.Encryption
	// Binding binds tokens to table, column and tenant.
	Binding = states.Binding
	// TenantKeys encrypts with the row's tenant's own key.
	TenantKeys = states.TenantKeys
)

// ErrState means that a state can't be changed this way, or not yet, or that
// the column's state doesn't allow the operation. Nothing was changed.
var ErrState = errors.New("not in this state")

// stateMargin is added to the lifetime of clients' states: a state takes effect
// at its commit, after its recorded time.
const stateMargin = 5 * time.Second

// States returns the states in the database, sorted by column and protection.
// Errors: [ErrNoTable] for a database without the table credent_states.
func States(ctx context.Context, db *sql.DB) ([]StoredState, error) {
	s, err := storeOf(ctx, db)
	if err != nil {
		return nil, err
	}
	list, there, err := states.Read(ctx, entsql.Conn{ExecQuerier: db}, s.dialect())
	if err == nil && !there {
		err = fmt.Errorf("rotate: %s: %w", states.TableName, ErrNoTable)
	}
	return slices.DeleteFunc(list, func(s StoredState) bool { return s.Column == states.Trail }), err
}

// readStates returns the columns' states in the database; none if the table is
// missing.
func readStates(ctx context.Context, db *sql.DB, s store, columns []column.Column) (states.Table, error) {
	list, _, err := states.Read(ctx, entsql.Conn{ExecQuerier: db}, s.dialect())
	return states.TableOf(list, columns), err
}

// StateChange is a change of one state.
type StateChange struct {
	Column     column.Column
	Protection Protection
	To         State
	// InUse records the first state of a protection that isn't the default or
	// next to it: every service has it in its own configuration already.
	InUse bool
}

// SetState changes a state in the database, which every client follows within
// [states.Lifetime]. It returns the state before, which is unset for the first.
//
// States change one step at a time, and only once every client knows the last
// one. A step to require is refused as long as a secret is stored the old way,
// and a step to off as long as one is stored the new way: first let [Run],
// [Encrypt] or [DecryptToPlaintext] convert them, in the previous state. It
// waits some seconds for transactions that write to the table. Plaintext isn't
// accepted while a CHECK allows only tokens. Setting the state that a column
// has does nothing.
//
// Errors: [ErrState], states.ErrInvalidStates, [ErrNoTable], a [SchemaError],
// and [ColumnCount.CheckStates]'s.
func SetState(ctx context.Context, db *sql.DB, keyRing *keyring.Keyring, change StateChange) (from State, err error) {
	ring := (*engine.Ring)(keyRing)
	tables, s, err := open(ctx, db, []column.Column{change.Column}, nil)
	if err != nil {
		return states.Unset, err
	}
	change.Column = tables[0].columns[0]
	c := &stateChanger{StateChange: change, db: db, ring: ring, store: s, tables: tables}
	if err := c.change(ctx); err != nil {
		return c.from, fmt.Errorf("rotate: %s of %s: %w", change.Protection, change.Column, err)
	}
	return c.from, nil
}

// stateChanger is the state of one SetState call.
type stateChanger struct {
	StateChange
	db     *sql.DB
	ring   *engine.Ring
	store  store
	tables []table
	from   State
	trail  *audit.Trail // nil for none
}

func (c *stateChanger) change(ctx context.Context) error {
	if c.To <= states.Unset || c.To > states.Require {
		return fmt.Errorf("%w: %s can't be set", ErrState, c.To)
	}
	age, err := c.read(ctx, c.db)
	if err != nil || c.from == c.To {
		return err
	}
	if err := c.checkStep(age); err != nil {
		return err
	}
	if err := c.checkStored(ctx); err != nil {
		return err
	}
	return c.write(ctx)
}

// read reads the column's states, checks the combination that would result, and
// returns how long the state to change has been set.
func (c *stateChanger) read(ctx context.Context, on querier) (age time.Duration, err error) {
	list, there, err := states.Read(ctx, entsql.Conn{ExecQuerier: on}, c.store.dialect())
	switch {
	case err != nil:
		return 0, err
	case !there:
		return 0, fmt.Errorf("%s: %w", states.TableName, ErrNoTable)
	}
	t := states.TableOf(list, []column.Column{c.Column})
	c.from = t.Given(&c.Column).Of(c.Protection)
	if err := t.Of(&c.Column).With(c.Protection, c.To).Check(c.Column); err != nil {
		return 0, err
	}
	in, ok := states.Find(list, c.Column, c.Protection)
	if !ok {
		return 0, nil
	}
	seconds := "EXTRACT(EPOCH FROM timezone('utc', clock_timestamp()) - changed_at)"
	if c.store.dialect() == dialect.SQLite {
		seconds = "strftime('%s', 'now') - strftime('%s', changed_at)"
	}
	rows, err := on.QueryContext(ctx, "SELECT CAST("+seconds+" AS bigint) FROM "+states.TableName+
		" WHERE column_name = $1 AND protection = $2", in.Column, c.Protection.String())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var n int64
	if rows.Next() {
		err = rows.Scan(&n)
	}
	return time.Duration(n) * time.Second, errors.Join(err, rows.Err())
}

// checkStep refuses a change of more than one step, or one that comes too
// early.
func (c *stateChanger) checkStep(age time.Duration) error {
	from := c.from
	if from == states.Unset {
		if c.InUse {
			return nil
		}
		from = states.Default(&c.Column).Of(c.Protection)
	}
	switch {
	case c.To > from+1:
		return fmt.Errorf("%w: it is %s, and the next state is %s%s", ErrState, from, from+1, c.hint())
	case c.To < from-1:
		return fmt.Errorf("%w: it is %s, and the previous state is %s%s", ErrState, from, from-1, c.hint())
	case c.from != states.Unset && age < states.Lifetime+stateMargin:
		return fmt.Errorf("%w: it is %s for %s, and some services may not know it yet: wait %s more",
			ErrState, from, age, states.Lifetime+stateMargin-age)
	}
	return nil
}

func (c *stateChanger) hint() string {
	if c.from != states.Unset {
		return ""
	}
	return "; if every service has the state in its own configuration, record it with --in-use " +
		"(rotate.StateChange.InUse)"
}

// checkStored refuses a state that contradicts the stored values.
func (c *stateChanger) checkStored(ctx context.Context) error {
	if c.Protection == Encryption && c.To < states.Write {
		if err := checkAllowed(ctx, c.store, c.tables); err != nil {
			return err
		}
	}
	if c.Protection == TenantKeys && c.To >= states.Accept {
		keys, err := openTenants(ctx, c.db, c.store, c.ring)
		if err == nil && keys == nil {
			err = fmt.Errorf("rotate needs the table of tenants' keys: %w", ErrNoTable)
		}
		if err != nil {
			return err
		}
	}
	if c.To != states.Require && c.To != states.Off {
		return nil
	}
	if err := c.drain(ctx); err != nil {
		return err
	}
	counts, err := Verify(ctx, c.db, (*keyring.Keyring)(c.ring), c.Column)
	if err != nil {
		return err
	}
	count := counts[0]
	count.States = states.Set{}.With(c.Protection, c.To)
	if err := count.CheckStates(); err != nil {
		return fmt.Errorf("%w: convert them in the previous state first: %w", ErrState, err)
	}
	return nil
}

// write stores the state, unless somebody has changed it since it was read.
func (c *stateChanger) write(ctx context.Context) (err error) {
	before := c.from
	if c.trail, err = trailOf(ctx, c.db, c.store); err != nil {
		return err
	}
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // has no effect after the commit
	lock := lockStates
	if c.store.dialect() == dialect.Postgres {
		lock = "LOCK TABLE " + states.TableName + " IN SHARE ROW EXCLUSIVE MODE"
	}
	if _, err := tx.ExecContext(ctx, lock); err != nil {
		return err
	}
	if _, err := c.read(ctx, tx); err != nil {
		return err
	}
	if c.from != before {
		return fmt.Errorf("%w: somebody else has changed it to %s", ErrState, c.from)
	}
	now := "timezone('utc', clock_timestamp())"
	if c.store.dialect() == dialect.SQLite {
		now = "CURRENT_TIMESTAMP"
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO "+states.TableName+" (column_name, protection, state, changed_at) "+
		"VALUES ($1, $2, $3, "+now+") "+
		"ON CONFLICT (column_name, protection) DO UPDATE SET state = excluded.state, changed_at = excluded.changed_at",
		c.Column.String(), c.Protection.String(), c.To.String())
	if err != nil {
		return err
	}
	return commit(ctx, tx, c.trail, audit.Entry{
		Action: audit.ActionState, Table: c.Column.TableName(), Column: c.Column.Name,
		Note: fmt.Sprintf("%s: from %s to %s", c.Protection, c.from, c.To),
	})
}
