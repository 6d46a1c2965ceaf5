package migrate

// withTables starts a query about the tables named in $2, separated by commas,
// in the schema $1.
const withTables = `WITH t AS (SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = ANY (string_to_array($2, ',')) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')) `

// catalogQueries read a schema's content, one query per class: table, name,
// then properties. With a search_path of pg_catalog, all names in expressions
// are qualified.
var catalogQueries = map[int]string{
	classTable: withTables + `SELECT t.relname, '',
  CASE t.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'view' END AS kind,
  CASE t.relpersistence WHEN 'u' THEN 'unlogged' ELSE 'permanent' END AS storage,
  pg_get_partkeydef(t.oid) AS partitions,
  (SELECT p.relname || ' ' || pg_get_expr(t.relpartbound, t.oid) FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
    WHERE i.inhrelid = t.oid AND t.relispartition) AS "part of"
FROM t`,

	classColumn: withTables + `SELECT t.relname, a.attname,
  format_type(a.atttypid, a.atttypmod) AS "type",
  CASE WHEN a.attnotnull THEN 'NOT NULL' ELSE 'NULL' END AS nullability,
  CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END AS "default",
  CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END AS generation,
  CASE a.attidentity WHEN '' THEN '' ELSE 'identity' END AS "identity",
  CASE WHEN a.attcollation <> y.typcollation THEN (SELECT collname::text FROM pg_collation WHERE oid = a.attcollation) END AS collation
FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type y ON y.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum`,

	// A constraint's index is part of the constraint.
	classIndex: withTables + `SELECT t.relname, c.relname,
  CASE WHEN i.indisunique THEN 'unique' ELSE 'not unique' END AS uniqueness,
  substring(pg_get_indexdef(i.indexrelid) FROM ' USING (.*)$') AS definition,
  CASE WHEN i.indisvalid AND i.indisready THEN 'valid' ELSE 'invalid' END AS state
FROM t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = i.indexrelid AND contype IN ('p', 'u', 'x'))`,

	// Triggers enforce a foreign key, and a superuser can disable them.
	classConstraint: withTables + `SELECT t.relname, c.conname,
  pg_get_constraintdef(c.oid) AS definition,
  CASE WHEN EXISTS (SELECT 1 FROM pg_trigger WHERE tgconstraint = c.oid AND tgenabled <> 'O') THEN 'disabled' ELSE 'enabled' END AS enforcement
FROM t JOIN pg_constraint c ON c.conrelid = t.oid AND c.contype IN ('p', 'u', 'f', 'c', 'x')`,

	classRowSecurity: withTables + `SELECT t.relname, '',
  CASE WHEN t.relrowsecurity THEN 'enabled' ELSE 'disabled' END AS state,
  CASE WHEN t.relforcerowsecurity THEN 'forced' ELSE 'not forced' END AS "for the owner"
FROM t`,

	classPolicy: withTables + `SELECT t.relname, p.polname,
  CASE p.polcmd WHEN '*' THEN 'ALL' WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' ELSE 'DELETE' END AS command,
  CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END AS kind,
  (SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r)::text END, ', ' ORDER BY r) FROM unnest(p.polroles) r) AS roles,
  pg_get_expr(p.polqual, p.polrelid) AS "USING",
  pg_get_expr(p.polwithcheck, p.polrelid) AS "WITH CHECK"
FROM t JOIN pg_policy p ON p.polrelid = t.oid`,

	classTrigger: withTables + `SELECT t.relname, g.tgname,
  pg_get_triggerdef(g.oid) AS definition,
  CASE g.tgenabled WHEN 'O' THEN 'enabled' WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'for replicas only' ELSE 'always' END AS state
FROM t JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal`,

	classRule: withTables + `SELECT t.relname, r.rulename, pg_get_ruledef(r.oid) AS definition
FROM t JOIN pg_rewrite r ON r.ev_class = t.oid AND r.rulename <> '_RETURN'`,

	classFunction: `SELECT '', p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
  pg_get_function_result(p.oid) AS result,
  l.lanname::text AS language,
  p.prosrc || E'\n' AS body,
  CASE WHEN p.prosecdef THEN 'SECURITY DEFINER' ELSE 'SECURITY INVOKER' END AS security,
  array_to_string(p.proconfig, '; ') AS settings,
  concat_ws(', ', p.provolatile, p.proparallel, p.proisstrict, p.proleakproof, p.prokind) AS attributes
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = $1 AND p.proname = ANY (string_to_array($2, ','))`,

	// Grants to PUBLIC and to the services' and auditors' roles; on the schema,
	// only to the roles.
	classGrant: withTables + `, granted AS (
SELECT t.relname, t.relacl AS acl, '' AS part FROM t UNION ALL
SELECT t.relname, a.attacl, ' (' || a.attname || ')' FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND NOT a.attisdropped
UNION ALL SELECT '', nspacl, '' FROM pg_namespace WHERE nspname = $1)
SELECT g.relname, coalesce(r.rolname::text, 'PUBLIC') || g.part,
  string_agg(x.privilege_type || CASE WHEN x.is_grantable THEN ' with grant option' ELSE '' END, ', ' ORDER BY x.privilege_type) AS privileges
FROM granted g, aclexplode(g.acl) x LEFT JOIN pg_roles r ON r.oid = x.grantee
WHERE r.rolname IN ('` + appRole + `', '` + auditorRole + `') OR x.grantee = 0 AND g.relname <> ''
GROUP BY 1, 2`,
}
