package paths

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

// refusedWhenBound are the paths by which a token could end in another tenant's
// row, by what their errors say. Paths that every client refuses, for a secret
// without its digest say, aren't among them.
var refusedWhenBound = map[string][]string{
	"an update that sets user_account_id must set user_id and all secrets too": {"UpdateOne, moved to another account"},
	"the user_id given to encrypted.At is not the row's": {
		"UpdateOne, Modify for another tenant",
	},
	"the conflicting row may be another tenant's: let the upsert set user_id and all secrets too": {
		"bulk upsert of one, Update", "bulk upsert of one, setters", "bulk upsert, Update",
		"bulk upsert, Update with UpdateAPIKey", "bulk upsert, UpdateAPIKey", "bulk upsert, setters", "upsert, Set",
		"upsert, Set of the other column to a string", "upsert, Set with the digest of another", "upsert, Update",
		"upsert, Update with UpdateAPIKey", "upsert, Update with conditions", "upsert, UpdateAPIKey", "upsert, setters",
		"upsert, the setter without a conflict",
	},
}

// TestBoundWritePaths writes in every way that there is: what is stored is
// bound to its place and opens to what was written, or the write failed with an
// error that says why, and nothing was changed.
func TestBoundWritePaths(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		env.Client = env.OnPool(env.IsBound()...)
		tryScoped(t, env, func(t *testing.T) map[uuid.UUID]testdb.Pair {
			t.Helper()
			all, _, unbound := env.AtPlace(t)
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
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		env.Client = env.OnPool(testopt.WithKeyring(env.Ring), testopt.WithTenantKeys(credent.Write))
		tryScoped(t, env, func(t *testing.T) map[uuid.UUID]testdb.Pair {
			t.Helper()
			for _, p := range env.Tokens(t) {
				for _, token := range []string{p.APIKey, p.SecretKey} {
					if _, err := env.Ring.Decrypt(token); !errors.Is(err, credent.ErrUnknownKey) {
						t.Errorf("the keyring opens a token: %v", err)
					}
				}
			}
			all := make(map[uuid.UUID]testdb.Pair)
			for _, row := range env.Client.UserCredential.Query().AllX(t.Context()) {
				all[row.ID] = testdb.Pair{
					APIKey:    testdb.Reveal(t, row.APIKey),
					SecretKey: testdb.Reveal(t, row.SecretKey),
				}
			}
			return all
		})
	})
}

// tryScoped tries every write path of a client with keys that depend on the
// tenant, in and out of transactions. read returns what is stored, after it has
// looked at the tokens.
func tryScoped(t *testing.T, env *testdb.Env, read func(t *testing.T) map[uuid.UUID]testdb.Pair) {
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

func (p writePath) tryScoped(t *testing.T, env *testdb.Env, inTx bool,
	read func(t *testing.T) map[uuid.UUID]testdb.Pair,
) error {
	t.Helper()
	account, rows := env.Seed(t)
	before := env.Tokens(t)
	w := &writer{env: env, client: env.Client, account: account, rows: rows, want: read(t)}
	err := p.run(t, w, inTx)
	got := read(t)
	switch {
	case err == nil && p.refused == nil:
		if diff := cmp.Diff(w.want, got); diff != "" {
			t.Error(diff)
		}
		env.CheckDigests(t, env.Ring, w.want)
		env.CheckFound(t, w.want)
	case errors.Is(err, credent.ErrWrongLocation) || p.refused != nil && isRefusal(err, p.refused):
		if diff := cmp.Diff(before, env.Tokens(t)); diff != "" {
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
