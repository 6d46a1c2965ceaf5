package rotation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// TestRotateBinds binds and unbinds beside readers and writers, in the order of
// docs/binding.md: all clients open the window before the first of them writes
// the new way.
func TestRotateBinds(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		const rows = 300
		r := newRotation(t, env, rows)
		plain := env.OnPool(testopt.WithKeyring(r.after), testopt.WithBinding(credent.Accept))
		binding := env.OnPool(testopt.WithKeyring(r.after), testopt.WithBinding(credent.Write))
		strict := env.OnPool(testopt.WithKeyring(r.after), testopt.WithBinding(credent.Require))
		env.Ring = r.after
		run := func(writer *ent.Client, cfg rotate.Config) {
			t.Helper()
			stop := r.useBeside(t, writer, plain, binding)
			report, err := rotate.Run(t.Context(), env.DB, r.after, cfg)
			stop()
			if err != nil {
				t.Fatalf("%v: %+v", err, report)
			}
		}
		run(binding, rotate.Config{States: testdb.InState(states.Binding, credent.Write), Batch: 20})
		if _, bound, unbound := env.AtPlace(t); bound != 2*rows || unbound != 0 {
			t.Errorf("%d are bound, %d are not", bound, unbound)
		}
		counts := testdb.Must(rotate.Verify(t.Context(), env.DB, r.after))
		if counts[0].Bound != rows || counts[1].Bound != rows || counts.Err() != nil ||
			counts.Under(testdb.InState(states.Binding, credent.Require)...).Err() != nil {
			t.Errorf("%+v", counts)
		}
		for _, c := range strict.UserCredential.Query().AllX(t.Context()) {
			testdb.Reveal(t, c.APIKey)
			testdb.Reveal(t, c.SecretKey)
		}
		// Rotating the key leaves them bound.
		third := keyring.GenerateKey()
		ring := testdb.Must(keyring.New(third, r.newKey))
		if report, err := rotate.Run(t.Context(), env.DB, ring, rotate.Config{}); err != nil ||
			report.Rewritten() != rows {
			t.Fatalf("%+v, %v", report, err)
		}
		testdb.Must(r.after.ReplaceRemovingPrimary(ring))
		if _, bound, unbound := env.AtPlace(t); bound != 2*rows || unbound != 0 {
			t.Errorf("after another key: %d are bound, %d are not", bound, unbound)
		}

		run(plain, rotate.Config{States: testdb.InState(states.Binding, credent.Accept), Batch: 20})
		if _, bound, unbound := env.AtPlace(t); bound != 0 || unbound != 2*rows {
			t.Errorf("back: %d are bound, %d are not", bound, unbound)
		}
		if err := testdb.Must(rotate.Verify(t.Context(), env.DB, r.after)).
			Under(testdb.InState(states.Binding, credent.Require)...).Err(); !errors.Is(err, rotate.ErrUnbound) {
			t.Errorf("got %v, want ErrUnbound", err)
		}
		if _, err := strict.UserCredential.GetX(t.Context(), r.ids[0]).
			APIKey.Reveal(); !errors.Is(err, credent.ErrWrongLocation) {
			t.Errorf("without a window: %v", err)
		}
		for name, cfg := range map[string]rotate.Config{
			"no column": {States: states.New(states.Binding, credent.Write,
				encrypted.Column{Table: "user_credentials", Name: "id"})},
			"both": {States: append(testdb.InState(states.Binding, credent.Write), testdb.InState(states.Binding,
				credent.Off)...)},
		} {
			if _, err := rotate.Run(t.Context(), env.DB, r.after, cfg); err == nil {
				t.Errorf("%s was accepted", name)
			}
		}
	})
}

// useBeside reads all rows with each reader, and updates some with the writer,
// until stopped. Every secret opens.
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
				testdb.Pace()
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
		return writer.UserCredential.UpdateOneID(r.ids[i*7%len(r.ids)]).
			SetAPIKey(credent.NewSecret(fmt.Sprint("written ", i))).Exec(ctx)
	})
	return func() {
		cancel()
		users.Wait()
	}
}
