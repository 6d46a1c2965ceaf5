//go:build !race

// Not under the race detector: it allocates for its own records, and makes sync.Pool drop a part of what it is given.

package fieldcrypt_test

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// TestAllocations pins the hot path: the result is all that is allocated. It is not parallel, as AllocsPerRun counts
// what the whole process allocates.
func TestAllocations(t *testing.T) {
	useDefault(t, keyA)
	r := ring(t, keyB, keyC, keyA)
	for _, size := range []int{2, 24, 64, 303, 1024, 5000} {
		text := strings.Repeat("x", size)
		token := seal(t, ring(t, keyA), text)
		buffer := make([]byte, 0, fieldcrypt.TokenLen(size))
		target := wide.ScanValue()
		var src any = []byte(token)
		for _, test := range []struct {
			name string
			want float64
			run  func() error
		}{
			{"Encrypt", 1, func() error { _, err := r.Encrypt(text); return err }},
			{"Decrypt", 1, func() error { _, err := r.Decrypt(token); return err }},
			{"append of Encrypt", 0, func() error { _, err := r.AppendEncrypt(buffer, text); return err }},
			{"Digest", 1, func() error { _, err := r.Digest(pin, text); return err }},
			{"append of Decrypt", 0, func() error { _, err := r.AppendDecrypt(buffer, token); return err }},
			{"refusal", 0, func() error {
				if _, err := r.Decrypt(token[:len(token)-4]); err == nil {
					return errAny
				}
				return nil
			}},
			{"Scan", 3, func() error { return target.Scan(src) }}, // the token, its holder and the closure
		} {
			got := testing.AllocsPerRun(200, func() {
				if err := test.run(); err != nil {
					t.Error(err)
				}
			})
			if got != test.want {
				t.Errorf("%s of %d bytes: got %v allocations, want %v", test.name, size, got, test.want)
			}
		}
	}
}

// TestReadAllocations pins what a row costs that a driver reads and a caller reveals: the same whether its token is bound, and
// whether other columns' are. This process has a column that the schema binds.
func TestReadAllocations(t *testing.T) {
	r := ring(t, keyA)
	for name, test := range map[string]struct {
		token string
		cfg   fieldcrypt.DriverConfig
	}{
		"not bound": {seal(t, r, "text"), fieldcrypt.DriverConfig{Keyring: r}},
		"bound":     {seal(t, bound(t, r, rentedKey, "b"), "text"), fieldcrypt.DriverConfig{Keyring: r, Bound: []fieldcrypt.ColumnInfo{rentedKey}}},
		"window": {
			seal(t, bound(t, r, rentedKey, "b"), "text"),
			fieldcrypt.DriverConfig{Keyring: r, Bound: []fieldcrypt.ColumnInfo{rentedKey}, Unbound: []fieldcrypt.ColumnInfo{rentedKey}},
		},
	} {
		result := &fakeRows{columns: []string{"id", "key", "user_id"}, rows: [][]any{{int64(1), []byte(test.token), "b"}}}
		rows := query(t, result, test.cfg, `SELECT * FROM "rented"`)
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
		// The target with the holder of the token, the token, the closure, the primary key, the plaintext.
		if got != 5 {
			t.Errorf("%s: got %v allocations, want 5", name, got)
		}
	}
}
