package integration

import (
	"context"
	"errors"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// wantCheck runs both checks, of a client and of a pool, and compares the kind
// of their answers.
func (s *service) wantCheck(t *testing.T, what string, ring *keyring.Keyring, want error) {
	t.Helper()
	pool := openDB(t, s.serviceURL, s.environment.opts...)
	client := open(t, s.serviceURL, append(s.environment.opts, testopt.WithKeyring(ring))...)
	tx, err := client.Tx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	strict := open(t, s.serviceURL, append(s.environment.opts, testopt.WithKeyring(ring), testopt.VerifyOnRead())...)
	for name, err := range map[string]error{
		"credent":     credent.Check(t.Context(), client),
		"debug":       credent.Check(t.Context(), ent.NewClient(ent.Driver(quiet(t, s, ring)))),
		"strict":      credent.Check(t.Context(), strict),
		"transaction": credent.Check(t.Context(), tx.Client()),
		"encrypted":   encrypted.Check(t.Context(), pool, ring, ent.EncryptedColumns()...),
	} {
		if !errors.Is(err, want) || errors.Is(err, credent.ErrNotChecked) != errors.Is(want, credent.ErrNotChecked) {
			t.Errorf("%s, %s: got %v, want %v", what, name, err, want)
		}
	}
	if err := tx.Rollback(); err != nil {
		t.Errorf("%s: the transaction: %v", what, err)
	}
}

// quiet returns a client's driver inside of one that logs.
func quiet(t *testing.T, s *service, ring *keyring.Keyring) dialect.Driver {
	t.Helper()
	drv, err := testopt.WrapDriver(entsql.OpenDB(dialect.Postgres, openDB(t, s.serviceURL, s.environment.opts...)), testopt.WithKeyring(ring))
	if err != nil {
		t.Fatal(err)
	}
	return dialect.DebugWithContext(drv, func(context.Context, ...any) {})
}

// A member of credent_app, whom row-level security shows no rows, gets the
// right answer of three.
func TestCheckAsMember(t *testing.T) {
	t.Parallel()
	forEachService(t, func(t *testing.T, s *service) {
		ctx := t.Context()
		wrong, err := keyring.New(keyring.GenerateKey())
		if err != nil {
			t.Fatal(err)
		}
		s.wantCheck(t, "no canary, right key", s.ring, credent.ErrNotChecked)
		s.wantCheck(t, "no canary, wrong key", wrong, credent.ErrNotChecked)
		err = credent.Check(ctx, s.app)
		if err == nil || !strings.Contains(err.Error(), "the column has no canary yet") {
			t.Errorf("it says: %v", err)
		}
		if err := credent.Check(as(t, "u1"), s.app); err != nil {
			t.Errorf("as u1: %v", err)
		}
		wrongApp := open(t, s.serviceURL, append(s.environment.opts, testopt.WithKeyring(wrong))...)
		if err := credent.Check(as(t, "u1"), wrongApp); !errors.Is(err, credent.ErrUnknownKey) {
			t.Errorf("as u1, with a wrong key: %v", err)
		}

		// Only who sees the rows, and can open them, makes canaries.
		member := openDB(t, s.serviceURL, s.environment.opts...)
		columns := ent.EncryptedColumns()
		if err := encrypted.KeepCanary(ctx, member, s.ring, columns...); !errors.Is(err, encrypted.ErrNotChecked) {
			t.Errorf("a member keeps canaries: %v", err)
		}
		if err := testopt.Apply(ctx, s.db, testopt.WithCanaries(wrong, columns...)); !errors.Is(err, encrypted.ErrUnknownKey) {
			t.Errorf("migrate with a wrong key: %v", err)
		}
		if got := lines(t, s.db, "SELECT column_name FROM credent_canary"); len(got) > 0 {
			t.Errorf("there are canaries: %v", got)
		}
		if err := testopt.Apply(ctx, s.db, testopt.WithCanaries(s.ring, columns...)); err != nil {
			t.Fatal(err)
		}
		before := lines(t, s.db, "SELECT column_name || ' ' || token FROM credent_canary ORDER BY 1")
		if len(before) != 2 {
			t.Errorf("canaries: %v", before)
		}
		s.wantCheck(t, "right key", s.ring, nil)
		s.wantCheck(t, "wrong key", wrong, credent.ErrUnknownKey)
		if err := testopt.Apply(ctx, s.db, testopt.WithCanaries(wrong, columns...)); !errors.Is(err, encrypted.ErrUnknownKey) {
			t.Errorf("migrate with a wrong key again: %v", err)
		}
		for _, stmt := range []string{
			"INSERT INTO credent_canary VALUES ('t', 'c', 'gAAAAx')", "UPDATE credent_canary SET token = 'gAAAAx'",
			"DELETE FROM credent_canary", "TRUNCATE credent_canary",
		} {
			if _, err := member.ExecContext(ctx, stmt); err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("%s: %v", stmt, err)
			}
		}

		// A new primary key, before and after rotation.
		newKey := keyring.GenerateKey()
		both, err := keyring.New(newKey, s.key)
		if err != nil {
			t.Fatal(err)
		}
		alone, err := keyring.New(newKey)
		if err != nil {
			t.Fatal(err)
		}
		s.wantCheck(t, "a new primary key", both, nil)
		s.wantCheck(t, "the new key alone", alone, credent.ErrUnknownKey)
		if err := testopt.Apply(ctx, s.db, testopt.WithCanaries(both, columns...)); err != nil {
			t.Error(err)
		}
		if after := lines(t, s.db, "SELECT column_name || ' ' || token FROM credent_canary ORDER BY 1"); strings.Join(after, ",") != strings.Join(before, ",") {
			t.Error("migrations replaced canaries")
		}
		if _, err := rotate.Run(ctx, s.db, alone, rotate.Config{}); !errors.Is(err, rotate.ErrQuarantined) {
			t.Errorf("rotate without the old key: %v", err)
		}
		s.wantCheck(t, "after a rotation that opened nothing", s.ring, nil)
		if _, err := rotate.Run(ctx, s.db, both, rotate.Config{Columns: []string{"user_credentials.api_key"}}); err != nil {
			t.Error(err)
		}
		counts, err := rotate.Verify(ctx, s.db, both)
		old := s.ring.Primary().ID()
		if err != nil || !counts[0].Canary.Primary || counts[1].Canary.Previous != old || counts.Needs(old) != 3 {
			t.Errorf("after one column's rotation: %+v, %v", counts, err)
		}
		if _, err := rotate.Run(ctx, s.db, both, rotate.Config{}); err != nil {
			t.Error(err)
		}
		counts, err = rotate.Verify(ctx, s.db, alone)
		if err := errors.Join(err, counts.Err()); err != nil {
			t.Errorf("after rotation: %v", err)
		}
		s.wantCheck(t, "the new key alone, after rotation", alone, nil)
		s.wantCheck(t, "the old key alone, after rotation", s.ring, credent.ErrUnknownKey)

		// A dump has the canaries, as it has the rows.
		restored := s.backup(t)(t)
		if err := credent.Check(ctx, restored.open(t, testopt.WithKeyring(alone))); err != nil {
			t.Errorf("a restored dump: %v", err)
		}

		s.exec(t, "REVOKE SELECT ON credent_canary FROM credent_app")
		s.wantCheck(t, "no grant on the canary", alone, credent.ErrNotChecked)
		s.exec(t, "GRANT SELECT ON credent_canary TO credent_app")
		s.exec(t, "REVOKE SELECT ON user_credentials FROM credent_app")
		s.wantCheck(t, "no grant on the credentials", alone, credent.ErrNotChecked)
	})
}

