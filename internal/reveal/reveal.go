// Package reveal says that a stored secret was opened: which, for whom, and
// under which key.
package reveal

import (
	"context"
	"sync/atomic"
)

// Reveal tells an observer that a stored secret was revealed, or could not be.
// Fields that aren't known are empty.
type Reveal struct {
	Reader
	Table  string // "user_credentials"
	Column string // "api_key"
	Row    string // primary key of the row
	Tenant string // of the row
	KeyID  string // of the key that opened it
	Err    error  // what Reveal returned

	// Plaintext means that the column is in a plaintext window, and held
	// plaintext.
	Plaintext bool
}

// Recorder takes down that secrets were opened. Its errors are Reveal's, which
// then returns no plaintext. It is safe for concurrent use.
type Recorder interface {
	// Opened takes down that a secret was opened, or wasn't; revealed is false
	// if VerifyOnRead opened it.
	Opened(of Reveal, revealed bool) error
	// Alike returns what takes down reveals that worked and differ from the
	// given one in nothing but their row, by its primary key.
	Alike(of Reveal) func(row any) error
}

// Last is the last reveal of an opener's. It is safe for concurrent use.
type Last struct{ alike atomic.Pointer[alike] }

type alike struct {
	key any
	add func(row any) error
}

// Tell takes down a reveal that worked: the secrets of a list that one key
// opened have all but their row in common. Of returns it without its row.
func (l *Last) Tell(r Recorder, key, row any, of func() Reveal) error {
	last := l.alike.Load()
	if last == nil || last.key != key {
		last = &alike{key, r.Alike(of())}
		l.alike.Store(last)
	}
	return last.add(row)
}

// Reader says who queried, not who called Reveal: a secret that is passed on
// and revealed elsewhere tells of its query. A result's secrets share one.
type Reader struct {
	Context context.Context // the query's values; it never ends
	Actor   string          // the context's actor, or ""
	User    string          // the context's user, or ""
	Request string          // the ID of the context's request, or ""
}
