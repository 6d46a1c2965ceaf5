package column

import "testing"

// ForgetBindings removes the fields that are not bound yet, until after the
// test. Tests that call it can't be parallel.
func ForgetBindings(tb testing.TB) {
	tb.Helper()
	set := func(bindings []Binding) (before []Binding) {
		registry.Lock()
		defer registry.Unlock()
		before, registry.unbound = registry.unbound, bindings
		return before
	}
	before := set(nil)
	tb.Cleanup(func() { set(before) })
}
