package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/keyring"
)

// Tables with the key (tenant, key), by the tenant's type. Rows of different
// tenants have the same key numbers.
var scopedTables = []struct {
	name, tenant, key string
	partitions        bool
	a, b, none        string // two tenants, and the tenant of ownerless rows
}{
	{"s_varchar", "varchar(64)", "bigint", true, "quote ' \" \\ {}, NULL", "bob", "nobody"},
	{"s_text", "text", "uuid", true, "", "Ä", "nobody"},
	{
		"s_uuid", "uuid", "integer", true,
		"6b4a2f10-0000-4000-8000-000000000001", "6b4a2f10-0000-4000-8000-00000000000a",
		"6B4A2F10-0000-4000-8000-00000000000A",
	},
	{"s_bigint", "bigint", "text", true, "-7", "9007199254740993", "007"},
	{"s_small", "smallint", "integer", false, "-7", "7", "70000"},
	{"s_domain", "owner", "integer", false, "a", "b", "c"},
	{"s_char", "char(8)", "integer", false, "a", "b", "c"},
}

func scopedColumns() (all []column.Column) {
	for _, s := range scopedTables {
		all = append(all, column.Column{Table: s.name, Name: "secret", Size: 500, Tenant: "org", ID: "id"})
	}
	return all
}

const perTenant = 17

func makeScoped(t *testing.T, db *sql.DB, isPostgres bool) {
	t.Helper()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	exec("CREATE TABLE credent_tenant_keys (tenant varchar(255) PRIMARY KEY, wrapped varchar(500), " +
		"created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, destroyed_at timestamp)")
	if isPostgres {
		exec("CREATE DOMAIN owner AS varchar(20) CHECK (VALUE <> 'c')")
	}
	for _, s := range scopedTables {
		create := fmt.Sprintf("CREATE TABLE %s (id %s, org %s NOT NULL, secret varchar(500), PRIMARY KEY (org, id))",
			s.name, s.key, s.tenant)
		if isPostgres && s.partitions {
			exec(create + " PARTITION BY HASH (org)")
			for i := range 3 {
				exec(fmt.Sprintf("CREATE TABLE %s_%d PARTITION OF %[1]s FOR VALUES WITH (MODULUS 3, REMAINDER %[2]d)",
					s.name, i))
			}
		} else {
			exec(create)
		}
		for _, tenant := range []string{s.a, s.b} {
			for i := range perTenant {
				id := fmt.Sprint(i)
				if s.key == "uuid" {
					id = fmt.Sprintf("6b4a2f10-0000-4000-8000-%012d", i)
				}
				exec(fmt.Sprintf("INSERT INTO %s (id, org, secret) VALUES ($1, $2, $3)", s.name), id, tenant,
					secretOf(tenant, id))
			}
		}
	}
}

func secretOf(tenant, id string) string { return "secret of " + tenant + " " + id }

func forEachScoped(t *testing.T, test func(t *testing.T, db *sql.DB)) {
	t.Helper()
	for _, driver := range []string{"pgx", "postgres", "sqlite"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			dsn := "file:" + filepath.Join(t.TempDir(), "scoped.db")
			if driver != "sqlite" {
				dsn = pgserver.DatabaseForTest(t, pgserver.Shared())
			}
			db, err := sql.Open(driver, dsn)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			makeScoped(t, db, driver != "sqlite")
			test(t, db)
		})
	}
}

