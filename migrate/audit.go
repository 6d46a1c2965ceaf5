package migrate

import (
	"context"
	"errors"
	"fmt"

	"entgo.io/ent/dialect"
)

// auditorRole is the role that reads the audit trail.
const auditorRole = "credent_auditor"

// partsOfAudit returns the audit trail's monthly partitions, which no migration
// file creates, with their protections against writers and readers.
const partsOfAudit = `SELECT c.relname::text, c.relrowsecurity,
  EXISTS (SELECT 1 FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_proc f ON f.oid = g.tgfoid
    WHERE g.tgrelid = c.oid AND g.tgenabled = 'A' AND g.tgtype = 58 AND f.proname = 'credent_audit_append_only'),
  coalesce((SELECT string_agg(DISTINCT coalesce(r.rolname::text, 'PUBLIC'), ', ')
    FROM pg_catalog.aclexplode(c.relacl) x LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee
    WHERE x.grantee = 0 OR r.rolname IN ('` + appRole + `', '` + auditorRole + `')), '')
FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass('credent_audit') AND c.relname <> 'credent_audit_rest' ORDER BY 1`

// readsAudit returns whether services can read the audit trail.
const readsAudit = `SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_roles a, pg_catalog.pg_roles b WHERE a.rolname = '` +
	appRole + `' AND b.rolname = '` + auditorRole + `' AND NOT a.rolsuper AND pg_has_role(a.oid, b.oid, 'MEMBER'))`

// auditFindings checks each monthly partition of the audit trail: its trigger
// against changes (58 is before each statement that updates, deletes or
// truncates), its row-level security, and its grants.
func (c *checker) auditFindings(ctx context.Context) (found []Finding, err error) {
	if c.dialect != dialect.Postgres {
		return nil, nil
	}
	add := func(kind Kind, object, detail string) {
		found = append(found, Finding{Kind: kind, Object: object, Detail: detail})
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("migrate: look at the audit trail: %w", err)
		}
	}()
	rows, err := c.conn.QueryContext(ctx, partsOfAudit)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			name, granted   string
			secured, refuse bool
		)
		if err := rows.Scan(&name, &secured, &refuse, &granted); err != nil {
			return nil, err
		}
		if !refuse {
			add(DriftMissing, itemKey{classTrigger, name, "credent_audit_append_only"}.String(),
				"before each UPDATE, DELETE and TRUNCATE, and always")
		}
		if !secured {
			add(DriftChanged, itemKey{classRowSecurity, name, ""}.String(), "state is disabled, should be enabled")
		}
		if granted != "" {
			add(DriftExtra, itemKey{classGrant, name, granted}.String(), "")
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	var reads bool
	if err := c.conn.QueryRowContext(ctx, readsAudit).Scan(&reads); err != nil {
		return nil, err
	}
	if reads {
		add(DriftUnsafe, "role "+appRole, "it is a member of "+auditorRole+", so that services read the audit trail")
	}
	return found, nil
}
