package blindindex

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"entgo.io/ent/dialect"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/predicate"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// TestLookup finds exactly the rows with an api_key, in compound conditions as
// well.
func TestLookup(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		account := env.Account(t, "u1")
		want := make(map[string]map[uuid.UUID]bool)
		for i := range 40 {
			apiKey := fmt.Sprint("key ", i%7)
			row := env.Credential(t, account, apiKey, "key 1")
			if want[apiKey] == nil {
				want[apiKey] = make(map[uuid.UUID]bool)
			}
			want[apiKey][row.ID] = true
		}
		for apiKey, ids := range want {
			if diff := cmp.Diff(ids, testdb.Found(t, env.Client, apiKey)); diff != "" {
				t.Errorf("%s: %s", apiKey, diff)
			}
		}
		for _, apiKey := range []string{"", "key", "KEY 1", "key 1 ", "key 77"} {
			if got := testdb.Found(t, env.Client, apiKey); len(got) != 0 {
				t.Errorf("%q: found %d rows", apiKey, len(got))
			}
		}
		is := usercredential.APIKeyIs
		for name, test := range map[string]struct {
			where predicate.UserCredential
			want  int
		}{
			"or": {
				usercredential.Or(is(credent.NewSecret("key 1")), is(credent.NewSecret("key 2"))),
				len(want["key 1"]) + len(want["key 2"]),
			},
			"and": {
				usercredential.And(is(credent.NewSecret("key 1")), usercredential.UserID("u1")),
				len(want["key 1"]),
			},
			"and not": {usercredential.And(is(credent.NewSecret("key 1")), usercredential.UserID("u2")), 0},
			"not":     {usercredential.Not(is(credent.NewSecret("key 1"))), 40 - len(want["key 1"])},
		} {
			if n, err := env.Client.UserCredential.Query().Where(test.where).Count(ctx); err != nil || n != test.want {
				t.Errorf("%s: %d rows, want %d: %v", name, n, test.want, err)
			}
		}
		n, err := env.Client.UserAccount.Query().Where(useraccount.HasCredentialsWith(is(credent.NewSecret("key 3")))).
			Count(ctx)
		if err != nil || n != 1 {
			t.Errorf("accounts: %d, %v", n, err)
		}
		// Check a found row's secret, then update and delete by the lookup, in
		// a transaction.
		row := env.Client.UserCredential.Query().Where(is(credent.NewSecret("key 3"))).FirstX(ctx)
		tx, err := env.Client.Tx(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := tx.UserCredential.Update().Where(is(row.APIKey)).SetIsActive(false).Save(ctx); err != nil ||
			n != len(want["key 3"]) {
			t.Errorf("updated %d rows: %v", n, err)
		}
		if n, err := tx.UserCredential.Delete().Where(is(row.APIKey)).Exec(ctx); err != nil || n != len(want["key 3"]) {
			t.Errorf("deleted %d rows: %v", n, err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if got := testdb.Found(t, env.Client, "key 3"); len(got) != 0 {
			t.Errorf("found %d deleted rows", len(got))
		}
	})
}

// TestLookupIsRefused has lookups that could never find anything.
func TestLookupIsRefused(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		_, rows := env.Seed(t)
		env.Exec(t, env.Placeholders("UPDATE user_credentials SET api_key = 'gAAAA-secret' WHERE id = $1"), rows[1].ID)
		damaged := env.Client.UserCredential.GetX(t.Context(), rows[1].ID)
		for name, test := range map[string]struct {
			where predicate.UserCredential
			want  error
		}{
			"absent":    {usercredential.APIKeyIs(credent.Secret{}), nil},
			"damaged":   {usercredential.APIKeyIs(damaged.APIKey), credent.ErrCorrupt},
			"no index":  {encrypted.Lookup(usercredential.SecretKeyColumn, rows[0].SecretKey), nil},
			"no column": {encrypted.Lookup(encrypted.Column{}, rows[0].SecretKey), nil},
			"a string":  {encrypted.Lookup(usercredential.APIKeyColumn, "key 1"), encrypted.ErrValue},
		} {
			_, err := env.Client.UserCredential.Query().Where(test.where).All(t.Context())
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("%s: got %v, want %v", name, err, test.want)
			} else if strings.Contains(err.Error(), "key 1") || strings.Contains(err.Error(), "gAAAA") {
				t.Errorf("%s: the error has the secret: %v", name, err)
			}
		}
	})
}

