package evidence

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/report"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

const tenant = "tenant-of-whom-nobody-hears"

// The report's counts match the database, and neither page nor document
// contains a secret.
func TestReport(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		keep(t, env)
		account := env.Account(t, tenant)
		for i := range 3 {
			env.Credential(t, account, fmt.Sprint("PK-PLAINTEXT-", i), "secret-plaintext")
		}
		testdb.Run(t, env.DB, "INSERT INTO credent_states (column_name, protection, state) VALUES "+
			"('user_credentials.api_key', 'tenant-keys', 'write')")
		gone := env.Account(t, "gone-"+tenant)
		env.Open(t, testopt.WithKeyring(env.Ring)).UserCredential.Create().SetAccount(gone).SetUserID("gone-" + tenant).
			SetCredentialType("alpaca").SetAPIKey(credent.NewSecret("PK-PLAINTEXT-4")).
			SetSecretKey(credent.NewSecret("secret-plaintext")).SaveX(t.Context())
		if _, err := rotate.DestroyTenant(t.Context(), env.DB, env.Ring, "gone-"+tenant); err != nil {
			t.Fatal(err)
		}
		m := reportOf(t, env)
		m.finds(t, report.PartVerification, "user_credentials.api_key was never verified")
		if m.code != 1 {
			t.Errorf("exit code %d: %s", m.code, m.notes)
		}
		out, err := env.Command("verify").CombinedOutput()
		if err != nil && !strings.Contains(string(out), "shredded") {
			t.Fatalf("verify: %v: %s", err, out)
		}
		m = reportOf(t, env)
		if found := own(m.Findings); len(found) > 0 || len(m.Findings) == 0 && m.code != 0 {
			t.Errorf("exit code %d: %s, findings %v, gaps %v", m.code, m.notes, found, m.Gaps)
		}
		id := env.Ring.Primary().ID()
		credentials := m.credentials(t)
		want := report.Count{N: 4, Exact: true, Known: true}
		if credentials.Rows != want || !credentials.Whole || credentials.Sampled != 4 ||
			credentials.Columns[0].Stored != want || credentials.Columns[0].NotTokens.N != 0 {
			t.Errorf("got %+v", credentials)
		}
		if s := credentials.Columns[0].Sample; s.Under[id] != 3 || s.Under[rotate.UnderDestroyed] != 1 || !s.Opened {
			t.Errorf("the sample is %+v", s)
		}
		if k := m.Keys[0]; k.ID != id || k.Use != "primary" || k.Newest == nil || time.Since(*k.Newest) > time.Hour {
			t.Errorf("the key is %+v", k)
		}
		if run, ok := m.Verifications[0].Last(); !ok || run.Secrets != 4 || run.Primary != id || run.Under[id] != 3 {
			t.Errorf("the verification is %+v", run)
		}
		if !m.Migrations.Compared || len(m.Migrations.Drift) > 0 || m.Migrations.Current == "" {
			t.Errorf("migrations: %+v", m.Migrations)
		}
		if m.Tenants.Destroyed != 1 || len(m.Tenants.Last) != 1 || len(m.Tenants.Months) != 1 ||
			time.Since(m.Tenants.Last[0].At) > time.Hour {
			t.Errorf("tenants: %+v", m.Tenants)
		}
		m.lacks(t, report.PartAudit, "the audit trail isn't set up: no service has written an entry")
		for _, text := range []string{m.page, m.text, m.notes} {
			noSecret(t, env, text)
			if strings.Contains(text, tenant) {
				t.Error("the report names the tenant")
			}
		}
		m = reportOf(t, env, "--tenants")
		noSecret(t, env, m.page+m.text)
		if !strings.Contains(m.page, "gone-"+tenant) || m.Tenants.Last[0].Tenant != "gone-"+tenant ||
			strings.Count(m.text, tenant) != 1 {
			t.Error("the report should name only the shredded tenant")
		}
	})
}

// own drops findings about the roles of other tests, which share the server.
func own(found []report.Finding) []report.Finding {
	return slices.DeleteFunc(slices.Clone(found), func(f report.Finding) bool {
		return f.Part == report.PartRowSecurity && strings.Contains(f.Text, "role credent_test_")
	})
}

