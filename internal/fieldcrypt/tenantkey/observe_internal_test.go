package tenantkey

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestObserve sums the Lookups of a cache: keys found, keys read, and the
// number of keys kept, until they are forgotten.
func TestObserve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		on := store{on: tenantTable(t), ring: newTestRing(t)}
		for _, tenant := range []string{"a", "b"} {
			if _, err := NewCache(on).Seal(t.Context(), on, []string{tenant}, Made); err != nil {
				t.Fatal(err)
			}
		}
		cache := NewCache(on)
		var (
			sum Lookup
			mu  sync.Mutex // a goroutine for each key forgets it
		)
		cache.Observe = func(l Lookup) {
			mu.Lock()
			defer mu.Unlock()
			sum.Known, sum.Read, sum.Kept = sum.Known+l.Known, sum.Read+l.Read, sum.Kept+l.Kept
		}
		check := func(step string, want Lookup) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if diff := cmp.Diff(want, sum); diff != "" {
				t.Errorf("%s (-want +got):\n%s", step, diff)
			}
		}
		seal := func(need Need) {
			t.Helper()
			if _, err := cache.Seal(t.Context(), on, []string{"a", "b"}, need); err != nil {
				t.Fatal(err)
			}
		}
		seal(Known)
		check("first", Lookup{Read: 2, Kept: 2})
		seal(Known)
		check("again", Lookup{Known: 2, Read: 2, Kept: 2})
		cache.NewRef(t.Context(), "a")
		cache.NewRef(t.Context(), "c") // has no key
		check("refs", Lookup{Known: 3, Read: 2, Kept: 2})
		seal(Current) // asks the server
		check("current", Lookup{Known: 3, Read: 4, Kept: 2})
		time.Sleep(Lifetime + time.Second)
		synctest.Wait()
		check("forgotten", Lookup{Known: 3, Read: 4})
	})
}
