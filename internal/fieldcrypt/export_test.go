package fieldcrypt

import "testing"

// ResetDefault makes the default keyring be read from the environment again, now and after the test. Tests that call it
// cannot be parallel.
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

// ForgetBindings removes the fields that are not bound yet, until after the test. Tests that call it cannot be parallel.
func ForgetBindings(tb testing.TB) {
	tb.Helper()
	set := func(bindings []Binding) (before []Binding) {
		registry.Lock()
		defer registry.Unlock()
		before, registry.bindings = registry.bindings, bindings
		return before
	}
	before := set(nil)
	tb.Cleanup(func() { set(before) })
}
