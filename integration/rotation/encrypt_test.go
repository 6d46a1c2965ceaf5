package rotation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

// window allows plaintext in both columns.
func window(opts ...testopt.Option) []testopt.Option {
	return append(opts, testopt.WithEncryption(credent.Write))
}

// plain is a database with plaintext in its encrypted columns: the first
// migration's tables, without CHECKs.
type plain struct {
	*testdb.Env // its client has the window
	opts        []testopt.Option
	ids         []uuid.UUID
}

// forEachPlain runs a test over both drivers of Postgres and on SQLite, each
// with rows of "key 0" and "secret 0", "key 1" and "secret 1", and so on.
func forEachPlain(t *testing.T, rows int, test func(t *testing.T, p *plain)) {
	t.Helper()
	forEachPlainPostgres(t, rows, test)
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, newPlain(t, newPlainSQLite(t), rows))
	})
}

func forEachPlainPostgres(t *testing.T, rows int, test func(t *testing.T, p *plain)) {
	t.Helper()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.NewDatabase(t, "")
			if err := testopt.Apply(t.Context(), testdb.OpenDB(t, url),
				testopt.WithTarget(testdb.CreateTables)); err != nil {
				t.Fatal(err)
			}
			test(t, newPlain(t, url, rows, opts...))
		})
	}
}

// newPlainSQLite returns the URL of a file with tables without CHECKs.
func newPlainSQLite(t *testing.T) string {
	t.Helper()
	url := "sqlite:" + filepath.Join(t.TempDir(), "plain.db") + "?_pragma=synchronous(0)&_pragma=busy_timeout(60000)"
	files, err := migrate.Files("sqlite3")
	if err != nil {
		t.Fatal(err)
	}
	statements, err := fs.ReadFile(files, testdb.CreateTables+"_create_tables.sql")
	if err != nil {
		t.Fatal(err)
	}
	without := regexp.MustCompile(`,\s*CONSTRAINT \S+_encrypted. CHECK [^\n,]*`).ReplaceAllString(string(statements), "")
	if strings.Contains(without, "gAAAA") {
		t.Fatalf("the tables have CHECKs:\n%s", without)
	}
	db := testdb.OpenDB(t, url)
	testdb.Run(t, db, without)
	testdb.Run(t, db, "ALTER TABLE user_credentials ADD COLUMN api_key_index blob")
	return url
}

// neededColumns returns what docs/encrypting.md adds for the Go client.
func neededColumns(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/encrypting.md")
	if err != nil {
		t.Fatal(err)
	}
	statement := regexp.MustCompile(`(?m)^ALTER TABLE .* ADD COLUMN .*$`).FindString(string(page))
	if statement == "" {
		t.Fatal("docs/encrypting.md adds no column")
	}
	return statement
}

