//go:build !race

// The race detector allocates too, so the test doesn't run under it.

package column_test

import "testing"

// TestAllocations pins the allocations of a scanned value. It isn't parallel,
// since AllocsPerRun counts the whole process's allocations.
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
