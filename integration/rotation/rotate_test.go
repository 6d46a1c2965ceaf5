package rotation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// rotation is a database with secrets under an old key, and the keyrings before
// and after.
type rotation struct {
	*testdb.Env
	oldKey, newKey string
	after          *keyring.Keyring
	ids            []uuid.UUID
}

func newRotation(t *testing.T, env *testdb.Env, rows int) *rotation {
	t.Helper()
	r := &rotation{Env: env, oldKey: env.Key, newKey: keyring.GenerateKey()}
	var err error
	if r.after, err = keyring.New(r.newKey, r.oldKey); err != nil {
		t.Fatal(err)
	}
	account := env.Account(t, "u1")
	for start := 0; start < rows; start += 500 {
		var creates []*ent.UserCredentialCreate
		for i := start; i < min(start+500, rows); i++ {
			creates = append(creates, env.Client.UserCredential.Create().SetAccount(account).SetUserID("u1").
				SetCredentialType("alpaca").SetAPIKey(credent.NewSecret(fmt.Sprint("key ", i))).
				SetSecretKey(credent.NewSecret(fmt.Sprint("secret ", i))))
		}
		for _, c := range env.Client.UserCredential.CreateBulk(creates...).SaveX(t.Context()) {
			r.ids = append(r.ids, c.ID)
		}
	}
	return r
}

// verify returns how many secrets are under the primary key, an earlier one,
// and anything else.
func (r *rotation) verify(t *testing.T) (primary, previous, others int64) {
	t.Helper()
	counts, err := rotate.Verify(t.Context(), r.DB, r.after)
	if err != nil {
		t.Fatal(err)
	}
	if len(counts) != 2 {
		t.Fatalf("counts of %d columns", len(counts))
	}
	for _, c := range counts {
		primary += c.Primary
		for _, n := range c.Previous {
			previous += n
		}
		others += c.UnknownKey + c.NotEncrypted + c.Damaged
		if ready := counts.Err() == nil; ready != (c.Primary == c.Rows) && ready {
			t.Errorf("ready with %+v", c)
		}
	}
	return primary, previous, others
}

func TestRotate(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		const rows = 2500
		r := newRotation(t, env, rows)
		if primary, previous, _ := r.verify(t); primary != 0 || previous != 2*rows {
			t.Fatalf("before: %d and %d", primary, previous)
		}
		var stamps string
		env.Value(t, &stamps, "SELECT md5(string_agg(updated_at::text, ',' ORDER BY id)) FROM user_credentials")

		dry, err := rotate.Run(t.Context(), env.DB, r.after, rotate.Config{DryRun: true})
		if err != nil || dry.Rewritten() != rows {
			t.Errorf("a dry run would rewrite %d rows, %v", dry.Rewritten(), err)
		}
		if primary, _, _ := r.verify(t); primary != 0 {
			t.Errorf("the dry run wrote %d secrets", primary)
		}
		var last rotate.Progress
		report, err := rotate.Run(t.Context(), env.DB, r.after,
			rotate.Config{Progress: func(p rotate.Progress) { last = p }})
		if err != nil || report.Rewritten() != rows {
			t.Errorf("rewrote %d rows, %v", report.Rewritten(), err)
		}
		read := int64(rows)
		if env.Dialect() == "postgres" { // a snapshot of the rows written meanwhile
			read = 0
		}
		if last.Read != read || last.Total != rows || last.Rewritten != rows || last.Pass != 2 {
			t.Errorf("the last progress is %+v", last)
		}
		if primary, previous, others := r.verify(t); primary != 2*rows || previous+others != 0 {
			t.Errorf("after: %d, %d, %d", primary, previous, others)
		}
		again, err := rotate.Run(t.Context(), env.DB, r.after, rotate.Config{})
		if err != nil || again.Rewritten() != 0 {
			t.Errorf("the second run rewrote %d rows, %v", again.Rewritten(), err)
		}
		var stampsAfter string
		env.Value(t, &stampsAfter, "SELECT md5(string_agg(updated_at::text, ',' ORDER BY id)) FROM user_credentials")
		if stamps != stampsAfter {
			t.Error("updated_at was changed")
		}
		// With the new key alone every secret is unchanged.
		ring, err := keyring.New(r.newKey)
		if err != nil {
			t.Fatal(err)
		}
		client := testdb.Open(t, env.URL, testopt.WithKeyring(ring))
		for i, id := range r.ids {
			if i%100 != 0 {
				continue
			}
			c := client.UserCredential.GetX(t.Context(), id)
			if got := testdb.Reveal(t, c.APIKey) + testdb.Reveal(t, c.SecretKey); got != fmt.Sprintf("key %dsecret %d",
				i, i) {
				t.Errorf("row %d: %q", i, got)
			}
		}
	})
}

