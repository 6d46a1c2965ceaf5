package vault_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"entgo.io/ent/dialect"
	"example.com/oauth/vault"
	"example.com/oauth/vault/vaulttest"
	"example.com/oauth/webhook"
	_ "modernc.org/sqlite" // the database driver

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

func sqlite(t *testing.T) (db *sql.DB, d string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "oauth.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(1)&_pragma=busy_timeout(60000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db, dialect.SQLite
}

func TestSQLite(t *testing.T) { vaulttest.Run(t, sqlite) }

// A new key takes over while the vault is in use.
func TestRotate(t *testing.T) {
	ctx := t.Context()
	db, d := sqlite(t)
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	open := func(ring *keyring.Keyring) *vault.Vault {
		v, err := vault.Open(ctx, db, d, ring)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	before := open(vaulttest.Keyring(t, oldKey))
	for _, user := range []string{"a", "b", "c"} {
		if err := before.Connect(ctx, user, "github", "token of "+user); err != nil {
			t.Fatal(err)
		}
	}
	if err := before.Subscribe(ctx, "b", "github", webhook.Config{Secret: "s"}); err != nil {
		t.Fatal(err)
	}

	both := vaulttest.Keyring(t, newKey, oldKey)
	if counts, err := rotate.Verify(ctx, db, both); err != nil || counts.Err() == nil {
		t.Fatalf("before: %+v, %v", counts, err)
	}
	report, err := rotate.Run(ctx, db, both, rotate.Config{})
	if err != nil || report.Rewritten() != 3 {
		t.Fatalf("got %+v, %v", report, err)
	}
	counts, err := rotate.Verify(ctx, db, vaulttest.Keyring(t, newKey))
	if err != nil || counts.Err() != nil || len(counts) != len(encrypted.Columns()) {
		t.Fatalf("after: %+v, %v", counts, err)
	}
	hook, err := open(vaulttest.Keyring(t, newKey)).Webhook(ctx, "b", "github")
	if err != nil || hook.Secret != "s" {
		t.Errorf("got %+v, %v", hook, err)
	}
}