// noSecret fails the test if a text contains a secret, a token, a key, or a
// part of the database's URL.
func noSecret(t *testing.T, env *testdb.Env, text string) {
	t.Helper()
	bad := []string{"PLAINTEXT", "secret-plaintext", fernet.Prefix, env.URL, "://", "127.0.0.1", "localhost"}
	if env.Key != "" {
		raw, err := base64.URLEncoding.DecodeString(env.Key)
		if err != nil {
			t.Fatal(err)
		}
		bad = append(bad, env.Key, base64.StdEncoding.EncodeToString(raw), fmt.Sprintf("%x", raw))
	}
	if u, err := url.Parse(env.URL); err == nil && !env.IsSQLite() {
		bad = append(bad, strings.Trim(u.Path, "/"))
		if u.Port() != "" {
			bad = append(bad, ":"+u.Port())
		}
	} else {
		bad = append(bad, "credent.db")
	}
	for _, b := range bad {
		if i := strings.Index(text, b); i >= 0 {
			t.Errorf("it contains %q: %s", b, text[max(i-60, 0):min(i+60, len(text))])
		}
	}
}

// Without a key the report is written, and says what is missing.
func TestReportWithoutKey(t *testing.T) {
	t.Parallel()
	env := testdb.NewSQLite(t, "modernc")
	env.Seed(t)
	if out, err := env.Command("verify").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	env.Key = ""
	m := reportOf(t, env)
	m.lacks(t, report.PartKeys, "no encryption key")
	if s := m.credentials(t).Columns[0].Sample; m.code != 3 || s.Opened || s.Secrets == 0 {
		t.Errorf("exit code %d, sample %+v, findings %v", m.code, s, m.Findings)
	}
	if len(m.Keys) != 1 || m.Keys[0].Use != "unknown" || m.Keys[0].Verified == 0 {
		t.Errorf("the keys are %+v", m.Keys)
	}
	if !strings.Contains(m.notes, "lacks") {
		t.Errorf("standard error: %q", m.notes)
	}
}

// The report finds every fault.
func TestFindings(t *testing.T) {
	t.Parallel()
	env := testdb.NewSQLite(t, "modernc")
	env.Seed(t)
	keep(t, env)
	other, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.Encrypt("PK-PLAINTEXT")
	if err != nil {
		t.Fatal(err)
	}
	testdb.Run(t, env.DB, "PRAGMA ignore_check_constraints = 1; "+
		"UPDATE user_credentials SET secret_key = 'PK-PLAINTEXT' WHERE rowid = 1",
		"UPDATE user_credentials SET secret_key = '"+foreign+"' WHERE rowid = 2",
		"INSERT INTO credent_states (column_name, protection, state) VALUES "+
			"('user_credentials.api_key', 'binding', 'require'), ('others.column', 'binding', 'off')",
		"DROP INDEX idx_user_credentials_user_id")
	m := reportOf(t, env)
	m.finds(t, report.PartProtections, "1 values of user_credentials.secret_key are no tokens")
	m.finds(t, report.PartProtections, "not bound to its place")
	m.finds(t, report.PartKeys, "sampled secrets of user_credentials.secret_key open under no key")
	m.finds(t, report.PartMigrations, "index idx_user_credentials_user_id on user_credentials: missing")
	m.lacks(t, report.PartProtections, "others.column")
	for _, f := range m.Findings {
		if !strings.Contains(m.page, strings.ReplaceAll(strings.ReplaceAll(f.Text, "'", "&#39;"), `"`, "&#34;")) {
			t.Errorf("the page lacks %q", f.Text)
		}
	}
	noSecret(t, env, m.page+m.text+m.notes)
	testdb.Run(t, env.DB, "DELETE FROM credent_states")
	env.Key = keyring.GenerateKey()
	m = reportOf(t, env)
	m.finds(t, report.PartKeys, "the canary of user_credentials.api_key does not open")
}

