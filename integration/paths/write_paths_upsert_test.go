package paths

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

func upsertPaths() []writePath {
	onID := entsql.ConflictColumns(usercredential.FieldID)
	return slices.Concat(passed(writePath{name: "upsert, Set", covers: "UserCredentialUpsert.Set"},
		func(ctx context.Context, w *writer, as passing) error {
			secret, other := w.wantAPIKey(0, "new"), w.wantSecretKey(0, "new secret")
			return w.conflicting("x", "x").OnConflict(onID).Update(func(u *ent.UserCredentialUpsert) {
				u.Set("api_key", as.apiKey(secret))
				u.Set("api_key_index", as.digest(secret))
				u.Set("secret_key", as.secretKey(&other))
			}).Exec(ctx)
		}), []writePath{
		{name: "upsert, without a conflict", covers: "UserCredentialCreate.OnConflictColumns " +
			"UserCredentialUpsertOne.UpdateNewValues UserCredentialUpsertOne.Exec", write: func(ctx context.Context,
			w *writer,
		) error {
			return w.create("new", "new secret").OnConflictColumns(usercredential.FieldID).UpdateNewValues().Exec(ctx)
		}},
		{
			name: "upsert, UpdateNewValues", covers: "UserCredentialCreate.OnConflict UserCredentialUpsertOne.ID",
			write: func(ctx context.Context, w *writer) error {
				b := w.conflicting("new", "new secret")
				w.wantAPIKey(0, "new")
				w.wantSecretKey(0, "new secret")
				id, err := b.OnConflict(onID).UpdateNewValues().ID(ctx)
				return errors.Join(err, sameID(id, w.rows[0].ID))
			},
		},
		{
			name: "upsert, Ignore", covers: "UserCredentialUpsertOne.Ignore UserCredentialUpsertOne.IDX",
			write: func(ctx context.Context, w *writer) error {
				return sameID(w.conflicting("new", "new secret").OnConflict(onID).Ignore().IDX(ctx), w.rows[0].ID)
			},
		},
		{
			name: "upsert, DoNothing", covers: "UserCredentialUpsertOne.DoNothing UserCredentialUpsertOne.ExecX",
			write: func(ctx context.Context, w *writer) error {
				err := caught(func() { w.conflicting("new", "new secret").OnConflict(onID).DoNothing().ExecX(ctx) })
				if errors.Is(err, sql.ErrNoRows) {
					return nil // ent's way to say that nothing was done
				}
				return err
			},
		},
		{name: "upsert, Update", raw: true, covers: "UserCredentialUpsertOne.Update UserCredentialUpsert.SetAPIKey " +
			"UserCredentialUpsert.SetSecretKey", write: func(ctx context.Context, w *writer) error {
			return w.conflicting("x", "x").OnConflict(onID).Update(func(u *ent.UserCredentialUpsert) {
				u.SetAPIKey(w.wantAPIKey(0, "new")).SetSecretKey(w.wantSecretKey(0, "new secret"))
			}).Exec(ctx)
		}},
		{name: "upsert, Update with conditions", raw: true, write: func(ctx context.Context, w *writer) error {
			return w.conflicting("x", "x").OnConflict(onID, entsql.UpdateWhere(entsql.EQ("user_id", "u1"))).
				Update(func(u *ent.UserCredentialUpsert) { u.SetIsActive(false).SetAPIKey(w.wantAPIKey(0, "new")) }).
				Exec(ctx)
		}},
		{name: "upsert, setters", raw: true, covers: "UserCredentialUpsertOne.SetAPIKey " +
			"UserCredentialUpsertOne.SetSecretKey", write: func(ctx context.Context, w *writer) error {
			return w.conflicting("x", "x").OnConflict(onID).
				SetAPIKey(w.wantAPIKey(0, "new")).SetSecretKey(w.wantSecretKey(0, "new secret")).Exec(ctx)
		}},
		{name: "upsert, the setter without a conflict", raw: true, write: func(ctx context.Context, w *writer) error {
			return w.create("new", "new secret").OnConflict(onID).SetAPIKey(credent.NewSecret("x")).Exec(ctx)
		}},
		{name: "upsert, UpdateAPIKey", covers: "UserCredentialUpsertOne.UpdateAPIKey " +
			"UserCredentialUpsertOne.UpdateSecretKey", write: func(ctx context.Context, w *writer) error {
			w.wantAPIKey(0, "new")
			w.wantSecretKey(0, "new secret")
			return w.conflicting("new", "new secret").OnConflict(onID).UpdateAPIKey().UpdateSecretKey().Exec(ctx)
		}},
		{
			name: "upsert, Update with UpdateAPIKey", covers: "UserCredentialUpsert.UpdateAPIKey " +
				"UserCredentialUpsert.UpdateSecretKey UserCredentialUpsert.SetExcluded UserCredentialUpsert.SetIgnore",
			write: func(ctx context.Context, w *writer) error {
				w.wantAPIKey(0, "new")
				return w.conflicting("new", "new secret").OnConflict(onID).Update(func(u *ent.UserCredentialUpsert) {
					u.UpdateAPIKey().UpdateSecretKey().SetExcluded("api_key").SetIgnore("secret_key")
				}).Exec(ctx)
			},
		},
		{
			name: "upsert, Set without the digest", raw: true, refused: credent.ErrBlindIndex,
			write: func(ctx context.Context, w *writer) error {
				return w.conflicting("x", "x").OnConflict(onID).
					Update(func(u *ent.UserCredentialUpsert) {
						u.Set("api_key",
							passing{}.apiKey(credent.NewSecret("new")))
					}).Exec(ctx)
			},
		},
		{
			name: "upsert, Set with the digest of another", raw: true, refused: credent.ErrBlindIndex,
			write: func(ctx context.Context, w *writer) error {
				return w.conflicting("x", "x").OnConflict(onID).Update(func(u *ent.UserCredentialUpsert) {
					u.Set("api_key", passing{}.apiKey(credent.NewSecret("new")))
					u.Set("api_key_index", passing{}.digest(credent.NewSecret("old")))
				}).Exec(ctx)
			},
		},
		{
			name: "upsert, UpdateAPIKey without the digest", refused: credent.ErrBlindIndex,
			write: func(ctx context.Context, w *writer) error {
				return w.conflicting("x", "x").OnConflict(onID).
					Update(func(u *ent.UserCredentialUpsert) { u.SetExcluded("api_key") }).Exec(ctx)
			},
		},
		{name: "upsert, Set of the other column to a string", refused: errConstraint, write: func(ctx context.Context,
			w *writer,
		) error {
			return w.conflicting("x", "x").OnConflict(onID).
				Update(func(u *ent.UserCredentialUpsert) { u.Set("secret_key", "PKPLAIN") }).Exec(ctx)
		}},
		{name: "upsert, Set of a string", refused: errStored, write: func(ctx context.Context, w *writer) error {
			return w.conflicting("x", "x").OnConflict(onID).
				Update(func(u *ent.UserCredentialUpsert) { u.Set("api_key", "PKPLAIN") }).Exec(ctx)
		}},
		{
			name: "upsert, SetNull", covers: "UserCredentialUpsert.SetNull", refused: errNotNullOrIndex,
			write: func(ctx context.Context, w *writer) error {
				return w.conflicting("x", "x").OnConflict(onID).
					Update(func(u *ent.UserCredentialUpsert) { u.SetNull("api_key") }).Exec(ctx)
			},
		},
		{
			name: "upsert, Add", raw: true, covers: "UserCredentialUpsert.Add", refused: errBare,
			write: func(ctx context.Context, w *writer) error {
				return w.conflicting("x", "x").OnConflict(onID).
					Update(func(u *ent.UserCredentialUpsert) { u.Add("api_key", credent.NewSecret("new")) }).Exec(ctx)
			},
		},
		{name: "upsert, a secret as its condition", raw: true, refused: errBare, write: func(ctx context.Context,
			w *writer,
		) error {
			return w.conflicting("new", "new").
				OnConflict(onID, entsql.UpdateWhere(entsql.EQ("api_key", credent.NewSecret("api0")))).
				UpdateNewValues().Exec(ctx)
		}},
	})
}

