// Package canary tells whether a keyring is the one that a database needs.
//
// For each encrypted column the database keeps a canary: a token of a text that
// everybody knows, under the keyring's primary key. Each role of a service may
// read it, also one that row-level security shows no rows. [Check] opens it and
// a sample of the rows, and says whether they open, don't open, or couldn't be
// looked at. [Keep] stores canaries that are missing, and refuses a keyring
// that opens no stored secret.
//
// Canaries find wrong configuration. They keep no attacker out: anyone who may
// write the table can copy, replace or delete them.
package canary

import (
	"errors"
	"fmt"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// The table has a row for each encrypted column, named as in
// credent_verifications.
const (
	Table = "credent_canary"
	Token = "token"
)

// Errors to be tested with errors.Is.
var (
	// ErrNotChecked means that nobody could look, so that the key may be right
	// or wrong.
	ErrNotChecked = errors.New("not checked")

	// ErrNoTable means that the database has no table for canaries.
	ErrNoTable = errors.New("the database has no table " + Table)
)

// known is the text of every canary.
const known = "credent canary"

// derive returns the keys of a column's canary: HKDF-SHA-256 (RFC 5869) of each
// key of the keyring, without salt. The label keeps canaries from being used as
// any other token, and one column's as another's. It leaves the Postgres schema
// out, as for bound tokens.
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

// open returns the key of the keyring that a canary is under, and whether that
// is the primary key. Errors are [fernet.Decrypt]'s.
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
		return nil, false, fmt.Errorf("%w: it is of another text", fernet.ErrCorrupt)
	}
	return set.Keys()[index], index == 0, nil
}
