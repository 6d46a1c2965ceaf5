package rotate

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/plaintype"
	"github.com/credent-go/credent/internal/states"
)

// unbound is the number of unbound secrets that a key opens.
func (c ColumnCount) unbound() int64 {
	return c.Primary + c.previous() + c.Tenant - c.Bound
}

// previous is the number of secrets under earlier keys.
func (c ColumnCount) previous() (n int64) {
	for _, previous := range c.Previous {
		n += previous
	}
	return n
}

// Ready reports whether every secret of the column is under the primary key or
// its tenant's data key, or is shredded, and likewise its blind index and its
// canary, if it has one; all under the column's current name and as its states
// say; and whether every secret that opens decodes.
func (c ColumnCount) Ready() bool {
	return c.secretsReady() && !c.indexBehind() && !c.Canary.behind() && c.EarlierNames() == 0 && c.CheckStates() == nil
}

// EarlierNames is the number of bound tokens or of digests, whichever are more,
// that are under an earlier name of the column. If it is 0, the declaration of
// the earlier names can be removed.
func (c ColumnCount) EarlierNames() int64 {
	if c.Index == nil {
		return c.Earlier
	}
	return max(c.Earlier, c.Index.Earlier)
}

// readsPlaintext reports whether the column's state accepts plaintext.
func (c ColumnCount) readsPlaintext() bool {
	return c.States.Encryption != states.Unset && c.States.Encryption < states.Require
}

func (c ColumnCount) secretsReady() bool {
	ready := c.Primary + c.Tenant + c.Shredded + c.Null
	if c.readsPlaintext() {
		ready += c.NotEncrypted
	}
	return ready == c.Rows && c.OverLength == 0 && c.Undecodable == 0
}

// CheckStates returns an error if a secret is stored in a way that the column's
// states refuse: [ErrPlaintext], [ErrUnbound], [ErrBound], [ErrTenantKey],
// [seal.ErrUnderKeyring], [seal.ErrEncrypted].
func (c ColumnCount) CheckStates() error {
	for _, test := range []struct {
		state, refuses states.State
		n              int64
		err            error
	}{
		{c.States.Encryption, states.Require, c.NotEncrypted, ErrPlaintext},
		{c.States.Encryption, states.Off, c.Rows - c.Null - c.NotEncrypted, seal.ErrEncrypted},
		{c.States.Binding, states.Require, c.unbound(), ErrUnbound},
		{c.States.Binding, states.Off, c.Bound, ErrBound},
		{c.States.TenantKeys, states.Require, c.Primary + c.previous(), seal.ErrUnderKeyring},
		{c.States.TenantKeys, states.Require, c.Index.outlives(), ErrIndexBehind},
		{c.States.TenantKeys, states.Off, c.Tenant, ErrTenantKey},
	} {
		if test.state == test.refuses && test.n > 0 {
			return fmt.Errorf("%d of %s.%s: %w", test.n, c.Table, c.Column, test.err)
		}
	}
	return nil
}

func (c ColumnCount) indexBehind() bool {
	if c.Index == nil {
		return false
	}
	behind := c.Index.Wrong + c.Index.outlives()
	for _, n := range c.Index.Previous {
		behind += n
	}
	return behind > 0
}

// Counts is what [Verify] found.
type Counts []ColumnCount

// Err returns nil if every secret and digest is under the primary key, and
// otherwise [ErrNotAllPrimary]; if a secret is stored as plaintext,
// [ErrPlaintext] as well, if no key opens one encrypted.ErrUnknownKey, for
// digests [ErrIndexBehind], and for a canary [ErrCanaryBehind]. Secrets and
// digests under an earlier name of their column give an [ErrEarlierName], and
// secrets that open but don't decode an [ErrUndecodable]. If all is well, it
// returns what [ColumnCount.CheckStates] does.
func (c Counts) Err() error {
	for _, column := range c {
		if column.NotEncrypted > 0 && !column.readsPlaintext() {
			return fmt.Errorf("rotate: %w: %s.%s: %w", ErrNotAllPrimary, column.Table, column.Column, ErrPlaintext)
		}
	}
	for _, column := range c {
		if column.Undecodable > 0 {
			return fmt.Errorf("rotate: %s.%s: %w: %d aren't %s, the first in row %s", column.Table, column.Column,
				ErrUndecodable, column.Undecodable, column.DecodedAs, column.UndecodableRows[0])
		}
		if column.UnknownKey > 0 {
			return fmt.Errorf("rotate: %w: %s.%s: %d of %d: %w", ErrNotAllPrimary, column.Table, column.Column,
				column.UnknownKey, column.Rows, fernet.ErrUnknownKey)
		}
		if !column.secretsReady() {
			return fmt.Errorf("rotate: %w: %s.%s", ErrNotAllPrimary, column.Table, column.Column)
		}
		if column.indexBehind() {
			return fmt.Errorf("rotate: %w: %s.%s: %w", ErrNotAllPrimary, column.Table, column.Column, ErrIndexBehind)
		}
		if column.Canary.behind() {
			return fmt.Errorf("rotate: %w: %s.%s: %w", ErrNotAllPrimary, column.Table, column.Column, ErrCanaryBehind)
		}
		if n := column.EarlierNames(); n > 0 {
			return fmt.Errorf("rotate: %s.%s: %w: %d", column.Table, column.Column, ErrEarlierName, n)
		}
	}
	for _, column := range c {
		if err := column.CheckStates(); err != nil {
			return fmt.Errorf("rotate: %w", err)
		}
	}
	return nil
}

