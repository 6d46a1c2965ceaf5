package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// bothColumns are the names of the encrypted ones.
var bothColumns = []string{"user_credentials.api_key", "user_credentials.secret_key"}

// inState gives both columns a state.
func inState(p states.Protection, s credent.State) states.Table {
	return states.New(p, s, usercredential.APIKeyColumn, usercredential.SecretKeyColumn)
}

// isBound are the options of a client whose tokens are bound.
func (env *environment) isBound(more ...testopt.Option) []testopt.Option {
	return append([]testopt.Option{testopt.WithKeyring(env.ring), testopt.WithBinding(credent.Require)}, more...)
}

// atPlace opens what the encrypted columns of every row hold, in their places,
// and says whether all of it is bound.
func (env *environment) atPlace(t *testing.T) (all map[uuid.UUID]pair, bound, unbound int) {
	t.Helper()
	rows, err := env.db.QueryContext(t.Context(), "SELECT id, user_id, api_key, secret_key FROM user_credentials")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { closeAll(t, rows) }()
	all = make(map[uuid.UUID]pair)
	var locator seal.Locator
	for rows.Next() {
		var (
			id     uuid.UUID
			tenant sql.NullString
			tokens [2]string
			opened [2]string
		)
		if err := rows.Scan(&id, &tenant, &tokens[0], &tokens[1]); err != nil {
			t.Fatal(err)
		}
		for i, name := range bothColumns {
			place := seal.Place{Column: must(column.Find(name)), Tenant: tenant}
			_, isBound, err := locator.KeyAt((*engine.Ring)(env.ring), place, tokens[i])
			if err != nil {
				t.Errorf("%s of %s: %v", name, tenant.String, err)
			}
			if opened[i], err = locator.DecryptAt((*engine.Ring)(env.ring), place, tokens[i]); err == nil && isBound {
				bound++
			} else if err == nil {
				unbound++
			}
		}
		all[id] = pair{opened[0], opened[1]}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all, bound, unbound
}

// TestBoundTokensCannotBeMoved has pairs of rows whose tokens are exchanged by
// SQL: of two users, and of two columns of one row. Package integration/bound
// does the same with two tables. A token that is not bound opens wherever it
// is.
func TestBoundTokensCannotBeMoved(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, env *environment) {
		ctx := t.Context()
		for name, client := range map[string]*ent.Client{"bound": env.onPool(env.isBound()...), "not bound": env.client} {
			account := func(user string) *ent.UserAccount {
				return client.UserAccount.Create().SetUserID(user).SetAccountName("x").SaveX(ctx)
			}
			create := func(a *ent.UserAccount) *ent.UserCredential {
				return client.UserCredential.Create().SetAccount(a).SetUserID(a.UserID).SetCredentialType("alpaca").
					SetAPIKey(credent.NewSecret("key of " + a.UserID)).SetSecretKey(credent.NewSecret("secret of " + a.UserID)).SaveX(ctx)
			}
			one, other := create(account(name+" 1")), create(account(name+" 2"))
			move := func(query string) {
				t.Helper()
				env.exec(t, env.placeholders(query), one.ID, other.ID)
			}
			check := func(what, wantAPIKey, wantSecretKey string) {
				t.Helper()
				got := client.UserCredential.GetX(ctx, one.ID)
				for column, test := range map[string]struct {
					secret credent.Secret
					want   string
				}{"api_key": {got.APIKey, wantAPIKey}, "secret_key": {got.SecretKey, wantSecretKey}} {
					plaintext, err := test.secret.Reveal()
					if name == "not bound" || test.want == plaintext {
						if err != nil || plaintext != test.want {
							t.Errorf("%s, %s: %s: got %q, %v, want %q", name, what, column, plaintext, err, test.want)
						}
						continue
					}
					var detail *credent.Error
					if plaintext != "" || !errors.Is(err, credent.ErrWrongLocation) || !errors.Is(err, credent.ErrUnknownKey) ||
						!errors.As(err, &detail) || detail.Column != column || detail.Row != one.ID.String() {
						t.Errorf("%s, %s: %s: got %q, %v, want ErrWrongLocation", name, what, column, plaintext, err)
					}
				}
			}
			mine := fmt.Sprintf(" of %s 1", name)
			check("in place", "key"+mine, "secret"+mine)
			move("UPDATE user_credentials SET api_key = (SELECT api_key FROM user_credentials WHERE id = $2) WHERE id = $1")
			check("another user's", "key of "+name+" 2", "secret"+mine)
			client.UserCredential.UpdateOneID(one.ID).SetAPIKey(credent.NewSecret("key" + mine)).ExecX(ctx)
			check("stored again", "key"+mine, "secret"+mine)
			move("UPDATE user_credentials SET api_key = secret_key, secret_key = api_key WHERE id IN ($1, $2)")
			check("the other column", "secret"+mine, "key"+mine)
		}
	})
}

