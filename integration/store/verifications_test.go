package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/rotate"
)

// Verifications are recorded exactly, in UTC whatever the session's time zone,
// and only by the role that owns the tables.
func TestVerifications(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		account := env.Account(t, "u1")
		env.Client.UserCredential.Create().SetAccount(account).SetUserID("u1").SetCredentialType("alpaca").
			SetAPIKey(credent.NewSecret("PK1")).SetSecretKey(credent.NewSecret("s1")).SaveX(t.Context())
		if !env.IsSQLite() {
			env.DB.SetMaxOpenConns(1)
			env.Exec(t, "SET TIME ZONE 'Asia/Kolkata'")
		}
		if last, err := rotate.LastVerified(t.Context(), env.DB); err != nil || len(last) != 0 {
			t.Fatalf("before the first verification: %v, %v", last, err)
		}
		counts, err := rotate.Verify(t.Context(), env.DB, env.Ring)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Date(2026, 11, 24, 23, 30, 5, 0, time.FixedZone("", -5*60*60))
		if err := rotate.RecordVerification(t.Context(), env.DB, counts, at); err != nil {
			t.Fatal(err)
		}
		id := env.Ring.Primary().ID()
		found := rotate.Verification{
			At: at.UTC(), Secrets: 1, Ready: true, Primary: id,
			Under: map[string]int64{id: 1},
		}
		want := map[string]rotate.Verification{"user_credentials.api_key": found, "user_credentials.secret_key": found}
		got, err := rotate.LastVerified(t.Context(), env.DB)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		// A verification that began earlier and ended later doesn't replace the
		// newer one.
		if err := rotate.RecordVerification(t.Context(), env.DB, counts, at.Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		if got, err = rotate.LastVerified(t.Context(), env.DB); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("after an older one: %v, %v", cmp.Diff(want, got), err)
		}
		// All are kept; if two have the same second, the later recorded one is
		// last.
		counts[0].Rows, counts[0].Damaged = 2, 1
		if err := rotate.RecordVerification(t.Context(), env.DB, counts, at.Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		older := found
		older.At, older.Secrets, older.Failed, older.Ready = at.UTC().Add(-time.Hour), 2, 1, false
		older.Under = map[string]int64{id: 1, rotate.UnderDamaged: 1}
		all, err := rotate.Verifications(t.Context(), env.DB, 2)
		both := []rotate.Verification{older, found}
		if diff := cmp.Diff(both, all[counts[0].Table+"."+counts[0].Column]); diff != "" {
			t.Errorf("all: %v, %s", err, diff)
		}
		// A row recorded by an earlier version lacks the keys.
		env.Exec(t, "UPDATE credent_verifications SET found = ''")
		got, err = rotate.LastVerified(t.Context(), env.DB)
		if v := got["user_credentials.api_key"]; err != nil || v.Primary != "" || v.Secrets != 1 {
			t.Errorf("from an earlier version: %+v, %v", got, err)
		}
		env.Exec(t, "UPDATE credent_verifications SET found = 'gAAAAA-token'")
		if _, err := rotate.LastVerified(t.Context(), env.DB); err == nil || strings.Contains(err.Error(), "gAAAAA") {
			t.Errorf("malformed: %v", err)
		}
		env.Exec(t, "DROP TABLE credent_verifications")
		if err := rotate.RecordVerification(t.Context(), env.DB, counts, at); !errors.Is(err, rotate.ErrNoTable) {
			t.Errorf("without the table: %v", err)
		}
		if _, err := rotate.LastVerified(t.Context(), env.DB); !errors.Is(err, rotate.ErrNoTable) {
			t.Errorf("without the table: %v", err)
		}
	})
}

func TestVerificationsOfOthers(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		counts, err := rotate.Verify(t.Context(), s.DB, s.Ring)
		if err != nil {
			t.Fatal(err)
		}
		app := testdb.OpenDB(t, s.ServiceURL, s.Opts...)
		for what, err := range map[string]error{
			"record": rotate.RecordVerification(t.Context(), app, counts, time.Now()),
			"read":   func() error { _, err := rotate.LastVerified(t.Context(), app); return err }(),
		} {
			if err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("%s: %v", what, err)
			}
		}
		standby := testdb.OpenDB(t, s.URL, s.Opts...)
		standby.SetMaxOpenConns(1)
		if _, err := standby.ExecContext(t.Context(), "SET default_transaction_read_only = on"); err != nil {
			t.Fatal(err)
		}
		if err := rotate.RecordVerification(t.Context(), standby, counts, time.Now()); err == nil ||
			!strings.Contains(err.Error(), "read-only") {
			t.Errorf("read-only: %v", err)
		}
		if last, err := rotate.LastVerified(t.Context(), standby); err != nil || len(last) != 0 {
			t.Errorf("read-only: %v, %v", last, err)
		}
	})
}
