//go:build !race

// Not under the race detector: it allocates for its own records, and makes
// sync.Pool drop some values.

package blindindex_test

import (
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
)

// TestAllocations pins what a digest costs: itself. It isn't parallel, as
// AllocsPerRun counts what the whole process allocates.
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
