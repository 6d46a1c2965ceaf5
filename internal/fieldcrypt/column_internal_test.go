package fieldcrypt

import (
	"reflect"
	"testing"
)

// A list has as many targets as secrets. One has to fit an allocation of 64 bytes, which is one of the runtime's size classes.
func TestTargetSize(t *testing.T) {
	t.Parallel()
	if size := reflect.TypeFor[scanned]().Size() + reflect.TypeFor[inner]().Size(); size > 64 {
		t.Errorf("a target has %d bytes", size)
	}
}
