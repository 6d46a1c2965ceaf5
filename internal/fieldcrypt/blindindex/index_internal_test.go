package blindindex

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
)

// TestDigestsLeaveNothing looks for plaintext in a worker that is kept for the
// next digest. Neither its buffer nor its hash may have any.
func TestDigestsLeaveNothing(t *testing.T) {
	t.Parallel()
	key, err := fernet.ParseKey(fernet.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	var d Digester
	workers, err := d.workers(key, &column.Column{Table: "t", Name: "c"})
	if err != nil {
		t.Fatal(err)
	}
	w := workers.New().(*worker)
	const text = "a text of more than the 64 bytes of a block, so that the last block isn't full: plaintext"
	w.mac.Write([]byte(text))
	if !holds(reflect.ValueOf(w), "plaintext") {
		t.Fatal("the test can't see the state of a hash")
	}
	w.mac.Reset()
	first := w.sum(text)
	if holds(reflect.ValueOf(w), "plaintext") {
		t.Error("a part of the plaintext is kept")
	}
	if again := w.sum(text); !bytes.Equal(first, again) {
		t.Error("the second digest differs")
	}
}

// holds reports whether a text is in memory reachable from a value.
func holds(v reflect.Value, text string) bool {
	kind := v.Kind()
	if kind == reflect.Pointer || kind == reflect.Interface {
		return !v.IsNil() && holds(v.Elem(), text)
	}
	if kind == reflect.Struct {
		for i := range v.NumField() {
			if holds(v.Field(i), text) {
				return true
			}
		}
		return false
	}
	if kind == reflect.Slice {
		v = v.Slice(0, v.Cap())
	}
	if kind != reflect.Slice && kind != reflect.Array || v.Type().Elem().Kind() != reflect.Uint8 {
		return false
	}
	held := make([]byte, v.Len())
	for i := range held {
		held[i] = byte(v.Index(i).Uint())
	}
	return bytes.Contains(held, []byte(text))
}
