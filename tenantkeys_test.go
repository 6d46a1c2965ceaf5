package credent_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/sqlite"
	"github.com/credent-go/credent/rotate"
)

// tenantDB is an SQLite database with two users' accounts.
type tenantDB struct {
	url      string
	db       *sql.DB // without encryption
	ring     *keyring.Keyring
	accounts map[string]*ent.UserAccount
}

func newTenantDB(t *testing.T) *tenantDB {
	t.Helper()
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	d := &tenantDB{
		url: "sqlite:" + filepath.Join(t.TempDir(), "x.db"), ring: ring,
		accounts: make(map[string]*ent.UserAccount),
	}
	if d.db, _, err = credent.OpenDB(d.url, credent.WithDriver(sqlite.Driver())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.db.Close() })
	if err := migrate.Apply(t.Context(), d.db, migrate.Config{
		Keyring: d.ring,
		Columns: ent.EncryptedColumns(),
	}); err != nil {
		t.Fatal(err)
	}
	client := d.open(t)
	for _, user := range []string{"u-1", "u-2"} {
		if d.accounts[user], err = client.UserAccount.Create().SetUserID(user).SetAccountName(user).
			Save(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// open returns a client with tenant keys and an empty cache.
func (d *tenantDB) open(t *testing.T) *ent.Client {
	t.Helper()
	client, err := credent.Open(t.Context(), d.url, credent.Config{Keyring: d.ring, TenantKeys: credent.Write},
		credent.WithDriver(sqlite.Driver()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func (d *tenantDB) create(client *ent.Client, user string) *ent.UserCredentialCreate {
	return client.UserCredential.Create().SetAccount(d.accounts[user]).SetUserID(user).SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret("PK-" + user)).SetSecretKey(credent.NewSecret("secret of " + user))
}

func (d *tenantDB) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	if err := d.db.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// wantSecrets reveals every secret of a list, and expects each user's plaintext
// or error.
func wantSecrets(t *testing.T, rows []*ent.UserCredential, want map[string]error) {
	t.Helper()
	for _, row := range rows {
		for _, secret := range []credent.Secret{row.APIKey, row.SecretKey} {
			plaintext, err := secret.Reveal()
			if !errors.Is(err, want[row.UserID]) || err == nil && plaintext != "PK-"+
				row.UserID && plaintext != "secret of "+row.UserID {
				t.Errorf("of %s: got %v, want %v", row.UserID, err, want[row.UserID])
			}
		}
	}
}

func TestTenantKeysOnePool(t *testing.T) {
	t.Parallel()
	d := newTenantDB(t)
	pool, dialect, err := credent.OpenDB(d.url, credent.WithDriver(sqlite.Driver()))
	if err != nil {
		t.Fatal(err)
	}
	pool.SetMaxOpenConns(1)
	ctx := t.Context()
	for _, verify := range []bool{false, true} {
		fresh := func() *ent.Client {
			t.Helper()
			client, err := credent.NewClient(pool, dialect, credent.Config{
				Keyring: d.ring, TenantKeys: credent.Write,
				VerifyOnRead: verify,
			})
			if err != nil {
				t.Fatal(err)
			}
			return client
		}
		client := fresh()
		if _, err := client.UserCredential.CreateBulk(d.create(client, "u-1"), d.create(client, "u-2")).
			Save(ctx); err != nil {
			t.Fatal(err)
		}
		rows, err := fresh().UserCredential.Query().All(ctx)
		if err != nil {
			t.Fatal(err)
		}
		wantSecrets(t, rows, nil)
		tx, err := fresh().Tx(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if rows, err = tx.UserCredential.Query().All(ctx); err != nil {
			t.Fatal(err)
		}
		wantSecrets(t, rows, nil)
		if err := tx.UserCredential.UpdateOne(rows[0]).SetAPIKey(credent.NewSecret("PK-" + rows[0].UserID)).
			Exec(ctx); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if n := d.count(t, "SELECT count(*) FROM credent_tenant_keys WHERE wrapped LIKE 'gAAAA%'"); n != 2 {
		t.Errorf("%d keys, want 2", n)
	}
	// A client that doesn't use tenants' keys.
	unowned, err := credent.Open(ctx, d.url, credent.Config{Keyring: d.ring}, credent.WithDriver(sqlite.Driver()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unowned.Close() }()
	if err := d.create(unowned, "u-1").Exec(ctx); err != nil {
		t.Fatal(err)
	}
	d.destroyAll(t)
	if n := d.count(t, "SELECT count(*) FROM user_credentials WHERE length(api_key_index) <> 33"); n != 0 {
		t.Errorf("%d digests are left", n)
	}
	plain, err := credent.Open(ctx, d.url, credent.Config{Keyring: d.ring}, credent.WithDriver(sqlite.Driver()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	rows, err := plain.UserCredential.Query().All(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	wantSecrets(t, rows, map[string]error{"u-1": credent.ErrUnknownKey, "u-2": credent.ErrUnknownKey})
}

// destroyAll destroys all users' keys one by one.
func (d *tenantDB) destroyAll(t *testing.T) {
	t.Helper()
	want := make(map[string]error)
	for user := range d.accounts {
		if err := credent.Check(t.Context(), d.open(t)); err != nil {
			t.Errorf("check: %v", err)
		}
		if _, err := rotate.DestroyTenant(t.Context(), d.db, d.ring, user); err != nil {
			t.Fatal(err)
		}
		want[user] = credent.ErrShredded
		rows, err := d.open(t).UserCredential.Query().All(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantSecrets(t, rows, want)
		if err := d.create(d.open(t), user).Exec(t.Context()); !errors.Is(err, credent.ErrShredded) {
			t.Errorf("a write: %v", err)
		}
	}
	if err := credent.Check(t.Context(), d.open(t)); err != nil {
		t.Errorf("check, when all are shredded: %v", err)
	}
	if _, err := d.db.ExecContext(t.Context(), "DELETE FROM credent_canary"); err != nil {
		t.Fatal(err)
	}
	if err := credent.Check(t.Context(), d.open(t)); !errors.Is(err, credent.ErrNotChecked) {
		t.Errorf("check, when all are shredded and there is no canary: %v", err)
	}
}