// refusedWhenBound are the paths by which a token could end in another tenant's
// row, by what their errors say. Paths that every client refuses, for a secret
// without its digest say, aren't among them.
var refusedWhenBound = map[string][]string{
	"an update that sets user_account_id must set user_id and all secrets too": {"UpdateOne, moved to another account"},
	"encrypted.At says another user_id than the row has":                       {"UpdateOne, Modify for another tenant"},
	"the row that conflicts may be another's: let the upsert set user_id and all secrets too": {
		"bulk upsert of one, Update", "bulk upsert of one, setters", "bulk upsert, Update", "bulk upsert, Update with UpdateAPIKey",
		"bulk upsert, UpdateAPIKey", "bulk upsert, setters", "upsert, Set",
		"upsert, Set of the other column to a string", "upsert, Set with the digest of another", "upsert, Update",
		"upsert, Update with UpdateAPIKey", "upsert, Update with conditions", "upsert, UpdateAPIKey", "upsert, setters", "upsert, the setter without a conflict",
	},
}

// TestBoundWritePaths writes in every way that there is: what is stored is
// bound to its place and opens to what was written, or the write failed with an
// error that says why, and nothing was changed.
func TestBoundWritePaths(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, env *environment) {
		env.client = env.onPool(env.isBound()...)
		env.tryScoped(t, func(t *testing.T) map[uuid.UUID]pair {
			t.Helper()
			all, _, unbound := env.atPlace(t)
			if unbound > 0 {
				t.Errorf("%d secrets are not bound", unbound)
			}
			return all
		})
	})
}

// TestTenantKeysWritePaths is TestBoundWritePaths with tokens under tenants'
// own keys, which the keyring doesn't open.
func TestTenantKeysWritePaths(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, env *environment) {
		env.client = env.onPool(testopt.WithKeyring(env.ring), testopt.WithTenantKeys(credent.Write))
		env.tryScoped(t, func(t *testing.T) map[uuid.UUID]pair {
			t.Helper()
			for _, p := range env.tokens(t) {
				for _, token := range []string{p.APIKey, p.SecretKey} {
					if _, err := env.ring.Decrypt(token); !errors.Is(err, credent.ErrUnknownKey) {
						t.Errorf("the keyring opens a token: %v", err)
					}
				}
			}
			all := make(map[uuid.UUID]pair)
			for _, row := range env.client.UserCredential.Query().AllX(t.Context()) {
				all[row.ID] = pair{reveal(t, row.APIKey), reveal(t, row.SecretKey)}
			}
			return all
		})
	})
}

// tryScoped tries every write path of a client whose keys depend on the tenant,
// in and out of transactions. read returns what is stored, after it has looked
// at the tokens.
func (env *environment) tryScoped(t *testing.T, read func(t *testing.T) map[uuid.UUID]pair) {
	t.Helper()
	for _, inTx := range []bool{false, true} {
		refused := make(map[string][]string)
		for _, p := range writePaths() {
			t.Run(fmt.Sprintf("%s, in a transaction %t", p.name, inTx), func(t *testing.T) {
				err := p.tryScoped(t, env, inTx, read)
				if !errors.Is(err, credent.ErrWrongLocation) {
					return
				}
				for reason := range refusedWhenBound {
					if strings.Contains(err.Error(), reason) {
						refused[reason] = append(refused[reason], p.name)
						return
					}
				}
				t.Errorf("refused for another reason: %v", err)
			})
		}
		for _, names := range refused {
			slices.Sort(names)
		}
		if diff := cmp.Diff(refusedWhenBound, refused); diff != "" {
			t.Errorf("paths that are refused, in a transaction %t (-want +got):\n%s", inTx, diff)
		}
	}
}

func (p writePath) tryScoped(t *testing.T, env *environment, inTx bool, read func(t *testing.T) map[uuid.UUID]pair) error {
	t.Helper()
	account, rows := env.seed(t)
	before := env.tokens(t)
	w := &writer{env: env, client: env.client, account: account, rows: rows, want: read(t)}
	err := p.run(t, w, inTx)
	got := read(t)
	switch {
	case err == nil && p.refused == nil:
		if diff := cmp.Diff(w.want, got); diff != "" {
			t.Error(diff)
		}
		env.checkDigests(t, env.ring, w.want)
		env.checkFound(t, w.want)
	case errors.Is(err, credent.ErrWrongLocation) || p.refused != nil && isRefusal(err, p.refused):
		if diff := cmp.Diff(before, env.tokens(t)); diff != "" {
			t.Errorf("something was changed: %s", diff)
		}
	default:
		t.Errorf("got %v, want %v", err, p.refused)
	}
	return err
}