func publicRing(t *testing.T, keys ...string) *keyring.Keyring {
	t.Helper()
	ring, err := keyring.New(keys[0], keys[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// checkScoped checks that each row except a given tenant's has its own secret.
func checkScoped(t *testing.T, db *sql.DB, ring *keyring.Keyring, but string) {
	t.Helper()
	var locate seal.Locator
	for _, c := range scopedColumns() {
		rows := storedIn(t, db, c.Table)
		if len(rows) != 2*perTenant {
			t.Errorf("%s: %d rows", c.Table, len(rows))
		}
		for _, r := range rows {
			tenant, id, stored := r[0], r[1], r[2]
			if tenant == but {
				continue
			}
			place := seal.Place{Column: c, Tenant: sql.NullString{String: tenant, Valid: true}}
			if ring != nil {
				o, err := locate.OpenAt((*engine.Ring)(ring), place, stored)
				if err != nil {
					t.Errorf("%s: %s/%s: %v", c.Table, tenant, id, err)
					continue
				}
				stored = o.Plaintext
			}
			if stored != secretOf(tenant, id) {
				t.Errorf("%s: %s/%s has another row's secret", c.Table, tenant, id)
			}
		}
	}
}

// storedIn returns each row's tenant, key and secret.
func storedIn(t *testing.T, db *sql.DB, table string) (all [][3]string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(),
		"SELECT CAST(org AS varchar(64)), CAST(id AS varchar(64)), secret FROM "+table)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r [3]string
		if err := rows.Scan(&r[0], &r[1], &r[2]); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// A table with the key (tenant, key) is processed like one with a single-column
// key, even if rows of several tenants have the same key.
func TestKeysOfTwoColumns(t *testing.T) {
	t.Parallel()
	forEachScoped(t, func(t *testing.T, db *sql.DB) {
		ctx, all := t.Context(), int64(len(scopedTables)*2*perTenant)
		oldKey, newKey := fernet.GenerateKey(), fernet.GenerateKey()
		ring := publicRing(t, oldKey)
		cfg := Config{In: scopedColumns(), Batch: 5, Workers: 2}
		if _, err := db.ExecContext(ctx,
			"UPDATE s_varchar SET secret = 'gAAAA' WHERE org = 'bob' AND id = 3"); err != nil {
			t.Fatal(err)
		}
		report, err := Encrypt(ctx, db, ring, cfg)
		if !errors.Is(err, ErrQuarantined) || report.Rewritten() != all-1 {
			t.Fatalf("encrypted %+v, %v", report, err)
		}
		if _, err := db.ExecContext(ctx, "UPDATE s_varchar SET secret = $1 WHERE org = 'bob' AND id = 3",
			secretOf("bob", "3")); err != nil {
			t.Fatal(err)
		}
		if report, err = Encrypt(ctx, db, ring, cfg); err != nil || report.Rewritten() != 1 {
			t.Fatalf("encrypted the rest %+v, %v", report, err)
		}
		checkScoped(t, db, ring, "-")

		ring = publicRing(t, newKey, oldKey)
		cfg.Batch = 7
		if report, err = Run(ctx, db, ring, cfg); err != nil || report.Rewritten() != all {
			t.Fatalf("rotated %+v, %v", report, err)
		}
		if report, err = Run(ctx, db, ring, cfg); err != nil || report.Rewritten() != 0 {
			t.Errorf("once more %+v, %v", report, err)
		}
		checkScoped(t, db, ring, "-")
		counts, err := VerifyWith(ctx, db, ring, cfg)
		if err != nil || counts.Err() != nil {
			t.Fatal(err, counts.Err())
		}
		for _, c := range counts {
			if c.Primary != 2*perTenant {
				t.Errorf("%+v", c)
			}
		}
		cfg.Columns = nil
		if err := CheckUnique(ctx, db, ring, Config{
			In: cfg.In, Columns: []string{"s_varchar.secret"},
			Batch: 3,
		}); err != nil {
			t.Errorf("unique: %v", err)
		}

		for _, s := range scopedTables {
			if _, err := DestroyTenant(ctx, db, ring, s.none, column.Column{
				Table: s.name, Name: "secret", Size: 500,
				Tenant: "org", ID: "id",
			}); !errors.Is(err, ErrUnknownTenant) {
				t.Errorf("%s: destroyed nobody's key: %v", s.name, err)
			}
		}
		done, err := DestroyTenant(ctx, db, ring, "bob", cfg.In...)
		if err != nil || done.Rows != perTenant || done.Overwritten != perTenant {
			t.Errorf("destroyed %+v, %v", done, err)
		}
		checkScoped(t, db, ring, "bob")
		if report, err = DecryptToPlaintext(ctx, db, ring, cfg); report.Rewritten() != all-perTenant {
			t.Errorf("decrypted %+v, %v", report, err)
		}
		checkScoped(t, db, nil, "bob")
	})
}

// Other two-column keys are refused, and the error names the columns.
func TestOtherKeysOfTwoColumnsAreRefused(t *testing.T) {
	t.Parallel()
	forEachScoped(t, func(t *testing.T, db *sql.DB) {
		for name, key := range map[string]string{
			"r_second": "id, org", "r_three": "org, id, part",
			"r_other": "part, id",
		} {
			if _, err := db.ExecContext(t.Context(), "CREATE TABLE "+name+
				" (id integer, org varchar(20), part integer, secret varchar(500), PRIMARY KEY ("+key+
				"))"); err != nil {
				t.Fatal(err)
			}
			c := column.Column{Table: name, Name: "secret", Size: 500, Tenant: "org", ID: "id"}
			_, err := Run(t.Context(), db, publicRing(t, fernet.GenerateKey()), Config{In: []column.Column{c}})
			if !errors.Is(err, ErrPrimaryKey) || !strings.Contains(err.Error(), "("+key+")") {
				t.Errorf("%s: %v", name, err)
			}
		}
		c := column.Column{Table: "s_varchar", Name: "secret", Size: 500, ID: "id"}
		_, err := Run(t.Context(), db, publicRing(t, fernet.GenerateKey()), Config{In: []column.Column{c}})
		if !errors.Is(err, ErrPrimaryKey) || !strings.Contains(err.Error(), "declare no tenant") {
			t.Errorf("without a tenant: %v", err)
		}
	})
}

// A write with a lost answer is found by the whole key.
func TestStoredByKeysOfTwoColumns(t *testing.T) {
	t.Parallel()
	forEachScoped(t, func(t *testing.T, db *sql.DB) {
		s, err := storeOf(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := s.(sqlite); ok {
			return // rolls back uncommitted work
		}
		for _, c := range scopedColumns() {
			tab := table{name: c.Table, columns: []column.Column{c}, tenant: c.Tenant}
			if err := s.describe(t.Context(), &tab); err != nil {
				t.Fatal(err)
			}
			page, _, _, err := s.page(t.Context(), tab, span{}, 2*perTenant)
			if err != nil {
				t.Fatal(err)
			}
			var changes []change
			for i, r := range page {
				to := r.values[0]
				if i%3 == 0 { // not stored
					to.String = "another"
				}
				changes = append(changes, change{row: r, cells: []cell{{changed: true, value: to}}})
			}
			found, err := s.stored(t.Context(), tab, changes)
			if err != nil {
				t.Fatal(err)
			}
			for i, c := range changes {
				if found[tab.place(c.row)] != (i%3 != 0) {
					t.Errorf("%s: %s of %s: %v", tab.name, c.id, c.tenant.String, !found[tab.place(c.row)])
				}
			}
		}
	})
}

// tracer records the statements that a pool sends.
type tracer struct{ sent []pgx.TraceQueryStartData }

func (tr *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.Contains(data.SQL, "plan_") && !strings.HasPrefix(data.SQL, "EXPLAIN") {
		tr.sent = append(tr.sent, data)
	}
	return ctx
}

func (*tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

var (
	pageByIndex = regexp.MustCompile(`Index Cond: \(ROW\(\(?org\)?(::text)?, id\) > ROW\(`)
	rowByIndex  = regexp.MustCompile(`Index Cond: \(\(\(?org\)?(::text)? = \(?u.scope\)?(::text)?\) AND \(id = u.key\)\)`)
	scans       = regexp.MustCompile(`Index Scan .* on plan_t_\d .*loops=(\d+)\)`)
)

// The tenant selects the partitions, and the key's index finds the rows: no
// cast hides the tenant's column from the planner.
func TestPlansOfKeysOfTwoColumns(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]struct{ tenantType, tenant string }{
		"varchar": {"varchar(255)", "'t' || n % 50"},
		"uuid":    {"uuid", "('6b4a2f10-0000-4000-8000-' || to_char(n % 50, 'FM000000000000'))::uuid"},
		"bigint":  {"bigint", "n % 50"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, err := pgx.ParseConfig(pgserver.DatabaseForTest(t, pgserver.Shared()))
			if err != nil {
				t.Fatal(err)
			}
			tr := &tracer{}
			cfg.Tracer = tr
			db := stdlib.OpenDB(*cfg)
			t.Cleanup(func() { _ = db.Close() })
			exec := func(query string, args ...any) {
				t.Helper()
				if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
					t.Fatalf("%s: %v", query, err)
				}
			}
			exec("CREATE TABLE plan_t (id bigint, org " + of.tenantType + ", secret varchar(500), digest bytea, " +
				"PRIMARY KEY (org, id)) PARTITION BY HASH (org)")
			for i := range 4 {
				exec(fmt.Sprintf("CREATE TABLE plan_t_%d PARTITION OF plan_t FOR VALUES WITH (MODULUS 4, REMAINDER "+
					"%[1]d)", i))
			}
			exec("INSERT INTO plan_t SELECT n, " + of.tenant + ", 'gAAAA' || repeat('x', 150) FROM " +
				"generate_series(1, 40000) n")
			exec("ANALYZE plan_t")
			tab := table{name: "plan_t", tenant: "org", columns: []column.Column{{
				Table: "plan_t", Name: "secret",
				Size: 500, Tenant: "org", ID: "id",
			}}}
			s := postgres{db}
			if err := s.describe(t.Context(), &tab); err != nil {
				t.Fatal(err)
			}
			_, rest, _, err := s.page(t.Context(), tab, span{}, 1000)
			if err != nil {
				t.Fatal(err)
			}
			tr.sent = nil
			page, _, _, err := s.page(t.Context(), tab, rest, 1000)
			if err != nil {
				t.Fatal(err)
			}
			plan := tr.plan(t, db)
			if !pageByIndex.MatchString(plan) || strings.Contains(plan, "  Sort\n") ||
				strings.Contains(plan, "Incremental Sort\n") || strings.Contains(plan, "Seq Scan") {
				t.Errorf("a page:\n%s", plan)
			}
			changes := make([]change, len(page))
			for i, r := range page {
				changes[i] = change{
					row:   r,
					cells: []cell{{changed: true, value: sql.NullString{String: "gAAAAnew", Valid: true}}},
				}
			}
			done, err := s.write(t.Context(), tab, changes)
			if err != nil || done.rows != 1000 || done.refused != nil {
				t.Fatal(done, err)
			}
			plan = tr.plan(t, db)
			if !rowByIndex.MatchString(plan) || strings.Contains(plan, "Seq Scan on plan_t") {
				t.Errorf("a write:\n%s", plan)
			}
			if _, err := s.stored(t.Context(), tab, changes); err != nil {
				t.Fatal(err)
			}
			again := tr.sent[0]
			plan = tr.plan(t, db)
			if !rowByIndex.MatchString(plan) || strings.Contains(plan, "Seq Scan on plan_t") {
				t.Errorf("what is stored:\n%s", plan)
			}
			looks := 0
			for _, scan := range scans.FindAllStringSubmatch(explain(t, db, "ANALYZE, TIMING OFF, SUMMARY OFF", again),
				-1) {
				n, _ := strconv.Atoi(scan[1])
				looks += n
			}
			if looks != len(changes) { // otherwise each row is looked up in several partitions
				t.Errorf("%d looks into partitions for %d rows", looks, len(changes))
			}

			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback() }()
			tenant := page[0].tenant.String
			rows, err := s.ofTenant(t.Context(), tx, tab, tenant)
			if err != nil || len(rows) != 800 {
				t.Fatal(len(rows), err)
			}
			one := []string{"ofTenant"}
			if err := s.shred(t.Context(), tx, tab, rows[0],
				[]sql.NullString{{String: "gAAAAgone", Valid: true}}); err != nil {
				t.Fatal(err)
			}
			one = append(one, "shred")
			for _, group := range tab.groups(changes) {
				if err := s.lock(t.Context(), tx, tab, group); err != nil {
					t.Fatal(err)
				}
				one = append(one, "lock")
			}
			if len(one) != len(tr.sent) {
				t.Fatalf("%d statements, want %d", len(tr.sent), len(one))
			}
			for _, what := range one {
				if plan := tr.plan(t, db); partitionsOf(plan) != 1 || !strings.Contains(plan, "Index Cond: ") {
					t.Errorf("%s reads %d partitions:\n%s", what, partitionsOf(plan), plan)
				}
			}
		})
	}
}

// plan explains the first recorded statement.
func (tr *tracer) plan(t *testing.T, db *sql.DB) string {
	t.Helper()
	if len(tr.sent) == 0 {
		t.Fatal("nothing was sent")
	}
	data := tr.sent[0]
	tr.sent = tr.sent[1:]
	return explain(t, db, "COSTS OFF", data)
}

func explain(t *testing.T, db *sql.DB, options string, data pgx.TraceQueryStartData) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN ("+options+") "+data.SQL, slices.Clone(data.Args)...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var plan strings.Builder
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		plan.WriteString(line + "\n")
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan.String()
}

func partitionsOf(plan string) (n int) {
	for i := range 4 {
		if strings.Contains(plan, fmt.Sprintf("on plan_t_%d", i)) {
			n++
		}
	}
	return n
}