func sameID(got, want uuid.UUID) error {
	if got != want {
		return fmt.Errorf("the ID is %v, want %v", got, want)
	}
	return nil
}

func bulkUpsertPaths() []writePath {
	onID := entsql.ConflictColumns(usercredential.FieldID)
	// bulk upserts one new row and one conflicting row.
	bulk := func(w *writer) *ent.UserCredentialUpsertBulk {
		return w.client.UserCredential.CreateBulk(w.create("a", "b"), w.conflicting("new", "new secret")).
			OnConflict(onID)
	}
	one := func(w *writer) *ent.UserCredentialUpsertBulk {
		return w.client.UserCredential.CreateBulk(w.conflicting("x", "x")).OnConflict(onID)
	}
	return []writePath{
		{name: "bulk upsert, UpdateNewValues", covers: "UserCredentialCreateBulk.OnConflict " +
			"UserCredentialUpsertBulk.UpdateNewValues UserCredentialUpsertBulk.Exec", write: func(ctx context.Context,
			w *writer,
		) error {
			w.wantAPIKey(0, "new")
			w.wantSecretKey(0, "new secret")
			return bulk(w).UpdateNewValues().Exec(ctx)
		}},
		{name: "bulk upsert, Ignore", covers: "UserCredentialCreateBulk.OnConflictColumns " +
			"UserCredentialUpsertBulk.Ignore UserCredentialUpsertBulk.ExecX", write: func(ctx context.Context,
			w *writer,
		) error {
			w.client.UserCredential.CreateBulk(w.create("a", "b"), w.conflicting("new", "new secret")).
				OnConflictColumns(usercredential.FieldID).Ignore().ExecX(ctx)
			return nil
		}},
		{name: "bulk upsert, DoNothing", covers: "UserCredentialUpsertBulk.DoNothing", write: func(ctx context.Context,
			w *writer,
		) error {
			return bulk(w).DoNothing().Exec(ctx)
		}},
		{name: "bulk upsert, UpdateAPIKey", covers: "UserCredentialUpsertBulk.UpdateAPIKey " +
			"UserCredentialUpsertBulk.UpdateSecretKey", write: func(ctx context.Context, w *writer) error {
			w.wantAPIKey(0, "new")
			w.wantSecretKey(0, "new secret")
			return bulk(w).UpdateAPIKey().UpdateSecretKey().Exec(ctx)
		}},
		{
			name: "bulk upsert, Update with UpdateAPIKey", covers: "UserCredentialUpsertBulk.Update",
			write: func(ctx context.Context, w *writer) error {
				w.wantAPIKey(0, "new")
				return bulk(w).Update(func(u *ent.UserCredentialUpsert) { u.UpdateAPIKey() }).Exec(ctx)
			},
		},
		{name: "bulk upsert, Update", raw: true, refused: credent.ErrManyRows, write: func(ctx context.Context,
			w *writer,
		) error {
			return bulk(w).Update(func(u *ent.UserCredentialUpsert) { u.SetAPIKey(credent.NewSecret("z")) }).Exec(ctx)
		}},
		{name: "bulk upsert, setters", raw: true, covers: "UserCredentialUpsertBulk.SetAPIKey " +
			"UserCredentialUpsertBulk.SetSecretKey", refused: credent.ErrManyRows, write: func(ctx context.Context,
			w *writer,
		) error {
			return bulk(w).SetAPIKey(credent.NewSecret("z")).SetSecretKey(credent.NewSecret("z")).Exec(ctx)
		}},
		{name: "bulk upsert of one, Update", raw: true, write: func(ctx context.Context, w *writer) error {
			return one(w).Update(func(u *ent.UserCredentialUpsert) { u.SetAPIKey(w.wantAPIKey(0, "new")) }).Exec(ctx)
		}},
		{name: "bulk upsert of one, setters", raw: true, write: func(ctx context.Context, w *writer) error {
			return one(w).SetAPIKey(w.wantAPIKey(0, "new")).SetSecretKey(w.wantSecretKey(0, "new secret")).Exec(ctx)
		}},
	}
}

