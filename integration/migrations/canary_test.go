package migrations

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
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// wantCheck runs both checks, of a client and of a pool, and compares the kind
// of their answers.
func wantCheck(t *testing.T, s *testdb.Service, what string, ring *keyring.Keyring, want error) {
	t.Helper()
	pool := testdb.OpenDB(t, s.ServiceURL, s.Env.Opts...)
	client := testdb.Open(t, s.ServiceURL, append(s.Env.Opts, testopt.WithKeyring(ring))...)
	tx, err := client.Tx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	strict := testdb.Open(t, s.ServiceURL, append(s.Env.Opts, testopt.WithKeyring(ring), testopt.VerifyOnRead())...)
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

// quiet returns a client's driver inside one that logs.
func quiet(t *testing.T, s *testdb.Service, ring *keyring.Keyring) dialect.Driver {
	t.Helper()
	drv, err := testopt.WrapDriver(entsql.OpenDB(dialect.Postgres, testdb.OpenDB(t, s.ServiceURL, s.Env.Opts...)),
		testopt.WithKeyring(ring))
	if err != nil {
		t.Fatal(err)
	}
	return dialect.DebugWithContext(drv, func(context.Context, ...any) {})
}

// A member of credent_app, whom row-level security shows no rows, gets the
// right answer of three.
func TestCheckAsMember(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		ctx := t.Context()
		wrong, err := keyring.New(keyring.GenerateKey())
		if err != nil {
			t.Fatal(err)
		}
		wantCheck(t, s, "no canary, right key", s.Ring, credent.ErrNotChecked)
		wantCheck(t, s, "no canary, wrong key", wrong, credent.ErrNotChecked)
		err = credent.Check(ctx, s.App)
		if err == nil || !strings.Contains(err.Error(), "the column has no canary yet") {
			t.Errorf("it says: %v", err)
		}
		if err := credent.Check(testdb.As(t, "u1"), s.App); err != nil {
			t.Errorf("as u1: %v", err)
		}
		wrongApp := testdb.Open(t, s.ServiceURL, append(s.Env.Opts, testopt.WithKeyring(wrong))...)
		if err := credent.Check(testdb.As(t, "u1"), wrongApp); !errors.Is(err, credent.ErrUnknownKey) {
			t.Errorf("as u1, with a wrong key: %v", err)
		}

		// Only who sees the rows, and can open them, makes canaries.
		member := testdb.OpenDB(t, s.ServiceURL, s.Env.Opts...)
		columns := ent.EncryptedColumns()
		if err := encrypted.KeepCanary(ctx, member, s.Ring, columns...); !errors.Is(err, encrypted.ErrNotChecked) {
			t.Errorf("a member keeps canaries: %v", err)
		}
		if err := testopt.Apply(ctx, s.DB, testopt.WithCanaries(wrong, columns...)); !errors.Is(err,
			encrypted.ErrUnknownKey) {
			t.Errorf("migrate with a wrong key: %v", err)
		}
		if got := testdb.Lines(t, s.DB, "SELECT column_name FROM credent_canary"); len(got) > 0 {
			t.Errorf("there are canaries: %v", got)
		}
		if err := testopt.Apply(ctx, s.DB, testopt.WithCanaries(s.Ring, columns...)); err != nil {
			t.Fatal(err)
		}
		before := testdb.Lines(t, s.DB, "SELECT column_name || ' ' || token FROM credent_canary ORDER BY 1")
		if len(before) != 2 {
			t.Errorf("canaries: %v", before)
		}
		wantCheck(t, s, "right key", s.Ring, nil)
		wantCheck(t, s, "wrong key", wrong, credent.ErrUnknownKey)
		if err := testopt.Apply(ctx, s.DB, testopt.WithCanaries(wrong, columns...)); !errors.Is(err,
			encrypted.ErrUnknownKey) {
			t.Errorf("migrate with a wrong key again: %v", err)
		}
		for _, stmt := range []string{
			"INSERT INTO credent_canary VALUES ('t', 'c', 'gAAAAx')", "UPDATE credent_canary SET token = 'gAAAAx'",
			"DELETE FROM credent_canary", "TRUNCATE credent_canary",
		} {
			if _, err := member.ExecContext(ctx, stmt); err == nil ||
				!strings.Contains(err.Error(), "permission denied") {
				t.Errorf("%s: %v", stmt, err)
			}
		}

		// A new primary key, before and after rotation.
		newKey := keyring.GenerateKey()
		both, err := keyring.New(newKey, s.Key)
		if err != nil {
			t.Fatal(err)
		}
		alone, err := keyring.New(newKey)
		if err != nil {
			t.Fatal(err)
		}
		wantCheck(t, s, "a new primary key", both, nil)
		wantCheck(t, s, "the new key alone", alone, credent.ErrUnknownKey)
		if err := testopt.Apply(ctx, s.DB, testopt.WithCanaries(both, columns...)); err != nil {
			t.Error(err)
		}
		if after := testdb.Lines(t, s.DB,
			"SELECT column_name || ' ' || token FROM credent_canary ORDER BY 1"); strings.Join(after,
			",") != strings.Join(before, ",") {
			t.Error("migrations replaced canaries")
		}
		if _, err := rotate.Run(ctx, s.DB, alone, rotate.Config{}); !errors.Is(err, rotate.ErrQuarantined) {
			t.Errorf("rotate without the old key: %v", err)
		}
		wantCheck(t, s, "after a rotation that opened nothing", s.Ring, nil)
		if _, err := rotate.Run(ctx, s.DB, both,
			rotate.Config{Columns: []string{"user_credentials.api_key"}}); err != nil {
			t.Error(err)
		}
		counts, err := rotate.Verify(ctx, s.DB, both)
		old := s.Ring.Primary().ID()
		if err != nil || !counts[0].Canary.Primary || counts[1].Canary.Previous != old || counts.Needs(old) != 3 {
			t.Errorf("after one column's rotation: %+v, %v", counts, err)
		}
		if _, err := rotate.Run(ctx, s.DB, both, rotate.Config{}); err != nil {
			t.Error(err)
		}
		counts, err = rotate.Verify(ctx, s.DB, alone)
		if err := errors.Join(err, counts.Err()); err != nil {
			t.Errorf("after rotation: %v", err)
		}
		wantCheck(t, s, "the new key alone, after rotation", alone, nil)
		wantCheck(t, s, "the old key alone, after rotation", s.Ring, credent.ErrUnknownKey)

		// A dump has the canaries, as it has the rows.
		restored := s.Backup(t)(t)
		if err := credent.Check(ctx, restored.Open(t, testopt.WithKeyring(alone))); err != nil {
			t.Errorf("a restored dump: %v", err)
		}

		s.Exec(t, "REVOKE SELECT ON credent_canary FROM credent_app")
		wantCheck(t, s, "no grant on the canary", alone, credent.ErrNotChecked)
		s.Exec(t, "GRANT SELECT ON credent_canary TO credent_app")
		s.Exec(t, "REVOKE SELECT ON user_credentials FROM credent_app")
		wantCheck(t, s, "no grant on the credentials", alone, credent.ErrNotChecked)
	})
}

