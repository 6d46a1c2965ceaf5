package fieldcrypt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
)

// claim makes a unique blind index hold between the keys of a keyring. One statement stores the digest under one key only, which
// the database would not find equal to that of another row under another key. So a digest stands in the index under each key
// for a moment, one after the other, all in one transaction: a row that is there already is met under the key it has, and a
// transaction that stores the same plaintext waits, or makes this one wait, at the first of them, as the order is the same in
// every process. The last is that under the primary key.
type claim struct {
	table, index string
	steps        [][]byte
}

// claimed puts the digests of a unique index in the order of the claim, of which the statement stores the first.
func claimed(digests [][]byte) [][]byte {
	primary := digests[0]
	slices.SortFunc(digests, bytes.Compare) // each process has the same
	if !bytes.Equal(digests[len(digests)-1], primary) {
		digests = append(digests, primary)
	}
	return slices.CompactFunc(digests, bytes.Equal) // with few bits two may be equal
}

// run takes the steps after the first.
func (c claim) run(ctx context.Context, tx dialect.ExecQuerier) error {
	query := fmt.Sprintf("UPDATE %s SET %s = $1 WHERE %[2]s = $2", QuoteName(c.table), QuoteName(c.index))
	for i, next := range c.steps[1:] {
		if err := tx.Exec(ctx, query, []any{next, c.steps[i]}, nil); err != nil {
			return err
		}
	}
	return nil
}

func runAll(ctx context.Context, claims []claim, tx dialect.ExecQuerier) error {
	for _, c := range claims {
		if err := c.run(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

// errClaim is the errNeedsTx of a statement with claims.
var errClaim = fmt.Errorf("fieldcrypt: a unique blind index takes several statements while the keyring has several keys; %w", errNeedsTx)

// queryClaiming runs a query that stores, in a transaction of its own if it is in none, which ends with the rows.
func (c conn) queryClaiming(ctx context.Context, query string, args any, claims []claim, rows *entsql.Rows) error {
	r := &claimingRows{ctx: ctx, claims: claims, conn: c}
	if !c.inTx {
		drv, ok := c.next.(dialect.Driver)
		if !ok {
			return errClaim
		}
		tx, err := drv.Tx(ctx)
		if err != nil {
			return err
		}
		r.tx, r.next = tx, tx
	}
	if err := r.next.Query(ctx, query, args, rows); err != nil {
		return r.end(err)
	}
	r.ColumnScanner = rows.ColumnScanner
	rows.ColumnScanner = r
	return nil
}

// claimingRows takes the steps of claims when the rows of a statement end.
type claimingRows struct {
	entsql.ColumnScanner
	conn
	ctx    context.Context //nolint:containedctx // that of the query, which the rows belong to
	claims []claim
	tx     dialect.Tx // one of its own, or nil
	done   bool
	err    error
}

// Next takes the steps after the last row, so that Err tells if one failed.
func (r *claimingRows) Next() bool {
	if !r.done && r.ColumnScanner.Next() {
		return true
	}
	_ = r.Close() // Err has it
	return false
}

// NextResultSet reports false: a statement has one result.
func (r *claimingRows) NextResultSet() bool { return false }

// Err returns the first error of reading the rows or of what followed.
func (r *claimingRows) Err() error {
	if err := r.ColumnScanner.Err(); err != nil {
		return err
	}
	return r.err
}

// Close takes the steps, unless the last row was read.
func (r *claimingRows) Close() error {
	if r.done {
		return r.err
	}
	r.done = true
	err := errors.Join(r.ColumnScanner.Err(), r.ColumnScanner.Close())
	if err == nil {
		err = runAll(r.ctx, r.claims, r.next)
	}
	r.err = r.end(err)
	return r.err
}

// end ends the transaction, if it is its own.
func (r *claimingRows) end(err error) error {
	switch {
	case r.tx == nil:
		return err
	case err != nil:
		return errors.Join(err, r.tx.Rollback())
	}
	return r.tx.Commit()
}

// QuoteName returns a name as an identifier in quotes, as Postgres and SQLite read it.
func QuoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
