package otelcredent_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/otelcredent"
	"github.com/credent-go/credent/rotate"
)

const (
	apiKey    = "credent.column=user_credentials.api_key"
	secretKey = "credent.column=user_credentials.secret_key"
	token     = " credent.stored=token"
	plaintext = " credent.stored=plaintext"
)

// TestSealsAndOpens counts each secret written and read, by column.
func TestSealsAndOpens(t *testing.T) {
	t.Parallel()
	e := newEnv(t, otelcredent.Config{})
	client := e.client(credent.Config{})
	e.check("credent.seals", nil)
	for range 3 {
		e.store(client, "user-1", "PK-1")
	}
	client.UserCredential.Update().Where(usercredential.ID(client.UserCredential.Query().FirstIDX(t.Context()))).
		SetAPIKey(credent.NewSecret("PK-2")).ExecX(t.Context())
	e.check("credent.seals", map[string]float64{apiKey + token: 4, secretKey + token: 3})
	e.check("credent.opens", nil)
	for _, credential := range client.UserCredential.Query().AllX(t.Context()) {
		for range 2 {
			if _, err := credential.APIKey.Reveal(); err != nil {
				t.Error(err)
			}
		}
	}
	e.check("credent.opens", map[string]float64{apiKey + token: 6})

	// A client with VerifyOnRead opens the secrets it reads.
	verifying := e.client(credent.Config{VerifyOnRead: true})
	verifying.UserCredential.Query().AllX(t.Context())
	e.check("credent.opens", map[string]float64{apiKey + token: 9, secretKey + token: 3})
}

// TestFailuresHaveACause damages a row in each way and expects the failure's
// cause.
func TestFailuresHaveACause(t *testing.T) {
	t.Parallel()
	foreign, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	other, err := foreign.Encrypt("CANARY-1")
	if err != nil {
		t.Fatal(err)
	}
	const replace = "UPDATE user_credentials SET api_key = ? WHERE user_id = 'CANARY-USER'"
	for _, test := range []struct {
		want   string
		cfg    credent.Config
		damage func(e *env)
	}{
		{want: "unknown-key", damage: func(e *env) { e.exec(replace, other) }},
		{want: "corrupt", damage: func(e *env) { e.exec(replace, other[:len(other)-5]) }},
		{want: "not-encrypted", damage: func(e *env) { e.exec(replace, "CANARY-1") }},
		{
			want: "wrong-location", cfg: credent.Config{Binding: credent.Require},
			damage: func(e *env) {
				e.exec("UPDATE user_credentials SET api_key = (SELECT api_key FROM user_credentials " +
					"WHERE user_id = 'user-2') WHERE user_id = 'CANARY-USER'")
			},
		},
		{
			want: "shredded", cfg: credent.Config{TenantKeys: credent.Require},
			damage: func(e *env) {
				if _, err := rotate.DestroyTenant(e.t.Context(), e.db, e.ring, "CANARY-USER"); err != nil {
					e.t.Fatal(err)
				}
			},
		},
		{
			want: "under-keyring", cfg: credent.Config{TenantKeys: credent.Require},
			damage: func(e *env) {
				stored, err := e.ring.Encrypt("CANARY-1")
				if err != nil {
					e.t.Fatal(err)
				}
				e.exec(replace, stored)
			},
		},
	} {
		t.Run(test.want, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, otelcredent.Config{})
			client := e.client(test.cfg)
			e.store(client, "user-2", "PK-2")
			row := e.store(client, "CANARY-USER", "CANARY-1")
			test.damage(e)
			client = e.client(test.cfg) // it doesn't know the tenants' keys
			read := client.UserCredential.Query().Where(usercredential.ID(row.ID)).OnlyX(t.Context())
			if _, err := read.APIKey.Reveal(); err == nil {
				t.Fatal("it opens")
			}
			e.check("credent.opens", map[string]float64{apiKey + token + " error.type=" + test.want: 1})
			e.none("CANARY", row.ID.String(), other[10:40])
		})
	}
}

