//go:build !race

// The race detector allocates too and makes sync.Pool drop some values, so the
// test doesn't run under it.

package blindindex_test

import (
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
)

// TestAllocations pins the allocations of a digest: only the result. It isn't
// parallel, since AllocsPerRun counts the whole process's allocations.
func TestAllocations(t *testing.T) {
	r := ring(t, keyB, keyA)
	var d blindindex.Digester
	for _, size := range []int{2, 24, 64, 303, 1024, 5000} {
		text := strings.Repeat("x", size)
		got := testing.AllocsPerRun(200, func() {
			if _, err := d.Primary(r, pin, text); err != nil {
				t.Error(err)
			}
		})
		if got != 1 {
			t.Errorf("a digest of %d bytes: got %v allocations, want 1", size, got)
		}
	}
}
