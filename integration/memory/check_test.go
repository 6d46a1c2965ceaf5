package memory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

// partitioned turns the table of credentials into hash partitions, with a
// primary key of two columns.
var partitioned = []string{
	"ALTER TABLE user_credentials RENAME TO before",
	`CREATE TABLE user_credentials (LIKE before INCLUDING DEFAULTS, PRIMARY KEY (user_id, id))
		PARTITION BY HASH (user_id)`,
	"CREATE TABLE user_credentials_0 PARTITION OF user_credentials FOR VALUES WITH (MODULUS 3, REMAINDER 0)",
	"CREATE TABLE user_credentials_1 PARTITION OF user_credentials FOR VALUES WITH (MODULUS 3, REMAINDER 1)",
	"CREATE TABLE user_credentials_2 PARTITION OF user_credentials FOR VALUES WITH (MODULUS 3, REMAINDER 2)",
	"INSERT INTO user_credentials SELECT * FROM before",
	"DROP TABLE before CASCADE",
	`ALTER TABLE user_credentials ENABLE ROW LEVEL SECURITY`,
	`CREATE POLICY tenant ON user_credentials USING (user_id = NULLIF(current_setting('app.user_id', true), ''))`,
	"GRANT SELECT, INSERT, UPDATE, DELETE ON user_credentials TO credent_app",
}

// read returns how many rows of the credentials a transaction has read.
func read(t *testing.T, tx *ent.Client) (rows int64) {
	t.Helper()
	found, err := tx.QueryContext(t.Context(), `SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint
		FROM pg_stat_xact_user_tables WHERE relname LIKE 'user_credentials%'`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = found.Close() }()
	if !found.Next() {
		t.Fatal(found.Err())
	}
	if err := found.Scan(&rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestCheckReadsFewRows counts the rows of a large table that a check reads.
func TestCheckReadsFewRows(t *testing.T) {
	const (
		large = 60_000
		few   = 100 // ten, and some from each partition
	)
	wrong, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	for name, layout := range map[string][]string{"plain": nil, "partitions": partitioned} {
		t.Run(name, func(t *testing.T) {
			s := testdb.NewService(t)
			exec := func(statements ...string) {
				t.Helper()
				for _, statement := range statements {
					if _, err := s.DB.ExecContext(t.Context(), statement); err != nil {
						t.Fatalf("%s: %v", statement, err)
					}
				}
			}
			exec("ALTER TABLE user_credentials DISABLE TRIGGER USER")
			// By ID, u1's rows come first, and u2's rows follow.
			for i, user := range []string{"u1", "u2"} {
				exec(fmt.Sprintf(`INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, api_key, secret_key)
					SELECT ('%d0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, user_account_id, user_id,
						'alpaca', api_key, secret_key
					FROM (SELECT * FROM user_credentials WHERE user_id = '%s' LIMIT 1) AS one, generate_series(1, %d) AS n`, i, user, large/2))
			}
			exec(layout...)
			check := func(what string, url string, ring *keyring.Keyring, as context.Context, want error) {
				t.Helper()
				client := testdb.Open(t, url, append(s.Env.Opts, testopt.WithKeyring(ring))...)
				tx, err := client.Tx(as)
				if err != nil {
					t.Fatal(err)
				}
				if err := credent.Check(as, tx.Client()); !errors.Is(err, want) {
					t.Errorf("%s: got %v, want %v", what, err, want)
				}
				if n := read(t, tx.Client()); n > few || n == 0 && url == s.URL {
					t.Errorf("%s: it reads %d rows of %d", what, n, large)
				}
				if err := tx.Rollback(); err != nil {
					t.Error(err)
				}
			}
			for _, statistics := range []string{"without statistics", "with statistics"} {
				check("owner, "+statistics, s.URL, s.Ring, t.Context(), nil)
				check("owner and another key, "+statistics, s.URL, wrong, t.Context(), encrypted.ErrUnknownKey)
				check("member without a canary, "+statistics, s.ServiceURL, s.Ring, t.Context(), credent.ErrNotChecked)
				exec("ANALYZE")
			}
			check("user of few rows", s.ServiceURL, s.Ring, testdb.As(t, "nobody"), credent.ErrNotChecked)
			if err := encrypted.KeepCanary(t.Context(), s.DB, s.Ring, ent.EncryptedColumns()...); err != nil {
				t.Fatal(err)
			}
			for what, as := range map[string]context.Context{
				"member": t.Context(), "u1": testdb.As(t, "u1"), "nobody": testdb.As(t, "nobody"),
			} {
				check(what, s.ServiceURL, s.Ring, as, nil)
				check(what+" and another key", s.ServiceURL, wrong, as, encrypted.ErrUnknownKey)
			}
		})
	}
}

// TestPartitionsAreRead reads a partitioned table page by page in primary key
// order: each row once.
func TestPartitionsAreRead(t *testing.T) {
	s := testdb.NewService(t)
	for _, statement := range append([]string{
		"ALTER TABLE user_credentials DISABLE TRIGGER USER",
		`INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, api_key, secret_key)
			SELECT gen_random_uuid(), user_account_id, user_id, 'alpaca', api_key, secret_key
			FROM user_credentials, generate_series(1, 999)`,
	}, partitioned...) {
		if _, err := s.DB.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	m := &machine{dir: t.TempDir(), env: []string{"DATABASE_URL=" + s.URL, "ENCRYPTION_KEY=" + s.Key}}
	ids := func(args ...string) (ids []string) {
		t.Helper()
		if _, code := m.run(t, nil, args...); code != 0 {
			t.Fatalf("%v: exit code %d", args, code)
		}
		text, err := os.ReadFile(filepath.Join(m.dir, "out"))
		if err != nil {
			t.Fatal(err)
		}
		return regexp.MustCompile(`(?m)^[0-9a-f]{8}-[0-9a-f-]{27}`).FindAllString(string(text), -1)
	}
	all := ids("credential", "list")
	if n := len(slices.Compact(slices.Sorted(slices.Values(all)))); n != 3000 || len(all) != n {
		t.Errorf("the list has %d rows, %d of them once", len(all), n)
	}
	if diff := cmp.Diff(all, ids("credential", "export")); diff != "" {
		t.Errorf("the export has other rows (-list +export):\n%s", diff)
	}
	if diff := cmp.Diff(all[1500:1600], ids("credential", "list", "--limit", "100", "--after", all[1499])); diff != "" {
		t.Errorf("after the 1500th (-all +after):\n%s", diff)
	}
	of := ids("credential", "list", "--user", "u2")
	if len(of) != 1000 {
		t.Errorf("u2 has %d rows", len(of))
	}
	if diff := cmp.Diff(of[500:], ids("credential", "list", "--user", "u2", "--after", of[499])); diff != "" {
		t.Errorf("after the 500th of u2 (-all +after):\n%s", diff)
	}
	ids("doctor")
	if n := m.lines(t, "out", "3000 tokens checked"); n != 2 {
		t.Errorf("doctor has checked all tokens of %d columns", n)
	}
	ids("doctor", "--limit", "1700")
	if n := m.lines(t, "out", "1700 tokens checked in the last 1700 rows by primary key"); n != 2 {
		t.Errorf("doctor has checked some tokens of %d columns", n)
	}
}