// Under returns the counts judged by the given states as well, such as states
// that are only in a service's configuration.
func (c Counts) Under(given ...states.Column) Counts {
	judged := slices.Clone(c)
	for i := range judged {
		for _, g := range given {
			if g.Column.TableName() == c[i].Table && g.Column.Name == c[i].Column {
				judged[i].States = judged[i].States.Over(g.Set())
			}
		}
	}
	return judged
}

// Needs returns the number of secrets that only the key with the given ID opens
// or finds. If there are none it returns the number of canaries that need the
// key.
func (c Counts) Needs(keyID string) int64 {
	var n, canaries int64
	for _, column := range c {
		needed := column.Previous[keyID]
		if column.Index != nil {
			needed = max(needed, column.Index.Previous[keyID])
		}
		if column.Canary.Previous == keyID {
			canaries++
		}
		n += needed
	}
	if n == 0 {
		return canaries
	}
	return n
}

// maxSamples limits the rows that a count names.
const maxSamples = 10

// decode counts a secret that opens but doesn't decode as its field's type, and
// quarantines it like a secret that doesn't open.
func (v *verifier) decode(c *ColumnCount, row string, token sql.NullString, p seal.Place, tenant tenantkey.Key) {
	if !token.Valid {
		return
	}
	if errors.Is(tenant.Err, tenantkey.ErrShredded) {
		if !isShredded(&v.locate, v.ring, p, token.String) {
			v.leave(c, row, ErrReadable)
		}
		return
	}
	o, err := v.open(v.rings.of(v.ring, tenant.Data, last), p, token.String)
	if err != nil {
		if !c.readsPlaintext() || !errors.Is(err, fernet.ErrNotEncrypted) {
			v.leave(c, row, err)
		}
		return
	}
	if err = plaintype.Decode(p.Column, o.Plaintext); err == nil {
		return
	}
	v.leave(c, row, err)
	if c.Undecodable++; len(c.UndecodableRows) < maxSamples {
		c.UndecodableRows = append(c.UndecodableRows, row)
	}
}

// leave quarantines a secret.
func (v *verifier) leave(c *ColumnCount, row string, err error) {
	one := Quarantined{c.Table, c.Column, row, err}
	c.Examples = addExample(c.Examples, one)
	if v.cfg.Quarantine != nil {
		v.found = append(v.found, one)
	}
}

// tellFound reports a page's quarantined secrets.
func (v *verifier) tellFound() error {
	found := v.found
	v.found = v.found[:0]
	v.calling.Lock()
	defer v.calling.Unlock()
	return v.callQuarantine(found)
}

// count counts a token by the key that opens it, or by why no key does.
func (c *ColumnCount) count(primary, key *fernet.Key, err error) {
	switch {
	case err == nil && key == primary:
		c.Primary++
	case err == nil:
		c.Previous[key.ID()]++
	case errors.Is(err, fernet.ErrUnknownKey):
		c.UnknownKey++
	case errors.Is(err, fernet.ErrNotEncrypted):
		c.NotEncrypted++
	default:
		c.Damaged++
	}
}

// noneOf returns a zero count for each earlier key.
func noneOf(ring *engine.Ring) map[string]int64 {
	counts := make(map[string]int64)
	for _, key := range ring.Keys()[1:] {
		counts[key.ID()] = 0
	}
	return counts
}
