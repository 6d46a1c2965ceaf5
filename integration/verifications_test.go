package integration

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/rotate"
)

// What was verified is recorded as it was, in UTC whatever the session's time
// zone, and by the role that owns the tables only.
func TestVerifications(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, env *environment) {
		account := env.account(t, "u1")
		env.client.UserCredential.Create().SetAccount(account).SetUserID("u1").SetCredentialType("alpaca").
			SetAPIKey(credent.NewSecret("PK1")).SetSecretKey(credent.NewSecret("s1")).SaveX(t.Context())
		if !env.isSQLite() {
			env.db.SetMaxOpenConns(1)
			env.exec(t, "SET TIME ZONE 'Asia/Kolkata'")
		}
		if last, err := rotate.LastVerified(t.Context(), env.db); err != nil || len(last) != 0 {
			t.Fatalf("before the first verification: %v, %v", last, err)
		}
		counts, err := rotate.Verify(t.Context(), env.db, env.ring)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Date(2026, 11, 24, 23, 30, 5, 0, time.FixedZone("", -5*60*60))
		if err := rotate.RecordVerification(t.Context(), env.db, counts, at); err != nil {
			t.Fatal(err)
		}
		want := map[string]rotate.Verification{
			"user_credentials.api_key":    {At: at.UTC(), Secrets: 1, Ready: true},
			"user_credentials.secret_key": {At: at.UTC(), Secrets: 1, Ready: true},
		}
		got, err := rotate.LastVerified(t.Context(), env.db)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		// One that began earlier and ended later does not take the place of the
		// newer one.
		if err := rotate.RecordVerification(t.Context(), env.db, counts, at.Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		if got, err = rotate.LastVerified(t.Context(), env.db); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("after an older one: %v, %v", cmp.Diff(want, got), err)
		}
		env.exec(t, "DROP TABLE credent_verifications")
		if err := rotate.RecordVerification(t.Context(), env.db, counts, at); !errors.Is(err, rotate.ErrNoTable) {
			t.Errorf("without the table: %v", err)
		}
		if _, err := rotate.LastVerified(t.Context(), env.db); !errors.Is(err, rotate.ErrNoTable) {
			t.Errorf("without the table: %v", err)
		}
	})
}

func TestVerificationsOfOthers(t *testing.T) {
	t.Parallel()
	forEachService(t, func(t *testing.T, s *service) {
		counts, err := rotate.Verify(t.Context(), s.db, s.ring)
		if err != nil {
			t.Fatal(err)
		}
		app := openDB(t, s.serviceURL, s.opts...)
		for what, err := range map[string]error{
			"record": rotate.RecordVerification(t.Context(), app, counts, time.Now()),
			"read":   func() error { _, err := rotate.LastVerified(t.Context(), app); return err }(),
		} {
			if err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("%s: %v", what, err)
			}
		}
		standby := openDB(t, s.url, s.opts...)
		standby.SetMaxOpenConns(1)
		if _, err := standby.ExecContext(t.Context(), "SET default_transaction_read_only = on"); err != nil {
			t.Fatal(err)
		}
		if err := rotate.RecordVerification(t.Context(), standby, counts, time.Now()); err == nil || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("read-only: %v", err)
		}
		if last, err := rotate.LastVerified(t.Context(), standby); err != nil || len(last) != 0 {
			t.Errorf("read-only: %v, %v", last, err)
		}
	})
}
