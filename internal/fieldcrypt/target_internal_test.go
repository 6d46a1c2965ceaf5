package fieldcrypt

import (
	"reflect"
	"testing"
)

// A list has a target for each secret. Target and Inner together must fit the
// runtime's size class of 64 bytes.
func TestTargetSize(t *testing.T) {
	t.Parallel()
	if size := reflect.TypeFor[Target]().Size() + reflect.TypeFor[Inner]().Size(); size > 64 {
		t.Errorf("a target has %d bytes", size)
	}
}
