//go:build !race

// The race detector allocates too and makes sync.Pool drop some values, so the
// test doesn't run under it.

package keyring_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
)

// TestAllocations pins the hot path: only the result is allocated. It isn't
// parallel, since AllocsPerRun counts the whole process's allocations.
func TestAllocations(t *testing.T) {
	r := ring(t, keyB, keyC, keyA)
	for _, size := range []int{2, 24, 64, 303, 1024, 5000} {
		text := strings.Repeat("x", size)
		token := encrypt(t, ring(t, keyA), text)
		buffer := make([]byte, 0, fernet.TokenLen(size))
		for _, test := range []struct {
			name string
			want float64
			run  func() error
		}{
			{"Encrypt", 1, func() error { _, err := r.Encrypt(text); return err }},
			{"Decrypt", 1, func() error { _, err := r.Decrypt(token); return err }},
			{"append of Encrypt", 0, func() error { _, err := r.AppendEncrypt(buffer, text); return err }},
			{"append of Decrypt", 0, func() error { _, err := r.AppendDecrypt(buffer, token); return err }},
			{"refusal", 0, func() error {
				if _, err := r.Decrypt(token[:len(token)-4]); err == nil {
					return errors.New("it opens")
				}
				return nil
			}},
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
