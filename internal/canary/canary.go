// Package canary tells whether a keyring is the right one for a database.
//
// For each encrypted column the database keeps a canary: a token of a publicly
// known text, under the keyring's primary key. Every role of a service may read
// it, even if row-level security hides all rows from it. [Checker.Check] opens
// canaries and a sample of the rows, and reports whether they open, don't open,
// or couldn't be checked. [Keep] stores missing canaries, and refuses a keyring
// that opens no stored secret.
//
// Canaries find wrong configuration. They don't stop an attacker, who can copy,
// replace or delete them with write access to the table.
package canary

import (
	"errors"
	"fmt"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// Names of the table, which has a row for each encrypted column, and its
// column.
const (
	Table = "credent_canary"
	Token = "token"
)

// Errors to be tested with errors.Is.
var (
	// ErrNotChecked means that nothing could be checked, so that the key may be
	// right or wrong.
	ErrNotChecked = errors.New("not checked")

	// ErrNoTable means that the database has no table for canaries.
	ErrNoTable = errors.New("the database has no table " + Table + ": add its statements, which " +
		"encrypted.CanaryTable returns, to your migrations")
)

// known is the text of every canary.
const known = "credent canary"

// derive returns the keys of a column's canary: HKDF-SHA-256 (RFC 5869) of each
// key of the keyring, without salt. The label keeps a canary from opening as
// any other token, or as another column's canary. It omits the Postgres schema,
// as for bound tokens.
func derive(set *keyring.Set, of column.Column) (*keyring.Set, error) {
	info := "credent canary v1\x00" + of.Table + "\x00" + of.Name
	return set.Derive(func(k *fernet.Key) (*fernet.Key, error) { return fernet.Derive(k, info) })
}

// sealed returns a new canary under the primary key.
func sealed(ring *keyring.Ring, of column.Column) (string, error) {
	set, err := keyring.Load(ring)
	if err != nil {
		return "", err
	}
	keys, err := derive(set, of)
	if err != nil {
		return "", err
	}
	return keys.Encrypt(known), nil
}

// open returns the keyring's key that opens a canary, and whether it is the
// primary key. Errors are [fernet.Decrypt]'s.
func open(ring *keyring.Ring, of column.Column, token string) (key *fernet.Key, primary bool, err error) {
	set, err := keyring.Load(ring)
	if err != nil {
		return nil, false, err
	}
	keys, err := derive(set, of)
	if err != nil {
		return nil, false, err
	}
	text, index, err := keys.Open(token)
	switch {
	case err != nil:
		return nil, false, err
	case text != known:
		return nil, false, fmt.Errorf("%w: it has a different text", fernet.ErrCorrupt)
	}
	return set.Keys()[index], index == 0, nil
}