// statementOf returns the first statement of a client that contains a text, and
// its arguments as the database gets them.
func statementOf(
	t *testing.T, env *testdb.Env, contains string, do func(client *ent.Client),
) (query string, args []any) {
	t.Helper()
	recorder := &statementRecorder{Driver: env.EntDriver(), contains: contains}
	do(ent.NewClient(ent.Driver(testdb.Must(testopt.WrapDriver(recorder, testopt.WithKeyring(env.Ring))))))
	if recorder.query == "" {
		t.Fatalf("no statement has %s", contains)
	}
	return recorder.query, recorder.args
}

// statementRecorder keeps the first query that contains a text.
type statementRecorder struct {
	dialect.Driver
	contains, query string
	args            []any
}

// Query keeps the statement, and runs it.
func (r *statementRecorder) Query(ctx context.Context, query string, args, v any) error {
	if r.query == "" && strings.Contains(query, r.contains) {
		r.query, r.args = query, args.([]any)
	}
	return r.Driver.Query(ctx, query, args, v)
}

// TestLookupUsesTheIndex checks the query plans for finding a row among 20,000,
// with one key in the keyring and with two.
func TestLookupUsesTheIndex(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		account := env.Account(t, "u1")
		rows := func(yield func(credent.CopyRow, error) bool) {
			for i := range 20_000 {
				if !yield(credent.CopyRow{
					UserAccountID: account.ID, UserID: "u1", CredentialType: "alpaca",
					APIKey: credent.NewSecret(fmt.Sprint("key ", i)), SecretKey: credent.NewSecret("secret"),
				}, nil) {
					return
				}
			}
		}
		if _, err := testopt.Copy(t.Context(), env.DB, rows, credent.CopyConfig{},
			testopt.WithKeyring(env.Ring)); err != nil {
			t.Fatal(err)
		}
		env.Exec(t, "ANALYZE")
		for range 2 {
			query, args := statementOf(t, env, "api_key_index", func(client *ent.Client) {
				row := client.UserCredential.Query().Where(usercredential.APIKeyIs(credent.NewSecret("key 12345"))).
					OnlyX(t.Context())
				if apiKey, err := row.APIKey.Reveal(); err != nil || apiKey != "key 12345" {
					t.Errorf("found %q, %v", apiKey, err)
				}
			})
			explain := "EXPLAIN "
			if env.IsSQLite() {
				explain = "EXPLAIN QUERY PLAN "
			}
			plan, err := linesOf(t.Context(), env, explain+query, args...)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(plan, "idx_user_credentials_api_key_index") || strings.Contains(plan, "Seq Scan") ||
				strings.Contains(plan, "SCAN user_credentials") {
				t.Errorf("%s\n%s", query, plan)
			}
			previous, err := keyring.New(keyring.GenerateKey(), env.Key)
			if err != nil {
				t.Fatal(err)
			}
			env.Ring = previous
		}
	})
}

// linesOf returns the text of each row's last column.
func linesOf(ctx context.Context, env *testdb.Env, query string, args ...any) (text string, err error) {
	rows, err := env.DB.QueryContext(ctx, query, args...)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return "", err
	}
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			return "", err
		}
		text += fmt.Sprint(*values[len(values)-1].(*any)) + "\n"
	}
	return text, rows.Err()
}