func newPlain(t *testing.T, url string, rows int, opts ...testopt.Option) *plain {
	t.Helper()
	env := &testdb.Env{URL: url, Key: keyring.GenerateKey(), DB: testdb.OpenDB(t, url, opts...)}
	env.Ring = testdb.Keyring(t, env.Key)
	p := &plain{Env: env, opts: append(opts[:len(opts):len(opts)], testopt.WithKeyring(env.Ring))}
	env.Client = testdb.Open(t, url, window(p.opts...)...)
	if !env.IsSQLite() {
		testdb.Run(t, env.DB, neededColumns(t))
	}
	account := env.Account(t, "u1")
	tx, err := env.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		id := uuid.New()
		p.ids = append(p.ids, id)
		if _, err := tx.ExecContext(t.Context(), env.Placeholders("INSERT INTO user_credentials (id, "+
			"user_account_id, user_id, credential_type, api_key, secret_key, is_active, created_at, updated_at) "+
			"VALUES ($1, $2, 'u1', 'alpaca', $3, $4, true, '2026-01-02 03:04:05', '2026-01-02 03:04:05')"),
			id, account.ID, fmt.Sprint("key ", i), fmt.Sprint("secret ", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	return p
}

// set stores a value as it is, in a statement of its own.
func (p *plain) set(t *testing.T, column string, row int, value string) {
	t.Helper()
	p.Exec(t, p.Placeholders("UPDATE user_credentials SET "+column+" = $1 WHERE id = $2"), value, p.ids[row])
}

// get returns what is stored.
func (p *plain) get(t *testing.T, column string, row int) (value string) {
	t.Helper()
	p.Value(t, &value, p.Placeholders("SELECT "+column+" FROM user_credentials WHERE id = $1"), p.ids[row])
	return value
}

// counts returns how many secrets are under the primary key, and how many are
// plaintext.
func (p *plain) counts(t *testing.T) (primary, plaintext int64) {
	t.Helper()
	counts, err := rotate.Verify(t.Context(), p.DB, p.Ring)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counts {
		primary += c.Primary
		plaintext += c.NotEncrypted
	}
	if err := counts.Err(); errors.Is(err, rotate.ErrPlaintext) != (plaintext > 0) {
		t.Errorf("%d are plaintext: %v", plaintext, err)
	}
	return primary, plaintext
}

func (p *plain) encrypt(t *testing.T, cfg rotate.Config) *rotate.TableReport {
	t.Helper()
	report, err := rotate.Encrypt(t.Context(), p.DB, p.Ring, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &report.Tables[0]
}

func TestEncrypt(t *testing.T) {
	t.Parallel()
	const rows = 2100
	forEachPlain(t, rows, func(t *testing.T, p *plain) {
		special := []string{
			"", "ключ-密钥-🔑", strings.Repeat("x", 303), "quote ' \" \\ {} , NULL", "line\nbreak",
			" blanks ", "gAAA",
		}
		for i, value := range special {
			p.set(t, "api_key", i, value)
		}
		p.Client.UserCredential.UpdateOneID(p.ids[50]).SetAPIKey(credent.NewSecret("a token")).ExecX(t.Context())
		token := p.get(t, "api_key", 50)
		p.Exec(t, "UPDATE user_credentials SET updated_at = '2026-01-02 03:04:05'")
		if primary, plaintext := p.counts(t); primary != 1 || plaintext != 2*rows-1 {
			t.Fatalf("before: %d and %d", primary, plaintext)
		}

		if dry := p.encrypt(t, rotate.Config{DryRun: true}); dry.Rewritten != rows {
			t.Errorf("a dry run would encrypt %d rows", dry.Rewritten)
		}
		if _, plaintext := p.counts(t); plaintext != 2*rows-1 {
			t.Error("the dry run wrote")
		}
		only := p.encrypt(t, rotate.Config{Columns: []string{"user_credentials.api_key"}})
		if _, plaintext := p.counts(t); plaintext != rows || only.Rewritten != rows-1 {
			t.Errorf("of one column %d rows were encrypted, %d are left", only.Rewritten, plaintext)
		}
		report := p.encrypt(t, rotate.Config{})
		if report.Rewritten != rows {
			t.Errorf("encrypted %d rows", report.Rewritten)
		}
		if diff := cmp.Diff([]string{"api_key", "secret_key"}, report.Unchecked); diff != "" {
			t.Error(diff)
		}
		if primary, plaintext := p.counts(t); primary != 2*rows || plaintext != 0 {
			t.Errorf("after: %d and %d", primary, plaintext)
		}
		if p.get(t, "api_key", 50) != token {
			t.Error("a token was written anew")
		}
		passes := 1
		if p.Dialect() == "postgres" { // one over the heap, and a snapshot
			passes = 2
		}
		if again := p.encrypt(t, rotate.Config{}); again.Rewritten != 0 || again.Passes != passes {
			t.Errorf("the second run encrypted %d rows in %d passes", again.Rewritten, again.Passes)
		}
		// The window is closed.
		client := testdb.Open(t, p.URL, append(p.opts, testopt.VerifyOnRead())...)
		want := func(i int) testdb.Pair {
			return testdb.Pair{APIKey: fmt.Sprint("key ", i), SecretKey: fmt.Sprint("secret ", i)}
		}
		for i, id := range p.ids {
			c := client.UserCredential.GetX(t.Context(), id)
			got, expected := testdb.Pair{
				APIKey:    testdb.Reveal(t, c.APIKey),
				SecretKey: testdb.Reveal(t, c.SecretKey),
			}, want(i)
			switch {
			case i < len(special):
				expected.APIKey = special[i]
			case i == 50:
				expected.APIKey = "a token"
			}
			if got != expected {
				t.Errorf("row %d: got %q, want %q", i, got, expected)
			}
			if got := c.UpdatedAt.Format("2006-01-02 15:04:05"); got != "2026-01-02 03:04:05" {
				t.Fatalf("updated_at was changed to %s", got)
			}
			if i == 60 {
				break
			}
		}
	})
}

func TestEncryptWindow(t *testing.T) {
	t.Parallel()
	forEachPlain(t, 3, func(t *testing.T, p *plain) {
		ctx := t.Context()
		p.set(t, "secret_key", 1, "")
		p.set(t, "api_key", 2, "gAAAA-plaintext")
		closed := testdb.Open(t, p.URL, p.opts...)
		half := testopt.WithEncryption(credent.Write, usercredential.APIKeyColumn)
		var events []credent.Reveal
		observed := testdb.Open(t, p.URL,
			window(append(p.opts, testopt.OnReveal(func(e credent.Reveal) { events = append(events, e) }))...)...)

		for i := range 2 {
			c := closed.UserCredential.GetX(ctx, p.ids[i])
			for _, s := range []credent.Secret{c.APIKey, c.SecretKey} {
				if _, err := s.Reveal(); !errors.Is(err, credent.ErrNotEncrypted) {
					t.Errorf("without the window: %v", err)
				}
			}
		}
		c := observed.UserCredential.GetX(ctx, p.ids[0])
		if got := testdb.Reveal(t, c.APIKey) + testdb.Reveal(t, c.SecretKey); got != "key 0secret 0" {
			t.Errorf("in the window: %q", got)
		}
		if got := testdb.Reveal(t, observed.UserCredential.GetX(ctx, p.ids[1]).SecretKey); got != "" {
			t.Errorf("of nothing: %q", got)
		}
		if _, err := observed.UserCredential.GetX(ctx, p.ids[2]).APIKey.Reveal(); !errors.Is(err, credent.ErrCorrupt) {
			t.Errorf("what looks like a token: %v", err)
		}
		c.Update().SetAPIKey(credent.NewSecret("new")).SetSecretKey(c.SecretKey).ExecX(ctx)
		if got := testdb.Opened(t, p.Ring, map[uuid.UUID]testdb.Pair{c.ID: {
			APIKey:    p.get(t, "api_key", 0),
			SecretKey: p.get(t, "secret_key", 0),
		}})[c.ID]; got != (testdb.Pair{APIKey: "new", SecretKey: "secret 0"}) {
			t.Errorf("written in the window: %q", got)
		}
		_ = testdb.Reveal(t, observed.UserCredential.GetX(ctx, p.ids[0]).APIKey)
		var plaintext []bool
		for _, e := range events {
			plaintext = append(plaintext, e.Plaintext)
		}
		// The write of a secret that was read reveals it as well.
		if diff := cmp.Diff([]bool{true, true, true, false, true, false}, plaintext); diff != "" {
			t.Error(diff)
		}

		strict := testdb.Open(t, p.URL, append(p.opts, testopt.VerifyOnRead(), half)...)
		if _, err := strict.UserCredential.Get(ctx, p.ids[1]); !errors.Is(err, credent.ErrNotEncrypted) ||
			!strings.Contains(err.Error(), "secret_key") {
			t.Errorf("strict, with plaintext in a column that is not allowed: %v", err)
		}
		strict = testdb.Open(t, p.URL, window(append(p.opts, testopt.VerifyOnRead())...)...)
		if n := len(strict.UserCredential.Query().Where(usercredential.IDIn(p.ids[:2]...)).AllX(ctx)); n != 2 {
			t.Errorf("strict, in the window: %d rows", n)
		}
		if _, err := strict.UserCredential.Get(ctx, p.ids[2]); !errors.Is(err, credent.ErrCorrupt) {
			t.Errorf("strict, with what looks like a token: %v", err)
		}
	})
}

// What cannot be encrypted is left as it is and named, without its value; the
// rest is encrypted, also the other secret of the same row.
func TestEncryptQuarantines(t *testing.T) {
	t.Parallel()
	forEachPlain(t, 10, func(t *testing.T, p *plain) {
		foreign, err := testdb.Keyring(t, keyring.GenerateKey()).Encrypt("x")
		if err != nil {
			t.Fatal(err)
		}
		bad := map[int]struct {
			stored string
			err    error
		}{
			1: {foreign, credent.ErrUnknownKey},
			2: {foreign[:50], credent.ErrCorrupt},
			3: {"gAAAA-plaintext", credent.ErrCorrupt},
			4: {strings.Repeat("long", 76), credent.ErrTooLong},
			5: {"[REDACTED]", credent.ErrRedacted},
		}
		if p.IsSQLite() { // a Postgres of UTF-8 holds nothing else
			bad[6] = struct {
				stored string
				err    error
			}{"text\xff", credent.ErrNotText}
		}
		for i, b := range bad {
			p.set(t, "api_key", i, b.stored)
		}
		report, err := rotate.Encrypt(t.Context(), p.DB, p.Ring, rotate.Config{Batch: 3})
		if !errors.Is(err, rotate.ErrQuarantined) || report.Tables[0].Rewritten != 10 ||
			report.Tables[0].Quarantined != int64(len(bad)) {
			t.Fatalf("%+v, %v", report, err)
		}
		named := make(map[string]error)
		for _, q := range report.Tables[0].Examples {
			named[q.Row] = q.Err
			if q.Column != "api_key" {
				t.Errorf("%+v", q)
			}
		}
		for i, b := range bad {
			if got := named[p.ids[i].String()]; !errors.Is(got, b.err) ||
				strings.Contains(got.Error(), b.stored) && b.stored != "[REDACTED]" {
				t.Errorf("row %d: got %v, want %v", i, got, b.err)
			}
			if got := p.get(t, "api_key", i); got != b.stored {
				t.Errorf("row %d was changed", i)
			}
		}
		if primary, _ := p.counts(t); primary != int64(20-len(bad)) {
			t.Errorf("%d are encrypted", primary)
		}
	})
}

// Columns without room for tokens are refused before anything is written, with
// the SQL that makes room.
func TestEncryptNarrow(t *testing.T) {
	t.Parallel()
	forEachPlainPostgres(t, 3, func(t *testing.T, p *plain) { // SQLite takes no notice of a length
		for _, test := range []struct{ columnType, using, says string }{
			{"varchar(100)", "", "character varying(100)"},
			{"varchar(499)", "", "character varying(499)"},
			{"char(500)", "", "character(500)"},
			{"json", "to_json(secret_key)", "json"},
		} {
			using := ""
			if test.using != "" {
				using = " USING " + test.using
			}
			p.Exec(t, "ALTER TABLE user_credentials ALTER COLUMN secret_key TYPE "+test.columnType+using)
			_, err := rotate.Encrypt(t.Context(), p.DB, p.Ring, rotate.Config{})
			var schemaError *rotate.SchemaError
			if !errors.As(err, &schemaError) || !strings.Contains(err.Error(), test.says) ||
				schemaError.Column.Name != "secret_key" {
				t.Fatalf("%s: %v", test.columnType, err)
			}
			if primary, _ := p.counts(t); primary != 0 {
				t.Errorf("%s: %d secrets were written", test.columnType, primary)
			}
			if mend := schemaError.SQL; mend != "" {
				p.Exec(t, mend)
			} else {
				p.Exec(t, "ALTER TABLE user_credentials ALTER COLUMN secret_key TYPE varchar(500) USING secret_key "+
					"#>> '{}'")
			}
			if _, err := rotate.Encrypt(t.Context(), p.DB, p.Ring, rotate.Config{DryRun: true}); err != nil {
				t.Errorf("%s: after %q: %v", test.columnType, schemaError.SQL, err)
			}
		}
		p.Exec(t, "CREATE DOMAIN secret AS varchar(600); CREATE EXTENSION IF NOT EXISTS citext")
		for _, columnType := range []string{"text", "varchar", "varchar(501)", "secret", "citext"} {
			p.Exec(t, "ALTER TABLE user_credentials ALTER COLUMN secret_key TYPE "+columnType)
			if _, err := rotate.Encrypt(t.Context(), p.DB, p.Ring, rotate.Config{DryRun: true}); err != nil {
				t.Errorf("%s: %v", columnType, err)
			}
		}
		// Of a type that takes texts for equal that are not the same, the very
		// value that was read is replaced all the same.
		if report := p.encrypt(t, rotate.Config{}); report.Rewritten != 3 || report.Skipped != 0 {
			t.Errorf("citext: %+v", report)
		}
	})
}

// A CHECK that was added as NOT VALID is validated when nothing but tokens is
// left.
func TestEncryptValidates(t *testing.T) {
	t.Parallel()
	const name = "user_credentials_api_key_encrypted"
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		valid := func() (valid bool) {
			env.Value(t, &valid, "SELECT convalidated FROM pg_constraint WHERE conname = '"+name+"'")
			return valid
		}
		_, rows := env.Seed(t)
		env.Exec(t, "ALTER TABLE user_credentials DROP CONSTRAINT "+name)
		env.Exec(t, "ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_secret_key_encrypted")
		env.Exec(t, "UPDATE user_credentials SET api_key = 'key', secret_key = 'secret'")
		env.Exec(t, "UPDATE user_credentials SET api_key = repeat('x', 400) WHERE id = $1", rows[1].ID)
		env.Exec(t, "ALTER TABLE user_credentials ADD CONSTRAINT "+name+" CHECK (api_key LIKE 'gAAAA%') NOT VALID")

		// Where one secret stays plaintext, the CHECK refuses the row with the
		// other encrypted.
		report, err := rotate.Encrypt(t.Context(), env.DB, env.Ring, rotate.Config{})
		if !errors.Is(err, rotate.ErrQuarantined) || valid() {
			t.Fatalf("%+v, %v, valid %v", report, err, valid())
		}
		table := report.Tables[0]
		if table.Rewritten != 2 || table.Quarantined != 2 || table.Validated != nil {
			t.Errorf("%+v", table)
		}
		if q := table.Examples[0]; q.Column != "api_key" || !errors.Is(q.Err, credent.ErrTooLong) {
			t.Errorf("%+v", q)
		}
		if q := table.Examples[1]; q.Column != "secret_key" || !errors.Is(q.Err, rotate.ErrRefused) ||
			!strings.Contains(q.Err.Error(), name) {
			t.Errorf("%+v", q)
		}

		rows[1].Update().SetAPIKey(credent.NewSecret("key")).ExecX(t.Context())
		report, err = rotate.Encrypt(t.Context(), env.DB, env.Ring, rotate.Config{DryRun: true})
		if err != nil || valid() {
			t.Errorf("the dry run: %+v, %v, valid %v", report, err, valid())
		}
		report, err = rotate.Encrypt(t.Context(), env.DB, env.Ring, rotate.Config{})
		if err != nil || !valid() {
			t.Fatalf("%+v, %v, valid %v", report, err, valid())
		}
		if diff := cmp.Diff([]string{name}, report.Tables[0].Validated); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"secret_key"}, report.Tables[0].Unchecked); diff != "" {
			t.Error(diff)
		}
		env.Exec(t, "ALTER TABLE user_credentials ADD CONSTRAINT user_credentials_secret_key_encrypted CHECK "+
			"(secret_key LIKE 'gAAAA%')")
		if check, err := testopt.Check(t.Context(), env.DB); err != nil || check.Err() != nil {
			t.Errorf("the database is not as the migrations say: %v, %v", err, check.Err())
		}
	})
}