// TestPlaintextWindow distinguishes plaintext from tokens, written and read.
func TestPlaintextWindow(t *testing.T) {
	t.Parallel()
	e := newEnv(t, otelcredent.Config{})
	client := e.client(credent.Config{Encryption: credent.Accept})
	sealed := e.store(e.client(credent.Config{}), "user-1", "PK-1")
	e.exec("UPDATE user_credentials SET secret_key = 'bare'")
	read := client.UserCredential.GetX(t.Context(), sealed.ID)
	for _, secret := range []credent.Secret{read.APIKey, read.SecretKey} {
		if _, err := secret.Reveal(); err != nil {
			t.Error(err)
		}
	}
	e.check("credent.opens", map[string]float64{apiKey + token: 1, secretKey + plaintext: 1})
	if _, err := client.UserCredential.UpdateOneID(sealed.ID).SetAPIKey(credent.NewSecret("PK-2")).
		Save(t.Context()); err == nil {
		t.Error("the CHECK accepts plaintext")
	}
	e.check("credent.seals", map[string]float64{
		apiKey + token: 1, secretKey + token: 1, apiKey + plaintext: 1,
	})
}

// TestRefusedSeals counts secrets that failed to encrypt, by cause.
func TestRefusedSeals(t *testing.T) {
	t.Parallel()
	e := newEnv(t, otelcredent.Config{})
	client := e.client(credent.Config{TenantKeys: credent.Require})
	e.store(client, "user-1", "PK-1")
	if _, err := rotate.DestroyTenant(t.Context(), e.db, e.ring, "user-1"); err != nil {
		t.Fatal(err)
	}
	fresh := e.client(credent.Config{TenantKeys: credent.Require})
	_, err := fresh.UserCredential.Create().SetAccountID(fresh.UserAccount.Query().OnlyIDX(t.Context())).
		SetUserID("user-1").SetCredentialType("alpaca").SetAPIKey(credent.NewSecret("PK-1")).
		SetSecretKey(credent.NewSecret("s")).Save(t.Context())
	if !errors.Is(err, credent.ErrShredded) {
		t.Fatal(err)
	}
	got := points(e.collect(), "credent.seals")
	if got[apiKey+token+" error.type=shredded"] != 1 {
		t.Errorf("got %v", got)
	}
}

// TestTenantsAreNoAttribute checks that tenants are attributes only if
// requested, up to the requested number.
func TestTenantsAreNoAttribute(t *testing.T) {
	t.Parallel()
	for _, most := range []int{-1, 0, 2} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, otelcredent.Config{Tenants: most})
			client := e.client(credent.Config{Binding: credent.Require})
			for _, user := range []string{"tenant-a", "tenant-b", "tenant-c", "tenant-d"} {
				e.store(client, user, "PK")
			}
			for _, row := range client.UserCredential.Query().AllX(t.Context()) {
				if _, err := row.APIKey.Reveal(); err != nil {
					t.Error(err)
				}
			}
			if most <= 0 {
				e.none("tenant-a", "tenant-b", "tenant-c", "tenant-d")
				e.check("credent.opens", map[string]float64{apiKey + token: 4})
				return
			}
			e.none("tenant-c", "tenant-d")
			const tenant = "credent.column=user_credentials.api_key credent.stored=token credent.tenant="
			e.check("credent.opens", map[string]float64{
				tenant + "tenant-a": 1, tenant + "tenant-b": 1, tenant + "_OTHER": 2,
			})
		})
	}
}

// TestTenantKeysCache counts lookups of tenants' keys, and the keys in memory.
func TestTenantKeysCache(t *testing.T) {
	t.Parallel()
	e := newEnv(t, otelcredent.Config{})
	e.store(e.client(credent.Config{TenantKeys: credent.Require}), "user-1", "PK-1")

	e2 := newMetrics(t, otelcredent.Config{})
	e2.db, e2.dialect, e2.ring = e.db, e.dialect, e.ring
	client := e2.client(credent.Config{TenantKeys: credent.Require})
	for want := range 3 {
		row := client.UserCredential.Query().OnlyX(t.Context())
		if _, err := row.APIKey.Reveal(); err != nil {
			t.Fatal(err)
		}
		lookups := map[string]float64{"credent.result=miss": 1}
		if want > 0 {
			lookups["credent.result=hit"] = float64(want)
		}
		e2.check("credent.tenant_keys.lookups", lookups)
		e2.check("credent.tenant_keys.cached", map[string]float64{"": 1})
	}
}