// Run leaves and lists secrets it can't open; it rotates the rest, including
// the other secret of the same row.
func TestRotateQuarantines(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		r := newRotation(t, env, 10)
		foreign, err := keyring.New(keyring.GenerateKey())
		if err != nil {
			t.Fatal(err)
		}
		token, err := foreign.Encrypt("x")
		if err != nil {
			t.Fatal(err)
		}
		env.Exec(t, "ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_api_key_encrypted")
		bad := map[uuid.UUID]error{
			r.ids[1]: credent.ErrUnknownKey, r.ids[2]: credent.ErrCorrupt,
			r.ids[3]: credent.ErrNotEncrypted,
		}
		env.Exec(t, "UPDATE user_credentials SET api_key = $1 WHERE id = $2", token, r.ids[1])
		env.Exec(t, "UPDATE user_credentials SET api_key = left(api_key, 50) WHERE id = $1", r.ids[2])
		env.Exec(t, `UPDATE user_credentials SET api_key = 'plain "text", {\}' WHERE id = $1`, r.ids[3])
		report, err := rotate.Run(t.Context(), env.DB, r.after, rotate.Config{Batch: 3})
		if !errors.Is(err, rotate.ErrQuarantined) || report.Tables[0].Quarantined != int64(len(bad)) {
			t.Fatalf("%+v, %v", report, err)
		}
		for _, q := range report.Tables[0].Examples {
			if q.Column != "api_key" || !errors.Is(q.Err, bad[uuid.MustParse(q.Row)]) {
				t.Errorf("%+v", q)
			}
		}
		if primary, previous, others := r.verify(t); primary != 17 || previous != 0 || others != 3 {
			t.Errorf("after: %d, %d, %d", primary, previous, others)
		}
		var left string
		env.Value(t, &left, "SELECT api_key FROM user_credentials WHERE id = $1", r.ids[3])
		if left != `plain "text", {\}` {
			t.Errorf("the unopenable secret is now %q", left)
		}
	})
}

// writers change secrets until stop, through clients with both keys and the old
// one as primary. They return each row's newest acknowledged value. Between two
// writes each calls pause.
func (r *rotation) writers(
	t *testing.T, n int, pause func(),
) (stop func() map[uuid.UUID]string, written *atomic.Int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	written = new(atomic.Int64)
	acknowledged := make([]map[uuid.UUID]string, n)
	var wg sync.WaitGroup
	for w := range n {
		ring, err := keyring.New(r.oldKey, r.newKey)
		if err != nil {
			t.Fatal(err)
		}
		client := testdb.Open(t, r.URL, testopt.WithKeyring(ring))
		acknowledged[w] = make(map[uuid.UUID]string)
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				pause()
				// Each row has one writer, so that its last acknowledged value
				// is known.
				id := r.ids[(i*n+w)%len(r.ids)]
				if last, ok := acknowledged[w][id]; ok {
					// The next write would hide a loss.
					c, err := client.UserCredential.Get(context.WithoutCancel(ctx), id)
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := c.APIKey.Reveal(); err != nil || got != last {
						t.Errorf("an acknowledged write was lost: %v", err)
						return
					}
				}
				value := fmt.Sprintf("written %d by %d", i, w)
				if err := client.UserCredential.UpdateOneID(id).SetAPIKey(credent.NewSecret(value)).
					Exec(context.WithoutCancel(ctx)); err != nil {
					t.Error(err)
					return
				}
				acknowledged[w][id] = value
				written.Add(1)
			}
		})
	}
	return func() map[uuid.UUID]string {
		cancel()
		wg.Wait()
		all := make(map[uuid.UUID]string)
		for _, m := range acknowledged {
			maps.Copy(all, m)
		}
		return all
	}, written
}

