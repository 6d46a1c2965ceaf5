package sqlarg

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unsafe"
)

// holders remembers which types can hold a value of a wanted type. Types don't
// change, so it is global.
var holders sync.Map // reflect.Type to bool

// visit is a pointer, map or slice that was visited.
type visit struct {
	at  unsafe.Pointer
	len int
	of  reflect.Type
}

// Hides reports whether an argument contains a value of a wanted type: in a
// list, a map or a struct, for instance. Every call must want the same types.
func Hides(arg any, wanted func(reflect.Type) bool) bool {
	return hides(reflect.ValueOf(arg), wanted, make(map[visit]bool))
}

func hides(v reflect.Value, wanted func(reflect.Type) bool, seen map[visit]bool) bool {
	if !v.IsValid() || !canHold(v.Type(), wanted, nil) {
		return false
	}
	if wanted(v.Type()) {
		return true
	}
	if is, ok := visitOf(v); ok {
		if seen[is] {
			return false
		}
		seen[is] = true
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return hides(v.Elem(), wanted, seen)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if hides(v.Index(i), wanted, seen) {
				return true
			}
		}
	case reflect.Map:
		for of := v.MapRange(); of.Next(); {
			if hides(of.Key(), wanted, seen) || hides(of.Value(), wanted, seen) {
				return true
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if hides(v.Field(i), wanted, seen) {
				return true
			}
		}
	default:
	}
	return false
}

func visitOf(v reflect.Value) (is visit, ok bool) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Map:
		return visit{v.UnsafePointer(), 0, v.Type()}, true
	case reflect.Slice:
		return visit{v.UnsafePointer(), v.Len(), v.Type()}, true
	default:
		return visit{}, false
	}
}

// canHold reports whether values of a type can contain one of a wanted type.
func canHold(t reflect.Type, wanted func(reflect.Type) bool, within []reflect.Type) bool {
	if known, ok := holders.Load(t); ok {
		return known.(bool)
	}
	if slices.Contains(within, t) {
		return false
	}
	within = append(within, t)
	can := wanted(t) || t.Kind() == reflect.Interface
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		can = can || canHold(t.Elem(), wanted, within)
	case reflect.Map:
		can = can || canHold(t.Key(), wanted, within) || canHold(t.Elem(), wanted, within)
	case reflect.Struct:
		for i := range t.NumField() {
			can = can || canHold(t.Field(i).Type, wanted, within)
		}
	default:
	}
	if len(within) == 1 { // inside a recursion the answer may be incomplete
		holders.Store(t, can)
	}
	return can
}

// IsNumbered reports whether a statement's text may have parameters like $1.
func IsNumbered(query string) bool {
	for {
		i := strings.IndexByte(query, '$')
		if i < 0 || i+1 >= len(query) {
			return false
		}
		if c := query[i+1]; '0' <= c && c <= '9' {
			return true
		}
		query = query[i+1:]
	}
}

// Text returns the text of an argument of another type than string: of a
// pointer, a null type of database/sql, or a type of the caller's; "" for none.
func Text(arg any) string {
	v := reflect.ValueOf(arg)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() == reflect.Struct && v.Type().PkgPath() == "database/sql" && v.NumField() > 0 {
		v = v.Field(0)
	}
	if v.Kind() != reflect.String {
		return ""
	}
	return v.String()
}

var dollarQuote = regexp.MustCompile(`\$[^\s$]*\$`)

// IsSeveral reports whether a text may be several statements. It is sure of
// texts without a semicolon but at their end, and in plain quotes or comments.
func IsSeveral(query string) bool {
	query = strings.TrimRight(query, "; \t\r\n")
	if strings.Contains(query, `\`) || dollarQuote.MatchString(query) { // then quotes mean something else
		return strings.Contains(query, ";")
	}
	for {
		i := strings.IndexAny(query, ";'\"`-/")
		if i < 0 {
			return false
		}
		end := string(query[i])
		switch {
		case end == ";":
			return true
		case strings.HasPrefix(query[i:], "--"):
			end = "\n"
		case strings.HasPrefix(query[i:], "/*"):
			end = "*/"
		case end == "-", end == "/":
			query = query[i+1:]
			continue
		}
		_, rest, ok := strings.Cut(query[i+1:], end)
		if !ok {
			return strings.Contains(query[i:], ";")
		}
		query = rest
	}
}