// A database without rows is checked by its canary, and without one says so.
func TestCheckEmpty(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, env *environment) {
		if err := credent.Check(t.Context(), env.client); !errors.Is(err, credent.ErrNotChecked) {
			t.Errorf("no rows and no canary: %v", err)
		}
		started := open(t, env.url, append(env.opts, testopt.WithKeyring(env.ring), testopt.WithMigrations())...)
		if err := credent.Check(t.Context(), started); err != nil {
			t.Errorf("the first start: %v", err)
		}
		wrong, err := keyring.New(keyring.GenerateKey())
		if err != nil {
			t.Fatal(err)
		}
		if err := credent.Check(t.Context(), open(t, env.url, append(env.opts, testopt.WithKeyring(wrong))...)); !errors.Is(err, credent.ErrUnknownKey) {
			t.Errorf("a wrong key: %v", err)
		}
		if _, err := testopt.Open(t.Context(), env.url, append(env.opts, testopt.WithKeyring(wrong), testopt.WithMigrations())...); !errors.Is(err, credent.ErrUnknownKey) {
			t.Errorf("a wrong key opens with migrations: %v", err)
		}
		bare := ent.NewClient(ent.Driver(entsql.OpenDB(dialect.Postgres, env.db)))
		if err := credent.Check(t.Context(), bare); !errors.Is(err, credent.ErrNoDriver) {
			t.Errorf("a client without the driver: %v", err)
		}
		counts, err := rotate.Verify(t.Context(), env.db, wrong)
		if err != nil || counts.Err() == nil {
			t.Errorf("verify under a wrong key: %+v, %v", counts, err)
		}
		// The way back to plaintext takes the canary with it.
		env.exec(t, "ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_api_key_encrypted")
		cfg := rotate.Config{Columns: []string{"user_credentials.api_key"}}
		if _, err := rotate.DecryptToPlaintext(t.Context(), env.db, env.ring, cfg); err != nil {
			t.Error(err)
		}
		if got := lines(t, env.db, "SELECT column_name FROM credent_canary"); len(got) != 1 || got[0] != "secret_key" {
			t.Errorf("canaries after it: %v", got)
		}
		if _, err := rotate.Encrypt(t.Context(), env.db, wrong, rotate.Config{}); !errors.Is(err, encrypted.ErrUnknownKey) {
			t.Errorf("encrypt with a wrong key: %v", err)
		}
		if _, err := rotate.Encrypt(t.Context(), env.db, env.ring, cfg); err != nil {
			t.Error(err)
		}
		if err := credent.Check(t.Context(), started); err != nil {
			t.Errorf("encrypted again: %v", err)
		}
	})
}
