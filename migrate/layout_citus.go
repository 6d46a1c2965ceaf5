package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// minCitus is the oldest tested version of Citus.
const minCitus = 13

// spreadTables lists the tables of the layout [Citus] with the column that each
// is distributed by; "" for a reference table, which is on every node.
var spreadTables = [][2]string{
	{"user_accounts", "user_id"},
	{"user_credentials", "user_id"},
	{"credent_tenant_keys", "tenant"},
	{"credent_states", ""},
	{"credent_canary", ""},
	{"credent_verifications", ""},
	{layoutTable, ""},
}

// checkCitus refuses the layout for a server that isn't a cluster's
// coordinator. Tables may have rows.
func checkCitus(ctx context.Context, conn *sql.Conn) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("migrate: %w: "+format, append([]any{ErrLayoutRefused}, args...)...)
	}
	var version sql.NullString
	err := conn.QueryRowContext(ctx,
		"SELECT (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'citus')").Scan(&version)
	if err != nil {
		return fmt.Errorf("migrate: ask for the version of Citus: %w", err)
	}
	if !version.Valid {
		return refuse("the database has no extension citus: run CREATE EXTENSION citus in it on each node, " +
			"and then citus_add_node")
	}
	major, _, _ := strings.Cut(version.String, ".")
	if n, err := strconv.Atoi(major); err != nil || n < minCitus {
		return refuse("citus needs version %d of the extension, and the database has %s", minCitus, version.String)
	}
	var group, nodes int
	err = conn.QueryRowContext(ctx, "SELECT (SELECT groupid FROM pg_catalog.pg_dist_local_group), "+
		"(SELECT count(*) FROM pg_catalog.pg_dist_node WHERE isactive AND shouldhaveshards AND noderole = 'primary')").
		Scan(&group, &nodes)
	switch {
	case err != nil:
		return fmt.Errorf("migrate: ask for the nodes of the cluster: %w", err)
	case group != 0:
		return refuse("this is a worker of the cluster: connect to its coordinator")
	case nodes == 0:
		return refuse("no node of the cluster takes shards: run citus_add_node for each worker")
	}
	return nil
}

// spread returns findings about the distribution of tables over a cluster's
// nodes, and about shards without the tables' protections against writers and
// readers.
func (of *layouted) spread(ctx context.Context, conn *sql.Conn) (found []Finding, err error) {
	if of.layout != Citus || len(of.pending()) > 0 {
		return nil, nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("migrate: look at the shards: %w", err)
		}
	}()
	var is bool
	err = conn.QueryRowContext(ctx,
		"SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_extension WHERE extname = 'citus')").Scan(&is)
	if err != nil || !is {
		return []Finding{{
			Kind: DriftMissing, Object: "extension citus",
			Detail: "the database remembers the layout citus, and is no cluster",
		}}, err
	}
	var with sql.NullInt64 // colocation group of user_accounts
	for _, t := range spreadTables {
		var (
			method, model, column sql.NullString
			group                 sql.NullInt64
		)
		err := conn.QueryRowContext(ctx, `SELECT d.partmethod::text, d.repmodel::text,
  CASE d.partmethod WHEN 'h' THEN column_to_column_name(d.logicalrelid, d.partkey) END, d.colocationid
FROM (SELECT to_regclass($1::text) AS oid) t LEFT JOIN pg_catalog.pg_dist_partition d ON d.logicalrelid = t.oid`, t[0]).
			Scan(&method, &model, &column, &group)
		if err != nil {
			return nil, err
		}
		f := Finding{Kind: DriftChanged, Object: "table " + t[0]}
		switch {
		case t[1] == "" && (method.String != "n" || model.String != "t"):
			f.Detail = "it is no reference table: run create_reference_table('" + t[0] + "')"
		case t[1] != "" && column.String != t[1]:
			f.Detail = fmt.Sprintf("it is not distributed by %s: run create_distributed_table('%s', '%[1]s', "+
				"colocate_with => 'user_accounts')", t[1], t[0])
		case t[1] != "" && with.Valid && group != with:
			f.Detail = "its rows do not lie with their user_accounts: " +
				"run update_distributed_table_colocation('" + t[0] +
				"', 'user_accounts')"
		case t[1] != "":
			with = group
			if f.Detail, err = guarded(ctx, conn, t[0]); err != nil {
				return nil, err
			}
		}
		if f.Detail != "" {
			found = append(found, f)
		}
	}
	// The comparison creates the tables again, temporarily.
	_, err = conn.ExecContext(ctx, "SET LOCAL citus.shard_count = 1")
	return found, err
}

// guards returns a table's protections: row-level security, the policies, and
// the number of triggers.
const guards = `SELECT concat_ws(' ', c.relrowsecurity::text,
  (SELECT string_agg(concat_ws(' ', polcmd, polpermissive::text, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)), ',' ORDER BY polname)
    FROM pg_catalog.pg_policy WHERE polrelid = c.oid),
  (SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal))
FROM pg_catalog.pg_class c WHERE c.oid = `

// guarded returns which shards of a table lack its protections.
func guarded(ctx context.Context, conn *sql.Conn, table string) (detail string, err error) {
	rows, err := conn.QueryContext(ctx,
		"SELECT s.shardid, s.success, s.success AND s.result IS NOT DISTINCT FROM (SELECT ("+
			guards+"to_regclass($1::text))) FROM run_command_on_shards(to_regclass($1::text), $2::text) s "+
			"ORDER BY s.shardid",
		table, guards+"'%s'::regclass")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var silent, bare []string
	for rows.Next() {
		var (
			shard       string
			answers, is bool
		)
		if err := rows.Scan(&shard, &answers, &is); err != nil {
			return "", err
		}
		switch {
		case !answers:
			silent = append(silent, shard)
		case !is:
			bare = append(bare, shard)
		}
	}
	var details []string
	if len(silent) > 0 {
		details = append(details, "no answer from shards "+list(silent))
	}
	if len(bare) > 0 {
		details = append(details, "shards "+list(bare)+" lack row-level security, a policy or a trigger of the table")
	}
	return strings.Join(details, "; "), rows.Err()
}

// list names the first few.
func list(names []string) string {
	const few = 3
	if len(names) > few {
		names = append(slices.Clone(names[:few]), fmt.Sprintf("and %d more", len(names)-few))
	}
	return strings.Join(names, ", ")
}
