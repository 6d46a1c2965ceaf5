//go:build !race

// Not under the race detector, which allocates for its own records.

package column_test

import "testing"

// TestAllocations pins what a scanned value costs. It isn't parallel, as
// AllocsPerRun counts what the whole process allocates.
func TestAllocations(t *testing.T) {
	token := encrypt(t, ring(t, keyA), "text")
	target := wide.ScanValue()
	var src any = []byte(token)
	got := testing.AllocsPerRun(200, func() {
		if err := target.Scan(src); err != nil {
			t.Error(err)
		}
	})
	if got != 3 { // the token, its holder and the closure
		t.Errorf("Scan: got %v allocations, want 3", got)
	}
	got = testing.AllocsPerRun(200, func() {
		if err := wide.ScanValue().Scan(src); err != nil {
			t.Error(err)
		}
	})
	if got != 3 { // the target with its holder, the closure, and the token
		t.Errorf("a target and its Scan: got %v allocations, want 3", got)
	}
}
