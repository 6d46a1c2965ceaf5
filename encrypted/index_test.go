package encrypted_test

import (
	"strings"
	"testing"

	"github.com/credent-go/credent/encrypted"
)

// TestIndexBits checks that invalid sizes are refused when a schema is loaded.
func TestIndexBits(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		index *encrypted.Index
		want  string
	}{
		"none given":         {encrypted.BlindIndex("a"), ""},
		"unique, none given": {encrypted.BlindIndex("a").Unique(), ""},
		"few":                {encrypted.BlindIndex("a").Bits(8), ""},
		"too few":            {encrypted.BlindIndex("a").Bits(7), "a digest has from 8 to 256 bits, not 7"},
		"too many":           {encrypted.BlindIndex("a").Bits(257), "a digest has from 8 to 256 bits, not 257"},
		"unique":             {encrypted.BlindIndex("a").Unique().Bits(128), ""},
		"unique, too few": {
			encrypted.BlindIndex("a").Bits(127).Unique("b"),
			"a unique one needs at least 128 bits, not 127",
		},
		"unique, far too few": {encrypted.BlindIndex("a").Unique().Bits(1), "a digest has from 8 to 256 bits, not 1"},
	} {
		err := test.index.Fields()[0].Descriptor().Err
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: got %v", name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) ||
			!strings.Contains(err.Error(), "blind index of a")):
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}
