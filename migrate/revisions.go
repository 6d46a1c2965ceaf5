package migrate

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"ariga.io/atlas/sql/migrate"
	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// revisionTable is the name of the stock command's history table, and on
// Postgres of its schema if the connection sets no search_path.
const revisionTable = "atlas_schema_revisions"

// revisions is the stock command's history table, in its usual place. It uses
// one connection, inside or outside a transaction.
type revisions struct {
	conn    *sql.Conn
	dialect string
	schema  string // on Postgres
	bound   bool   // the connection sets a search_path, so the stock command looks only there
	exists  bool
}

var _ migrate.RevisionReadWriter = (*revisions)(nil)

// findRevisions looks for the history table. It changes nothing.
func findRevisions(ctx context.Context, conn *sql.Conn, d string) (*revisions, error) {
	r := &revisions{conn: conn, dialect: d}
	if d == dialect.SQLite {
		err := conn.QueryRowContext(ctx,
			"SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?)",
			revisionTable).Scan(&r.exists)
		return r, err
	}
	var path, current sql.NullString
	if err := conn.QueryRowContext(ctx,
		"SELECT current_setting('search_path'), current_schema()").Scan(&path, &current); err != nil {
		return nil, err
	}
	r.schema = revisionTable
	other := current.String
	if r.bound = path.String != `"$user", public`; r.bound {
		r.schema, other = current.String, revisionTable
	}
	// If only the other place has a table, somebody ran the stock command with
	// the other kind of URL.
	for _, schema := range []string{r.schema, other} {
		if err := conn.QueryRowContext(ctx,
			"SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = $2)",
			schema, revisionTable).Scan(&r.exists); err != nil {
			return nil, err
		}
		if r.exists {
			r.schema = schema
			break
		}
	}
	return r, nil
}

// create creates the history table exactly as the stock command does.
func (r *revisions) create(ctx context.Context) error {
	if r.exists {
		return nil
	}
	text, integer, timestamp, document := "character varying", "bigint", "timestamptz", "jsonb"
	if r.dialect == dialect.SQLite {
		text, integer, timestamp, document = "text", "integer", "datetime", "json"
	} else if err := r.createSchema(ctx); err != nil {
		return err
	}
	_, err := r.conn.ExecContext(ctx, fmt.Sprintf(`CREATE TABLE %[1]s (
  "version" %[2]s NOT NULL,
  "description" %[2]s NOT NULL,
  "type" %[3]s NOT NULL DEFAULT 2,
  "applied" %[3]s NOT NULL DEFAULT 0,
  "total" %[3]s NOT NULL DEFAULT 0,
  "executed_at" %[4]s NOT NULL,
  "execution_time" %[3]s NOT NULL,
  "error" text NULL,
  "error_stmt" text NULL,
  "hash" %[2]s NOT NULL,
  "partial_hashes" %[5]s NULL,
  "operator_version" %[2]s NOT NULL,
  PRIMARY KEY ("version")
)`, r.table(), text, integer, timestamp, document))
	r.exists = err == nil
	return err
}

// createSchema checks for the schema first: CREATE SCHEMA IF NOT EXISTS
// requires a privilege even if the schema exists.
func (r *revisions) createSchema(ctx context.Context) error {
	var exists bool
	if err := r.conn.QueryRowContext(ctx,
		"SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1)", r.schema).
		Scan(&exists); err != nil {
		return err
	}
	if exists {
		return nil
	}
	_, err := r.conn.ExecContext(ctx, "CREATE SCHEMA "+quote(r.schema))
	return err
}

func (r *revisions) table() string {
	if r.dialect == dialect.SQLite {
		return quote(revisionTable)
	}
	return quote(r.schema) + "." + quote(revisionTable)
}

func quote(identifier string) string { return column.QuoteName(identifier) }

