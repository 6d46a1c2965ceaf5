package fieldcrypt

import (
	"reflect"
	"testing"
)

// A list has as many targets as secrets. Target and inner share one of the
// runtime's size classes.
func TestTargetSize(t *testing.T) {
	t.Parallel()
	if size := reflect.TypeFor[Target]().Size() + reflect.TypeFor[Inner]().Size(); size > 64 {
		t.Errorf("a target has %d bytes", size)
	}
}
