package canary

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver of Postgres
	_ "modernc.org/sqlite"             // the driver of SQLite

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/pgserver"
)

var server *pgserver.Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	var err error
	if server, err = pgserver.Start(context.Background(), pgserver.Shared()); err != nil {
		log.Print(err)
		return 1
	}
	defer func() { _ = server.Stop() }()
	return m.Run()
}

// openPostgres returns one session on a new database.
func openPostgres(t *testing.T) *sql.DB {
	t.Helper()
	url, drop, err := server.CreateDatabase(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = drop() })
	return pool(t, "pgx", url)
}

func openSQLite(t *testing.T) *sql.DB {
	t.Helper()
	return pool(t, "sqlite", "file:"+filepath.Join(t.TempDir(), "x.db"))
}

func pool(t *testing.T, driver, name string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	return db
}

func exec(t *testing.T, db interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}, statements ...string,
) {
	t.Helper()
	for _, stmt := range statements {
		if _, err := db.ExecContext(t.Context(), stmt); err != nil {
			t.Fatalf("%s: %v", stmt, err)
		}
	}
}

func databaseOf(t *testing.T, db *sql.DB) DB {
	t.Helper()
	on, err := Of(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	return on
}

func newRing(t *testing.T, previous ...string) (*keyring.Ring, string) {
	t.Helper()
	key := fernet.GenerateKey()
	ring, err := keyring.New(key, previous...)
	if err != nil {
		t.Fatal(err)
	}
	return ring, key
}

// plan returns the database's plan for a query.
func plan(t *testing.T, db *sql.DB, explain, query string) (text string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), explain+" "+query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		dest := make([]any, len(names))
		for i := range dest {
			dest[i] = new(sql.NullString)
		}
		if err := rows.Scan(dest...); err != nil {
			t.Fatal(err)
		}
		text += dest[len(dest)-1].(*sql.NullString).String + "\n"
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return text
}

// TestSampleIsBounded samples tables of 100,000 rows without a secret: the
// database finds the last 200 by the primary key's index.
func TestSampleIsBounded(t *testing.T) {
	t.Parallel()
	const rows = 100_000
	for _, test := range []struct {
		name, schema          string
		postgres, sqlite      string // columns
		fromN                 string // a row's values, by its number n
		postgresPlan, another string // parts of the plan
	}{
		{
			name: "integer", postgres: "id bigint PRIMARY KEY", sqlite: "id integer PRIMARY KEY", fromN: "n",
			another: "SCAN t", postgresPlan: "Index Scan Backward using t_pkey",
		},
		{
			name: "uuid", postgres: "id uuid PRIMARY KEY", sqlite: "id uuid PRIMARY KEY", fromN: "%s",
			another: "USING INDEX sqlite_autoindex_t_1", postgresPlan: "Index Scan Backward using t_pkey",
		},
		{
			name: "composite", postgres: "org text, id bigint, PRIMARY KEY (org, id)",
			sqlite: "org text, id bigint, PRIMARY KEY (org, id)",
			fromN:  "'org', n", another: "USING INDEX sqlite_autoindex_t_1",
			postgresPlan: "Index Scan Backward using t_pkey",
		},
		{
			name: "schema", schema: "billing", postgres: "number bigint PRIMARY KEY",
			sqlite: "number integer PRIMARY KEY", fromN: "n",
			another: "SCAN t", postgresPlan: "Index Scan Backward using t_pkey on billing.t",
		},
		{
			name: "no key", postgres: "id bigint", sqlite: "id bigint", fromN: "n", another: "SCAN t",
			postgresPlan: "Seq Scan",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			of := column.Column{Schema: test.schema, Table: "t", Name: "secret", Index: "secret_index", Tenant: "owner"}
			ring, _ := newRing(t)
			others := "(owner text, secret varchar(500), secret_index bytea, "
			pg, lite := openPostgres(t), openSQLite(t)
			if test.schema != "" {
				exec(t, pg, "CREATE SCHEMA "+test.schema)
			}
			exec(t, pg, "CREATE TABLE "+of.Quoted()+others+test.postgres+")",
				"INSERT INTO "+of.Quoted()+" ("+names(test.postgres)+", owner) SELECT "+strings.ReplaceAll(test.fromN,
					"%s", "gen_random_uuid()")+
					fmt.Sprintf(", 'u' FROM generate_series(1, %d) AS s (n)", rows),
				"ANALYZE "+of.Quoted())
			exec(t, lite, "CREATE TABLE t "+others+test.sqlite+")",
				fmt.Sprintf("WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < %d) INSERT "+
					"INTO t (%s, owner) SELECT %s, 'u' FROM s",
					rows, names(test.sqlite), strings.ReplaceAll(test.fromN, "%s", "hex(randomblob(16))")))
			for db, explain := range map[*sql.DB]string{
				pg:   "EXPLAIN (ANALYZE, VERBOSE, TIMING off, SUMMARY off)",
				lite: "EXPLAIN QUERY PLAN",
			} {
				s := databaseOf(t, db).newSampler(ring, of)
				known, err := s.describe(t.Context(), s.of.Schema, s.of.Table)
				if err != nil {
					t.Fatal(err)
				}
				text := plan(t, db, explain, s.lastRows(known))
				want := test.postgresPlan
				if db == lite {
					want = test.another
				}
				if !strings.Contains(text, want) || strings.Contains(text, "Sort") ||
					strings.Contains(text, "TEMP B-TREE") {
					t.Errorf("the plan is\n%s\nwant %s", text, want)
				}
				if db == pg && !strings.Contains(text, "rows=200 ") {
					t.Errorf("the query does not stop after 200 rows:\n%s", text)
				}
				found, err := s.look(t.Context())
				if err != nil || found.Err != nil || !strings.Contains(found.Unseen, "200") {
					t.Errorf("got %+v, %v", found, err)
				}
			}
		})
	}
}

