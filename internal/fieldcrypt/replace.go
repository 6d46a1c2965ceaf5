package fieldcrypt

import (
	"crypto/subtle"
	"fmt"
	"slices"
)

// Replace makes the keyring hold the keys of another from now on, all at once: an operation that is under way ends with
// the old ones. It reports whether they are different; next itself is not kept. A next without the primary key in use is
// refused with [ErrPrimaryLost], since what was just written could no longer be read: in the order of a rotation the
// primary key first becomes an earlier one. Nil keyrings give [ErrNoKey].
func (r *Keyring) Replace(next *Keyring) (changed bool, err error) { return r.replace(next, false) }

// ReplaceLosingPrimary is Replace by a keyring that may lack the primary key in use: what is still stored under that
// one becomes unreadable.
func (r *Keyring) ReplaceLosingPrimary(next *Keyring) (changed bool, err error) {
	return r.replace(next, true)
}

func (r *Keyring) replace(next *Keyring, losePrimary bool) (changed bool, err error) {
	to, err := next.load()
	if err != nil {
		return false, fmt.Errorf("fieldcrypt: replace the keyring: %w", err)
	}
	for {
		from, err := r.load()
		if err != nil {
			return false, fmt.Errorf("fieldcrypt: replace the keyring: %w", err)
		}
		if slices.EqualFunc(from.list, to.list, sameKey) {
			return false, nil
		}
		if primary := from.list[0]; !losePrimary && find(to.list, primary) < 0 {
			return false, fmt.Errorf("fieldcrypt: replace the keyring: %w: its ID is %s", ErrPrimaryLost, primary.ID())
		}
		// Keys that stay keep what they have set up, and are the same to those who hold one.
		merged := &keys{list: slices.Clone(to.list)}
		for i, key := range merged.list {
			if j := find(from.list, key); j >= 0 {
				merged.list[i] = from.list[j]
			}
		}
		if r.state.CompareAndSwap(from, merged) {
			return true, nil
		}
	}
}

// find returns the index of a key in a list, or -1.
func find(list []*Key, key *Key) int {
	return slices.IndexFunc(list, func(k *Key) bool { return sameKey(k, key) })
}

func sameKey(a, b *Key) bool { return subtle.ConstantTimeCompare(a.fernet()[:], b.fernet()[:]) == 1 }
