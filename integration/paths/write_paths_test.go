package paths

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"entgo.io/ent/dialect/sql/sqlgraph"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
)

// writePath is one way to write secrets.
type writePath struct {
	name   string
	covers string // the methods that it calls, as TestWritePathsAreComplete names them
	write  func(ctx context.Context, w *writer) error
	// refused is the error that the path must fail with. If nil, it must
	// succeed.
	refused error
	// raw means that ent hands the secret to the driver as it is. Without
	// Credent's driver the path must fail.
	raw bool
	// plainly means that the path stores no api_key: its blind index needs
	// Credent's driver.
	plainly bool
	// marker means that the path compares with the text that a secret prints
	// as, which only Credent's driver minds.
	marker bool
}

// Stand-ins for errors that are no values.
var (
	errConstraint = errors.New("a constraint of the database")
	errNotNull    = errors.New("a NOT NULL of the database") // for ent, that is no constraint
	errMissing    = errors.New("ent's validation error")
	errCompared   = errors.New("ErrNoLocation, or ErrRedacted where ent marshals the secret first")
	errSomehow    = errors.New("any error") // where the method panics, or the driver refuses by itself

	errBare           = errors.New("ErrNoLocation, with what to do")
	errStored         = errors.New("a constraint of the database, or ErrBlindIndex before it")
	errNotNullOrIndex = errors.New("a NOT NULL of the database, or ErrBlindIndex before it")
	errDollar         = errors.New("the refusal of $1 on SQLite")
)

// writer is what a path has to work with: a client and an account with the rows
// that seed makes.
type writer struct {
	env     *testdb.Env
	client  *ent.Client
	tx      *ent.Tx // nil outside transactions
	account *ent.UserAccount
	rows    []*ent.UserCredential
	// want is what the table has to hold in the end, if the path succeeds.
	want map[uuid.UUID]testdb.Pair
}

// create returns a builder of a new row, which is then wanted.
func (w *writer) create(apiKey, secretKey string) *ent.UserCredentialCreate {
	id := uuid.New()
	w.want[id] = testdb.Pair{APIKey: apiKey, SecretKey: secretKey}
	return w.builder(id, apiKey, secretKey)
}

// conflicting returns a builder of a row with the ID of the first existing one.
// What is wanted does not change.
func (w *writer) conflicting(apiKey, secretKey string) *ent.UserCredentialCreate {
	return w.builder(w.rows[0].ID, apiKey, secretKey)
}

func (w *writer) builder(id uuid.UUID, apiKey, secretKey string) *ent.UserCredentialCreate {
	return w.client.UserCredential.Create().SetID(id).SetUserAccountID(w.account.ID).SetUserID(w.account.UserID).
		SetCredentialType("alpaca").SetAPIKey(credent.NewSecret(apiKey)).SetSecretKey(credent.NewSecret(secretKey))
}

// row returns an existing row of the path's client.
func (w *writer) row(ctx context.Context, i int) *ent.UserCredential {
	return w.client.UserCredential.GetX(ctx, w.rows[i].ID)
}

// wantAPIKey says that a row is to have another api_key, and returns it.
func (w *writer) wantAPIKey(row int, apiKey string) credent.Secret {
	id := w.rows[row].ID
	w.want[id] = testdb.Pair{APIKey: apiKey, SecretKey: w.want[id].SecretKey}
	return credent.NewSecret(apiKey)
}

// wantSecretKey is wantAPIKey for the other column.
func (w *writer) wantSecretKey(row int, secretKey string) credent.Secret {
	id := w.rows[row].ID
	w.want[id] = testdb.Pair{APIKey: w.want[id].APIKey, SecretKey: secretKey}
	return credent.NewSecret(secretKey)
}

// caught makes an error of a panic, as the methods with an X have it.
func caught(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			var ok bool
			if err, ok = r.(error); !ok {
				err = fmt.Errorf("panic: %v", r)
			}
		}
	}()
	f()
	return nil
}

// setting is in what a path writes: a client, or a transaction that is then
// committed or rolled back.
type setting struct {
	name   string
	client func(env *testdb.Env) *ent.Client
	tx     bool
	keep   bool // what was written
}