// The tables of a Python application that stored plaintext, without a history:
// they are not adopted before, and are after.
func TestEncryptThenAdopt(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.NewDatabase(t, "")
			testdb.Twin(t, url, "", nil, "create-all")
			p := newPlain(t, url, 20, opts...)
			if report, err := testopt.Adopt(t.Context(), p.DB); !errors.Is(err, migrate.ErrBadRows) ||
				len(report.BadRows) != 2 {
				t.Fatalf("%+v, %v", report, err)
			}
			p.encrypt(t, rotate.Config{})
			if _, err := testopt.Adopt(t.Context(), p.DB); err != nil {
				t.Fatal(err)
			}
			if check, err := testopt.Check(t.Context(), p.DB); err != nil || check.Err() != nil {
				t.Errorf("%v, %v", check.Err(), err)
			}
			if report := p.encrypt(t, rotate.Config{}); report.Rewritten != 0 || report.Unchecked != nil ||
				report.Validated != nil {
				t.Errorf("once more: %+v", report)
			}
			if got := testdb.Reveal(t, testdb.Open(t, url, p.opts...).UserCredential.GetX(t.Context(), p.ids[7]).
				APIKey); got != "key 7" {
				t.Errorf("revealed %q", got)
			}
			p.pythonReads(t, 20)
		})
	}
}

