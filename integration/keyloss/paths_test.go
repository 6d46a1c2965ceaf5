package keyloss

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/testopt"
)

// losses are what can happen to a tenant's key after the client has read it.
var losses = map[string]func(t *testing.T, s *service, user string){
	"gone": func(t *testing.T, s *service, user string) {
		t.Helper()
		s.exec(t, "DELETE FROM credent_tenant_keys WHERE tenant = $1", user)
	},
	"another": func(t *testing.T, s *service, user string) {
		t.Helper()
		s.wrap(t, user, newKey(t))
	},
	"wrapped anew": func(t *testing.T, s *service, user string) {
		t.Helper()
		var wrapped string
		if err := s.db.QueryRowContext(t.Context(), "SELECT wrapped FROM credent_tenant_keys WHERE tenant = $1", user).
			Scan(&wrapped); err != nil {
			t.Fatal(err)
		}
		key, _, err := tenantkey.Unwrap((*engine.Ring)(s.ring), user, wrapped)
		if err != nil {
			t.Fatal(err)
		}
		s.wrap(t, user, key)
	},
}

func newKey(t *testing.T) *fernet.Key {
	t.Helper()
	key, err := fernet.ParseKey(fernet.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// wrap stores a user's key.
func (s *service) wrap(t *testing.T, user string, key *fernet.Key) {
	t.Helper()
	wrapped, err := tenantkey.Wrap((*engine.Ring)(s.ring), user, key)
	if err != nil {
		t.Fatal(err)
	}
	s.exec(t, "UPDATE credent_tenant_keys SET wrapped = $1 WHERE tenant = $2", wrapped, user)
}

// path is a way to store secrets of u1, in the form "key x" and "x".
type path struct {
	name string
	rows int // that it stores, besides the existing one
	do   func(ctx context.Context, s *service, there *ent.UserCredential) error
}

// onTx runs a function in a transaction of the client's.
func (s *service) onTx(ctx context.Context, do func(tx *ent.Tx) error) error {
	tx, err := s.client.Tx(ctx)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

const insertRaw = "INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, api_key, " +
	"api_key_index, secret_key, is_active, created_at, updated_at) VALUES (%s, %s, 'u1', 'alpaca', %s, %s, %s, true, " +
	"'2026-01-01', '2026-01-01')"

// raw is a raw INSERT.
func (s *service) raw() (query string, args []any) {
	key, secret := credent.NewSecret("key raw"), credent.NewSecret("raw")
	marks := []any{"$1", "$2", "$3", "$4", "$5"}
	if s.dialect == "sqlite3" {
		marks = []any{"?", "?", "?", "?", "?"}
	}
	return fmt.Sprintf(insertRaw, marks...), []any{
		uuid.New(), s.accounts["u1"].ID,
		encrypted.At(key, usercredential.APIKeyColumn, "u1"),
		encrypted.DigestOf(key, usercredential.APIKeyColumn, "u1"),
		encrypted.At(secret, usercredential.SecretKeyColumn, "u1"),
	}
}

var paths = []path{
	{"create", 1, func(ctx context.Context, s *service, _ *ent.UserCredential) error {
		return s.create(s.client.UserCredential, "u1", "x").Exec(ctx)
	}},
	{"create, driver wrapped", 1, func(ctx context.Context, s *service, _ *ent.UserCredential) error {
		return s.create(s.client.Debug().UserCredential, "u1", "x").Exec(ctx)
	}},
	{"create in a transaction", 2, func(ctx context.Context, s *service, _ *ent.UserCredential) error {
		return s.onTx(ctx, func(tx *ent.Tx) error {
			return errors.Join(s.create(tx.UserCredential, "u1", "x").Exec(ctx),
				s.create(tx.UserCredential, "u1", "y").Exec(ctx))
		})
	}},
	{"create after a savepoint", 1, func(ctx context.Context, s *service, _ *ent.UserCredential) error {
		return s.onTx(ctx, func(tx *ent.Tx) error {
			for _, step := range []func() error{
				func() error { return exec(ctx, tx, "SAVEPOINT mine") },
				func() error { return s.create(tx.UserCredential, "u1", "undone").Exec(ctx) },
				func() error { return exec(ctx, tx, "ROLLBACK TO SAVEPOINT mine") },
				func() error { return s.create(tx.UserCredential, "u1", "x").Exec(ctx) },
			} {
				if err := step(); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{"bulk", 2, func(ctx context.Context, s *service, _ *ent.UserCredential) error {
		return s.client.UserCredential.CreateBulk(s.create(s.client.UserCredential, "u1", "x"),
			s.create(s.client.UserCredential, "u1", "y")).Exec(ctx)
	}},
	{"bulk of two tenants", 2, func(ctx context.Context, s *service, _ *ent.UserCredential) error {
		return s.client.UserCredential.CreateBulk(s.create(s.client.UserCredential, "u2", "z"),
			s.create(s.client.UserCredential, "u1", "x"), s.create(s.client.UserCredential, "u1", "y")).Exec(ctx)
	}},
	{"bulk of a map", 2, func(ctx context.Context, s *service, _ *ent.UserCredential) error {
		return s.client.UserCredential.MapCreateBulk([]string{"x", "y"}, func(c *ent.UserCredentialCreate, i int) {
			secret := []string{"x", "y"}[i]
			c.SetAccount(s.accounts["u1"]).SetUserID("u1").SetCredentialType("alpaca").
				SetAPIKey(credent.NewSecret("key " + secret)).SetSecretKey(credent.NewSecret(secret))
		}).Exec(ctx)
	}},
	{"upsert that inserts", 1, func(ctx context.Context, s *service, _ *ent.UserCredential) error {
		return s.create(s.client.UserCredential, "u1", "x").OnConflict(entsql.ConflictColumns("id")).
			UpdateNewValues().Exec(ctx)
	}},
	{"upsert that updates", 0, func(ctx context.Context, s *service, there *ent.UserCredential) error {
		return s.create(s.client.UserCredential, "u1", "x").SetID(there.ID).OnConflict(entsql.ConflictColumns("id")).
			UpdateNewValues().Exec(ctx)
	}},
	{"bulk upsert", 1, func(ctx context.Context, s *service, there *ent.UserCredential) error {
		return s.client.UserCredential.CreateBulk(s.create(s.client.UserCredential, "u1", "x").SetID(there.ID),
			s.create(s.client.UserCredential, "u1", "y")).OnConflict(entsql.ConflictColumns("id")).
			UpdateNewValues().Exec(ctx)
	}},
	{"update of one", 0, func(ctx context.Context, s *service, there *ent.UserCredential) error {
		return s.client.UserCredential.UpdateOneID(there.ID).SetAPIKey(credent.NewSecret("key x")).
			SetSecretKey(credent.NewSecret("x")).Exec(ctx)
	}},
	{"update", 0, func(ctx context.Context, s *service, there *ent.UserCredential) error {
		return s.client.UserCredential.Update().Where(usercredential.ID(there.ID)).
			SetAPIKey(credent.NewSecret("key x")).SetSecretKey(credent.NewSecret("x")).Exec(ctx)
	}},
	{"update in a transaction", 0, func(ctx context.Context, s *service, there *ent.UserCredential) error {
		return s.onTx(ctx, func(tx *ent.Tx) error {
			return tx.UserCredential.UpdateOneID(there.ID).SetAPIKey(credent.NewSecret("key x")).
				SetSecretKey(credent.NewSecret("x")).Exec(ctx)
		})
	}},
	{"raw SQL", 1, func(ctx context.Context, s *service, _ *ent.UserCredential) error {
		query, args := s.raw()
		_, err := s.client.ExecContext(ctx, query, args...)
		return err
	}},
	{"raw SQL in a transaction", 1, func(ctx context.Context, s *service, _ *ent.UserCredential) error {
		return s.onTx(ctx, func(tx *ent.Tx) error {
			query, args := s.raw()
			_, err := tx.ExecContext(ctx, query, args...)
			return err
		})
	}},
	{"raw SQL with rows", 1, func(ctx context.Context, s *service, _ *ent.UserCredential) error {
		query, args := s.raw()
		rows, err := s.client.QueryContext(ctx, query+" RETURNING id", args...)
		if err != nil {
			return err
		}
		for rows.Next() {
		}
		return errors.Join(rows.Err(), rows.Close())
	}},
	{"copy", 2, func(ctx context.Context, s *service, _ *ent.UserCredential) error {
		return s.copy(ctx)
	}},
	{"copy, atomic in batches", 2, func(ctx context.Context, s *service, _ *ent.UserCredential) error {
		return s.copy(ctx, credent.CopyConfig{Batch: 1, Atomic: true})
	}},
}

func (s *service) copy(ctx context.Context, cfg ...credent.CopyConfig) error {
	var rows iter.Seq2[credent.CopyRow, error] = func(yield func(credent.CopyRow, error) bool) {
		for _, secret := range []string{"x", "y"} {
			if !yield(credent.CopyRow{
				UserID: "u1", CredentialType: "alpaca", APIKey: credent.NewSecret("key " + secret),
				SecretKey: credent.NewSecret(secret),
			}, nil) {
				return
			}
		}
	}
	_, err := testopt.Copy(ctx, s.db, rows, append(cfg, credent.CopyConfig{})[0], s.opts...)
	return err
}

func exec(ctx context.Context, tx *ent.Tx, query string) error {
	_, err := tx.ExecContext(ctx, query)
	return err
}

// Whatever happened to the client's key, everything it stores opens.
func TestEveryWritePath(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, s *service) {
		for loss, lose := range losses {
			for _, p := range paths {
				t.Run(loss+"/"+p.name, func(t *testing.T) {
					s.exec(t, "DELETE FROM user_credentials")
					there := s.create(s.client.UserCredential, "u1", "there").SaveX(t.Context())
					s.create(s.client.UserCredential, "u2", "there").ExecX(t.Context())
					lose(t, s, "u1")
					if err := p.do(t.Context(), s, there); err != nil {
						t.Fatal(err)
					}
					before := there
					// The key is new, or was never lost.
					if p.rows == 0 || p.name == "bulk upsert" || loss == "wrapped anew" {
						before = nil
					}
					want := p.rows
					if before == nil {
						want++
					}
					if n := s.opens(t, "u1", before); n != want {
						t.Errorf("%d rows are stored, want %d", n, want)
					}
					s.opens(t, "u2", nil)
				})
			}
		}
	})
}

// After another client destroys a key, every write is refused at once, and
// nothing is stored.
func TestDestroyedMeanwhile(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, s *service) {
		there := s.create(s.client.UserCredential, "u1", "there").SaveX(t.Context())
		s.create(s.client.UserCredential, "u2", "there").ExecX(t.Context())
		for _, p := range paths {
			s.exec(t, "UPDATE credent_tenant_keys SET destroyed_at = NULL, wrapped = 'gAAAAnone' WHERE tenant = 'u1'")
			s.wrap(t, "u1", newKey(t))
			s.client = s.newClient(t)
			s.create(s.client.UserCredential, "u1", "known").ExecX(t.Context())
			s.exec(t, "UPDATE credent_tenant_keys SET wrapped = NULL, destroyed_at = '2026-01-01' WHERE tenant = 'u1'")
			stored := s.stored(t)
			if err := p.do(t.Context(), s, there); !errors.Is(err, credent.ErrShredded) {
				t.Errorf("%s: got %v, want ErrShredded", p.name, err)
			}
			if got := s.stored(t); got != stored {
				t.Errorf("%s: something is stored", p.name)
			}
		}
	})
}

// stored returns all tokens.
func (s *service) stored(t *testing.T) (all string) {
	t.Helper()
	rows, err := s.db.QueryContext(t.Context(), "SELECT api_key, secret_key FROM user_credentials ORDER BY api_key")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var key, secret string
		if err := rows.Scan(&key, &secret); err != nil {
			t.Fatal(err)
		}
		all += key + secret
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
