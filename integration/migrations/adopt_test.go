package migrations

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"ariga.io/atlas/sql/migrate"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	ours "github.com/credent-go/credent/migrate"
)

// A database that Python created, with 1,000 rows, is adopted, hardened and
// used by both languages.
func TestAdopt(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, key := testdb.NewDatabase(t, ""), keyring.GenerateKey()
			testdb.Twin(t, url, key, nil, "create-all")
			var accounts []testdb.TwinAccount
			for i := range 100 {
				account := testdb.TwinAccount{UserID: fmt.Sprintf("py%03d", i), AccountName: "n"}
				for j := range 10 {
					account.Credentials = append(account.Credentials, testdb.TwinCredential{
						CredentialType: "alpaca", APIKey: fmt.Sprintf("PK%d-%d", i, j), SecretKey: "s", IsActive: true,
					})
				}
				accounts = append(accounts, account)
			}
			testdb.Twin(t, url, key, accounts, "write")
			db := testdb.OpenDB(t, url, opts...)

			report, err := testopt.Adopt(t.Context(), db)
			if err != nil || report.Version != testdb.CreateTables || len(report.Applied) != len(testdb.Versions(t))-1 {
				t.Fatalf("%+v, %v", report, err)
			}
			if diff := cmp.Diff(testdb.Versions(t), testdb.AppliedVersions(t, db)); diff != "" {
				t.Error(diff)
			}
			var kind, applied, total int
			var hash string
			if err := db.QueryRowContext(t.Context(), "SELECT type, applied, total, hash FROM "+
				"atlas_schema_revisions.atlas_schema_revisions WHERE version = '"+testdb.CreateTables+"'").
				Scan(&kind, &applied, &total, &hash); err != nil || kind != 1 || applied != 0 ||
				total != 0 || hash != "" {
				t.Errorf("the baseline row has %d, %d, %d, %q, %v", kind, applied, total, hash, err)
			}
			if check, err := testopt.Check(t.Context(), db); err != nil || check.Err() != nil {
				t.Errorf("%v, %v", check.Err(), err)
			}
			ring, err := keyring.New(key)
			if err != nil {
				t.Fatal(err)
			}
			client := testdb.Open(t, url, append(opts, testopt.WithKeyring(ring))...)
			credentials := client.UserCredential.Query().AllX(t.Context())
			if len(credentials) != 1000 {
				t.Fatalf("%d credentials", len(credentials))
			}
			for _, c := range credentials {
				if !strings.HasPrefix(testdb.Reveal(t, c.APIKey), "PK") {
					t.Error("revealed another plaintext")
				}
			}
			credentials[0].Update().SetAPIKey(credent.NewSecret("from Go")).ExecX(t.Context())
			var read []testdb.TwinAccount
			if err := json.Unmarshal(testdb.Twin(t, url, key, nil, "read"), &read); err != nil {
				t.Fatal(err)
			}
			found := 0
			for _, account := range read {
				for _, c := range account.Credentials {
					if c.APIKey == "from Go" {
						found++
					}
				}
			}
			if len(read) != 100 || found != 1 {
				t.Errorf("Python reads %d accounts, and %d times Go's row", len(read), found)
			}
			if report, err = testopt.Adopt(t.Context(), db); err != nil || !report.Already {
				t.Errorf("again: %+v, %v", report, err)
			}
		})
	}
}

// Adopt refuses a database that differs and prints SQL to fix it; after that
// SQL it adopts.
func TestAdoptRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ damage, object, sql string }{
		"missing index": {
			"DROP INDEX idx_user_credentials_user_id",
			"index idx_user_credentials_user_id on user_credentials", `CREATE INDEX CONCURRENTLY "idx_user_credentials_user_id"`,
		},
		"other name of an index": {
			"ALTER INDEX idx_user_accounts_user_id RENAME TO ix_user_accounts_user_id",
			"index idx_user_accounts_user_id on user_accounts", "idx_user_accounts_user_id",
		},
		"timestamptz": {
			"ALTER TABLE user_credentials ALTER COLUMN expires_at TYPE timestamptz",
			"column user_credentials.expires_at", "AT TIME ZONE 'UTC'",
		},
		"narrower column of secrets": {
			"ALTER TABLE user_credentials ALTER COLUMN api_key TYPE varchar(200)",
			"column user_credentials.api_key", "TYPE character varying(500)",
		},
		"missing unique": {
			"ALTER TABLE user_accounts DROP CONSTRAINT user_accounts_user_id_key",
			"constraint user_accounts_user_id_key on user_accounts", "UNIQUE USING INDEX",
		},
		"missing foreign key": {
			"ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_user_account_id_fkey",
			"constraint user_credentials_user_account_id_fkey on user_credentials", "NOT VALID",
		},
		"NULL allowed": {
			"ALTER TABLE user_credentials ALTER COLUMN credential_type DROP NOT NULL",
			"column user_credentials.credential_type", "IS NOT NULL) NOT VALID",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.NewDatabase(t, "")
			testdb.Twin(t, url, "", nil, "create-all")
			db := testdb.OpenDB(t, url)
			if _, err := db.ExecContext(t.Context(), test.damage); err != nil {
				t.Fatal(err)
			}
			before := testdb.PgDump(t, url)
			report, err := testopt.Adopt(t.Context(), db)
			if !errors.Is(err, ours.ErrNotEqual) || report.Version != "" || len(report.Differences) == 0 {
				t.Fatalf("%+v, %v", report, err)
			}
			if diff := cmp.Diff(before, testdb.PgDump(t, url)); diff != "" {
				t.Errorf("the refused adoption changed the database: %s", diff)
			}
			var objects, statements []string
			for _, d := range report.Differences {
				objects, statements = append(objects, d.Object), append(statements, d.SQL...)
			}
			if all := strings.Join(objects, "\n"); !strings.Contains(all, test.object) {
				t.Errorf("found %s", all)
			}
			if all := strings.Join(statements, "\n"); !strings.Contains(all, test.sql) {
				t.Errorf("the SQL is %s", all)
			}
			for _, stmt := range statements {
				if _, err := db.ExecContext(t.Context(), stmt); err != nil {
					t.Fatalf("%s: %v", stmt, err)
				}
			}
			if _, err := testopt.Adopt(t.Context(), db); err != nil {
				t.Errorf("after the fix: %v", err)
			}
		})
	}
}