// Ident returns the name of the history table.
func (r *revisions) Ident() *migrate.TableIdent {
	return &migrate.TableIdent{Name: revisionTable, Schema: r.schema}
}

const revisionColumns = "version, description, type, applied, total, executed_at, execution_time, " +
	"error, error_stmt, hash, partial_hashes, operator_version"

// ReadRevisions returns the history in the order of versions.
func (r *revisions) ReadRevisions(ctx context.Context) (revs []*migrate.Revision, err error) {
	if !r.exists {
		return nil, nil
	}
	collate := ` COLLATE "C"`
	if r.dialect == dialect.SQLite {
		collate = ""
	}
	// Versions with a leading dot are the stock command's own records.
	rows, err := r.conn.QueryContext(ctx, "SELECT "+revisionColumns+" FROM "+r.table()+
		" WHERE version NOT LIKE '.%' ORDER BY version"+collate)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		rev, err := scanRevision(rows)
		if err != nil {
			return nil, err
		}
		revs = append(revs, rev)
	}
	return revs, rows.Err()
}

// ReadRevision returns one row of the history, or migrate.ErrRevisionNotExist.
func (r *revisions) ReadRevision(ctx context.Context, version string) (*migrate.Revision, error) {
	if !r.exists {
		return nil, migrate.ErrRevisionNotExist
	}
	rev, err := scanRevision(r.conn.QueryRowContext(ctx,
		"SELECT "+revisionColumns+" FROM "+r.table()+" WHERE version = $1", version))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, migrate.ErrRevisionNotExist
	}
	return rev, err
}

func scanRevision(row interface{ Scan(...any) error }) (*migrate.Revision, error) {
	var (
		rev           migrate.Revision
		nanoseconds   int64
		msg, stmt     sql.NullString
		partialHashes []byte
	)
	if err := row.Scan(&rev.Version, &rev.Description, &rev.Type, &rev.Applied, &rev.Total,
		&rev.ExecutedAt, &nanoseconds, &msg, &stmt, &rev.Hash, &partialHashes, &rev.OperatorVersion); err != nil {
		return nil, err
	}
	rev.ExecutionTime = time.Duration(nanoseconds)
	rev.Error, rev.ErrorStmt = msg.String, stmt.String
	if len(partialHashes) > 0 {
		if err := json.Unmarshal(partialHashes, &rev.PartialHashes); err != nil {
			return nil, fmt.Errorf("revision %s: partial_hashes: %w", rev.Version, err)
		}
	}
	if rev.Applied > 0 && len(rev.PartialHashes) == 0 {
		// Done. If the file was changed while it was partly applied, the stock
		// command keeps the old number of statements and would treat the row as
		// a partial one.
		rev.Total = rev.Applied
	}
	return &rev, nil
}

// WriteRevision inserts or replaces one row of the history.
func (r *revisions) WriteRevision(ctx context.Context, rev *migrate.Revision) error {
	hashes, err := json.Marshal(rev.PartialHashes) // null when done, like the stock command
	if err != nil {
		return err
	}
	var set []string
	for column := range strings.SplitSeq(revisionColumns, ", ") {
		if column != "version" {
			set = append(set, column+" = excluded."+column)
		}
	}
	_, err = r.conn.ExecContext(ctx, "INSERT INTO "+r.table()+" ("+revisionColumns+
		") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (version) DO UPDATE SET "+
		strings.Join(set, ", "),
		rev.Version, rev.Description, int64(rev.Type), rev.Applied, rev.Total, rev.ExecutedAt.UTC(),
		int64(rev.ExecutionTime), rev.Error, rev.ErrorStmt, rev.Hash, string(hashes), rev.OperatorVersion)
	return err
}

// DeleteRevision deletes one row of the history.
func (r *revisions) DeleteRevision(ctx context.Context, version string) error {
	_, err := r.conn.ExecContext(ctx, "DELETE FROM "+r.table()+" WHERE version = $1", version)
	return err
}