// TestCanariesAreNowhere calls each hook with secrets, and checks that no
// metric contains any.
func TestCanariesAreNowhere(t *testing.T) {
	t.Parallel()
	e := newEnv(t, otelcredent.Config{})
	client := e.client(credent.Config{Binding: credent.Write})
	row := e.store(client, "CANARY-TENANT", "CANARY-PLAINTEXT")
	if _, err := client.UserCredential.GetX(t.Context(), row.ID).APIKey.Reveal(); err != nil {
		t.Fatal(err)
	}
	var stored string
	if err := e.db.QueryRowContext(t.Context(), "SELECT api_key FROM user_credentials").Scan(&stored); err != nil {
		t.Fatal(err)
	}
	said := errors.New("CANARY-ERROR")
	observer := e.Observer()
	observer.Opened(encrypted.Event{Table: "t", Column: "c", Tenant: "CANARY-TENANT", Err: said})
	observer.Sealed(encrypted.Event{Tenant: "CANARY-TENANT", Err: fmt.Errorf("%w: %w", said, encrypted.ErrTooLong)})
	e.ReaderFailed(context.WithValue(t.Context(), contextKey{}, "CANARY-CONTEXT"), said)
	e.KeyringLoaded(keyring.Event{Err: said})
	e.KeyringLoaded(keyring.Event{After: []string{"CANARY-KEY-ID"}})
	_, run := e.Rotation(t.Context(), "rotate")
	run.Progress(rotate.Progress{Table: "t", Pass: 1, Read: 1, Total: 1, Waiting: said})
	left := rotate.Quarantined{Table: "t", Column: "c", Row: "CANARY-ROW", Err: said}
	if err := run.Quarantine([]rotate.Quarantined{left}); err != nil {
		t.Error(err)
	}
	run.End(said)
	e.none("CANARY", stored, stored[8:40], row.ID.String(), strings.ReplaceAll(row.ID.String(), "-", ""))
	e.check("credent.opens", map[string]float64{
		apiKey + token: 1, "credent.column=t.c credent.stored=token error.type=_OTHER": 1,
	})
	const unknown = "credent.column=_OTHER credent.stored=token error.type=too-long"
	if got := points(e.collect(), "credent.seals"); got[unknown] != 1 {
		t.Errorf("got %v", got)
	}
}

type contextKey struct{}

// TestConcurrent opens and collects in many goroutines without losing a count.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	e := newEnv(t, otelcredent.Config{Tenants: 3})
	client := e.client(credent.Config{Binding: credent.Require})
	for i := range 5 {
		e.store(client, fmt.Sprint("user-", i), "PK")
	}
	rows := client.UserCredential.Query().AllX(t.Context())
	const workers, rounds = 8, 100
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			_, run := e.Rotation(t.Context(), "rotate")
			for i := range rounds {
				if _, err := rows[i%len(rows)].APIKey.Reveal(); err != nil {
					t.Error(err)
				}
				e.KeyringLoaded(keyring.Event{After: []string{"a"}})
				run.Progress(rotate.Progress{Table: "t", Pass: 1, Read: int64(i + 1), Total: rounds})
				if i%10 == 0 {
					_ = points(e.collect(), "credent.opens")
				}
			}
			run.End(nil)
		})
	}
	wait.Wait()
	all := e.collect()
	opens := 0.0
	for _, n := range points(all, "credent.opens") {
		opens += n
	}
	for name, got := range map[string]float64{
		"opens": opens, "loads": points(all, "credent.keyring.loads")[""],
		"rows": points(all, "credent.rotate.rows.read")["credent.operation=rotate credent.table=t"],
	} {
		if got != workers*rounds {
			t.Errorf("%s: got %v, want %d", name, got, workers*rounds)
		}
	}
}

// TestReaderFailures counts a standby's failures.
func TestReaderFailures(t *testing.T) {
	t.Parallel()
	e := newMetrics(t, otelcredent.Config{})
	e.ReaderFailed(t.Context(), fmt.Errorf("%w: %w", credent.ErrReader, context.DeadlineExceeded))
	e.ReaderFailed(t.Context(), credent.ErrReader)
	e.check("credent.reader.failures", map[string]float64{"error.type=deadline": 1, "error.type=_OTHER": 1})
}
