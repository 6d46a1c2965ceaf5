// Package reveal reports that a stored secret was opened: which, for whom, and
// under which key.
package reveal

import (
	"context"
	"sync/atomic"
)

// Reveal reports to an observer that a stored secret was revealed, or couldn't
// be. Unknown fields are empty.
type Reveal struct {
	Reader
	Table  string // "user_credentials"
	Column string // "api_key"
	Row    string // primary key of the row
	Tenant string // the row's tenant
	KeyID  string // ID of the key that opened it
	Err    error  // the error that Reveal returned

	// Plaintext means that plaintext was stored, in a plaintext window.
	Plaintext bool
}

// Recorder records that secrets were opened. If it fails, Reveal returns its
// error and no plaintext. It is safe for concurrent use.
type Recorder interface {
	// Opened records that a secret was opened or failed to open. revealed is
	// false if VerifyOnRead opened it.
	Opened(of Reveal, revealed bool) error
	// Alike returns a function that records successful reveals that differ from
	// of only in their row, given by its primary key.
	Alike(of Reveal) func(row any) error
}

// Last remembers an opener's last reveal. It is safe for concurrent use.
type Last struct{ alike atomic.Pointer[alike] }

type alike struct {
	key any
	add func(row any) error
}

// Tell records a successful reveal. Secrets of a list that one key opened
// differ only in their row. of returns the reveal without its row.
func (l *Last) Tell(r Recorder, key, row any, of func() Reveal) error {
	last := l.alike.Load()
	if last == nil || last.key != key {
		last = &alike{key, r.Alike(of())}
		l.alike.Store(last)
	}
	return last.add(row)
}

// Reader says who ran the query, not who called Reveal: a secret that is passed
// on and revealed elsewhere still reports its query. A result's secrets share
// one.
type Reader struct {
	Context context.Context // has the query context's values, and is never canceled
	Actor   string          // the context's actor, or ""
	User    string          // the context's user, or ""
	Request string          // the ID of the context's request, or ""
}
