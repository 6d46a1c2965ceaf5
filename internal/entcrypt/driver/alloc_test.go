//go:build !race

// The race detector allocates too and makes sync.Pool drop some values, so the
// tests don't run under it.

package driver_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/states"
)

// TestReadAllocations pins the allocations of a row that the driver reads and
// the caller reveals. They are the same if the token is bound, or if other
// columns' tokens are. This process has a column that the schema binds.
func TestReadAllocations(t *testing.T) {
	r := ring(t, keyA)
	told := 0
	for name, test := range map[string]struct {
		token string
		cfg   driver.Config
	}{
		"not bound": {encrypt(t, r, "text"), driver.Config{Keyring: r}},
		"bound": {
			encrypt(t, bound(t, r, rentedKey, "b"), "text"),
			driver.Config{Keyring: r, States: binding(states.Require, rentedKey)},
		},
		"window": {
			encrypt(t, bound(t, r, rentedKey, "b"), "text"),
			driver.Config{Keyring: r, States: binding(states.Write, rentedKey)},
		},
		"observed": {encrypt(t, r, "text"), driver.Config{Keyring: r, OnReveal: func(seal.Reveal) { told++ }}},
	} {
		result := &fakeRows{
			columns: []string{"id", "key", "user_id"},
			rows:    [][]any{{int64(1), []byte(test.token), "b"}},
		}
		rows := query(t, result, test.cfg, "Rented")
		id, tenant := new(sql.NullInt64), new(sql.NullString)
		dest := []any{id, nil, tenant}
		got := testing.AllocsPerRun(200, func() {
			result.next = 1
			target := rented.ScanValue()
			dest[1] = target
			if err := rows.Scan(dest...); err != nil {
				t.Error(err)
			}
			secret, err := rented.FromValue(target)
			if err != nil {
				t.Error(err)
			}
			if _, err := secret.Reveal(); err != nil {
				t.Error(err)
			}
		})
		// The target with its Inner, the token, the closure, the primary key,
		// the plaintext.
		if got != 5 {
			t.Errorf("%s: got %v allocations, want 5", name, got)
		}
	}
	if told < 200 {
		t.Errorf("the observer saw %d reveals", told)
	}
}

// TestWriteAllocations pins the allocations of a statement: the arguments, the
// token, and the sealing.
func TestWriteAllocations(t *testing.T) {
	r := ring(t, keyA)
	value, err := rented.Value(fieldcrypt.New("text"))
	if err != nil {
		t.Fatal(err)
	}
	arg, _ := stamped(t, "rented", "key", value, "b")
	for name, test := range map[string]struct {
		cfg  driver.Config
		args []any
		want float64
	}{
		"no secret": {driver.Config{Keyring: r}, []any{1, "text", true}, 3},
		"not bound": {driver.Config{Keyring: r}, []any{1, arg, "b"}, 6},
		"bound":     {driver.Config{Keyring: r, States: binding(states.Require, rentedKey)}, []any{1, arg, "b"}, 7},
	} {
		drv := newDriver(t, discard{new(recorder)}, test.cfg)
		got := testing.AllocsPerRun(200, func() {
			if err := drv.Exec(t.Context(), insert, test.args, nil); err != nil {
				t.Error(err)
			}
		})
		if got != test.want {
			t.Errorf("%s: got %v allocations, want %v", name, got, test.want)
		}
	}
}

// discard is a driver that doesn't allocate.
type discard struct{ *recorder }

func (discard) Exec(context.Context, string, any, any) error { return nil }