// TestRefusedValues passes secrets that must not be stored to paths that treat
// them differently.
func TestRefusedValues(t *testing.T) {
	t.Parallel()
	unreadable := func(w *writer) credent.Secret {
		other := w.env.Open(t, testopt.WithKeyring(testdb.Keyring(t, keyring.GenerateKey())))
		return other.UserCredential.GetX(t.Context(), w.rows[2].ID).APIKey
	}
	ways := map[string]func(ctx context.Context, w *writer, s credent.Secret) error{
		"Create": func(ctx context.Context, w *writer, s credent.Secret) error {
			return w.create("x", "x").SetSecretKey(s).Exec(ctx)
		},
		"CreateBulk": func(ctx context.Context, w *writer, s credent.Secret) error {
			return w.client.UserCredential.CreateBulk(w.create("x", "x"), w.create("x", "x").SetSecretKey(s)).Exec(ctx)
		},
		"UpdateOne": func(ctx context.Context, w *writer, s credent.Secret) error {
			return w.row(ctx, 0).Update().SetSecretKey(s).Exec(ctx)
		},
		"Update": func(ctx context.Context, w *writer, s credent.Secret) error {
			return w.client.UserCredential.Update().Where(usercredential.ID(w.rows[0].ID)).SetSecretKey(s).Exec(ctx)
		},
		"UpdateNewValues": func(ctx context.Context, w *writer, s credent.Secret) error {
			return w.conflicting("x", "x").SetSecretKey(s).OnConflictColumns("id").UpdateNewValues().Exec(ctx)
		},
		"upsert's Set": func(ctx context.Context, w *writer, s credent.Secret) error {
			return w.conflicting("x", "x").OnConflictColumns("id").
				Update(func(u *ent.UserCredentialUpsert) { u.Set("secret_key", passing{}.secretKey(s)) }).Exec(ctx)
		},
		"upsert's setter": func(ctx context.Context, w *writer, s credent.Secret) error {
			return w.conflicting("x", "x").OnConflictColumns("id").SetSecretKey(s).Exec(ctx)
		},
		"Modify": func(ctx context.Context, w *writer, s credent.Secret) error {
			return w.row(ctx, 0).Update().
				Modify(func(u *entsql.UpdateBuilder) { u.Set("secret_key", passing{}.secretKey(s)) }).Exec(ctx)
		},
		"ExecContext": func(ctx context.Context, w *writer, s credent.Secret) error {
			return statement(ctx, w, "UPDATE user_credentials SET secret_key = $1 WHERE id = $2",
				passing{}.secretKey(s), w.rows[0].ID)
		},
	}
	untyped := []string{"upsert's Set", "Modify", "ExecContext"} // no generated check sees these
	values := map[string]struct {
		secret  func(w *writer) credent.Secret
		refused error
	}{
		"too long": {
			func(*writer) credent.Secret { return credent.NewSecret(tooLong) },
			credent.ErrTooLong,
		},
		"not text": {
			func(*writer) credent.Secret { return credent.NewSecret("PK\xff") },
			credent.ErrNotText,
		},
		"the redaction marker": {
			func(*writer) credent.Secret { return credent.NewSecret("[REDACTED]") },
			credent.ErrRedacted,
		},
		"unreadable": {unreadable, credent.ErrUnknownKey},
		"absent":     {func(*writer) credent.Secret { return credent.Secret{} }, errNotNull},
	}
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		for wayName, way := range ways {
			for valueName, value := range values {
				t.Run(wayName+", "+valueName, func(t *testing.T) {
					refused := value.refused
					if valueName == "absent" && !slices.Contains(untyped, wayName) {
						refused = errMissing
					}
					path := writePath{refused: refused, write: func(ctx context.Context, w *writer) error {
						return way(ctx, w, value.secret(w))
					}}
					path.try(t, env, settings[0])
				})
			}
		}
	})
}

// tooLong is a secret one byte too long.
var tooLong = strings.Repeat("x", 304)
