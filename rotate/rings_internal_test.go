package rotate

import (
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// TestRings gets the same keyring for the same key and position.
func TestRings(t *testing.T) {
	t.Parallel()
	var r rings
	var keys [2]*fernet.Key
	for i := range keys {
		var err error
		if keys[i], err = fernet.ParseKey(fernet.GenerateKey()); err != nil {
			t.Fatal(err)
		}
	}
	ring, data := engine.Of(keys[0]), keys[1]
	for place, want := range map[ringPlace][]*fernet.Key{alone: {data}, first: {data, keys[0]}, last: {keys[0], data}} {
		got := r.of(ring, data, place)
		if got != r.of(ring, data, place) {
			t.Errorf("place %d: another keyring each time", place)
		}
		if len(got.Keys()) != len(want) || got.Keys()[0] != want[0] || got.Keys()[len(want)-1] != want[len(want)-1] {
			t.Errorf("place %d: other keys", place)
		}
	}
	if r.of(ring, nil, last) != ring {
		t.Error("without a tenant's key it isn't the keyring")
	}
}