// A database without rows is checked by its canary, and without one says so.
func TestCheckEmpty(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		if err := credent.Check(t.Context(), env.Client); !errors.Is(err, credent.ErrNotChecked) {
			t.Errorf("no rows and no canary: %v", err)
		}
		started := testdb.Open(t, env.URL, append(env.Opts, testopt.WithKeyring(env.Ring), testopt.WithMigrations())...)
		if err := credent.Check(t.Context(), started); err != nil {
			t.Errorf("the first start: %v", err)
		}
		wrong, err := keyring.New(keyring.GenerateKey())
		if err != nil {
			t.Fatal(err)
		}
		if err := credent.Check(t.Context(), testdb.Open(t, env.URL, append(env.Opts,
			testopt.WithKeyring(wrong))...)); !errors.Is(err, credent.ErrUnknownKey) {
			t.Errorf("a wrong key: %v", err)
		}
		if _, err := testopt.Open(t.Context(), env.URL, append(env.Opts, testopt.WithKeyring(wrong),
			testopt.WithMigrations())...); !errors.Is(err, credent.ErrUnknownKey) {
			t.Errorf("a wrong key opens with migrations: %v", err)
		}
		bare := ent.NewClient(ent.Driver(entsql.OpenDB(dialect.Postgres, env.DB)))
		if err := credent.Check(t.Context(), bare); !errors.Is(err, credent.ErrNoDriver) {
			t.Errorf("a client without the driver: %v", err)
		}
		counts, err := rotate.Verify(t.Context(), env.DB, wrong)
		if err != nil || counts.Err() == nil {
			t.Errorf("verify under a wrong key: %+v, %v", counts, err)
		}
		// The way back to plaintext takes the canary with it.
		env.Exec(t, "ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_api_key_encrypted")
		cfg := rotate.Config{Columns: []string{"user_credentials.api_key"}}
		if _, err := rotate.DecryptToPlaintext(t.Context(), env.DB, env.Ring, cfg); err != nil {
			t.Error(err)
		}
		if got := testdb.Lines(t, env.DB, "SELECT column_name FROM credent_canary"); len(got) != 1 ||
			got[0] != "secret_key" {
			t.Errorf("canaries after it: %v", got)
		}
		if _, err := rotate.Encrypt(t.Context(), env.DB, wrong, rotate.Config{}); !errors.Is(err,
			encrypted.ErrUnknownKey) {
			t.Errorf("encrypt with a wrong key: %v", err)
		}
		if _, err := rotate.Encrypt(t.Context(), env.DB, env.Ring, cfg); err != nil {
			t.Error(err)
		}
		if err := credent.Check(t.Context(), started); err != nil {
			t.Errorf("encrypted again: %v", err)
		}
	})
}
