// Package nilarg finds arguments that are nil and must not be, so that a
// function returns an error where it would panic later.
package nilarg

import (
	"fmt"
	"reflect"
)

// Check returns an error if a value is nil, or an interface that holds a nil
// pointer or function. What names it.
func Check(what string, value any) error {
	v := reflect.ValueOf(value)
	switch v.Kind() {
	case reflect.Pointer, reflect.Func, reflect.Map, reflect.Slice, reflect.Chan, reflect.Interface:
		if !v.IsNil() {
			return nil
		}
	case reflect.Invalid:
	default:
		return nil
	}
	return fmt.Errorf("%s is nil", what)
}
