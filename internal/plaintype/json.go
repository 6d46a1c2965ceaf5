package plaintype

import (
	"encoding/json"
	"io"
	"math/big"
	"strings"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// saysTheSame reports whether two JSON texts have equal values, ignoring white
// space, order and escapes. It compares numbers exactly, so 2^53+1 differs from
// its float64.
func saysTheSame(a, b string) bool {
	if !fieldcrypt.IsExactJSON([]byte(a)) || !fieldcrypt.IsExactJSON([]byte(b)) {
		return false
	}
	x, ok := read(a)
	y, ok2 := read(b)
	return ok && ok2 && equal(x, y)
}

func read(text string) (value any, ok bool) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if d.Decode(&value) != nil {
		return nil, false
	}
	_, err := d.Token()
	return value, err == io.EOF
}

func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for key, value := range a {
			if other, ok := b[key]; !ok || !equal(value, other) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case json.Number:
		b, ok := b.(json.Number)
		return ok && (a == b || equalNumbers(string(a), string(b)))
	default:
		return a == b
	}
}

// maxNumber is the length of the longest number compared by value, which bounds
// memory.
const maxNumber = 400

// equalNumbers compares decimal numbers exactly.
func equalNumbers(a, b string) bool {
	x, ok := exact(a)
	y, ok2 := exact(b)
	return ok && ok2 && x.Cmp(y) == 0
}

func exact(number string) (*big.Rat, bool) {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(number), "e")
	if len(mantissa) > maxNumber || len(strings.TrimLeft(exponent, "+-0")) > 3 {
		return nil, false
	}
	return new(big.Rat).SetString(number)
}