// TestSampleOfPartitions samples partitions with the tenant first in the
// primary key, before and after Postgres knows the number of rows.
func TestSampleOfPartitions(t *testing.T) {
	t.Parallel()
	const rows = 30_000
	db := openPostgres(t)
	exec(t, db, `CREATE TABLE p (tenant text, id uuid, secret varchar(500), PRIMARY KEY (tenant, id))
			PARTITION BY HASH (tenant)`,
		"CREATE TABLE p_0 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
		"CREATE TABLE p_1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
		fmt.Sprintf(`INSERT INTO p (tenant, id) SELECT 'u' || n %% 7, gen_random_uuid()
			FROM generate_series(1, %d) AS s (n)`, rows))
	ring, _ := newRing(t)
	for _, statement := range []string{"SELECT 1", "ANALYZE p", "UPDATE p SET secret = NULL", "VACUUM ANALYZE p"} {
		exec(t, db, statement)
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		on, err := Of(t.Context(), tx)
		if err != nil {
			t.Fatal(err)
		}
		// The connection may not have reported its earlier reads yet.
		readRows := func() (n int) {
			if err := tx.QueryRowContext(t.Context(), `SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::int
				FROM pg_stat_xact_user_tables WHERE relname LIKE 'p\_%'`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		before := readRows()
		s := on.newSampler(ring, column.Column{Table: "p", Name: "secret", Tenant: "tenant"})
		found, err := s.look(t.Context())
		if err != nil || found.Err != nil || !strings.Contains(found.Unseen, "200") {
			t.Errorf("after %s: got %+v, %v", statement, found, err)
		}
		read := readRows() - before
		if read < lookedAt || read > 2*(lookedAt+1) { // at most that many from each partition
			t.Errorf("after %s it reads %d of %d rows", statement, read, rows)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
}

// names returns the names of the columns declared before a PRIMARY KEY.
func names(columns string) string {
	if strings.HasPrefix(columns, "org") {
		return "org, id"
	}
	name, _, _ := strings.Cut(columns, " ")
	return name
}

// The catalog shows what a role can't read, so the transaction doesn't fail.
func TestUnseen(t *testing.T) {
	t.Parallel()
	db := openPostgres(t)
	ring, _ := newRing(t)
	role := "canary_" + strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(fernet.GenerateKey()[:12]))
	exec(t, db, "CREATE ROLE "+role, "CREATE TABLE notes (id int PRIMARY KEY, body varchar(500), title text)",
		"CREATE TABLE hidden (id int PRIMARY KEY, body varchar(500))", "ALTER TABLE hidden ENABLE ROW LEVEL SECURITY",
		"GRANT SELECT ON hidden TO "+role, "GRANT SELECT (id, title) ON notes TO "+role)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, stmt := range []string{"RESET ROLE", "DROP OWNED BY " + role, "DROP ROLE " + role} {
			if _, err := db.ExecContext(ctx, stmt); err != nil {
				t.Error(err)
			}
		}
	})
	notes, hidden := column.Column{Table: "notes", Name: "body"}, column.Column{Table: "hidden", Name: "body"}
	exec(t, db, CreateTable(dialect.Postgres)...)
	if err := Keep(t.Context(), databaseOf(t, db), ring, notes, hidden); err != nil {
		t.Fatal(err)
	}
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	on, err := Of(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, "SET ROLE "+role, "BEGIN")
	wrong, _ := newRing(t)
	for _, test := range []struct {
		of   column.Column
		ring *keyring.Ring
		want string
	}{
		{notes, ring, "not checked: the role may not read notes.body"},
		{hidden, ring, "not checked: row-level security hides rows from this role, and the role may not read " +
			"credent_canary.table_name"},
		{column.Column{Table: "none", Name: "body"}, ring, "not checked: there is no table none"},
		{
			column.Column{Schema: "none", Table: "notes", Name: "body"},
			ring,
			"not checked: there is no table none.notes",
		},
		{column.Column{Table: "notes", Name: "none"}, ring, "not checked: there is no column notes.none"},
	} {
		c, err := NewChecker(on, test.ring)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Check(t.Context(), test.of); !errors.Is(err, ErrNotChecked) ||
			err.Error() != "check "+test.of.String()+": "+test.want {
			t.Errorf("%s: got %v", test.of, err)
		}
	}
	exec(t, conn, "ROLLBACK", "RESET ROLE", "GRANT SELECT ON credent_canary TO "+role, "SET ROLE "+role, "BEGIN")
	for _, test := range []struct {
		ring *keyring.Ring
		want error
	}{{ring, nil}, {wrong, fernet.ErrUnknownKey}} {
		c, err := NewChecker(on, test.ring)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Check(t.Context(), hidden); !errors.Is(err, test.want) || errors.Is(err, ErrNotChecked) {
			t.Errorf("got %v, want %v", err, test.want)
		}
		if err := Keep(t.Context(), on, test.ring, hidden); !errors.Is(err, test.want) {
			t.Errorf("keep: got %v, want %v", err, test.want)
		}
	}
	exec(t, conn, "ROLLBACK", "RESET ROLE")
}

// If two writers with different keys race on an empty database, one canary is
// stored.
func TestKeepRace(t *testing.T) {
	t.Parallel()
	db := openPostgres(t)
	db.SetMaxOpenConns(8)
	exec(t, db, "CREATE TABLE notes (id int PRIMARY KEY, body varchar(500))")
	exec(t, db, CreateTable(dialect.Postgres)...)
	of := column.Column{Table: "notes", Name: "body"}
	on := databaseOf(t, db)
	const writers = 8
	results := make(chan error, writers)
	for range writers {
		ring, _ := newRing(t)
		go func() { results <- Keep(t.Context(), on, ring, of) }()
	}
	kept := 0
	for range writers {
		switch err := <-results; {
		case err == nil:
			kept++
		case !errors.Is(err, fernet.ErrUnknownKey):
			t.Error(err)
		}
	}
	if kept != 1 {
		t.Errorf("%d writers believe that their canary is stored", kept)
	}
}

// A canary doesn't open as another column's, and no other token opens as a
// canary.
func TestCanaryOfAnotherColumn(t *testing.T) {
	t.Parallel()
	ring, old := newRing(t)
	of := column.Column{Table: "notes", Name: "body"}
	token, err := sealed(ring, of)
	if err != nil {
		t.Fatal(err)
	}
	later, _ := newRing(t, old)
	if key, primary, err := open(later, of, token); err != nil || primary || key != later.Keys()[1] {
		t.Errorf("under an earlier key: %v, %v", primary, err)
	}
	if _, primary, err := open(ring, of.InSchema("billing"), token); err != nil || !primary {
		t.Errorf("in another schema: %v", err)
	}
	for name, c := range map[string]column.Column{
		"column": {Table: "notes", Name: "title"}, "table": {Table: "other", Name: "body"},
	} {
		if _, _, err := open(ring, c, token); !errors.Is(err, fernet.ErrUnknownKey) {
			t.Errorf("of another %s: got %v", name, err)
		}
	}
	secret, err := ring.Encrypt(known)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(ring, of, secret); !errors.Is(err, fernet.ErrUnknownKey) {
		t.Errorf("a secret: got %v", err)
	}
	set, err := keyring.Load(ring)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := derive(set, of)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(ring, of, keys.Encrypt("other")); !errors.Is(err, fernet.ErrCorrupt) {
		t.Errorf("another text: got %v", err)
	}
}
