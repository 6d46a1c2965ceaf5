package migrate

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/credent-go/credent/internal/dberror"
)

// appRole is the services' role, created by migration 3.
const appRole = "credent_app"

// postgresComparer replays in a temporary schema, in its connection's
// transaction.
type postgresComparer struct {
	conn      *sql.Conn
	drv       *driver
	schema    string // the real schema
	temporary string
	quoted    string // the real schema, quoted if necessary
	standIn   bool   // for gen_random_uuid
}

func newPostgresComparer(ctx context.Context, conn *sql.Conn, drv *driver) (*postgresComparer, error) {
	c := &postgresComparer{conn: conn, drv: drv, temporary: "credent_check_" + strings.ToLower(rand.Text())}
	var current, quoted sql.NullString
	if err := conn.QueryRowContext(ctx, "SELECT current_schema(), quote_ident(current_schema()), "+
		"to_regproc('pg_catalog.gen_random_uuid') IS NULL").
		Scan(&current, &quoted, &c.standIn); err != nil {
		return nil, fmt.Errorf("migrate: find the schema: %w", err)
	}
	if !current.Valid {
		return nil, errors.New("migrate: no schema in search_path exists")
	}
	c.schema, c.quoted = current.String, quoted.String
	if _, err := conn.ExecContext(ctx, "CREATE SCHEMA "+c.temporary); err != nil {
		switch dberror.State(err) {
		case "42501": // insufficient privilege
			return nil, fmt.Errorf("migrate: %w: it takes a schema that is rolled back, and the role may not make "+
				"one; let the database's owner run: GRANT CREATE ON DATABASE … TO the role, or check as the owner: %w",
				ErrCannotCompare, err)
		case "25006": // read-only transaction
			return nil, fmt.Errorf("migrate: %w: the server or session is read-only; check on the primary: %w",
				ErrCannotCompare, err)
		}
		return nil, fmt.Errorf("migrate: make a schema to compare with: %w", err)
	}
	if err := c.searchPath(ctx, c.temporary); err != nil {
		return nil, err
	}
	if c.standIn {
		// Postgres 12: keep the first migration from looking for the extension,
		// which is in the real schema.
		if _, err := conn.ExecContext(ctx, "CREATE FUNCTION gen_random_uuid() RETURNS uuid LANGUAGE sql AS 'SELECT "+
			"NULL::uuid'"); err != nil {
			return nil, fmt.Errorf("migrate: stand in for gen_random_uuid: %w", err)
		}
	}
	return c, nil
}

// searchPath restricts the files to the schema, and makes Postgres write
// qualified names in snapshots.
func (c *postgresComparer) searchPath(ctx context.Context, schema string) error {
	if _, err := c.conn.ExecContext(ctx, "SET LOCAL search_path TO "+schema+", pg_temp"); err != nil {
		return fmt.Errorf("migrate: set search_path: %w", err)
	}
	return nil
}

// concurrently matches the option that isn't allowed in a transaction. On an
// empty table, it makes no difference.
var concurrently = regexp.MustCompile(`(?is)^(\s*(?:CREATE\s+(?:UNIQUE\s+)?|DROP\s+|RE)INDEX\s+)CONCURRENTLY\s+`)

func (c *postgresComparer) replay(ctx context.Context, f replayFile) error {
	if err := c.searchPath(ctx, c.temporary); err != nil {
		return err
	}
	if err := replayStatements(ctx, c.conn, c.drv, f, func(stmt string) string {
		return concurrently.ReplaceAllString(stmt, "$1")
	}); err != nil {
		return err
	}
	var reached sql.NullString
	err := c.conn.QueryRowContext(ctx, `SELECT min(format('%I.%I', n.nspname, c.relname))
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE l.pid = pg_backend_pid() AND l.mode <> 'AccessShareLock' AND n.nspname <> $1 AND n.nspname !~ '^pg_|^information_schema$'`,
		c.temporary).Scan(&reached)
	if err != nil {
		return fmt.Errorf("migrate: look at locks: %w", err)
	}
	if reached.Valid {
		return &StatementError{File: f.Name(), Line: 1, Err: fmt.Errorf("it names the schema of %s, so that it "+
			"cannot be replayed in another one", reached.String)}
	}
	return nil
}

func (c *postgresComparer) scratch(ctx context.Context) (*snapshot, error) {
	var tables, functions []string
	for _, list := range []struct {
		names *[]string
		query string
	}{
		{&tables, "SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind IN ('r', 'p', 'v', " +
			"'m', 'f')"},
		{&functions, "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = $1::regnamespace"},
	} {
		rows, err := c.conn.QueryContext(ctx, list.query, c.temporary)
		if err != nil {
			return nil, fmt.Errorf("migrate: list what was replayed: %w", err)
		}
		if err := scanStrings(rows, list.names); err != nil {
			return nil, fmt.Errorf("migrate: list what was replayed: %w", err)
		}
	}
	if c.standIn {
		functions = slices.DeleteFunc(functions, func(name string) bool { return name == "gen_random_uuid" })
	}
	return c.snapshot(ctx, c.temporary, tables, functions)
}

