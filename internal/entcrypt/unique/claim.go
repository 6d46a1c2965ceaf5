package unique

import (
	"context"
	"errors"
	"fmt"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
)

// Claim stores the digests of a unique blind index one after the other; see
// blindindex.Digester.Claim. The statement itself stores the first. With an
// ID it is about that row only.
type Claim struct {
	Of    column.Column
	Table string // as SQL
	Steps [][]byte
	ID    any

	after func() error // does it in another way
}

// Run runs the statements.
func (c Claim) Run(ctx context.Context, on dialect.ExecQuerier) error {
	if c.after != nil {
		return c.after()
	}
	if len(c.Steps) == 0 {
		return nil
	}
	index := column.QuoteName(c.Of.Index)
	for i, next := range c.Steps[1:] {
		where, is := index, any(c.Steps[i])
		if c.ID != nil {
			where, is = column.QuoteName(c.Of.Key()), c.ID
		}
		query := fmt.Sprintf("UPDATE %s SET %s = $1 WHERE %s = $2", c.Table, index, where)
		if err := on.Exec(ctx, query, []any{next, is}, nil); err != nil {
			return err
		}
	}
	return nil
}

// ForWrite makes sure that a unique index has every row with a secret that
// a statement stores, before the statement runs.
func (r *Rows) ForWrite(of column.Column, first []byte, steps [][]byte) error {
	cfg, err := blindindex.Of(of)
	if err != nil || !cfg.Unique {
		return err
	}
	if steps == nil {
		steps = [][]byte{first}
	}
	_, err = r.fill(of, of.Quoted(), steps)
	return err
}

// Moves reports whether digests are to be claimed for rows that an update
// moves: there are several keys or names, or rows lack a digest. Otherwise the
// database compares all that there is. It needs a transaction then.
func (r *Rows) Moves(of column.Column) (bool, error) {
	ring, err := r.Policy.Keyring()
	if err != nil {
		return false, err
	}
	if len(ring.Keys()) == 1 && of.Was == "" {
		if _, err := r.findGaps(of, of.Quoted()); err != nil {
			return false, of.Wrap("index", err)
		}
		if !r.Memory.Seen(of.String()) {
			return false, nil
		}
	}
	if !r.InTx {
		return false, ErrNeedsTx
	}
	return true, nil
}

// maxMoved is the number of rows that an update may move while digests are
// claimed: they are arguments of one statement.
const maxMoved = 30_000

// Move returns the primary keys of the rows that an update may move, which the
// query finds, and what claims their digests after the update, for those that
// the index compares with others then.
func (r *Rows) Move(m *Move, of column.Column, query string, args []any) (ids any, after Claim, err error) {
	rows := new(entsql.Rows)
	if err := r.Next.Query(r.Ctx, query, args, rows); err != nil {
		return nil, after, of.Wrap("index", err)
	}
	var moved []any
	for rows.Next() {
		var id any
		if err := rows.Scan(&id); err != nil {
			return nil, after, errors.Join(of.Wrap("index", err), rows.Close())
		}
		moved = append(moved, m.ID(id))
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, after, of.Wrap("index", err)
	}
	if len(moved) > maxMoved {
		return nil, after, of.Wrap("index", fmt.Errorf("%w: an update may change at most %d rows that can be restored or moved by it, while there "+
			"are several keys, or rows without a digest: update them in parts", blindindex.ErrIndex, maxMoved))
	}
	if len(moved) > 0 {
		after.after = func() error { return r.claimMoved(m, of, moved) }
	}
	return m.IDs(moved), after, nil
}

// claimMoved claims the digests of those rows that the index compares with
// others now.
func (r *Rows) claimMoved(m *Move, of column.Column, ids []any) error {
	query, args := m.moved(r.Policy.IsScoped(&of), ids)
	rows, err := r.readSecrets(of, query, args)
	if err != nil {
		return of.Wrap("index", err)
	}
	ring, err := r.Policy.Keyring()
	if err != nil {
		return err
	}
	for _, row := range rows {
		if errors.Is(row.err, tenantkey.ErrShredded) { // it has no digest of the secret
			continue
		}
		if row.err != nil {
			return of.Wrap("index", fmt.Errorf("%w: nobody can tell whether the secret of row %v is taken: %w", blindindex.ErrIndex, m.ID(row.id), row.err))
		}
		first, steps, err := r.Policy.Digests.Claim(ring, &of, row.plaintext)
		if steps == nil {
			steps = [][]byte{first}
		}
		if err == nil {
			_, err = r.fill(of, of.Quoted(), steps)
		}
		if err == nil {
			err = Claim{Of: of, Table: of.Quoted(), Steps: append([][]byte{nil}, steps...), ID: m.ID(row.id)}.Run(r.Ctx, r.Next)
		}
		if err != nil {
			return of.Wrap("index", err)
		}
	}
	return nil
}
