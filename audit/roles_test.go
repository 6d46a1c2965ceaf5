package audit_test

import (
	"net/url"
	"strings"
	"testing"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/migrate"
)

// as opens the database as a role, with a user set.
func (db database) as(t *testing.T, role, user string) database {
	t.Helper()
	u, err := url.Parse(db.name)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("options", "-c role="+role+" -c app.user_id="+user)
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
	return open(t, db.driver, u.String(), dialect.Postgres)
}

// TestRoles writes as a service, and reads as an auditor.
func TestRoles(t *testing.T) {
	t.Parallel()
	db := engines["pgx"](t)
	ring := newRing(t)
	app := db.as(t, "credent_app", "")
	trail := newTrail(t, app, audit.Config{Keyring: ring, Mode: audit.Sync})
	other := reveal("2")
	other.Tenant = "user-2"
	do(t, trail.Add(t.Context(), reveal("1"), other))
	done, err := trail.AddTx(t.Context(), app.DB, reveal("3"))
	do(t, err)
	done(true)
	do(t, trail.Flush(t.Context()))
	part := strings.TrimSpace(partition(t, db))
	if part == "credent_audit_rest" {
		t.Error("there is no partition for this month")
	}
	for _, stmt := range []string{
		"SELECT count(*) FROM credent_audit", "SELECT id FROM " + part, "UPDATE credent_audit SET note = 'x'",
		"DELETE FROM credent_audit", "TRUNCATE credent_audit", "TRUNCATE " + part, "INSERT INTO " + part +
			" DEFAULT VALUES",
		"INSERT INTO credent_audit (place) VALUES (1)", "DROP TABLE credent_audit",
		"ALTER TABLE credent_audit DISABLE TRIGGER credent_audit_append_only", "SET session_replication_role = replica",
	} {
		if _, err := app.ExecContext(t.Context(), stmt); dberror.State(err) != "42501" {
			t.Errorf("credent_app: %s: %v", stmt, err)
		}
	}
	for _, stmt := range []string{
		"UPDATE credent_audit SET note = 'x'", "DELETE FROM credent_audit WHERE false", "TRUNCATE credent_audit",
		"TRUNCATE " + part, "DELETE FROM " + part, "UPDATE " + part + " SET note = ''",
		"SET session_replication_role = replica; DELETE FROM " + part,
		"DELETE FROM credent_audit_rest", "TRUNCATE credent_audit_rest",
	} {
		if _, err := db.ExecContext(t.Context(), stmt); dberror.State(err) != "42501" ||
			!strings.Contains(err.Error(), refusal) {
			t.Errorf("the owner: %s: %v", stmt, err)
		}
	}
	auditor, of2 := db.as(t, "credent_auditor", ""), db.as(t, "credent_auditor", "user-2")
	if got := list(t, auditor, audit.Filter{}); len(got) != 3 {
		t.Errorf("an auditor sees %+v", got)
	}
	if got := list(t, of2, audit.Filter{Action: audit.ActionReveal}); len(got) != 1 || got[0].Row != "2" {
		t.Errorf("the auditor of a tenant sees %+v", got)
	}
	if got := of2.number(t, "SELECT count(*) FROM credent_audit"); got != 1 {
		t.Errorf("the auditor of a tenant sees %d entries", got)
	}
	sound(t, auditor, ring)
	if _, err := audit.Verify(t.Context(), of2.DB, of2.dialect, ring, audit.VerifyOptions{}); err == nil ||
		!strings.Contains(err.Error(), audit.ErrPartialView.Error()) {
		t.Errorf("verify with a tenant's view: %v", err)
	}
	for _, stmt := range []string{"DELETE FROM credent_audit", "SELECT id FROM " + part} {
		if _, err := auditor.ExecContext(t.Context(), stmt); dberror.State(err) != "42501" {
			t.Errorf("credent_auditor: %s: %v", stmt, err)
		}
	}
}

// partition returns the newest entry's partition.
func partition(t *testing.T, db database) (name string) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(),
		"SELECT tableoid::regclass::text FROM credent_audit ORDER BY at DESC LIMIT 1").Scan(&name); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestDrift finds missing protections against writers of the trail.
func TestDrift(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, db database) (findings []string) {
		t.Helper()
		report, err := migrate.Check(t.Context(), db.DB, migrate.Config{})
		do(t, err)
		for _, f := range report.Findings {
			findings = append(findings, f.String())
		}
		return findings
	}
	const trigger = "trigger credent_audit_append_only on "
	for _, test := range []struct{ do, want string }{
		{"DROP TRIGGER credent_audit_append_only ON credent_audit", trigger + "credent_audit: missing"},
		{"ALTER TABLE credent_audit DISABLE TRIGGER credent_audit_append_only", trigger + "credent_audit: changed"},
		{"ALTER TABLE credent_audit_rest DISABLE TRIGGER ALL", trigger + "credent_audit_rest: changed"},
		{"ALTER TABLE {part} DISABLE TRIGGER ALL", trigger + "{part}: missing"},
		{"ALTER TABLE {part} DISABLE ROW LEVEL SECURITY", "row-level security of {part}: changed"},
		{"GRANT SELECT ON {part} TO PUBLIC", "grant to PUBLIC on {part}"},
		{"GRANT SELECT ON credent_audit TO credent_app", "grant to credent_app on credent_audit"},
		{"REVOKE SELECT ON credent_audit FROM credent_auditor", "grant to credent_auditor on credent_audit: missing"},
		{"DROP POLICY credent_audit_read ON credent_audit", "policy credent_audit_read on credent_audit: missing"},
		{"ALTER TABLE credent_audit DISABLE ROW LEVEL SECURITY", "row-level security of credent_audit"},
		{"ALTER FUNCTION credent_audit_append_only() RENAME TO x", "function credent_audit_append_only"},
	} {
		t.Run(test.do, func(t *testing.T) {
			t.Parallel()
			db := engines["pgx"](t)
			trail := newTrail(t, db, audit.Config{Keyring: newRing(t)})
			do(t, trail.Close(t.Context()))
			if found := check(t, db); len(found) != 0 {
				t.Fatalf("before: %q", found)
			}
			fill := strings.NewReplacer("{part}", partition(t, db)).Replace
			db.exec(t, fill(test.do))
			if found := check(t, db); !strings.Contains(strings.Join(found, "\n"), fill(test.want)) {
				t.Errorf("got %q, want %s", found, fill(test.want))
			}
		})
	}
	db := engines["modernc"](t)
	if found := check(t, db); len(found) != 0 {
		t.Errorf("SQLite: %q", found)
	}
	db.unprotect(t)
	if found := check(t, db); len(found) != 3 {
		t.Errorf("SQLite without triggers: %q", found)
	}
}

// TestSQLiteReplace replaces an entry by INSERT OR REPLACE, which fires no
// delete trigger.
func TestSQLiteReplace(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"modernc", "mattn"} {
		db := engines[name](t)
		ring := newRing(t)
		trail := newTrail(t, db, audit.Config{Keyring: ring})
		do(t, trail.Add(t.Context(), reveal("1")))
		do(t, trail.Close(t.Context()))
		const columns = "at, id, writer, seq, prev, row_count, action, actor, tenant, table_name, column_name, " +
			"row_id, " +
			"key_id, outcome, request, note, signer, mac"
		for _, place := range []string{"place", "NULL"} {
			db.exec(t, "INSERT OR REPLACE INTO credent_audit (place, "+columns+") SELECT "+place+", "+
				strings.Replace(columns, "note", "'x'", 1)+" FROM credent_audit WHERE seq = 2")
		}
		sound(t, db, ring)
	}
}