func scanStrings(rows *sql.Rows, names *[]string) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		*names = append(*names, name)
	}
	return rows.Err()
}

func (c *postgresComparer) actual(ctx context.Context, want *snapshot) (*snapshot, error) {
	var functions []string
	for k := range want.items {
		if k.class == classFunction {
			name, _, _ := strings.Cut(k.name, "(")
			functions = append(functions, name)
		}
	}
	have, err := c.snapshot(ctx, c.schema, want.ours(), functions)
	if err != nil {
		return nil, err
	}
	for k := range have.items {
		if k.class == classFunction && !want.has(k) {
			delete(have.items, k) // another function of the same name
		}
	}
	have.unsafe, err = c.unsafe(ctx, want)
	return have, err
}

// snapshot reads the catalogs.
func (c *postgresComparer) snapshot(ctx context.Context, schema string, tables, functions []string) (*snapshot, error) {
	if err := c.searchPath(ctx, "pg_catalog"); err != nil {
		return nil, err
	}
	s := &snapshot{items: make(map[itemKey][]part)}
	for class, query := range catalogQueries {
		names := tables
		if class == classFunction {
			names = functions
		}
		// No relevant name contains a comma.
		if err := s.add(ctx, c.conn, class, query, schema, strings.Join(names, ",")); err != nil {
			return nil, fmt.Errorf("migrate: read each %s: %w", classNames[class], err)
		}
	}
	for _, parts := range s.items {
		for i := range parts {
			if schema == c.temporary {
				parts[i].value = strings.ReplaceAll(parts[i].value, c.temporary, c.quoted)
			}
			parts[i].value = plainLists(parts[i].value)
		}
	}
	return s, nil
}

var (
	castList    = regexp.MustCompile(`\(ARRAY\[((?:'(?:[^']|'')*'::character varying(?:, )?)+)\]\)::text\[\]`)
	castElement = regexp.MustCompile(`('(?:[^']|'')*')::character varying`)
	castInList  = regexp.MustCompile(`\(('(?:[^']|'')*')::character varying\)::text`)
)

// plainLists normalizes the list of an IN over varchar. Postgres casts the list
// when it parses the original statement, but each element when it parses
// pg_dump's version of it.
func plainLists(expression string) string {
	expression = castList.ReplaceAllStringFunc(expression, func(list string) string {
		return "ARRAY[" + castElement.ReplaceAllString(castList.FindStringSubmatch(list)[1], "$1::text") + "]"
	})
	return castInList.ReplaceAllString(expression, "$1::text")
}

// unsafe finds settings that make row-level security ineffective for the
// services' role.
func (c *postgresComparer) unsafe(ctx context.Context, want *snapshot) ([]Finding, error) {
	var secured []string
	for k, parts := range want.items {
		if k.class == classRowSecurity && slices.Contains(parts, part{"state", "enabled"}) {
			secured = append(secured, k.table)
		}
	}
	rows, err := c.conn.QueryContext(ctx, `SELECT CASE WHEN r.rolsuper THEN 'it is a superuser'
  WHEN r.rolbypassrls THEN 'it has BYPASSRLS' ELSE 'it is a member of ' || o.rolname || ', the owner of ' || t.relname END
FROM pg_roles r JOIN pg_class t ON t.relnamespace = $1::regnamespace AND t.relname = ANY (string_to_array($2, ','))
JOIN pg_roles o ON o.oid = t.relowner
WHERE r.rolname = $3 AND (r.rolsuper OR r.rolbypassrls OR pg_has_role(r.oid, t.relowner, 'MEMBER'))
ORDER BY t.relname`, c.quoted, strings.Join(secured, ","), appRole)
	if err != nil {
		return nil, fmt.Errorf("migrate: read the role %s: %w", appRole, err)
	}
	var details []string
	if err := scanStrings(rows, &details); err != nil {
		return nil, fmt.Errorf("migrate: read the role %s: %w", appRole, err)
	}
	var findings []Finding
	for _, detail := range slices.Compact(details) {
		findings = append(findings, Finding{
			Kind: DriftUnsafe, Object: "role " + appRole,
			Detail: detail + ", so row-level security does not apply to it",
		})
	}
	return findings, nil
}

func (c *postgresComparer) mend(differences []difference, want, have *snapshot) []Difference {
	return (&mender{schema: c.quoted, differences: differences, want: want, have: have}).mend()
}

func (c *postgresComparer) refused(ctx context.Context, constraint difference) (rows int64, err error) {
	condition, ok := strings.CutPrefix(constraint.value(constraint.want, "definition"), "CHECK ")
	if !ok {
		return 0, nil
	}
	err = c.conn.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*) FROM %s.%s WHERE NOT %s",
		c.quoted, quote(constraint.table), condition)).Scan(&rows)
	return rows, err
}

// close does nothing: the transaction is rolled back.
func (c *postgresComparer) close() {}