// TestIndexOfOtherWriters has rows that Python and raw SQL wrote without a
// digest. Before and after rotate fills in the index, no row is found by its
// former key, and each is found by its current one.
func TestIndexOfOtherWriters(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		account := env.Account(t, "u1")
		byPython := env.Credential(t, account, "old", "secret")
		byHand := env.Credential(t, account, "old", "secret")
		again := env.Credential(t, account, "old", "secret")
		plain := env.Credential(t, account, "old", "secret")
		token, err := env.Ring.Encrypt("new")
		if err != nil {
			t.Fatal(err)
		}
		if env.IsSQLite() { // the Python application doesn't use SQLite
			env.Exec(t, "UPDATE user_credentials SET api_key = $1 WHERE id = $2", token, byPython.ID)
		} else {
			testdb.Twin(t, env.URL, env.Key, map[string]any{"api_key": "new"}, "update", byPython.ID.String())
		}
		env.Exec(t, "UPDATE user_credentials SET api_key = $1 WHERE id = $2", token, byHand.ID)
		again.Update().SetAPIKey(credent.NewSecret("old")).ExecX(ctx) // the digest stays the same and isn't cleared
		// Store it as a client without Credent's driver does.
		if token, err = env.Ring.Encrypt("old"); err != nil {
			t.Fatal(err)
		}
		env.Exec(t, "UPDATE user_credentials SET is_active = false, api_key = $1 WHERE id = $2", token, plain.ID)
		wantFound := func() {
			t.Helper()
			if diff := cmp.Diff(map[uuid.UUID]bool{byPython.ID: true, byHand.ID: true},
				testdb.Found(t, env.Client, "new")); diff != "" {
				t.Errorf("the new key: %s", diff)
			}
			if diff := cmp.Diff(map[uuid.UUID]bool{again.ID: true, plain.ID: true},
				testdb.Found(t, env.Client, "old")); diff != "" {
				t.Errorf("the old key: %s", diff)
			}
		}
		counts, err := rotate.Verify(ctx, env.DB, env.Ring)
		if err != nil || counts.Err() != nil || counts[0].Index.Missing != 3 || counts[0].Index.Primary != 1 {
			t.Errorf("%+v, %v", counts, err)
		}
		wantFound()
		if counts, err = rotate.Verify(ctx, env.DB, env.Ring); err != nil || counts[0].Index.Missing != 0 {
			t.Errorf("after the lookups: %+v, %v", counts[0].Index, err)
		}
		env.Exec(t, "UPDATE user_credentials SET api_key_index = NULL WHERE id <> $1", again.ID)
		report, err := rotate.Run(ctx, env.DB, env.Ring, rotate.Config{})
		if err != nil || report.Rewritten() != 3 || report.Tables[0].Indexed != 3 {
			t.Errorf("%+v, %v", report, err)
		}
		wantFound()
		if report, err = rotate.Run(ctx, env.DB, env.Ring, rotate.Config{}); err != nil || report.Rewritten() != 0 {
			t.Errorf("once more: %+v, %v", report, err)
		}
	})
}