// The trend has each verification, by its key.
func TestTrend(t *testing.T) {
	t.Parallel()
	env := testdb.NewSQLite(t, "modernc")
	env.Seed(t)
	first := env.Ring.Primary().ID()
	counts, err := rotate.Verify(t.Context(), env.DB, env.Ring)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	const runs = 70
	for i := range runs {
		if err := rotate.RecordVerification(t.Context(), env.DB, counts, at.AddDate(0, 0, i)); err != nil {
			t.Fatal(err)
		}
	}
	previous := env.Key
	env.Key = keyring.GenerateKey()
	cmd := env.Command("verify")
	cmd.Env = append(cmd.Env, "ENCRYPTION_KEY_PREVIOUS="+previous)
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Fatalf("verify: %s", out)
	}
	m := reportOf(t, env)
	m.finds(t, report.PartVerification, "user_credentials.api_key was not ready at the last verification, on ")
	v := m.Verifications[0]
	last, _ := v.Last()
	if len(v.Runs) != 60 || !v.Runs[0].At.Equal(at.AddDate(0, 0, runs-59)) || !v.Runs[0].Ready || last.Ready ||
		last.Under[first] == 0 || last.Primary == first {
		t.Errorf("%d runs, the first %+v, the last %+v", len(v.Runs), v.Runs[0], last)
	}
}

// A table larger than the sample is counted, and sampled throughout.
func TestReportOfManyRows(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		const rows = 20_000
		_, credentials := env.Seed(t)
		before := int64(0)
		env.Value(t, &before, "SELECT count(*) FROM user_credentials")
		series, id := "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < "+fmt.Sprint(rows)+") ",
			"lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || "+
				"'-8' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))"
		if !env.IsSQLite() {
			id = "gen_random_uuid()"
		}
		where := fmt.Sprintf("WHERE c.id = '%s'", credentials[0].ID)
		env.Exec(t, "INSERT INTO user_credentials "+
			"(id, user_account_id, user_id, credential_type, api_key, secret_key) "+series+
			"SELECT "+id+", c.user_account_id, c.user_id, c.credential_type, c.api_key, c.secret_key "+
			"FROM user_credentials c, n "+where)
		m := reportOf(t, env, "--sample", "500")
		table := m.credentials(t)
		if table.Rows != (report.Count{N: before + rows, Exact: true, Known: true}) || table.Whole ||
			table.Sampled == 0 || table.Sampled > 1500 {
			t.Errorf("got %+v", table)
		}
		if s := table.Columns[0].Sample; s.Under[env.Ring.Primary().ID()] != s.Secrets || s.Secrets != table.Sampled {
			t.Errorf("the sample is %+v of %d rows", s, table.Sampled)
		}
		m.lacks(t, report.PartKeys, fmt.Sprintf(
			"each secret of user_credentials: only a sample of %d rows was examined", table.Sampled))

		// With too little time the report neither waits nor claims that there
		// is nothing.
		m = reportOf(t, env, "--within", "1us", "--sample", "500")
		m.lacks(t, report.PartInventory, "the number of rows and secrets of user_credentials")
		if table := m.credentials(t); table.Rows.Exact || table.Columns[0].Stored.Known {
			t.Errorf("got %+v", table)
		}
		if !strings.Contains(m.page, "not known") {
			t.Error("the page doesn't say what it doesn't know")
		}
	})
}

// Partitions are counted and sampled as one table.
func TestReportOfPartitions(t *testing.T) {
	t.Parallel()
	env := &testdb.Env{URL: testdb.NewDatabase(t, ""), Key: keyring.GenerateKey()}
	env.Ring = testdb.Keyring(t, env.Key)
	env.DB = testdb.OpenDB(t, env.URL)
	if err := migrate.Apply(t.Context(), env.DB, migrate.Config{Layout: migrate.Partitioned}); err != nil {
		t.Fatal(err)
	}
	env.Client = testdb.Open(t, env.URL, testopt.WithKeyring(env.Ring))
	for i := range 30 {
		env.Credential(t, env.Account(t, fmt.Sprint("user ", i)), "PK", "secret")
	}
	m := reportOf(t, env, "--sample", "20")
	if table := m.credentials(t); table.Rows.N != 30 || !table.Rows.Exact ||
		m.Database.Layout != "partitions" || table.Columns[1].Stored.N != 30 {
		t.Errorf("got %+v in %+v", table, m.Database)
	}
	a := m.access("credent_app", "user_credentials")
	if !a.Held || a.Alone != report.SeesNothing || a.AsUser != report.SeesOwn {
		t.Errorf("credent_app: %+v", a)
	}
}
