package rotation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// writers change both secrets of rows until stop. Every second writer stores
// plaintext, like the program being replaced, unless all are told to encrypt.
// They return each row's newest acknowledged value.
func (p *plain) writers(
	t *testing.T, n int, allEncrypt bool,
) (stop func() map[uuid.UUID]testdb.Pair, written *atomic.Int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	written = new(atomic.Int64)
	acknowledged := make([]map[uuid.UUID]testdb.Pair, n)
	var wg sync.WaitGroup
	for w := range n {
		acknowledged[w] = make(map[uuid.UUID]testdb.Pair)
		write := func(id uuid.UUID, v testdb.Pair) error {
			return p.Client.UserCredential.UpdateOneID(id).SetAPIKey(credent.NewSecret(v.APIKey)).
				SetSecretKey(credent.NewSecret(v.SecretKey)).Exec(context.WithoutCancel(ctx))
		}
		if w%2 == 0 && !allEncrypt {
			write = func(id uuid.UUID, v testdb.Pair) error {
				_, err := p.DB.ExecContext(context.WithoutCancel(ctx),
					p.Placeholders("UPDATE user_credentials SET api_key = $1, secret_key = $2 WHERE id = $3"), v.APIKey,
					v.SecretKey, id)
				return err
			}
		}
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				// Each row has one writer, so that its last acknowledged value
				// is known.
				id := p.ids[(i*n+w)%len(p.ids)]
				v := testdb.Pair{
					APIKey:    fmt.Sprintf("key %d of %d", i, w),
					SecretKey: fmt.Sprintf("secret %d of %d", i, w),
				}
				if last, ok := acknowledged[w][id]; ok {
					p.checkLast(t, id, last)
				}
				err := write(id, v)
				testdb.Pace()
				if p.IsSQLite() && err != nil && strings.Contains(err.Error(), "SQLITE_BUSY") {
					continue // not acknowledged
				}
				if err != nil {
					t.Error(err)
					return
				}
				acknowledged[w][id] = v
				written.Add(1)
			}
		})
	}
	return func() map[uuid.UUID]testdb.Pair {
		cancel()
		wg.Wait()
		all := make(map[uuid.UUID]testdb.Pair)
		for _, m := range acknowledged {
			for id, v := range m {
				all[id] = v
			}
		}
		return all
	}, written
}

// checkLast checks that a row has its writer's last acknowledged value, before
// the next write would hide its loss.
func (p *plain) checkLast(t *testing.T, id uuid.UUID, want testdb.Pair) {
	t.Helper()
	c, err := p.Client.UserCredential.Get(context.WithoutCancel(t.Context()), id)
	if err != nil {
		t.Error(err)
		return
	}
	apiKey, err := c.APIKey.Reveal()
	secretKey, err2 := c.SecretKey.Reveal()
	if got := (testdb.Pair{APIKey: apiKey, SecretKey: secretKey}); err != nil || err2 != nil || got != want {
		t.Errorf("an acknowledged write was lost: %v, %v", err, err2)
	}
}

// check compares the stored values with the acknowledged and the original ones.
func (p *plain) check(t *testing.T, got, acknowledged map[uuid.UUID]testdb.Pair) {
	t.Helper()
	lost := 0
	for i, id := range p.ids {
		want, ok := acknowledged[id]
		if !ok {
			want = testdb.Pair{APIKey: fmt.Sprint("key ", i), SecretKey: fmt.Sprint("secret ", i)}
		}
		if got[id] != want {
			lost++
		}
	}
	if lost > 0 || len(got) != len(p.ids) {
		t.Errorf("%d of %d acknowledged writes were lost; %d rows", lost, len(acknowledged), len(got))
	}
}

// finish encrypts the rest, and checks that no acknowledged write was lost and
// nothing is plaintext.
func (p *plain) finish(t *testing.T, acknowledged map[uuid.UUID]testdb.Pair) {
	t.Helper()
	p.encrypt(t, rotate.Config{})
	if primary, plaintext := p.counts(t); primary != 2*int64(len(p.ids)) || plaintext != 0 {
		t.Errorf("at the end: %d and %d", primary, plaintext)
	}
	p.check(t, testdb.Opened(t, p.Ring, p.Tokens(t)), acknowledged)
}

// Rows that others change at the same time, with plaintext and with tokens, are
// encrypted without losing a write.
func TestEncryptBesideWriters(t *testing.T) {
	t.Parallel()
	forEachPlain(t, 400, func(t *testing.T, p *plain) {
		stop, written := p.writers(t, 4, false)
		var skipped int64
		for runs := 0; runs == 0 || written.Load() < 500; runs++ {
			report, err := rotate.Encrypt(t.Context(), p.DB, p.Ring, rotate.Config{Batch: 50})
			if err != nil && !errors.Is(err, rotate.ErrNotDone) {
				t.Fatal(err)
			}
			skipped += report.Tables[0].Skipped
		}
		t.Logf("%d writes, %d rows left to others", written.Load(), skipped)
		p.finish(t, stop())
	})
}

// Ten runs are killed at random moments beside four writers; the eleventh
// finishes.
func TestEncryptKilled(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.NewDatabase(t, "")
			testdb.Twin(t, url, "", nil, "create-all")
			p := newPlain(t, url, 500, opts...)
			stop, _ := p.writers(t, 4, false)
			killTenTimes(t, url, "encrypt", p.Key)
			p.finish(t, stop())
		})
	}
}