// TestIndexRotation looks up rows continuously while writers change them and
// the index is rotated: each row is found by its current key, and by no other.
func TestIndexRotation(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		newKey := keyring.GenerateKey()
		client := func(primary string, previous ...string) *ent.Client {
			ring, err := keyring.New(primary, previous...)
			if err != nil {
				t.Fatal(err)
			}
			return env.OnPool(testopt.WithKeyring(ring))
		}
		env.DB.SetMaxOpenConns(20)
		account := env.Account(t, "u1")
		const stable, writers, mine = 200, 4, 5
		builders := make([]*ent.UserCredentialCreate, 0, stable)
		for i := range stable {
			builders = append(builders, env.Client.UserCredential.Create().SetUserAccountID(account.ID).SetUserID("u1").
				SetCredentialType("alpaca").SetAPIKey(credent.NewSecret(fmt.Sprint("stable ", i))).
				SetSecretKey(credent.NewSecret("secret")))
		}
		env.Client.UserCredential.CreateBulk(builders...).ExecX(t.Context())
		// The steps of a rotation: all clients know both keys before the new
		// one becomes anyone's primary.
		oldFirst, newFirst := client(env.Key, newKey), client(newKey, env.Key)
		var (
			running sync.WaitGroup
			lookups atomic.Int64
		)
		check := func(c *ent.Client, apiKey string, want int) {
			n, err := c.UserCredential.Query().Where(usercredential.APIKeyIs(credent.NewSecret(apiKey))).
				Count(t.Context())
			if err != nil || n != want {
				t.Errorf("%s: found %d times, want %d: %v", apiKey, n, want, err)
			}
			lookups.Add(1)
		}
		for w := range writers {
			running.Go(func() {
				random := rand.New(rand.NewPCG(uint64(w), 1))
				pick := func() *ent.Client {
					if random.IntN(2) == 0 {
						return oldFirst
					}
					return newFirst
				}
				keys := make(map[uuid.UUID]string)
				for n := 0; ctx.Err() == nil; n++ {
					testdb.Pace()
					apiKey := fmt.Sprintf("writer %d, %d", w, n)
					if len(keys) < mine {
						row, err := pick().UserCredential.Create().SetUserAccountID(account.ID).SetUserID("u1").
							SetCredentialType("alpaca").
							SetAPIKey(credent.NewSecret(apiKey)).SetSecretKey(credent.NewSecret("secret")).
							Save(t.Context())
						if err != nil {
							t.Error(err)
							return
						}
						keys[row.ID] = apiKey
						continue
					}
					for id, before := range keys {
						if err := pick().UserCredential.UpdateOneID(id).SetAPIKey(credent.NewSecret(apiKey)).
							Exec(t.Context()); err != nil {
							t.Error(err)
							return
						}
						check(pick(), before, 0)
						check(pick(), apiKey, 1)
						keys[id] = apiKey
						break
					}
					check(pick(), fmt.Sprint("stable ", random.IntN(stable)), 1)
				}
			})
		}
		ring, err := keyring.New(newKey, env.Key)
		if err != nil {
			t.Fatal(err)
		}
		var rewritten int64
		for ctx.Err() == nil {
			report, err := rotate.Run(t.Context(), env.DB, ring, rotate.Config{Batch: 50})
			if err != nil && !errors.Is(err, rotate.ErrNotDone) {
				t.Errorf("rotate: %v", err)
			}
			if rewritten += report.Rewritten(); lookups.Load() > 500 && rewritten >= stable {
				stop()
			}
			if t.Failed() {
				stop()
			}
		}
		running.Wait()
		// All writers have stopped; the old key can go.
		if _, err := rotate.Run(t.Context(), env.DB, ring, rotate.Config{}); err != nil {
			t.Error(err)
		}
		onlyNew := client(newKey)
		for i := range stable / 50 {
			check(onlyNew, fmt.Sprint("stable ", i*50), 1)
		}
		env.CheckIndex(t, testdb.Keyring(t, newKey))
		t.Logf("%d lookups, %d rows rewritten", lookups.Load(), rewritten)
	})
}

// TestPythonDigests runs the Python code in docs/blind-index.md: its digests
// equal Go's, and lookups find the rows it stores.
func TestPythonDigests(t *testing.T) {
	t.Parallel()
	code := testdb.PythonOf(t, "blind-index.md", "the digest")
	env := testdb.New(t)
	row := env.Credential(t, env.Account(t, "u1"), "old", "secret")
	for _, apiKey := range []string{"PK-MADE-UP", "", "Schlüssel ☃"} {
		cmd := exec.CommandContext(t.Context(), testdb.Python(), "-c", code+"\nimport sys; "+
			"print(api_key_index(sys.argv[1], sys.argv[2]).hex())", env.Key, apiKey)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		digest, err := hex.DecodeString(strings.TrimSpace(string(out)))
		if err != nil {
			t.Fatal(err)
		}
		token, err := env.Ring.Encrypt(apiKey)
		if err != nil {
			t.Fatal(err)
		}
		env.Exec(t, "UPDATE user_credentials SET api_key = $1, api_key_index = $2 WHERE id = $3", token, digest, row.ID)
		if got := testdb.Found(t, env.Client, apiKey); !got[row.ID] {
			t.Errorf("%q: found %v", apiKey, got)
		}
	}
}
