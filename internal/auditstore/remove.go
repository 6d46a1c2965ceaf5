package auditstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"entgo.io/ent/dialect"
)

// BeginRemoval begins the transaction that removes a month. It locks out
// writers of new entries to that month.
func BeginRemoval(ctx context.Context, db *sql.DB, d string, m Month) (*sql.Tx, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, explain("archive", err)
	}
	// Takes the write lock without firing a trigger, as no row matches.
	statements := []string{"DELETE FROM credent_audit WHERE false"}
	if d == dialect.Postgres {
		statements = []string{
			"SET LOCAL lock_timeout = '10s'", "LOCK TABLE credent_audit_rest IN SHARE ROW EXCLUSIVE MODE",
		}
		is, err := isPartition(ctx, tx, m)
		if err != nil {
			return nil, errors.Join(err, tx.Rollback())
		}
		if is {
			statements = append(statements, "LOCK TABLE "+m.Partition()+" IN SHARE ROW EXCLUSIVE MODE")
		}
	}
	for _, stmt := range statements {
		if _, err := tx.ExecContext(ctx, stmt); err != nil {
			return nil, errors.Join(explain("archive", err), tx.Rollback())
		}
	}
	return tx, nil
}

// holdsOthers refuses to drop a partition with entries of other months, as a
// manually attached partition may have.
func holdsOthers(ctx context.Context, tx *sql.Tx, m Month) error {
	var others bool
	err := One(ctx, tx, dialect.Postgres, "SELECT EXISTS (SELECT 1 FROM "+m.Partition()+
		" WHERE at < $1 OR at >= $2)", &others, m.From, m.To)
	if err == nil && others {
		err = fmt.Errorf("audit: archive: the partition %s has entries of other months too: give each month its "+
			"partition", m.Partition())
	}
	return err
}

// isPartition reports whether the month's partition exists.
func isPartition(ctx context.Context, tx *sql.Tx, m Month) (is bool, err error) {
	err = One(ctx, tx, dialect.Postgres, "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_inherits "+
		"WHERE inhrelid = to_regclass($1) AND inhparent = 'credent_audit'::regclass)", &is, m.Partition())
	return is, err
}

// Remove removes a month's entries within the transaction.
func Remove(ctx context.Context, tx *sql.Tx, d string, m Month) error {
	if d == dialect.SQLite {
		return removeSQLite(ctx, tx, m)
	}
	is, err := isPartition(ctx, tx, m)
	if err != nil {
		return err
	}
	if is {
		if err := holdsOthers(ctx, tx, m); err != nil {
			return err
		}
		for _, stmt := range []string{
			"ALTER TABLE credent_audit DETACH PARTITION " + m.Partition(), "DROP TABLE " + m.Partition(),
		} {
			if _, err := tx.ExecContext(ctx, stmt); err != nil {
				return explain("archive", err)
			}
		}
	}
	left := func(table string) (is bool, err error) {
		err = One(ctx, tx, d, "SELECT EXISTS (SELECT 1 FROM "+table+" WHERE at >= $1 AND at < $2)", &is, m.From, m.To)
		return is, err
	}
	rest, err := left("credent_audit_rest")
	if err == nil && rest {
		err = deleteMonth(ctx, tx, d, "credent_audit_rest", m,
			"ALTER TABLE credent_audit_rest DISABLE TRIGGER credent_audit_append_only",
			"ALTER TABLE credent_audit_rest ENABLE ALWAYS TRIGGER credent_audit_append_only")
	}
	if err != nil {
		return err
	}
	elsewhere, err := left(Table)
	if err == nil && elsewhere {
		err = fmt.Errorf("audit: archive: entries of %s are in a partition of another name: give the month its own, %s",
			m.From.Format("2006-01"), m.Partition())
	}
	return err
}

// removeSQLite drops the trigger against deletions, deletes, and recreates the
// trigger.
func removeSQLite(ctx context.Context, tx *sql.Tx, m Month) error {
	var trigger string
	if err := One(ctx, tx, dialect.SQLite,
		"SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = 'credent_audit_delete'",
		&trigger); err != nil {
		return fmt.Errorf("audit: archive: the trigger credent_audit_delete is missing; credent migrate check says "+
			"what else is: %w", err)
	}
	return deleteMonth(ctx, tx, dialect.SQLite, Table, m, "DROP TRIGGER credent_audit_delete", trigger)
}

// deleteMonth runs one statement before deleting the rows and one after.
func deleteMonth(ctx context.Context, tx *sql.Tx, d, table string, m Month, before, after string) error {
	remove := "DELETE FROM " + table + " WHERE at >= $1 AND at < $2"
	if d == dialect.SQLite {
		remove = numbered(remove)
	}
	for _, stmt := range []struct {
		text string
		args []any
	}{{before, nil}, {remove, []any{Time(d, m.From), Time(d, m.To)}}, {after, nil}} {
		if _, err := tx.ExecContext(ctx, stmt.text, stmt.args...); err != nil {
			return fmt.Errorf("audit: archive: %w", err)
		}
	}
	return nil
}
