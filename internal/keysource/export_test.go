package keysource

import "testing"

// ResetDefault makes the next call of Default read the environment again, now
// and after the test. Tests that call it can't be parallel.
func ResetDefault(tb testing.TB) {
	tb.Helper()
	reset := func() {
		defaultRing.Lock()
		defer defaultRing.Unlock()
		defaultRing.ring = nil
	}
	reset()
	tb.Cleanup(reset)
}
