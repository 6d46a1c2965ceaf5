package trail

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/testdb"
)

// sound verifies the trail.
func (w *world) sound(t *testing.T) audit.Report {
	t.Helper()
	if err := w.trail.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	report, err := audit.Verify(t.Context(), w.DB, w.Dialect(), w.Ring, audit.VerifyOptions{})
	if err != nil || report.Err() != nil {
		t.Errorf("got %+v, %v", report, err)
	}
	return report
}

func inTx(t *testing.T, client *ent.Client, f func(tx *ent.Tx)) {
	t.Helper()
	tx, err := client.Tx(as(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	f(tx)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

// In Sync mode a reveal waits for its entry's commit. On SQLite a transaction
// keeps that from happening until it ends, and the reveal is refused at once.
func TestTrailInSyncModeInTransaction(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := worldOf(t, env, credent.Config{}, audit.Config{Mode: audit.Sync, Flush: time.Hour})
		account := env.Account(t, "u-1")
		env.Credential(t, account, "key", "secret")
		var read *ent.UserCredential
		inTx(t, w.client, func(tx *ent.Tx) {
			if _, err := tx.UserAccount.UpdateOneID(account.ID).SetAccountName("other").Save(as(t)); err != nil {
				t.Fatal(err)
			}
			var err error
			if read, err = tx.UserCredential.Query().Only(as(t)); err != nil {
				t.Fatal(err)
			}
			text, err := read.APIKey.Reveal()
			if env.Dialect() == dialect.Postgres {
				if err != nil || text != "key" {
					t.Errorf("got %q, %v", text, err)
				}
				return
			}
			if !errors.Is(err, audit.ErrInTransaction) || text != "" {
				t.Errorf("got %q, %v, want ErrInTransaction", text, err)
			}
			if err := w.trail.Flush(t.Context()); err != nil {
				t.Errorf("nothing waits: %v", err)
			}
		})
		if text := testdb.Reveal(t, read.APIKey); text != "key" {
			t.Errorf("after the transaction: got %q", text)
		}
		w.sound(t)
	})
}

// A transaction may have more changes than the trail's queue has room for, and
// reveals in it wait for room where the trail can make some.
func TestTrailOfLargeTransaction(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		const queue, changes = 8, 30
		w := worldOf(t, env, credent.Config{}, audit.Config{Queue: queue, Flush: time.Hour})
		account := env.Account(t, "u-1")
		inTx(t, w.client, func(tx *ent.Tx) {
			for i := range changes {
				if _, err := w.create(tx.Client(), account, fmt.Sprint(i)).Save(as(t)); err != nil {
					t.Fatal(err)
				}
			}
			rows, err := tx.UserCredential.Query().All(as(t))
			if err != nil {
				t.Fatal(err)
			}
			for i, row := range rows {
				_, err := row.APIKey.Reveal()
				refused := env.Dialect() == dialect.SQLite && i >= queue
				if refused != errors.Is(err, audit.ErrInTransaction) {
					t.Fatalf("reveal %d: %v", i, err)
				}
			}
		})
		created := 0
		for _, e := range w.entries(t) {
			if e.Action == audit.ActionCreate {
				created++
			}
		}
		if report := w.sound(t); created != changes || report.Unlinked != 0 {
			t.Errorf("%d of %d changes have an entry, %d of them without a link", created, changes, report.Unlinked)
		}
	})
}

// The chain has no link to the entries of a transaction with a failed COMMIT.
func TestTrailOfFailedCommit(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		account := env.Account(t, "u-1")
		for _, query := range []string{
			`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				IF NEW.credential_type = 'refused' THEN RAISE EXCEPTION 'refused at the commit'; END IF;
				RETURN NULL; END $$`,
			`CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON user_credentials DEFERRABLE INITIALLY DEFERRED
				FOR EACH ROW EXECUTE FUNCTION refuse()`,
		} {
			if _, err := env.DB.ExecContext(t.Context(), query); err != nil {
				t.Fatal(err)
			}
		}
		tx, err := w.client.Tx(as(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.create(tx.Client(), account, "gone").SetCredentialType("refused").Save(as(t)); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err == nil {
			t.Fatal("it was committed")
		}
		w.want(t, "a COMMIT that fails")
		kept := w.credential(t, account, "kept")
		w.want(t, "the next transaction", audit.Entry{
			Action: audit.ActionCreate, Table: credentials, Row: kept.ID.String(), Tenant: "u-1", KeyID: "key",
			Note: credentialFields,
		})
		if report := w.sound(t); report.Unlinked != 0 {
			t.Errorf("got %+v", report)
		}
	})
}