// Migration 1 alone, with a history: apply stops at the second before, and goes
// on after.
func TestEncryptThenApply(t *testing.T) {
	t.Parallel()
	forEachPlainPostgres(t, 5, func(t *testing.T, p *plain) { // the first migration of SQLite has the CHECKs
		if err := testopt.Apply(t.Context(), p.DB); err == nil {
			t.Fatal("plaintext passed the CHECK")
		}
		p.encrypt(t, rotate.Config{})
		if err := testopt.Apply(t.Context(), p.DB); err != nil {
			t.Fatal(err)
		}
	})
}

func TestEncryptStops(t *testing.T) {
	t.Parallel()
	forEachPlain(t, 500, func(t *testing.T, p *plain) {
		ctx, cancel := context.WithCancel(t.Context())
		report, err := rotate.Encrypt(ctx, p.DB, p.Ring, rotate.Config{
			Batch: 50, Workers: 1,
			Progress: func(progress rotate.Progress) {
				if progress.Read >= 100 {
					cancel()
				}
			},
		})
		if !errors.Is(err, context.Canceled) || report.Rewritten() == 0 || report.Rewritten() == 500 {
			t.Errorf("stopped after %d rows, %v", report.Rewritten(), err)
		}
		if primary, _ := p.counts(t); primary != 2*report.Rewritten() {
			t.Errorf("the report says %d rows, %d secrets are encrypted", report.Rewritten(), primary)
		}
		if rest := p.encrypt(t, rotate.Config{}); rest.Rewritten != 500-report.Rewritten() {
			t.Errorf("the rest was %d rows", rest.Rewritten)
		}
	})
}