// run tries the path, in a transaction of its own if it is to, which is
// committed if the path succeeds.
func (p writePath) run(t *testing.T, w *writer, inTx bool) (err error) {
	t.Helper()
	if inTx {
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
		if err == nil {
			end = w.tx.Commit
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	}
	return err
}

// A result without user_id cannot be opened, and the error says what to do.
func TestBoundReadsNeedTheTenant(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, env *environment) {
		client := env.onPool(env.isBound()...)
		env.client = client
		env.credential(t, env.account(t, "u1"), "key", "secret")
		for columns, want := range map[*[]string]error{
			{usercredential.FieldAPIKey}:                             credent.ErrNoTenant,
			{usercredential.FieldAPIKey, usercredential.FieldUserID}: nil,
		} {
			var got []struct {
				APIKey credent.Secret `sql:"api_key"`
				UserID string         `sql:"user_id"`
			}
			if err := client.UserCredential.Query().Select(*columns...).Scan(t.Context(), &got); err != nil {
				t.Fatal(err)
			}
			if _, err := got[0].APIKey.Reveal(); !errors.Is(err, want) {
				t.Errorf("%v: got %v, want %v", *columns, err, want)
			}
		}
		if err := credent.Check(t.Context(), client); err != nil {
			t.Error(err)
		}
		if err := credent.Check(t.Context(), env.onPool(testopt.WithKeyring(env.ring))); !errors.Is(err, credent.ErrUnknownKey) {
			t.Errorf("a client that does not bind: %v", err)
		}
	})
}

// Copy binds as a Create does, by COPY and by INSERT.
func TestBoundCopy(t *testing.T) {
	t.Parallel()
	forEachCopy(t, func(t *testing.T, env *environment) {
		env.account(t, "u1")
		for _, opts := range [][]testopt.Option{env.isBound(), env.isBound(testopt.WithFormatWarnings(slog.New(slog.DiscardHandler)))} {
			if n, err := testopt.Copy(t.Context(), env.db, sequence(copyRows(3, "u1")...), credent.CopyConfig{}, opts...); n != 3 || err != nil {
				t.Fatal(n, err)
			}
		}
		if _, bound, unbound := env.atPlace(t); bound != 12 || unbound != 0 {
			t.Errorf("%d are bound, %d are not", bound, unbound)
		}
	})
}

