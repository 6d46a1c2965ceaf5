package trail

import (
	"errors"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/keyring"
)

// seed makes an account with a credential, and nobody is told.
func (w *world) seed(t *testing.T) *ent.UserCredential {
	t.Helper()
	return w.Credential(t, w.Account(t, "u-1"), "key", "secret")
}

func revealOf(row *ent.UserCredential, column string) audit.Entry {
	return audit.Entry{
		Action: audit.ActionReveal, Table: credentials, Column: column, Row: row.ID.String(), Tenant: "u-1",
		KeyID: "key",
	}
}

// Every Reveal leaves an entry, however the secret was read.
func TestTrailOfReveals(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		seeded := w.seed(t)
		ctx := as(t)
		list, err := w.client.UserCredential.Query().All(ctx)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		w.want(t, "a list without a reveal")
		_ = testdb.Reveal(t, list[0].APIKey)
		_ = testdb.Reveal(t, list[0].SecretKey)
		_ = testdb.Reveal(t, list[0].SecretKey)
		w.want(t, "entities", revealOf(seeded, "api_key"), revealOf(seeded, "secret_key"),
			revealOf(seeded, "secret_key"))

		// Who read, and not who reveals.
		kept := list[0]
		_ = testdb.Reveal(t, kept.APIKey)
		w.want(t, "a kept entity", revealOf(seeded, "api_key"))

		tx, err := w.client.Tx(ctx)
		if err != nil {
			t.Fatal(err)
		}
		row, err := tx.UserCredential.Get(ctx, seeded.ID)
		if err != nil {
			t.Fatal(err)
		}
		_ = testdb.Reveal(t, row.APIKey)
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		w.want(t, "a transaction that is rolled back", revealOf(seeded, "api_key"))

		var scanned []struct {
			ID     string
			UserID string         `sql:"user_id"`
			Key    credent.Secret `sql:"api_key"`
		}
		if err := w.client.UserCredential.Query().Select("id", "user_id", "api_key").Scan(ctx, &scanned); err != nil {
			t.Fatal(err)
		}
		_ = testdb.Reveal(t, scanned[0].Key)
		w.want(t, "the caller's own type", revealOf(seeded, "api_key"))

		debug, err := w.client.Debug().UserCredential.Query().Only(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = testdb.Reveal(t, debug.APIKey)
		w.want(t, "a client with a debugger", revealOf(seeded, "api_key"))
	})
}

// scanned returns the one API key of the table as database/sql scans it.
func scanned(t *testing.T, client *ent.Client) (secret credent.Secret) {
	t.Helper()
	rows, err := client.QueryContext(t.Context(), "SELECT api_key FROM user_credentials")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	if !rows.Next() {
		t.Fatal("there is no row: ", rows.Err())
	}
	if err := rows.Scan(&secret); err != nil {
		t.Fatal(err)
	}
	return secret
}

// The keyring of a client with a trail opens nothing unrecorded.
func TestTrailOfRawRows(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		seeded := w.seed(t)
		ctx := as(t)
		secret := scanned(t, w.client)
		_ = w.entries(t)
		bare := secret.OpenedBy(encrypted.OpenerOf(env.Ring, usercredential.APIKeyColumn, "u-1"))
		if text, err := bare.Reveal(); !errors.Is(err, encrypted.ErrNotRecorded) || text != "" {
			t.Errorf("got %q, %v, want ErrNotRecorded", text, err)
		}
		w.want(t, "nothing was opened")
		recorded := secret.OpenedBy(encrypted.OpenerOf(env.Ring, usercredential.APIKeyColumn, "u-1",
			encrypted.RecordedBy(ctx, w.trail)))
		if text := testdb.Reveal(t, recorded); text != "key" {
			t.Errorf("got %q", text)
		}
		want := revealOf(seeded, "api_key")
		want.Row = "" // a row of database/sql doesn't tell
		w.want(t, "RecordedBy", want)
	})
}

// What doesn't open leaves an entry that says why, revealed or only verified.
func TestTrailOfFailures(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		seeded := w.seed(t)
		other := testdb.Keyring(t, keyring.GenerateKey())
		strange, err := other.Encrypt("x")
		if err != nil {
			t.Fatal(err)
		}
		ctx := as(t)
		strict, err := credent.NewClient(env.Pool(t), env.Dialect(),
			credent.Config{Keyring: env.Ring, Trail: w.trail, VerifyOnRead: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			token   string
			outcome audit.Outcome
		}{{strange, audit.OutcomeUnknownKey}, {"gAAAA", audit.OutcomeCorrupt}} {
			env.Exec(t, env.Placeholders("UPDATE user_credentials SET api_key = $1"), test.token)
			want := revealOf(seeded, "api_key")
			want.KeyID, want.Outcome = "", test.outcome
			row, err := w.client.UserCredential.Query().Only(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := row.APIKey.Reveal(); !errors.Is(err, encrypted.ErrCorrupt) {
				t.Errorf("%s: got %v", test.outcome, err)
			}
			w.want(t, "Reveal, "+string(test.outcome), want)

			if _, err := strict.UserCredential.Query().All(ctx); !errors.Is(err, encrypted.ErrCorrupt) {
				t.Errorf("%s: VerifyOnRead: got %v", test.outcome, err)
			}
			want.Note = "VerifyOnRead"
			w.want(t, "VerifyOnRead, "+string(test.outcome), want)
		}
	})
}

// A trail that doesn't take the entry keeps the plaintext back.
func TestTrailKeepsPlaintextBack(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		_ = w.seed(t)
		row, err := w.client.UserCredential.Query().Only(as(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.trail.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		text, err := row.APIKey.Reveal()
		var located *encrypted.Error
		if !errors.Is(err, audit.ErrClosed) || text != "" || !errors.As(err, &located) || located.Column != "api_key" {
			t.Errorf("got %q, %v, want ErrClosed of the column", text, err)
		}
	})
}

// In Sync mode the entry is committed before the plaintext is there.
func TestTrailInSyncMode(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		trail := openTrail(t, env, audit.Config{Mode: audit.Sync, Flush: time.Hour})
		client, err := credent.NewClient(env.Pool(t), env.Dialect(), credent.Config{Keyring: env.Ring, Trail: trail})
		if err != nil {
			t.Fatal(err)
		}
		_ = env.Credential(t, env.Account(t, "u-1"), "key", "secret")
		row, err := client.UserCredential.Query().Only(as(t))
		if err != nil {
			t.Fatal(err)
		}
		_ = testdb.Reveal(t, row.APIKey)
		if all := stored(t, env.DB); len(all) != 1 || all[0].Action != audit.ActionReveal {
			t.Errorf("after the reveal the trail has %v", all)
		}
	})
}

// A standby's secrets are told like the primary's.
func TestTrailOfReader(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		reader := entsql.OpenDB(dialect.Postgres, env.Pool(t))
		w := newWorld(t, env, credent.Config{Reader: reader})
		seeded := w.seed(t)
		row, err := w.client.UserCredential.Query().Only(credent.WithStaleReads(as(t)))
		if err != nil {
			t.Fatal(err)
		}
		_ = testdb.Reveal(t, row.SecretKey)
		w.want(t, "a standby", revealOf(seeded, "secret_key"))
	})
}