// The way back, beside writers that encrypt: nothing is lost, and once they
// stop everything is plaintext; then encryption again.
func TestDecryptToPlaintext(t *testing.T) {
	t.Parallel()
	forEachPlain(t, 400, func(t *testing.T, p *plain) {
		p.encrypt(t, rotate.Config{})
		// The writers open the window again before the first plaintext is
		// stored.
		stop, written := p.writers(t, 4, true)
		for runs := 0; runs == 0 || written.Load() < 500; runs++ {
			if _, err := rotate.DecryptToPlaintext(t.Context(), p.DB, p.Ring, rotate.Config{Batch: 50}); err != nil &&
				!errors.Is(err, rotate.ErrNotDone) {
				t.Fatal(err)
			}
			for _, id := range p.ids[:5] {
				c := p.Client.UserCredential.GetX(t.Context(), id)
				_, _ = testdb.Reveal(t, c.APIKey), testdb.Reveal(t, c.SecretKey)
			}
		}
		acknowledged := stop()
		dry, err := rotate.DecryptToPlaintext(t.Context(), p.DB, p.Ring, rotate.Config{DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		primary, _ := p.counts(t)
		report, err := rotate.DecryptToPlaintext(t.Context(), p.DB, p.Ring, rotate.Config{})
		if err != nil || report.Rewritten() != dry.Rewritten() || 2*report.Rewritten() < primary {
			t.Fatalf("%+v after %+v, %v", report, dry, err)
		}
		if primary, plaintext := p.counts(t); primary != 0 || plaintext != 2*int64(len(p.ids)) {
			t.Errorf("at the end: %d and %d", primary, plaintext)
		}
		p.check(t, p.Tokens(t), acknowledged)
		again, err := rotate.DecryptToPlaintext(t.Context(), p.DB, p.Ring, rotate.Config{})
		if err != nil || again.Rewritten() != 0 {
			t.Errorf("the second run: %+v, %v", again, err)
		}
		p.finish(t, acknowledged)
	})
}

// Plaintext that would look like a token stays encrypted.
func TestDecryptQuarantines(t *testing.T) {
	t.Parallel()
	forEachPlain(t, 6, func(t *testing.T, p *plain) {
		p.encrypt(t, rotate.Config{})
		bad := map[int]error{
			1: credent.ErrUnknownKey, 2: credent.ErrCorrupt, 3: credent.ErrLooksLikeToken,
			4: credent.ErrNotText,
		}
		for i, stored := range map[int]string{
			1: testdb.Must(testdb.Keyring(t, keyring.GenerateKey()).Encrypt("x")),
			2: p.get(t, "api_key", 2)[:60],
			3: testdb.Must(p.Ring.Encrypt("gAAAA is how it begins")),
			4: testdb.Must(p.Ring.Encrypt("a NUL byte: \x00")),
		} {
			p.set(t, "api_key", i, stored)
		}
		report, err := rotate.DecryptToPlaintext(t.Context(), p.DB, p.Ring, rotate.Config{})
		if !errors.Is(err, rotate.ErrQuarantined) || report.Tables[0].Quarantined != int64(len(bad)) ||
			report.Rewritten() != 6 {
			t.Fatalf("%+v, %v", report, err)
		}
		for _, q := range report.Tables[0].Examples {
			for i, want := range bad {
				if q.Row == p.ids[i].String() && (!errors.Is(q.Err, want) || q.Column != "api_key") {
					t.Errorf("row %d: %+v, want %v", i, q, want)
				}
			}
		}
		for i := range bad {
			if !strings.HasPrefix(p.get(t, "api_key", i), "gAAAA") {
				t.Errorf("row %d is plaintext", i)
			}
		}
	})
}

// While the CHECK forbids plaintext, nothing is decrypted, and the error says
// what to do.
func TestDecryptNeedsNoCheck(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		env.Seed(t)
		before := env.Tokens(t)
		_, err := rotate.DecryptToPlaintext(t.Context(), env.DB, env.Ring, rotate.Config{})
		var schemaError *rotate.SchemaError
		if !errors.As(err, &schemaError) || !strings.Contains(err.Error(), "user_credentials_api_key_encrypted") ||
			!strings.Contains(err.Error(), "user_credentials_secret_key_encrypted") {
			t.Fatal(err)
		}
		if after := env.Tokens(t); len(after) != 3 || testdb.Opened(t, env.Ring, after) == nil ||
			after[firstOf(after)] != before[firstOf(after)] {
			t.Error("something was changed")
		}
		if env.IsSQLite() {
			if schemaError.SQL != "" || !strings.Contains(err.Error(), "make the table anew") {
				t.Errorf("SQLite can't drop it: %v", err)
			}
			return
		}
		for range 2 {
			if !errors.As(err, &schemaError) {
				t.Fatal(err)
			}
			env.Exec(t, schemaError.SQL)
			_, err = rotate.DecryptToPlaintext(t.Context(), env.DB, env.Ring, rotate.Config{})
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range env.Tokens(t) {
			if !strings.HasPrefix(p.APIKey, "api") || !strings.HasPrefix(p.SecretKey, "secret") {
				t.Errorf("%+v is stored", p)
			}
		}
	})
}

func firstOf(m map[uuid.UUID]testdb.Pair) (first uuid.UUID) {
	for id := range m {
		if first == uuid.Nil || id.String() < first.String() {
			first = id
		}
	}
	return first
}
