package migrate

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"strings"
)

// sqliteComparer replays in an in-memory database of the same driver.
type sqliteComparer struct {
	conn     *sql.Conn
	drv      *driver
	memory   *sql.DB
	replayed *sql.Conn
}

// memoryConnector opens in-memory databases.
type memoryConnector struct{ driver sqldriver.Driver }

// Connect implements driver.Connector.
func (c memoryConnector) Connect(context.Context) (sqldriver.Conn, error) {
	return c.driver.Open("file::memory:?_time_format=sqlite")
}

// Driver implements driver.Connector.
func (c memoryConnector) Driver() sqldriver.Driver { return c.driver }

func newSQLiteComparer(ctx context.Context, db *sql.DB, conn *sql.Conn, drv *driver) (*sqliteComparer, error) {
	memory := sql.OpenDB(memoryConnector{db.Driver()})
	replayed, err := memory.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate: open a database in memory: %w", errors.Join(err, memory.Close()))
	}
	return &sqliteComparer{conn: conn, drv: drv, memory: memory, replayed: replayed}, nil
}

func (c *sqliteComparer) replay(ctx context.Context, f replayFile) error {
	return replayStatements(ctx, c.replayed, c.drv, f, func(stmt string) string { return stmt })
}

func (c *sqliteComparer) scratch(ctx context.Context) (*snapshot, error) {
	rows, err := c.replayed.QueryContext(ctx, "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND "+
		"name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
	if err != nil {
		return nil, fmt.Errorf("migrate: list what was replayed: %w", err)
	}
	var tables []string
	if err := scanStrings(rows, &tables); err != nil {
		return nil, fmt.Errorf("migrate: list what was replayed: %w", err)
	}
	return sqliteSnapshot(ctx, c.replayed, tables)
}

func (c *sqliteComparer) actual(ctx context.Context, want *snapshot) (*snapshot, error) {
	return sqliteSnapshot(ctx, c.conn, want.ours())
}

// mend returns SQL for indexes and for extra triggers. Anything else requires
// recreating a table.
func (c *sqliteComparer) mend(differences []difference, _, _ *snapshot) []Difference {
	var mended []Difference
	for _, d := range differences {
		result := Difference{Finding: d.finding()}
		switch {
		case d.class == classTrigger && d.want == nil:
			result.SQL = []string{"DROP TRIGGER " + quote(d.name) + ";"}
		case d.class != classIndex:
			result.Note = "SQLite changes this only by making the table anew: do it by hand"
		default:
			if d.have != nil {
				result.SQL = append(result.SQL, "DROP INDEX "+quote(d.name)+";")
			}
			if d.want != nil {
				result.SQL = append(result.SQL, d.value(d.want, "definition")+";")
			}
		}
		mended = append(mended, result)
	}
	return mended
}

// refused returns 0: no later migration adds a constraint, which SQLite doesn't
// support.
func (c *sqliteComparer) refused(context.Context, difference) (int64, error) { return 0, nil }

func (c *sqliteComparer) close() { _ = errors.Join(c.replayed.Close(), c.memory.Close()) }

// sqliteQueries read the content of the tables named in $1, each name with a
// comma before and after it.
var sqliteQueries = map[int]string{
	classTable: `SELECT name, '', type AS kind, sql AS definition FROM sqlite_master
WHERE type IN ('table', 'view') AND instr($1, ',' || name || ',') > 0`,

	classColumn: `SELECT t.name, c.name, lower(c.type) AS type, CASE WHEN c."notnull" THEN 'NOT NULL' ELSE 'NULL' END AS nullability,
  c.dflt_value AS "default", CASE WHEN c.pk > 0 THEN 'primary key' ELSE '' END AS role, CASE WHEN c.hidden > 0 THEN 'generated' ELSE '' END AS generation
FROM sqlite_master t, pragma_table_xinfo(t.name) c WHERE t.type = 'table' AND instr($1, ',' || t.name || ',') > 0`,

	classIndex: `SELECT tbl_name, name, sql AS definition FROM sqlite_master
WHERE type = 'index' AND sql IS NOT NULL AND instr($1, ',' || tbl_name || ',') > 0`,

	classConstraint: `SELECT t.name, 'foreign key (' || group_concat(f."from", ', ') || ')',
  'REFERENCES ' || f."table" || ' (' || group_concat(f."to", ', ') || ') ON DELETE ' || f.on_delete || ' ON UPDATE ' || f.on_update AS definition
FROM sqlite_master t, pragma_foreign_key_list(t.name) f WHERE t.type = 'table' AND instr($1, ',' || t.name || ',') > 0
GROUP BY t.name, f.id`,

	classTrigger: `SELECT tbl_name, name, sql AS definition FROM sqlite_master
WHERE type = 'trigger' AND instr($1, ',' || tbl_name || ',') > 0`,
}

// sqliteSnapshot reads sqlite_master. It includes tables' texts for parts
// without a pragma, such as a CHECK.
func sqliteSnapshot(ctx context.Context, conn *sql.Conn, tables []string) (*snapshot, error) {
	s := &snapshot{items: make(map[itemKey][]part)}
	for class, query := range sqliteQueries {
		if err := s.add(ctx, conn, class, query, ","+strings.Join(tables, ",")+","); err != nil {
			return nil, fmt.Errorf("migrate: read each %s: %w", classNames[class], err)
		}
	}
	for k, parts := range s.items {
		for i, p := range parts {
			if p.label != "definition" {
				continue
			}
			parts[i].value = strings.Join(strings.Fields(p.value), " ")
			if k.class == classTable || k.class == classTrigger {
				parts[i].value += "\n" // too long to show
			}
		}
	}
	return s, nil
}
