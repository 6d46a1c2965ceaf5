// Package auditstore reads and writes the table credent_audit on Postgres and
// SQLite, with any driver.
package auditstore

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/auditrow"
	"github.com/credent-go/credent/internal/dberror"
)

// Table is the audit trail's table.
const Table = "credent_audit"

// ErrNoTable means that the audit table doesn't exist.
var ErrNoTable = errors.New("the database has no table " + Table + "")

// Execer runs a statement.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Queryer runs a query.
type Queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Rows are sent as one JSON argument: a single-argument statement works with
// every driver, every pooler and any number of rows. ON CONFLICT DO NOTHING
// keeps existing rows, so a batch can be written twice. It names no conflict
// target, because that would need the SELECT privilege.
const (
	insertPostgres = `INSERT INTO credent_audit (at, id, writer, seq, prev, row_count, action, actor, tenant, table_name, column_name,
  row_id, key_id, outcome, request, note, signer, mac)
SELECT e.at, e.id, e.writer, nullif(e.seq, 0), CASE WHEN e.seq > 0 THEN decode(e.prev, 'hex') END, e.rows, e.action, e.actor, e.tenant,
  e.table, e.column, e.row, e.key, e.outcome, e.request, e.note, e.signer, decode(e.mac, 'hex')
FROM json_to_recordset(CAST($1 AS text)::json) AS e (at timestamp, id uuid, writer uuid, seq bigint, prev text, rows bigint, action text,
  actor text, tenant text, "table" text, "column" text, "row" text, key text, outcome text, request text, note text, signer text, mac text)
ON CONFLICT DO NOTHING`

	insertSQLite = `INSERT INTO credent_audit (at, id, writer, seq, prev, row_count, action, actor, tenant, table_name, column_name,
  row_id, key_id, outcome, request, note, signer, mac)
SELECT value ->> 'at', value ->> 'id', value ->> 'writer', nullif(value ->> 'seq', 0),
  CASE WHEN value ->> 'seq' > 0 THEN unhex(value ->> 'prev') END, value ->> 'rows', value ->> 'action', value ->> 'actor',
  value ->> 'tenant', value ->> 'table', value ->> 'column', value ->> 'row', value ->> 'key', value ->> 'outcome',
  value ->> 'request', value ->> 'note', value ->> 'signer', unhex(value ->> 'mac')
FROM json_each(?) WHERE true ON CONFLICT DO NOTHING`

	columns = "at, id, writer, coalesce(seq, 0), prev, row_count, action, actor, tenant, table_name, column_name, " +
		"row_id, key_id, outcome, request, note, signer, mac, place"
)

// JSON is a row as sent to the database and as kept in archives.
type JSON struct {
	At      string `json:"at"` // 2006-01-02 15:04:05.000000
	ID      string `json:"id"`
	Writer  string `json:"writer"`
	Seq     int64  `json:"seq"`
	Prev    string `json:"prev"` // hexadecimal
	Rows    int64  `json:"rows"`
	Action  string `json:"action"`
	Actor   string `json:"actor"`
	Tenant  string `json:"tenant"`
	Table   string `json:"table"`
	Column  string `json:"column"`
	Row     string `json:"row"`
	Key     string `json:"key"`
	Outcome string `json:"outcome"`
	Request string `json:"request"`
	Note    string `json:"note"`
	Signer  string `json:"signer"`
	MAC     string `json:"mac"` // hexadecimal
}

// layout is the time format on SQLite. It sorts chronologically as text.
const layout = "2006-01-02 15:04:05.000000"

// ToJSON converts a row to JSON.
func ToJSON(r *auditrow.Row) JSON {
	return JSON{
		At: r.Time().Format(layout), ID: r.ID.String(), Writer: r.Writer.String(), Seq: r.Seq,
		Prev: hex.EncodeToString(r.Prev[:]), Rows: r.Rows, Action: r.Action, Actor: r.Actor, Tenant: r.Tenant,
		Table: r.Table, Column: r.Column, Row: r.Row, Key: r.KeyID, Outcome: r.Outcome, Request: r.Request,
		Note: r.Note, Signer: r.Signer, MAC: hex.EncodeToString(r.MAC[:]),
	}
}

// Insert writes rows in one statement.
func Insert(ctx context.Context, db Execer, d string, rows []auditrow.Row) error {
	var text strings.Builder
	size := 0
	for i := range rows {
		size += len(rows[i].Row)*9/8 + 1024
	}
	text.Grow(size) // at most a megabyte, once
	text.WriteByte('[')
	encoder := json.NewEncoder(&text)
	for i := range rows {
		if i > 0 {
			text.WriteByte(',')
		}
		if err := encoder.Encode(ToJSON(&rows[i])); err != nil {
			return fmt.Errorf("audit: write entries: %w", err)
		}
	}
	text.WriteByte(']')
	query := insertPostgres
	if d == dialect.SQLite {
		query = insertSQLite
	}
	if _, err := db.ExecContext(ctx, query, text.String()); err != nil {
		return explain("write entries", err)
	}
	return nil
}

// explain adds context to a database error.
func explain(what string, err error) error {
	if dberror.State(err) == "42P01" || strings.Contains(err.Error(), "no such table: "+Table) {
		return fmt.Errorf("audit: %s: %w: %w", what, ErrNoTable, err)
	}
	return fmt.Errorf("audit: %s: %w", what, err)
}

// Time returns at as an argument for the column at.
func Time(d string, at time.Time) any {
	if d == dialect.SQLite {
		return at.UTC().Format(layout)
	}
	return at.UTC()
}

// Select returns the rows that match a condition, in the given order. The query
// uses $1, $2, … for its arguments.
func Select(
	ctx context.Context, db Queryer, d, rest string, args []any, each func(*auditrow.Row) error,
) (err error) {
	if d == dialect.SQLite {
		rest = numbered(rest)
	}
	rows, err := db.QueryContext(ctx, "SELECT "+columns+" FROM "+Table+" "+rest, args...)
	if err != nil {
		return explain("read entries", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return fmt.Errorf("audit: read an entry: %w", err)
		}
		if err := each(r); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return explain("read entries", err)
	}
	return nil
}

// numbered rewrites $1 as ?1, which every SQLite driver takes as a numbered
// parameter.
func numbered(query string) string { return strings.ReplaceAll(query, "$", "?") }

// One runs a query that returns one value.
func One(ctx context.Context, db Queryer, d, query string, to any, args ...any) error {
	if d == dialect.SQLite {
		query = numbered(query)
	}
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return explain("read entries", err)
	}
	defer func() { _ = rows.Close() }()
	if !rows.Next() {
		return explain("read entries", errors.Join(rows.Err(), sql.ErrNoRows))
	}
	if err := rows.Scan(to); err != nil {
		return fmt.Errorf("audit: read entries: %w", err)
	}
	if err := rows.Close(); err != nil {
		return explain("read entries", err)
	}
	return nil
}

// Snapshot runs read in a transaction that sees a consistent snapshot of the
// table.
func Snapshot(ctx context.Context, db *sql.DB, d string, read func(tx *sql.Tx) error) error {
	opts := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	if d == dialect.SQLite {
		opts = nil
	}
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return explain("read entries", err)
	}
	defer func() { _ = tx.Rollback() }()
	return read(tx)
}
