package keyring

import (
	"errors"
	"fmt"
	"slices"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
)

// ErrPrimaryRemoved means that a new keyring lacks the primary key of the
// keyring it would replace.
var ErrPrimaryRemoved = errors.New("the new keyring lacks the primary key in use")

// Replace replaces r's keys with next's, all at once: an operation that has
// begun finishes with the old ones. It reports whether the keys differ. It
// doesn't keep next. If next lacks the primary key in use, Replace returns
// [ErrPrimaryRemoved], since what was just written would be unreadable: in a
// rotation the primary key first becomes an earlier key. It returns [ErrNoKey]
// if either keyring is nil.
func (r *Ring) Replace(next *Ring) (changed bool, err error) { return r.replace(next, false) }

// ReplaceRemovingPrimary is like [Ring.Replace], but next may lack the primary
// key in use. Tokens still stored under that key become unreadable.
func (r *Ring) ReplaceRemovingPrimary(next *Ring) (changed bool, err error) {
	return r.replace(next, true)
}

func (r *Ring) replace(next *Ring, allowRemoval bool) (changed bool, err error) {
	to, err := Load(next)
	if err != nil {
		return false, fmt.Errorf("credent: replace: %w", err)
	}
	for {
		from, err := Load(r)
		if err != nil {
			return false, fmt.Errorf("credent: replace: %w", err)
		}
		if slices.EqualFunc(from.list, to.list, fernet.Same) {
			return false, nil
		}
		if primary := from.list[0]; !allowRemoval && find(to.list, primary) < 0 {
			return false, fmt.Errorf("credent: replace: %w: its ID is %s", ErrPrimaryRemoved, primary.ID())
		}
		// Reuse the keys that stay: they have engines set up, and callers may
		// compare pointers to them.
		merged := &Set{list: slices.Clone(to.list)}
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
func find(list []*fernet.Key, key *fernet.Key) int {
	return slices.IndexFunc(list, func(k *fernet.Key) bool { return fernet.Same(k, key) })
}
