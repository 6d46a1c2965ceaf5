package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
)

// sqlite writes a page row by row in a transaction that starts with the write
// lock.
type sqlite struct{ db *sql.DB }

// maxWorkers is 1: SQLite has one writer.
func (sqlite) maxWorkers() int { return 1 }

func (sqlite) dialect() string { return dialect.SQLite }

func (s sqlite) count(ctx context.Context, t table) (int64, error) { return countRows(ctx, s.db, t) }

func (s sqlite) describe(ctx context.Context, t *table) (err error) {
	t.schema = "" // like ent, which ignores it for SQLite
	rows, err := s.db.QueryContext(ctx, "SELECT name, type, pk FROM pragma_table_info(?)", t.name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	keys := make(map[int]string)   // by position in the primary key
	all := make(map[string]string) // types by name
	for rows.Next() {
		var (
			name, declared string
			key            int // position in the primary key, from 1
		)
		if err := rows.Scan(&name, &declared, &key); err != nil {
			return err
		}
		all[name] = declared
		if key > 0 {
			keys[key] = name
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(all) == 0 {
		return missing(nil)
	}
	if _, ok := all[t.tenant]; !ok {
		t.tenant = ""
	}
	t.sources = make([]source, len(t.columns))
	for i, c := range t.columns {
		declared, ok := all[c.Name]
		if !ok {
			return missing([]string{c.Name})
		}
		if _, ok := all[c.Index]; !ok {
			t.columns[i].Index = ""
		}
		t.sources[i] = sqliteSource(c.Name, declared, all)
	}
	var names []string
	for _, place := range slices.Sorted(maps.Keys(keys)) {
		names = append(names, keys[place])
	}
	return t.setKey(names)
}

// selectRows returns the start of a query for rows. It reads the key through an
// expression, because the driver converts columns declared as times.
func (sqlite) selectRows(t table) string {
	query := "SELECT +t." + quote(t.key)
	if t.scoped {
		query += ", +t." + quote(t.tenant)
	}
	for i, c := range t.columns {
		query += ", CAST(t." + quote(t.stored(i)) + " AS TEXT)"
		if c.Index != "" {
			query += fmt.Sprintf(", CASE WHEN t.%s IS NOT NULL THEN lower(hex(t.%[1]s)) END", quote(c.Index))
		}
		if t.sources[i].expanded {
			query += ", " + t.sources[i].expr
		}
	}
	if t.tenant != "" {
		query += ", CAST(t." + quote(t.tenant) + " AS TEXT)"
	}
	for _, expression := range t.extra {
		query += ", CAST((" + expression + ") AS TEXT)"
	}
	return query + " FROM " + t.quoted() + " AS t"
}

func (sqlite) scanKey(key any) (string, any, error) {
	switch key := key.(type) {
	case nil: // SQLite allows it in a non-integer primary key
		return "", nil, fmt.Errorf("%w: it is NULL in a row", ErrPrimaryKey)
	case []byte:
		return fmt.Sprintf("x'%x'", key), slices.Clone(key), nil
	}
	return fmt.Sprint(key), key, nil
}

// ofTenant needs no lock: a transaction that has written holds the database's
// lock.
func (s sqlite) ofTenant(ctx context.Context, tx querier, t table, tenant string) ([]row, error) {
	query := s.selectRows(t) + " WHERE CAST(t." + quote(t.tenant) + " AS TEXT) = ? COLLATE BINARY"
	return selectPage(ctx, tx, t, query, []any{tenant}, s.scanKey)
}

func (sqlite) shred(ctx context.Context, tx querier, t table, r row, tokens []sql.NullString) error {
	where := quote(t.key) + " = ?1"
	if t.scoped {
		where = quote(t.tenant) + " = ?1 AND " + quote(t.key) + " = ?2"
	}
	return shred(ctx, tx, t, tokens, "?%d", where, keyValues(r.key))
}

// checkWritable does nothing: writing to a read-only file fails anyway.
func (sqlite) checkWritable(context.Context) error { return nil }

// stored returns none: SQLite rolls back what it doesn't commit.
func (sqlite) stored(context.Context, table, []change) (map[string]bool, error) { return nil, nil }

func (s sqlite) write(ctx context.Context, t table, changes []change) (done written, err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return written{}, err
	}
	defer func() { _ = tx.Rollback() }() // has no effect after the commit
	for _, c := range changes {
		set, where, args, compare := []string{}, []string{quote(t.key) + " = ?"}, []any{}, keyValues(c.key)
		if t.scoped {
			where = []string{quote(t.tenant) + " = ?", quote(t.key) + " = ?"}
		}
		for i, column := range t.columns {
			if !c.cells[i].changed {
				continue
			}
			name := quote(t.stored(i))
			if c.cells[i].value.Valid {
				set, args = append(set, name+" = ?"), append(args, c.cells[i].value.String)
			}
			if column.Index != "" {
				set, args = append(set, quote(column.Index)+" = unhex(?)"), append(args, c.cells[i].index)
			}
			where, compare = append(where, "CAST("+name+" AS TEXT) IS ? COLLATE BINARY"), append(compare, c.values[i])
			if t.sources[i].expanded {
				where, compare = append(where, "("+t.sources[i].expr+") IS ? COLLATE BINARY"), append(compare,
					c.plains[i])
			}
		}
		if c.bound() {
			where = append(where, "CAST("+quote(t.tenant)+" AS TEXT) = ? COLLATE BINARY")
			compare = append(compare, c.tenant.String)
		}
		if c.under.Valid { // the file may have been replaced since the keys were read
			where = append(where, "EXISTS (SELECT 1 FROM "+quote(tenantkey.Table)+
				" AS k WHERE k.tenant = ? AND k.wrapped = ?)")
			compare = append(compare, c.tenant.String, c.under.String)
		}
		result, err := tx.ExecContext(ctx, "UPDATE "+t.quoted()+" SET "+strings.Join(set, ", ")+
			" WHERE "+strings.Join(where, " AND "), append(args, compare...)...)
		if dberror.SQLite(err) == dberror.SQLiteConstraint { // ends the statement, not the transaction
			done.refused = append(done.refused, refusal{c, fmt.Errorf("%w: a constraint or a trigger", ErrRefused)})
			continue
		}
		if err != nil {
			return written{}, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return written{}, err
		}
		done.rows += n
	}
	return done, tx.Commit()
}

// checkWidth checks only the type: SQLite ignores lengths.
func (sqlite) checkWidth(_ context.Context, t table, i int) error {
	return checkSource(dialect.SQLite, t, i)
}

// checks finds a constraint by its name in the table's CREATE statement. It
// applies to all rows.
func (s sqlite) checks(ctx context.Context, c column.Column) ([]tokenCheck, error) {
	var statement string
	err := s.db.QueryRowContext(ctx, "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", c.Table).
		Scan(&statement)
	names := []string{constraintName(c)} // stays the same when the column is renamed
	for old := range c.Earlier() {
		names = append(names, constraintName(old))
	}
	for _, name := range names {
		if err == nil && strings.Contains(statement, name) {
			return []tokenCheck{{name: name, valid: true}}, nil
		}
	}
	return nil, err
}

func (sqlite) validate(context.Context, column.Column, string) error { return nil }
