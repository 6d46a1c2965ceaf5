package credent_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/sqlite"
)

// counts holds the number of events by kind and column.
type counts map[string]int

func (c counts) observer() encrypted.Observer {
	count := func(what string) func(encrypted.Event) {
		return func(e encrypted.Event) {
			did := what
			if e.Err != nil {
				did += " fails"
			}
			c[did+" "+e.Table+"."+e.Column]++
		}
	}
	return encrypted.Observer{Sealed: count("seal"), Opened: count("open")}
}

// TestObserverOnEachPath writes and reads a secret in every way, and checks
// that each seal and each open is observed once.
func TestObserverOnEachPath(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db, dialect, err := credent.OpenDB("sqlite:"+t.TempDir()+"/o.db", credent.WithDriver(sqlite.Driver()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := migrate.Apply(ctx, db, migrate.Config{}); err != nil {
		t.Fatal(err)
	}
	told := make(counts)
	cfg := credent.Config{Keyring: newKeyring(), Observer: told.observer()}
	client, err := credent.NewClient(db, dialect, cfg)
	if err != nil {
		t.Fatal(err)
	}
	verifying := cfg
	verifying.VerifyOnRead = true
	strict, err := credent.NewClient(db, dialect, verifying)
	if err != nil {
		t.Fatal(err)
	}
	const (
		apiKey    = " user_credentials.api_key"
		secretKey = " user_credentials.secret_key"
	)
	account := client.UserAccount.Create().SetUserID("u1").SetAccountName("Ada").SaveX(ctx)
	create := func(c *ent.Client) *ent.UserCredentialCreate {
		return c.UserCredential.Create().SetAccount(account).SetUserID("u1").SetCredentialType("alpaca").
			SetAPIKey(credent.NewSecret("PK")).SetSecretKey(credent.NewSecret("s"))
	}
	row := create(client).SaveX(ctx)
	two := counts{"seal" + apiKey: 2, "seal" + secretKey: 2}
	one := counts{"seal" + apiKey: 1, "seal" + secretKey: 1}
	for _, path := range []struct {
		name string
		run  func() error
		want counts
	}{
		{"create", func() error { return create(client).Exec(ctx) }, one},
		{"bulk", func() error {
			return client.UserCredential.CreateBulk(create(client), create(client)).Exec(ctx)
		}, two},
		{"update", func() error {
			return client.UserCredential.UpdateOneID(row.ID).SetAPIKey(credent.NewSecret("PK2")).Exec(ctx)
		}, counts{"seal" + apiKey: 1}},
		{"upsert", func() error {
			return create(client).SetID(row.ID).OnConflictColumns(usercredential.FieldID).UpdateNewValues().Exec(ctx)
		}, one},
		{"raw SQL", func() error {
			_, err := client.ExecContext(ctx, "UPDATE user_credentials SET secret_key = ? WHERE id = ?",
				encrypted.At(credent.NewSecret("s2"), usercredential.SecretKeyColumn, nil), row.ID)
			return err
		}, counts{"seal" + secretKey: 1}},
		{"rolled back", func() error {
			tx, err := client.Tx(ctx)
			if err != nil {
				return err
			}
			return errors.Join(create(tx.Client()).Exec(ctx), tx.Rollback())
		}, one},
		{"Copy", func() error {
			_, err := credent.Copy(ctx, db, func(yield func(credent.CopyRow, error) bool) {
				yield(credent.CopyRow{
					ID: uuid.New(), UserAccountID: account.ID, CredentialType: "alpaca",
					APIKey: credent.NewSecret("PK"), SecretKey: credent.NewSecret("s"),
				}, nil)
			}, credent.CopyConfig{}, cfg)
			return err
		}, one},
		{"refused before", func() error {
			long := credent.NewSecret(strings.Repeat("x", 304))
			if err := client.UserCredential.UpdateOneID(row.ID).SetAPIKey(long).Exec(ctx); err == nil {
				return errors.New("it is stored")
			}
			return nil
		}, nil},
		{"list", func() error {
			_, err := client.UserCredential.Query().All(ctx)
			return err
		}, nil},
		{"reveal", func() error {
			found, err := client.UserCredential.Get(ctx, row.ID)
			if err == nil {
				_, err = found.APIKey.Reveal()
			}
			return err
		}, counts{"open" + apiKey: 1}},
		{"reveal of an edge", func() error {
			found, err := client.UserAccount.Query().WithCredentials(func(q *ent.UserCredentialQuery) {
				q.Where(usercredential.ID(row.ID))
			}).Only(ctx)
			if err == nil {
				_, err = found.Edges.Credentials[0].SecretKey.Reveal()
			}
			return err
		}, counts{"open" + secretKey: 1}},
		{"reveal of a scan", func() error {
			var into []struct {
				ID     uuid.UUID      `sql:"id"`
				APIKey credent.Secret `sql:"api_key"`
			}
			err := client.UserCredential.Query().Where(usercredential.ID(row.ID)).
				Select(usercredential.FieldID, usercredential.FieldAPIKey).Scan(ctx, &into)
			if err == nil {
				_, err = into[0].APIKey.Reveal()
			}
			return err
		}, counts{"open" + apiKey: 1}},
		{"verified", func() error {
			_, err := strict.UserCredential.Get(ctx, row.ID)
			return err
		}, counts{"open" + apiKey: 1, "open" + secretKey: 1}},
		{"verified, and damaged", func() error {
			if _, err := db.ExecContext(ctx, "UPDATE user_credentials SET api_key = 'gAAAAbroken' WHERE id = ?",
				row.ID); err != nil {
				return err
			}
			if _, err := strict.UserCredential.Get(ctx, row.ID); !errors.Is(err, credent.ErrCorrupt) {
				return fmt.Errorf("got %w", err)
			}
			return nil
		}, counts{"open fails" + apiKey: 1}},
		{"revealed, and damaged", func() error {
			found, err := client.UserCredential.Get(ctx, row.ID)
			if err != nil {
				return err
			}
			if _, err := found.APIKey.Reveal(); !errors.Is(err, credent.ErrCorrupt) {
				return fmt.Errorf("got %w", err)
			}
			return nil
		}, counts{"open fails" + apiKey: 1}},
	} {
		clear(told)
		if err := path.run(); err != nil {
			t.Errorf("%s: %v", path.name, err)
		}
		if diff := cmp.Diff(path.want, maps.Clone(told), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path.name, diff)
		}
	}
}

// TestObserverAndTenants observes each secret's tenant, and the tenants' keys.
func TestObserverAndTenants(t *testing.T) {
	t.Parallel()
	var sealed, opened []encrypted.Event
	var keys encrypted.TenantKeyLookup
	client, _ := open(credent.Config{
		Keyring: newKeyring(), TenantKeys: credent.Require, Observer: encrypted.Observer{
			Sealed: func(e encrypted.Event) { sealed = append(sealed, e) },
			Opened: func(e encrypted.Event) { opened = append(opened, e) },
			TenantKeys: func(l encrypted.TenantKeyLookup) {
				keys.Known, keys.Read, keys.Kept = keys.Known+l.Known, keys.Read+l.Read, keys.Kept+l.Kept
			},
		},
	})
	defer closeClient(client)
	row := store(client)
	found, err := client.UserCredential.Get(t.Context(), row.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := found.APIKey.Reveal(); err != nil {
		t.Fatal(err)
	}
	for _, e := range append(sealed, opened...) {
		if e.Tenant != row.UserID || e.Err != nil || e.Plaintext {
			t.Errorf("told %+v", e)
		}
	}
	if len(sealed) != 2 || len(opened) != 1 {
		t.Errorf("%d sealed and %d opened", len(sealed), len(opened))
	}
	if keys.Kept != 1 || keys.Read < 1 || keys.Known < 1 {
		t.Errorf("keys: %+v", keys)
	}
}