// The user_id of an account changes, and with it what its tokens are bound to,
// beside writers; or the change is refused.
func TestBoundAccountMoves(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, env *environment) {
		ctx := t.Context()
		env.client = env.onPool(env.isBound()...)
		account, rows := env.seed(t)
		move := func(user string) error {
			tx, err := env.client.Tx(ctx)
			if err != nil {
				return err
			}
			if err := tx.UserAccount.UpdateOneID(account.ID).SetUserID(user).Exec(ctx); err != nil {
				return errors.Join(err, tx.Rollback())
			}
			return tx.Commit()
		}
		before := env.tokens(t)
		for name, err := range map[string]error{
			"UpdateOne":   account.Update().SetUserID("u2").Exec(ctx),
			"Update":      env.client.UserAccount.Update().Where(useraccount.ID(account.ID)).SetUserID("u2").Exec(ctx),
			"of one row":  rows[0].Update().SetUserID("u2").Exec(ctx),
			"half of one": rows[0].Update().SetUserID("u2").SetAPIKey(credent.NewSecret("x")).Exec(ctx),
		} {
			if !errors.Is(err, credent.ErrWrongLocation) {
				t.Errorf("%s outside of a transaction: got %v, want ErrWrongLocation", name, err)
			}
		}
		if diff := cmp.Diff(before, env.tokens(t)); diff != "" {
			t.Errorf("something was changed: %s", diff)
		}
		updated := env.client.UserCredential.GetX(ctx, rows[0].ID).UpdatedAt

		var writers sync.WaitGroup
		stop := make(chan struct{})
		for _, row := range rows[1:] {
			writers.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					err := env.client.UserCredential.UpdateOneID(row.ID).SetAPIKey(credent.NewSecret(fmt.Sprint("new ", i))).Exec(ctx)
					if err != nil && !env.isSQLite() { // where the one writer may be the other for long
						t.Errorf("write %d: %v", i, err)
						return
					}
				}
			})
		}
		writers.Go(func() { // what comes too late for the old user_id is refused
			for {
				select {
				case <-stop:
					return
				default:
				}
				err := env.client.UserCredential.Create().SetUserAccountID(account.ID).SetCredentialType("alpaca").
					SetAPIKey(credent.NewSecret("added")).SetSecretKey(credent.NewSecret("added")).Exec(ctx)
				if err != nil && !errors.Is(err, credent.ErrTenantMismatch) && !env.isSQLite() {
					t.Errorf("add: %v", err)
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
		for i := range 20 {
			if err := move(fmt.Sprint("u", i%2)); err != nil && !env.isSQLite() {
				t.Errorf("move %d: %v", i, err)
			}
		}
		close(stop)
		writers.Wait()
		if err := move("last"); err != nil {
			t.Fatal(err)
		}
		all, bound, unbound := env.atPlace(t)
		if bound != 2*len(all) || unbound != 0 || all[rows[0].ID] != (pair{"api0", "secret0"}) {
			t.Errorf("%d are bound, %d are not: %v", bound, unbound, all)
		}
		row := env.client.UserCredential.GetX(ctx, rows[0].ID)
		if row.UserID != "last" || !row.UpdatedAt.Equal(updated) || reveal(t, row.APIKey) != "api0" {
			t.Errorf("moved: %v, updated at %v, before %v", row, row.UpdatedAt, updated)
		}
	})
}

// A program that knows nothing of it changes the user_id: the tokens stay
// behind, and open again when it is set back.
func TestBoundTokensStayBehind(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, env *environment) {
		env.client = env.onPool(env.isBound()...)
		_, rows := env.seed(t)
		for user, want := range map[string]error{"u1": nil, "u2": credent.ErrWrongLocation} {
			env.exec(t, env.placeholders("UPDATE user_accounts SET user_id = $1"), user)
			for _, row := range rows {
				if _, err := env.client.UserCredential.GetX(t.Context(), row.ID).APIKey.Reveal(); !errors.Is(err, want) {
					t.Errorf("of %s: got %v, want %v", user, err, want)
				}
			}
		}
		env.exec(t, env.placeholders("UPDATE user_accounts SET user_id = $1"), "u1")
		if _, bound, unbound := env.atPlace(t); bound != 6 || unbound != 0 {
			t.Errorf("%d are bound, %d are not", bound, unbound)
		}
	})
}

// A service under row-level security looks up whose a row is as itself.
func TestBoundService(t *testing.T) {
	t.Parallel()
	forEachService(t, func(t *testing.T, s *service) {
		window := []testopt.Option{testopt.WithBinding(credent.Write)}
		app := open(t, s.serviceURL, append(slices.Clone(s.opts), window...)...)
		ctx, mine, others := as(t, "u1"), s.credentials["u1"][0], s.credentials["u2"][0]
		before, err := s.rowsOf(t.Context(), "u2")
		if err != nil {
			t.Fatal(err)
		}
		if err := app.UserCredential.UpdateOneID(mine.ID).SetAPIKey(credent.NewSecret("new")).Exec(ctx); err != nil {
			t.Fatal(err)
		}
		const query = "UPDATE user_credentials SET secret_key = $1 WHERE id = $2"
		at := func(s, user string) any {
			return encrypted.At(credent.NewSecret(s), usercredential.SecretKeyColumn, user)
		}
		if _, err := app.ExecContext(ctx, query, at("new", "u1"), mine.ID); err != nil {
			t.Fatal(err)
		}
		if got := app.UserCredential.GetX(ctx, mine.ID); reveal(t, got.APIKey) != "new" || reveal(t, got.SecretKey) != "new" {
			t.Error("another secret was read")
		}
		if _, bound, unbound := s.atPlace(t); bound != 2 || unbound != 4 {
			t.Errorf("%d are bound, %d are not", bound, unbound)
		}
		if err := app.UserCredential.UpdateOneID(others.ID).SetAPIKey(credent.NewSecret("x")).Exec(ctx); !ent.IsNotFound(err) {
			t.Errorf("another user's: %v", err)
		}
		result, err := app.ExecContext(ctx, query, at("x", "u2"), others.ID)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := result.RowsAffected(); n != 0 || err != nil {
			t.Errorf("another user's: %d rows, %v", n, err)
		}
		if after, err := s.rowsOf(t.Context(), "u2"); err != nil || after != before {
			t.Errorf("another user's row was changed: %v", err)
		}
	})
}