// finish rotates the rest, and checks that no acknowledged write was lost.
func (r *rotation) finish(t *testing.T, acknowledged map[uuid.UUID]string) {
	t.Helper()
	if _, err := rotate.Run(t.Context(), r.DB, r.after, rotate.Config{}); err != nil {
		t.Fatal(err)
	}
	if primary, previous, others := r.verify(t); primary != 2*int64(len(r.ids)) || previous+others != 0 {
		t.Errorf("at the end: %d, %d, %d", primary, previous, others)
	}
	ring, err := keyring.New(r.newKey)
	if err != nil {
		t.Fatal(err)
	}
	client := testdb.Open(t, r.URL, testopt.WithKeyring(ring))
	stored := make(map[uuid.UUID]string)
	for _, c := range client.UserCredential.Query().AllX(t.Context()) {
		stored[c.ID] = testdb.Reveal(t, c.APIKey)
	}
	lost := 0
	for i, id := range r.ids {
		want, ok := acknowledged[id]
		if !ok {
			want = fmt.Sprint("key ", i)
		}
		if got, ok := stored[id]; !ok || got != want {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged writes were lost", lost, len(acknowledged))
	}
}

// Rows that others change at the same time are rotated without losing a write.
// The run reads all rows twenty times, because the writers use the old key.
func TestRotateBesideWriters(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		r := newRotation(t, env, 400)
		stop, written := r.writers(t, 4, func() {})
		for runs := 0; runs == 0 || written.Load() < 500; runs++ {
			_, err := rotate.Run(t.Context(), env.DB, r.after, rotate.Config{Batch: 50, Workers: 4})
			if err != nil && !errors.Is(err, rotate.ErrNotDone) {
				t.Fatal(err)
			}
		}
		r.finish(t, stop())
	})
}

// The Python application, which has both keys, reads every row during a
// rotation, from before its first row to after its last. At each fifth the
// rotation waits for one more such read to end, since it would be too fast for
// Python.
func TestRotateBesidePython(t *testing.T) {
	t.Parallel()
	env := testdb.New(t)
	const rows = 1000
	r := newRotation(t, env, rows)
	reads, ended, failed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(failed)
		for r.pythonReadsAll(t) {
			select {
			case reads <- struct{}{}:
			case <-ended:
				return
			}
		}
	}()
	amid := 0
	_, err := rotate.Run(t.Context(), env.DB, r.after, rotate.Config{
		Batch: 10, Workers: 1,
		Progress: func(p rotate.Progress) {
			if p.Pass > 1 || p.Read < int64(10+200*amid) {
				return
			}
			select {
			case <-reads:
				amid++
			case <-failed:
			}
		},
	})
	close(ended)
	if err != nil || amid != 5 {
		t.Errorf("Python read %d times during the rotation, %v", amid, err)
	}
	<-failed // one more read has ended
	if primary, previous, others := r.verify(t); primary != 2*rows || previous+others != 0 {
		t.Errorf("at the end: %d, %d, %d", primary, previous, others)
	}
}

// pythonReadsAll makes the Python application, which has both keys, read every
// row, and compares the values.
func (r *rotation) pythonReadsAll(t *testing.T) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testdb.Python(), "../twin/twin.py", "read")
	cmd.Env = append(os.Environ(), "DATABASE_URL="+r.URL, "ENCRYPTION_KEY="+r.oldKey,
		"ENCRYPTION_KEY_PREVIOUS="+r.newKey, "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.Output()
	var accounts []testdb.TwinAccount
	if err == nil {
		err = json.Unmarshal(out, &accounts)
	}
	if err != nil || len(accounts) != 1 || len(accounts[0].Credentials) != len(r.ids) {
		t.Errorf("Python read %d accounts, %v", len(accounts), err)
		return false
	}
	got := make(map[string]string)
	for _, c := range accounts[0].Credentials {
		got[c.ID] = c.APIKey + ", " + c.SecretKey
	}
	for i, id := range r.ids {
		if want := fmt.Sprintf("key %d, secret %d", i, i); got[id.String()] != want {
			t.Errorf("row %d: Python read %q, want %q", i, got[id.String()], want)
			return false
		}
	}
	return true
}

// The environment of a child that is to be killed.
const (
	rotateURL  = "CREDENT_TEST_ROTATE_URL"
	rotateKeys = "CREDENT_TEST_ROTATE_KEYS"
	rotateWhat = "CREDENT_TEST_ROTATE_WHAT"
)

// Ten runs are killed at random moments beside four writers; the eleventh
// finishes.
func TestRotateKilled(t *testing.T) {
	if url := os.Getenv(rotateURL); url != "" {
		rewriteUntilKilled(t, url)
		return
	}
	t.Parallel()
	env := testdb.New(t)
	r := newRotation(t, env, 1000)
	stop, _ := r.writers(t, 4, testdb.Pace)
	killTenTimes(t, env.URL, "rotate", r.newKey, r.oldKey)
	r.finish(t, stop())
}