// A service's role sees no rows, so nothing can be said about them.
func TestRotateSeesAllRows(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		env.Seed(t)
		db := testdb.OpenDB(t, env.URL)
		db.SetMaxOpenConns(1)
		if _, err := db.ExecContext(t.Context(), "SET ROLE credent_app"); err != nil {
			t.Fatal(err)
		}
		for name, call := range map[string]func() error{
			"verify": func() error { _, err := rotate.Verify(t.Context(), db, env.Ring); return err },
			"rotate": func() error { _, err := rotate.Run(t.Context(), db, env.Ring, rotate.Config{}); return err },
			"encrypt": func() error {
				_, err := rotate.Encrypt(t.Context(), db, env.Ring,
					rotate.Config{})
				return err
			},
		} {
			if err := call(); !errors.Is(err, rotate.ErrHidden) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// A database without the tables is not one in which everything is encrypted.
func TestEncryptNeedsTables(t *testing.T) {
	t.Parallel()
	for _, url := range []string{testdb.NewDatabase(t, ""), "sqlite:" + filepath.Join(t.TempDir(), "empty.db")} {
		db, ring := testdb.OpenDB(t, url), testdb.Keyring(t, keyring.GenerateKey())
		if _, err := rotate.Encrypt(t.Context(), db, ring, rotate.Config{}); !errors.Is(err, rotate.ErrNoTable) {
			t.Errorf("without the table: %v", err)
		}
		testdb.Run(t, db, "CREATE TABLE user_credentials (id int PRIMARY KEY, api_key text)")
		if _, err := rotate.Verify(t.Context(), db, ring); !errors.Is(err, rotate.ErrNoTable) ||
			!strings.Contains(err.Error(), "secret_key") {
			t.Errorf("without a column: %v", err)
		}
		if _, err := rotate.Encrypt(t.Context(), db, ring,
			rotate.Config{Columns: []string{"user_credentials.key"}}); !errors.Is(err, credent.ErrNoColumn) {
			t.Errorf("with an unknown name: %v", err)
		}
	}
}

// pythonReads makes the Python application read rows, and compares a few.
func (p *plain) pythonReads(t *testing.T, rows int) {
	t.Helper()
	var accounts []testdb.TwinAccount
	if err := json.Unmarshal(testdb.Twin(t, p.URL, p.Key, nil, "read"), &accounts); err != nil {
		t.Fatal(err)
	}
	if len(accounts) != 1 || len(accounts[0].Credentials) != rows {
		t.Fatalf("Python read %d accounts", len(accounts))
	}
	got := make(map[string]string)
	for _, c := range accounts[0].Credentials {
		got[c.ID] = c.APIKey + ", " + c.SecretKey
	}
	for i, id := range p.ids {
		if want := fmt.Sprintf("key %d, secret %d", i, i); got[id.String()] != want {
			t.Errorf("row %d: Python read %q, want %q", i, got[id.String()], want)
		}
	}
}

// A server that logs every statement with its parameters is told no plaintext
// while it is encrypted.
func TestEncryptShowsNoPlaintextToTheServersLog(t *testing.T) {
	t.Parallel()
	recorder, err := pgserver.Start(t.Context(), pgserver.Private(), pgserver.WithSetting("log_statement", "all"),
		pgserver.WithSetting("log_parameter_max_length", "-1"),
		pgserver.WithSetting("log_parameter_max_length_on_error", "-1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := recorder.Stop(); err != nil {
			t.Error(err)
		}
	})
	for name, opts := range testdb.Drivers {
		url, _, err := recorder.CreateDatabase(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if err := testopt.Apply(t.Context(), testdb.OpenDB(t, url),
			testopt.WithTarget(testdb.CreateTables)); err != nil {
			t.Fatal(err)
		}
		p := newPlain(t, url, 5, opts...)
		p.Exec(t, "UPDATE user_credentials SET api_key = concat('LEAK', 'CANARY7Q2 ', api_key), secret_key = "+
			"concat('LEAK', 'CANARY7Q2 ', secret_key)")
		if report := p.encrypt(t, rotate.Config{}); report.Rewritten != 5 {
			t.Errorf("%s: %+v", name, report)
		}
		if got := testdb.Reveal(t, p.Client.UserCredential.GetX(t.Context(), p.ids[0]).
			APIKey); got != testdb.Canary+" key 0" {
			t.Errorf("%s: revealed %q", name, got)
		}
		p.Exec(t, "SELECT $1::text", testdb.Control+name)
		log, err := os.ReadFile(recorder.LogFile())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(log), testdb.Control+name) ||
			!strings.Contains(string(log), "UPDATE \"user_credentials\" AS t") {
			t.Errorf("%s: the log lacks parameters or statements", name)
		}
		testdb.FindCanary(t, name, string(log))
	}
}