// A wider secret column gets no SQL, which might truncate secrets, and
// plaintext is found before anything is written.
func TestAdoptTouchesNoSecrets(t *testing.T) {
	t.Parallel()
	url := testdb.NewDatabase(t, "")
	testdb.Twin(t, url, "", nil, "create-all")
	db := testdb.OpenDB(t, url)
	for _, stmt := range []string{
		"INSERT INTO user_accounts (id, user_id, account_name) VALUES (gen_random_uuid(), 'u1', 'n')",
		"INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, api_key, secret_key) " +
			"SELECT gen_random_uuid(), id, user_id, 'alpaca', 'PLAINCANARY', 'PLAINCANARY' FROM user_accounts",
	} {
		if _, err := db.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	before := testdb.PgDump(t, url)
	report, err := testopt.Adopt(t.Context(), db)
	if !errors.Is(err, ours.ErrBadRows) || len(report.BadRows) != 2 ||
		strings.Contains(fmt.Sprintf("%+v %v", report, err), "PLAINCANARY") {
		t.Errorf("%+v, %v", report, err)
	}
	if diff := cmp.Diff(before, testdb.PgDump(t, url)); diff != "" {
		t.Error(diff)
	}
	if _, err := db.ExecContext(t.Context(),
		"ALTER TABLE user_credentials ALTER COLUMN api_key TYPE varchar(600)"); err != nil {
		t.Fatal(err)
	}
	report, err = testopt.Adopt(t.Context(), db)
	if !errors.Is(err, ours.ErrNotEqual) || len(report.Differences) != 1 || len(report.Differences[0].SQL) != 0 ||
		report.Differences[0].Note == "" {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestNothingToAdopt(t *testing.T) {
	t.Parallel()
	if _, err := testopt.Adopt(t.Context(), testdb.OpenDB(t, testdb.NewDatabase(t, ""))); !errors.Is(err,
		ours.ErrNothingToAdopt) {
		t.Error(err)
	}
}

// Check finds applied files that were edited or removed afterwards, even if
// atlas.sum was updated.
func TestCheckFindsFiles(t *testing.T) {
	t.Parallel()
	embedded, err := ours.Files("postgres")
	if err != nil {
		t.Fatal(err)
	}
	names, err := fs.Glob(embedded, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	env := testdb.New(t)
	for name, test := range map[string]struct {
		change func(dir *migrate.MemDir, name string, data []byte) error
		rehash bool
		want   error
		kind   ours.Kind
	}{
		"edited": {func(dir *migrate.MemDir, name string, data []byte) error {
			if name == names[1] {
				data = append(data, "-- changed\n"...)
			}
			return dir.WriteFile(name, data)
		}, true, ours.ErrEdited, ours.FileEdited},
		"edited, not hashed": {func(dir *migrate.MemDir, name string, data []byte) error {
			if name == names[1] {
				data = append(data, "-- changed\n"...)
			}
			return dir.WriteFile(name, data)
		}, false, ours.ErrChanged, ours.FilesChanged},
		"deleted": {func(dir *migrate.MemDir, name string, data []byte) error {
			if name == names[1] {
				return nil
			}
			return dir.WriteFile(name, data)
		}, true, ours.ErrDeleted, ours.FileDeleted},
		"pending": {func(dir *migrate.MemDir, name string, data []byte) error {
			return errors.Join(dir.WriteFile(name, data), dir.WriteFile("20991231000000_later.sql",
				[]byte("SELECT 1;\n")))
		}, true, ours.ErrPending, ours.FilePending},
		"out of order": {func(dir *migrate.MemDir, name string, data []byte) error {
			return errors.Join(dir.WriteFile(name, data), dir.WriteFile("20261124030050_between.sql",
				[]byte("SELECT 1;\n")))
		}, true, ours.ErrOutOfOrder, ours.FileOutOfOrder},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := &migrate.MemDir{}
			for _, file := range names {
				data, err := fs.ReadFile(embedded, file)
				if err != nil {
					t.Fatal(err)
				}
				if err := test.change(dir, file, data); err != nil {
					t.Fatal(err)
				}
			}
			sum, err := fs.ReadFile(embedded, migrate.HashFileName)
			if err != nil {
				t.Fatal(err)
			}
			if test.rehash {
				hash, err := dir.Checksum()
				if err != nil {
					t.Fatal(err)
				}
				if sum, err = hash.MarshalText(); err != nil {
					t.Fatal(err)
				}
			}
			files, err := dir.Files()
			if err != nil {
				t.Fatal(err)
			}
			fsys := fstest.MapFS{migrate.HashFileName: {Data: sum}}
			for _, file := range files {
				fsys[file.Name()] = &fstest.MapFile{Data: file.Bytes()}
			}
			report, err := testopt.Check(t.Context(), env.DB, testopt.WithDir(fsys))
			if err != nil {
				t.Fatal(err)
			}
			if !errors.Is(report.Err(), test.want) || report.Findings[0].Kind != test.kind {
				t.Errorf("found %v", findings(report))
			}
		})
	}
	checkClean(t, env)
}