// killTenTimes starts a child that rewrites forever, and kills it within its
// first passes.
func killTenTimes(t *testing.T, url, what string, keys ...string) {
	t.Helper()
	for range 10 {
		ready := filepath.Join(t.TempDir(), "ready")
		cmd := exec.Command(os.Args[0], "-test.run=^TestRotateKilled$")
		cmd.Env = append(os.Environ(), rotateURL+"="+url, rotateKeys+"="+strings.Join(keys, ","), rotateWhat+"="+what,
			"CREDENT_TEST_READY="+ready)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; {
			if _, err := os.Stat(ready); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the child did not begin")
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(rand.N(300 * time.Millisecond))
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		var killed *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &killed) || killed.Exited() {
			t.Fatalf("the child ended early: %v", err)
		}
	}
}

func rewriteUntilKilled(t *testing.T, url string) {
	t.Helper()
	keys := strings.Split(os.Getenv(rotateKeys), ",")
	ring, err := keyring.New(keys[0], keys[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	db := testdb.OpenDB(t, url)
	rewrite := rotate.Run
	if os.Getenv(rotateWhat) == "encrypt" {
		rewrite = rotate.Encrypt
	}
	begun := sync.OnceFunc(func() {
		if err := os.WriteFile(os.Getenv("CREDENT_TEST_READY"), nil, 0o600); err != nil {
			t.Error(err)
		}
	})
	for {
		_, err := rewrite(t.Context(), db, ring, rotate.Config{Batch: 20, Progress: func(rotate.Progress) { begun() }})
		if err != nil && !errors.Is(err, rotate.ErrNotDone) {
			t.Fatal(err)
		}
	}
}

// Statements over many rows, which lock them in another order, don't end a
// rotation.
func TestRotateBesideBulkUpdates(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		r := newRotation(t, env, 600)
		env.Exec(t, "ALTER DATABASE "+databaseName(t, env)+" SET deadlock_timeout = '10ms'")
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 2 {
			db := testdb.OpenDB(t, env.URL)
			wg.Go(func() {
				for ctx.Err() == nil {
					// This also fails with a deadlock now and then.
					_, _ = db.ExecContext(ctx, "UPDATE user_credentials SET updated_at = updated_at "+
						"WHERE id IN (SELECT id FROM user_credentials ORDER BY random() LIMIT 200)")
				}
			})
		}
		for range 3 {
			if _, err := rotate.Run(t.Context(), env.DB, r.after, rotate.Config{Batch: 100, Workers: 2}); err != nil &&
				!errors.Is(err, rotate.ErrNotDone) {
				t.Error(err)
			}
		}
		cancel()
		wg.Wait()
		r.finish(t, nil)
	})
}

func databaseName(t *testing.T, env *testdb.Env) (name string) {
	t.Helper()
	env.Value(t, &name, "SELECT quote_ident(current_database())")
	return name
}

func TestRotateStops(t *testing.T) {
	t.Parallel()
	env := testdb.New(t)
	r := newRotation(t, env, 500)
	ctx, cancel := context.WithCancel(t.Context())
	report, err := rotate.Run(ctx, env.DB, r.after, rotate.Config{
		Batch: 50, Workers: 1,
		Progress: func(p rotate.Progress) {
			if p.Read >= 100 {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) || report.Rewritten() == 0 || report.Rewritten() == 500 {
		t.Errorf("stopped after %d rows, %v", report.Rewritten(), err)
	}
	if primary, _, _ := r.verify(t); primary != 2*report.Rewritten() {
		t.Errorf("the report says %d rows, %d secrets are under the new key", report.Rewritten(), primary)
	}
	r.finish(t, nil)
}

func TestRotateSQLite(t *testing.T) {
	t.Parallel()
	url := "sqlite:" + filepath.Join(t.TempDir(), "rotate.db")
	env := &testdb.Env{URL: url, Key: keyring.GenerateKey()}
	var err error
	if env.Ring, err = keyring.New(env.Key); err != nil {
		t.Fatal(err)
	}
	env.Client = testdb.Open(t, url, testopt.WithKeyring(env.Ring), testopt.WithMigrations())
	env.DB = testdb.OpenDB(t, url)
	r := newRotation(t, env, 120)
	r.finish(t, nil)
	again, err := rotate.Run(t.Context(), env.DB, r.after, rotate.Config{RowsPerSecond: 1_000_000})
	if err != nil || again.Rewritten() != 0 {
		t.Errorf("the second run rewrote %d rows, %v", again.Rewritten(), err)
	}
}
