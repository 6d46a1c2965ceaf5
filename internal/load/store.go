package load

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/retry"
	"github.com/credent-go/credent/internal/tenancy"
)

// store sends a batch and, unless Atomic is set, commits it. It retries after
// temporary failures of the database.
func (l *loader) store(ctx context.Context, batch []numbered) error {
	if err := ctx.Err(); err != nil || len(batch) == 0 {
		return err
	}
	defer clear(l.left)
	if l.cfg.Atomic {
		return l.send(ctx, batch)
	}
	var doubt doubt
	err := l.policy().Do(ctx, func() error {
		if err := l.connect(ctx); err != nil {
			return err
		}
		err := doubt.look(ctx, l, false)
		if err == nil && !doubt.settled {
			err = l.send(ctx, batch)
		}
		if len(doubt.ids) > 0 && dberror.State(err) == uniqueViolation {
			// The doubtful transaction was committed after the last look.
			err = errors.Join(doubt.look(ctx, l, true), err)
		}
		if doubt.settled {
			return nil
		}
		var uncertain *uncertainError
		if errors.As(err, &uncertain) {
			doubt.ids, doubt.users, err = slices.Clone(l.ids), slices.Clone(l.users), uncertain.error
			if retry.KindOf(err) == retry.Other { // any failure of the retry justifies another look
				err = &retry.Error{Kind: retry.Lost, Err: err}
			}
		}
		if err != nil {
			l.reset()
		}
		return err
	})
	if err != nil && len(doubt.ids) > 0 {
		return &uncertainError{err}
	}
	return err
}

// reset discards a failed transaction and its connection.
func (l *loader) reset() {
	if l.tx != nil {
		_ = l.tx.Rollback() // the server also rolls back when the connection ends
		l.tx = nil
	}
	l.sent, l.ids, l.users = 0, l.ids[:0], l.users[:0]
	l.disconnect()
}

// send sends a batch and, unless Atomic is set, commits it.
func (l *loader) send(ctx context.Context, batch []numbered) error {
	if l.tx == nil {
		tx, err := l.conn.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		l.tx = tx
		if err := tenancy.SetUser(ctx, tx, l.dialect, l.guard); err != nil {
			return err
		}
	}
	accounts, err := lookUp(ctx, l.tx, l.dialect, batch)
	if err != nil {
		return err
	}
	if err := l.sealer.sealer.Prepare(ctx, entsql.Conn{ExecQuerier: l.tx}, l.dialect,
		accounts.users(batch)); err != nil {
		return err
	}
	source := &source{loader: l, ctx: ctx, batch: batch, accounts: accounts}
	switch {
	case l.cfg.DryRun:
		for source.Next() {
		}
		err = source.err
	case l.copies:
		err = l.copy(ctx, source)
	default:
		err = l.insert(ctx, source)
	}
	if err != nil {
		return err
	}
	l.sent += int64(len(source.sent))
	if l.cfg.Stored != nil || !l.cfg.Atomic {
		l.ids, l.users = append(l.ids, source.ids...), append(l.users, source.users...)
	}
	if !l.cfg.Atomic {
		if err := l.commit(ctx); err != nil {
			return err
		}
	}
	if l.cfg.Progress != nil {
		l.cfg.Progress(l.stored + l.sent)
	}
	return nil
}

// commit ends the transaction. Its rows are then stored, or would be without
// DryRun.
func (l *loader) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	tx := l.tx
	l.tx = nil
	if l.cfg.DryRun {
		if err := tx.Rollback(); err != nil {
			return err
		}
		l.stored, l.sent, l.ids, l.users = l.stored+l.sent, 0, l.ids[:0], l.users[:0]
		return nil
	}
	done := func(bool) {}
	if l.sealing.Record != nil && l.sent > 0 {
		var err error
		if done, err = l.sealing.Record(ctx, tx, l.sent); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	err := tx.Commit()
	done(err == nil)
	if err != nil {
		if refused(err) {
			return err
		}
		return &uncertainError{err}
	}
	l.count(l.ids)
	return nil
}

// count counts a committed transaction's rows.
func (l *loader) count(ids []uuid.UUID) {
	l.stored, l.sent = l.stored+l.sent, 0
	if l.cfg.Stored != nil {
		l.cfg.Stored(ids)
	}
	l.ids, l.users = l.ids[:0], l.users[:0]
}

// refused reports whether a COMMIT's error proves that nothing was stored. A
// server that closes the connection, or that can't tell, may have committed
// first.
func refused(err error) bool {
	const rolledBack = "commit unexpectedly resulted in rollback" // pgx.ErrTxCommitRollback
	if errors.Is(err, sql.ErrTxDone) || err.Error() == rolledBack {
		return true
	}
	state := dberror.State(err)
	return state != "" && !strings.HasPrefix(state, "08") && !strings.HasPrefix(state, "57") && state != "40003"
}