// TestRotateBinds binds and unbinds beside readers and writers, in the order of
// docs/binding.md: the window is open on all clients before the first of them
// writes otherwise.
func TestRotateBinds(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, env *environment) {
		r := newRotation(t, env, 2000)
		plain := env.onPool(testopt.WithKeyring(r.after), testopt.WithBinding(credent.Accept))
		binding := env.onPool(testopt.WithKeyring(r.after), testopt.WithBinding(credent.Write))
		strict := env.onPool(testopt.WithKeyring(r.after), testopt.WithBinding(credent.Require))
		env.ring = r.after
		run := func(writer *ent.Client, cfg rotate.Config) {
			t.Helper()
			stop := r.useBeside(t, writer, plain, binding)
			report, err := rotate.Run(t.Context(), env.db, r.after, cfg)
			stop()
			if err != nil {
				t.Fatalf("%v: %+v", err, report)
			}
		}
		run(binding, rotate.Config{States: inState(states.Binding, credent.Write), Batch: 100})
		if _, bound, unbound := env.atPlace(t); bound != 4000 || unbound != 0 {
			t.Errorf("%d are bound, %d are not", bound, unbound)
		}
		counts := must(rotate.Verify(t.Context(), env.db, r.after))
		if counts[0].Bound != 2000 || counts[1].Bound != 2000 || counts.Err() != nil || counts.Under(inState(states.Binding, credent.Require)...).Err() != nil {
			t.Errorf("%+v", counts)
		}
		for _, c := range strict.UserCredential.Query().AllX(t.Context()) {
			reveal(t, c.APIKey)
			reveal(t, c.SecretKey)
		}
		// A change of the key leaves them bound.
		third := keyring.GenerateKey()
		ring := must(keyring.New(third, r.newKey))
		if report, err := rotate.Run(t.Context(), env.db, ring, rotate.Config{}); err != nil || report.Rewritten() != 2000 {
			t.Fatalf("%+v, %v", report, err)
		}
		must(r.after.ReplaceRemovingPrimary(ring))
		if _, bound, unbound := env.atPlace(t); bound != 4000 || unbound != 0 {
			t.Errorf("after another key: %d are bound, %d are not", bound, unbound)
		}

		run(plain, rotate.Config{States: inState(states.Binding, credent.Accept), Batch: 100})
		if _, bound, unbound := env.atPlace(t); bound != 0 || unbound != 4000 {
			t.Errorf("back: %d are bound, %d are not", bound, unbound)
		}
		if err := must(rotate.Verify(t.Context(), env.db, r.after)).Under(inState(states.Binding, credent.Require)...).Err(); !errors.Is(err, rotate.ErrUnbound) {
			t.Errorf("got %v, want ErrUnbound", err)
		}
		if _, err := strict.UserCredential.GetX(t.Context(), r.ids[0]).APIKey.Reveal(); !errors.Is(err, credent.ErrWrongLocation) {
			t.Errorf("without a window: %v", err)
		}
		for name, cfg := range map[string]rotate.Config{
			"no column": {States: states.New(states.Binding, credent.Write, encrypted.Column{Table: "user_credentials", Name: "id"})},
			"both":      {States: append(inState(states.Binding, credent.Write), inState(states.Binding, credent.Off)...)},
		} {
			if _, err := rotate.Run(t.Context(), env.db, r.after, cfg); err == nil {
				t.Errorf("%s was accepted", name)
			}
		}
	})
}

// useBeside reads all rows with each reader, and updates some with the writer,
// until it is stopped. Every secret opens.
func (r *rotation) useBeside(t *testing.T, writer *ent.Client, readers ...*ent.Client) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var users sync.WaitGroup
	use := func(f func(i int) error) {
		users.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := f(i); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for _, reader := range readers {
		use(func(i int) error {
			page, err := reader.UserCredential.Query().Offset(i * 100 % len(r.ids)).Limit(100).All(ctx)
			for _, c := range page {
				_, keyErr := c.APIKey.Reveal()
				_, secretErr := c.SecretKey.Reveal()
				err = errors.Join(err, keyErr, secretErr)
			}
			return err
		})
	}
	use(func(i int) error {
		err := writer.UserCredential.UpdateOneID(r.ids[i*7%len(r.ids)]).SetAPIKey(credent.NewSecret(fmt.Sprint("written ", i))).Exec(ctx)
		time.Sleep(time.Millisecond)
		return err
	})
	return func() {
		cancel()
		users.Wait()
	}
}
