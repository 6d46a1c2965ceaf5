package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/lib/pq"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// table is a table with encrypted columns.
type table struct {
	name    string
	columns []string
	sizes   []int // in characters
}

// row is one row as stored.
type row struct {
	id     string
	tokens []sql.NullString // of the table's columns
}

// change replaces the tokens of one row. A new one that is not Valid leaves the column as it is.
type change struct {
	id       string
	old, new []sql.NullString
}

// store is what differs between databases. It is safe for concurrent use.
type store interface {
	// count returns the number of rows, or an estimate.
	count(ctx context.Context, t table) (int64, error)
	// page returns at most n rows after the one with the given primary key, "" for the first, in the order of the key.
	page(ctx context.Context, t table, after string, n int) ([]row, error)
	// write replaces tokens where they are still the old ones, and returns how many rows it changed. Where another statement
	// was given precedence it changes none, without an error.
	write(ctx context.Context, t table, changes []change) (int64, error)
	maxWorkers() int
}

// open finds the encrypted columns of the process and what kind of database it is.
func open(ctx context.Context, db *sql.DB) ([]table, store, error) {
	var tables []table
	for _, c := range fieldcrypt.Columns() {
		if n := len(tables); n == 0 || tables[n-1].name != c.Table {
			tables = append(tables, table{name: c.Table})
		}
		t := &tables[len(tables)-1]
		t.columns = append(t.columns, c.Name)
		t.sizes = append(t.sizes, c.Size)
	}
	if len(tables) == 0 {
		return nil, nil, errors.New("rotate: the process knows no encrypted columns: import the generated package")
	}
	var version string
	err := db.QueryRowContext(ctx, "SHOW server_version_num").Scan(&version)
	if err == nil {
		return tables, postgres{db}, nil
	}
	if db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version) == nil {
		return tables, sqlite{db}, nil
	}
	return nil, nil, fmt.Errorf("rotate: reach the database: %w", err)
}

func quote(identifier string) string { return pq.QuoteIdentifier(identifier) }

func quoteAll(prefix string, identifiers []string) string {
	quoted := make([]string, len(identifiers))
	for i, identifier := range identifiers {
		quoted[i] = prefix + quote(identifier)
	}
	return strings.Join(quoted, ", ")
}

// selectPage is the query of a page; id is the expression of the primary key as text.
func selectPage(ctx context.Context, db *sql.DB, t table, id, after string, n int) (page []row, err error) {
	query := "SELECT " + id + ", " + quoteAll("t.", t.columns) + " FROM " + quote(t.name) + " AS t"
	args := []any{n}
	if after != "" {
		query += ` WHERE t."id" > $2`
		args = append(args, after)
	}
	// Of the table's column, by its index, and not of the result's, which may be its text.
	rows, err := db.QueryContext(ctx, query+` ORDER BY t."id" LIMIT $1`, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		r := row{tokens: make([]sql.NullString, len(t.columns))}
		dest := []any{&r.id}
		for i := range r.tokens {
			dest = append(dest, &r.tokens[i])
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		page = append(page, r)
	}
	return page, rows.Err()
}

// postgres writes a page with one statement.
type postgres struct{ db *sql.DB }

func (postgres) maxWorkers() int { return math.MaxInt }

func (p postgres) count(ctx context.Context, t table) (n int64, err error) {
	err = p.db.QueryRowContext(ctx, "SELECT count(*) FROM "+quote(t.name)).Scan(&n)
	return n, err
}

func (p postgres) page(ctx context.Context, t table, after string, n int) ([]row, error) {
	return selectPage(ctx, p.db, t, `t."id"::text`, after, n)
}

// write compares with the old tokens in the statement itself. Without that it would undo what others write between the
// page's reading and its writing. Columns that are not to be changed are neither compared nor written.
func (p postgres) write(ctx context.Context, t table, changes []change) (int64, error) {
	ids := make([]string, len(changes))
	args, columns, set, where := []any{nil}, []string{`"id"`}, []string{}, []string{}
	for i, name := range t.columns {
		olds, news := make([]sql.NullString, len(changes)), make([]sql.NullString, len(changes))
		for j, c := range changes {
			ids[j] = c.id
			if c.new[i].Valid {
				olds[j], news[j] = c.old[i], c.new[i]
			}
		}
		old, new := fmt.Sprintf(`u."old%d"`, i), fmt.Sprintf(`u."new%d"`, i)
		columns = append(columns, fmt.Sprintf(`"old%d", "new%d"`, i, i))
		args = append(args, pq.Array(olds), pq.Array(news))
		set = append(set, fmt.Sprintf("%s = coalesce(%s, t.%s)", quote(name), new, quote(name)))
		where = append(where, fmt.Sprintf("(%s IS NULL OR t.%s = %s)", old, quote(name), old))
	}
	args[0] = pq.Array(ids)
	arrays := []string{"$1::text::uuid[]"}
	for i := 2; i <= len(args); i++ {
		arrays = append(arrays, fmt.Sprintf("$%d::text::text[]", i))
	}
	result, err := p.db.ExecContext(ctx, fmt.Sprintf(`UPDATE %s AS t SET %s FROM unnest(%s) AS u(%s) WHERE t."id" = u."id" AND %s`,
		quote(t.name), strings.Join(set, ", "), strings.Join(arrays, ", "), strings.Join(columns, ", "),
		strings.Join(where, " AND ")), args...)
	if isConflict(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// isConflict reports whether the server ended a statement in favour of another's: a deadlock, which a statement over many
// rows can get into with another such one, or a serialization failure. Both drivers tell the SQLSTATE.
func isConflict(err error) bool {
	var e interface{ SQLState() string }
	return errors.As(err, &e) && (e.SQLState() == "40P01" || e.SQLState() == "40001")
}

// sqlite writes a page row by row in a transaction, which begins with the write lock.
type sqlite struct{ db *sql.DB }

// maxWorkers is 1: SQLite has one writer.
func (sqlite) maxWorkers() int { return 1 }

func (s sqlite) count(ctx context.Context, t table) (n int64, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT count(*) FROM "+quote(t.name)).Scan(&n)
	return n, err
}

func (s sqlite) page(ctx context.Context, t table, after string, n int) ([]row, error) {
	return selectPage(ctx, s.db, t, `t."id"`, after, n)
}

func (s sqlite) write(ctx context.Context, t table, changes []change) (written int64, err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	for _, c := range changes {
		set, where, args := []string{}, []string{`"id" = ?`}, []any{}
		compare := []any{c.id}
		for i, name := range t.columns {
			if !c.new[i].Valid {
				continue
			}
			set, args = append(set, quote(name)+" = ?"), append(args, c.new[i].String)
			where, compare = append(where, quote(name)+" = ?"), append(compare, c.old[i].String)
		}
		result, err := tx.ExecContext(ctx, "UPDATE "+quote(t.name)+" SET "+strings.Join(set, ", ")+
			" WHERE "+strings.Join(where, " AND "), append(args, compare...)...)
		if err != nil {
			return 0, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return 0, err
		}
		written += n
	}
	return written, tx.Commit()
}