var settings = []setting{
	{"client", func(env *testdb.Env) *ent.Client { return env.Client }, false, true},
	{"debug client", func(env *testdb.Env) *ent.Client { return env.DebugClient() }, false, true},
	{"commit", func(env *testdb.Env) *ent.Client { return env.Client }, true, true},
	{"debug commit", func(env *testdb.Env) *ent.Client { return env.DebugClient() }, true, true},
	{"rollback", func(env *testdb.Env) *ent.Client { return env.Client }, true, false},
}

// try runs a path on new rows, and checks what is stored then.
func (p writePath) try(t *testing.T, env *testdb.Env, in setting) {
	t.Helper()
	account, rows := env.Seed(t)
	before := env.Tokens(t)
	w := &writer{
		env: env, client: in.client(env), account: account, rows: rows,
		want: testdb.Opened(t, env.Ring, before),
	}
	var err error
	if in.tx {
		if w.tx, err = w.client.Tx(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.client = w.tx.Client()
	}
	if panicked := caught(func() { err = p.write(t.Context(), w) }); panicked != nil {
		err = panicked
	}
	if w.tx != nil {
		end := w.tx.Rollback
		if in.keep && err == nil {
			end = w.tx.Commit
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	}
	after := env.Tokens(t)
	switch {
	case p.refused != nil:
		if !isRefusal(err, p.refused) {
			t.Errorf("got %v, want %v", err, p.refused)
		}
		fallthrough
	case !in.keep:
		if diff := cmp.Diff(before, after); diff != "" {
			t.Error("something was changed:", diff)
		}
	}
	if p.refused != nil {
		return
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	if in.keep {
		if diff := cmp.Diff(w.want, testdb.Opened(t, env.Ring, after)); diff != "" {
			t.Error(diff)
		}
		env.CheckIndex(t, env.Ring)
		env.CheckFound(t, w.want)
	}
}

// orNoDriverError is an error, or ErrNoDriver before it.
type orNoDriverError struct{ error }

// isRefusal reports whether an error is the one that is wanted, and says no
// more than it should.
func isRefusal(err, want error) bool {
	var detail *credent.Error
	var or orNoDriverError
	switch {
	case err == nil:
		return false
	case errors.As(want, &or):
		return isRefusal(err, credent.ErrNoDriver) || isRefusal(err, or.error)
	case errors.Is(want, errSomehow):
		return true
	case errors.Is(want, errConstraint):
		return ent.IsConstraintError(err) || sqlgraph.IsConstraintError(err)
	case errors.Is(want, errCompared):
		return isRefusal(err, credent.ErrNoLocation) || isRefusal(err, credent.ErrRedacted)
	case errors.Is(want, errBare):
		return isRefusal(err, credent.ErrNoLocation) && strings.Contains(err.Error(), "encrypted.At(")
	case errors.Is(want, errStored):
		return isRefusal(err, errConstraint) || isRefusal(err, credent.ErrBlindIndex)
	case errors.Is(want, errNotNullOrIndex):
		return isRefusal(err, errNotNull) || isRefusal(err, credent.ErrBlindIndex)
	case errors.Is(want, errDollar):
		return errors.Is(err, errDollar) || errors.As(err, &detail) && strings.Contains(err.Error(),
			"use ? for arguments")
	case errors.Is(want, errMissing):
		return ent.IsValidationError(err) && strings.Contains(err.Error(), "missing required field")
	case errors.Is(want, errNotNull):
		return strings.Contains(strings.ToLower(strings.ReplaceAll(err.Error(), "-", " ")), "not null constraint")
	}
	return errors.Is(err, want) && errors.As(err, &detail)
}

// writePaths are all of them.
func writePaths() []writePath {
	return slices.Concat(createPaths(), updatePaths(), upsertPaths(), bulkUpsertPaths(), modifierPaths(),
		statementPaths(), predicatePaths())
}

// TestWritePaths writes secrets in every way that there is. What is stored then
// are tokens that open to what was written, or the write failed with an error
// that says why, and nothing was changed.
func TestWritePaths(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		for _, in := range settings {
			t.Run(in.name, func(t *testing.T) {
				for _, path := range writePaths() {
					if path.name == "" {
						t.Fatal("a path has no name")
					}
					t.Run(path.name, func(t *testing.T) { path.try(t, env, in) })
				}
			})
		}
	})
}

func createPaths() []writePath {
	return []writePath{
		{name: "Create, Save", covers: "UserCredentialClient.Create UserCredentialCreate.SetAPIKey " +
			"UserCredentialCreate.SetSecretKey UserCredentialCreate.Save", write: func(ctx context.Context,
			w *writer,
		) error {
			node, err := w.create("new", "new secret").Save(ctx)
			return errors.Join(err, reveals(node, "new", "new secret"))
		}},
		{name: "Create, SaveX", covers: "UserCredentialCreate.SaveX", write: func(ctx context.Context,
			w *writer,
		) error {
			return reveals(w.create("", "ö\x00").SaveX(ctx), "", "ö\x00")
		}},
		{name: "Create, Exec", covers: "UserCredentialCreate.Exec", write: func(ctx context.Context, w *writer) error {
			return w.create("new", "new secret").Exec(ctx)
		}},
		{name: "Create, ExecX", covers: "UserCredentialCreate.ExecX", write: func(ctx context.Context,
			w *writer,
		) error {
			w.create("new", "new secret").ExecX(ctx)
			return nil
		}},
		{name: "Create, by the mutation", covers: "UserCredentialCreate.Mutation UserCredentialMutation.SetAPIKey " +
			"UserCredentialMutation.SetField", write: func(ctx context.Context, w *writer) error {
			b := w.create("new", "new secret")
			b.SetAPIKey(credent.NewSecret("old")).SetSecretKey(credent.NewSecret("old"))
			b.Mutation().SetAPIKey(credent.NewSecret("new"))
			return errors.Join(b.Mutation().SetField("secret_key", credent.NewSecret("new secret")), b.Exec(ctx))
		}},
		{name: "Create, a string by the mutation", refused: errSomehow, write: func(_ context.Context,
			w *writer,
		) error {
			b := w.create("new", "new secret")
			return b.Mutation().SetField("secret_key", "new secret")
		}},
		{
			name: "Create, by Mutate", covers: "Client.Mutate UserCredentialMutation.SetSecretKey",
			write: func(ctx context.Context, w *writer) error {
				b := w.create("new", "new secret")
				b.Mutation().SetSecretKey(credent.NewSecret("new secret"))
				_, err := w.client.Mutate(ctx, b.Mutation())
				return err
			},
		},
		{
			name: "Create, in a transaction of its own", covers: "Client.Tx Client.BeginTx Tx.Client Tx.Commit",
			write: func(ctx context.Context, w *writer) error {
				if w.tx != nil {
					return nil
				}
				tx, err := w.client.BeginTx(ctx, &sql.TxOptions{})
				if err != nil {
					return err
				}
				w.client = tx.Client()
				return errors.Join(w.create("new", "new secret").Exec(ctx), tx.Commit())
			},
		},
		{name: "Create, of secrets read from a row", write: func(ctx context.Context, w *writer) error {
			old := w.row(ctx, 0)
			return w.create("secret0", "api0").SetAPIKey(old.SecretKey).SetSecretKey(old.APIKey).Exec(ctx)
		}},
		{
			name: "CreateBulk, Save", covers: "UserCredentialClient.CreateBulk UserCredentialCreateBulk.Save",
			write: func(ctx context.Context, w *writer) error {
				nodes, err := w.client.UserCredential.CreateBulk(w.create("a", "b"), w.create("a", "a"),
					w.create("c", "")).Save(ctx)
				if err != nil {
					return err
				}
				return errors.Join(reveals(nodes[0], "a", "b"), reveals(nodes[1], "a", "a"), reveals(nodes[2], "c", ""))
			},
		},
		{name: "CreateBulk, SaveX", covers: "UserCredentialCreateBulk.SaveX", write: func(ctx context.Context,
			w *writer,
		) error {
			return reveals(w.client.UserCredential.CreateBulk(w.create("a", "b")).SaveX(ctx)[0], "a", "b")
		}},
		{name: "CreateBulk, Exec", covers: "UserCredentialCreateBulk.Exec", write: func(ctx context.Context,
			w *writer,
		) error {
			return w.client.UserCredential.CreateBulk(w.create("a", "b"), w.create("a", "a")).Exec(ctx)
		}},
		{name: "CreateBulk, ExecX", covers: "UserCredentialCreateBulk.ExecX", write: func(ctx context.Context,
			w *writer,
		) error {
			w.client.UserCredential.CreateBulk(w.create("a", "b"), w.create("a", "a")).ExecX(ctx)
			return nil
		}},
		{name: "CreateBulk, one of them too long", refused: credent.ErrTooLong, write: func(ctx context.Context,
			w *writer,
		) error {
			return w.client.UserCredential.CreateBulk(w.create("a", "b"), w.create(tooLong, "a")).Exec(ctx)
		}},
		{name: "MapCreateBulk", covers: "UserCredentialClient.MapCreateBulk", write: func(ctx context.Context,
			w *writer,
		) error {
			keys := []string{"a", "b", "a"}
			return w.client.UserCredential.MapCreateBulk(keys, func(c *ent.UserCredentialCreate, i int) {
				id := uuid.New()
				w.want[id] = testdb.Pair{APIKey: keys[i], SecretKey: "secret"}
				c.SetID(id).SetUserAccountID(w.account.ID).SetUserID("u1").SetCredentialType("alpaca").
					SetAPIKey(credent.NewSecret(keys[i])).SetSecretKey(credent.NewSecret("secret"))
			}).Exec(ctx)
		}},
	}
}

// reveals reports how a returned node differs from what was written.
func reveals(node *ent.UserCredential, apiKey, secretKey string) error {
	if node == nil {
		return errors.New("no node")
	}
	for got, want := range maps.All(map[*credent.Secret]string{&node.APIKey: apiKey, &node.SecretKey: secretKey}) {
		if plaintext, err := got.Reveal(); err != nil || plaintext != want {
			return fmt.Errorf("the node reveals %q, %w, want %q", plaintext, err, want)
		}
	}
	return nil
}

func updatePaths() []writePath {
	return []writePath{
		{name: "UpdateOne, Save", covers: "UserCredential.Update UserCredentialUpdateOne.SetAPIKey " +
			"UserCredentialUpdateOne.Save", write: func(ctx context.Context, w *writer) error {
			node, err := w.row(ctx, 0).Update().SetAPIKey(w.wantAPIKey(0, "new")).Save(ctx)
			return errors.Join(err, reveals(node, "new", "secret0"))
		}},
		{name: "UpdateOne, SaveX", plainly: true, covers: "UserCredentialClient.UpdateOne " +
			"UserCredentialUpdateOne.SetSecretKey UserCredentialUpdateOne.SaveX", write: func(ctx context.Context,
			w *writer,
		) error {
			return reveals(w.client.UserCredential.UpdateOne(w.rows[0]).SetSecretKey(w.wantSecretKey(0, "new")).
				SaveX(ctx), "api0", "new")
		}},
		{name: "UpdateOneID, Exec", covers: "UserCredentialClient.UpdateOneID " +
			"UserCredentialUpdateOne.SetNillableAPIKey UserCredentialUpdateOne.SetNillableSecretKey " +
			"UserCredentialUpdateOne.Exec", write: func(ctx context.Context, w *writer) error {
			secret := w.wantAPIKey(1, "new")
			return w.client.UserCredential.UpdateOneID(w.rows[1].ID).SetNillableAPIKey(&secret).
				SetNillableSecretKey(nil).Exec(ctx)
		}},
		{name: "UpdateOneID, ExecX", plainly: true, covers: "UserCredentialUpdateOne.ExecX " +
			"UserCredentialUpdateOne.Where UserCredentialUpdateOne.Select", write: func(ctx context.Context,
			w *writer,
		) error {
			secret := w.wantSecretKey(1, "new")
			w.client.UserCredential.UpdateOneID(w.rows[1].ID).SetNillableSecretKey(&secret).
				Where(usercredential.Or(usercredential.UserID("u1"), usercredential.IsActive(false))).
				Select(usercredential.FieldID).ExecX(ctx)
			return nil
		}},
		{name: "UpdateOne, moved to another account", write: func(ctx context.Context, w *writer) error {
			other := w.client.UserAccount.Create().SetUserID("u2").SetAccountName("n").SaveX(ctx)
			return w.row(ctx, 0).Update().SetAccount(other).SetUserID("u2").SetAPIKey(w.wantAPIKey(0, "new")).Exec(ctx)
		}},
		{
			name: "UpdateOne, by the mutation", covers: "UserCredentialUpdateOne.Mutation",
			write: func(ctx context.Context, w *writer) error {
				u := w.row(ctx, 0).Update()
				u.Mutation().SetAPIKey(w.wantAPIKey(0, "new"))
				return u.Exec(ctx)
			},
		},
		{name: "UpdateOne, no such row", refused: errSomehow, write: func(ctx context.Context, w *writer) error {
			return w.client.UserCredential.UpdateOneID(uuid.New()).SetAPIKey(credent.NewSecret("new")).Exec(ctx)
		}},
		{
			name: "Update, one row by its ID", covers: "UserCredentialClient.Update UserCredentialUpdate.Where " +
				"UserCredentialUpdate.SetAPIKey UserCredentialUpdate.SetSecretKey UserCredentialUpdate.Save",
			write: func(ctx context.Context, w *writer) error {
				n, err := w.client.UserCredential.Update().Where(usercredential.ID(w.rows[2].ID)).
					SetAPIKey(w.wantAPIKey(2, "new")).SetSecretKey(w.wantSecretKey(2, "new")).Save(ctx)
				return errors.Join(err, counted(n, 1))
			},
		},
		{
			name: "Update, one row by another predicate", covers: "UserCredentialUpdate.SaveX " +
				"UserCredentialUpdate.SetNillableAPIKey UserCredentialUpdate.SetNillableSecretKey",
			write: func(ctx context.Context, w *writer) error {
				w.row(ctx, 1).Update().SetCredentialType("polygon").ExecX(ctx)
				secret, other := w.wantAPIKey(1, "new"), w.wantSecretKey(1, "new secret")
				return counted(w.client.UserCredential.Update().Where(usercredential.CredentialType("polygon")).
					SetNillableAPIKey(&secret).SetNillableSecretKey(&other).SaveX(ctx), 1)
			},
		},
		{name: "Update, one row by one of two", covers: "UserCredentialUpdate.Exec", write: func(ctx context.Context,
			w *writer,
		) error {
			return w.client.UserCredential.Update().
				Where(usercredential.Or(usercredential.ID(w.rows[1].ID), usercredential.CredentialType("none"))).
				Where(usercredential.IDIn(w.rows[1].ID, uuid.New())).
				SetAPIKey(w.wantAPIKey(1, "new")).Exec(ctx)
		}},
		{
			name: "Update, no row", plainly: true, covers: "UserCredentialUpdate.ExecX UserCredentialUpdate.Mutation",
			write: func(ctx context.Context, w *writer) error {
				u := w.client.UserCredential.Update().Where(usercredential.ID(uuid.New()))
				u.Mutation().SetAPIKey(credent.NewSecret("new"))
				u.ExecX(ctx)
				return nil
			},
		},
		{name: "Update, all rows", refused: credent.ErrManyRows, write: func(ctx context.Context, w *writer) error {
			return w.client.UserCredential.Update().SetAPIKey(credent.NewSecret("new")).Exec(ctx)
		}},
		{name: "Update, two rows", refused: credent.ErrManyRows, write: func(ctx context.Context, w *writer) error {
			return w.client.UserCredential.Update().Where(usercredential.IDIn(w.rows[0].ID, w.rows[2].ID)).
				SetSecretKey(credent.NewSecret("new")).Exec(ctx)
		}},
		{name: "Update, all rows, no secret", plainly: true, write: func(ctx context.Context, w *writer) error {
			return counted(w.client.UserCredential.Update().SetIsActive(false).SaveX(ctx), 3)
		}},
		{name: "Update, by Mutate", refused: credent.ErrManyRows, write: func(ctx context.Context, w *writer) error {
			u := w.client.UserCredential.Update().SetAPIKey(credent.NewSecret("new"))
			_, err := w.client.Mutate(ctx, u.Mutation())
			return err
		}},
	}
}

func counted(got, want int) error {
	if got != want {
		return fmt.Errorf("%d rows, want %d", got, want)
	}
	return nil
}
