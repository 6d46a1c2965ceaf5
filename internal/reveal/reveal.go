// Package reveal says that a stored secret was opened: which, for whom, and
// under which key.
package reveal

import "context"

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

// Record takes down that a secret was opened; revealed is false if VerifyOnRead
// opened it. Its error is Reveal's, which then returns no plaintext.
type Record func(of Reveal, revealed bool) error

// Reader says who queried, not who called Reveal: a secret that is passed on
// and revealed elsewhere tells of its query. A result's secrets share one.
type Reader struct {
	Context context.Context // the query's values; it never ends
	Actor   string          // the context's actor, or ""
	User    string          // the context's user, or ""
	Request string          // the ID of the context's request, or ""
}
