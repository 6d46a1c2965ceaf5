// Package blindindex makes the digests by which rows are found without their
// plaintext: HMAC-SHA-256 (RFC 2104) under a key derived for the column.
//
// A column's blind index holds one digest per row, under the primary key of the
// keyring's set or the tenant's set. A lookup searches for the digests under
// all keys of the set ([Lookup]), so that it finds every row at any moment of a
// rotation.
package blindindex

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"

	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// ErrBlindIndex means that a statement would store a secret without its digest,
// or set the blind index directly.
var ErrBlindIndex = errors.New("the blind index of the column cannot be kept in step")

// ErrNotFilled means that rows have a secret but no digest, so that a lookup
// could miss them, or a unique index accept a duplicate.
var ErrNotFilled = errors.New("rows have a secret and no digest in the blind index: run `credent rotate` or, while " +
	"the column has plaintext, `credent encrypt --index-only`")

// Sizes of a digest, in bits.
const (
	MinBits = 8
	MaxBits = sha256.Size * 8
)

// Config says how a blind index makes its digests.
type Config struct {
	// Bits is a digest's size; 0 means MaxBits. Fewer bits mean more
	// collisions.
	Bits int
	// Normalize returns the same text for plaintexts that a lookup shouldn't
	// tell apart; nil means no change. It must return the same text for the
	// same input in every process.
	Normalize func(string) string
	// Unique says that the database has a unique index on the digest and the
	// columns With, for rows that satisfy Where.
	Unique bool
	Where  string // SQL; "" for all rows
	With   []string
}

// Stored is the type of a blind index's field. It is empty, since the driver
// writes digests and nobody reads them.
type Stored struct{}

// Field is the ent ValueScanner of a field of type [Stored]. It discards what
// is scanned.
type Field struct{ Config }

// Value implements field.TypeValueScanner. It returns NULL.
func (Field) Value(Stored) (driver.Value, error) { return nil, nil }

// ScanValue implements field.TypeValueScanner. The target keeps nothing.
func (Field) ScanValue() field.ValueScanner { return Discard{} }

// FromValue implements field.TypeValueScanner.
func (Field) FromValue(driver.Value) (Stored, error) { return Stored{}, nil }

// Discard is a target that keeps nothing.
type Discard struct{}

// Scan implements sql.Scanner.
func (Discard) Scan(any) error { return nil }

// Value implements driver.Valuer; nobody calls it.
func (Discard) Value() (driver.Value, error) { return nil, nil }

// Of returns the config of a column's blind index, or a
// [column.ErrNotRegistered] if the generated package doesn't have it.
func Of(c column.Column) (Config, error) {
	if f, ok := column.DigestScanner(c).(Field); ok {
		f.With = column.UniqueWith(c)
		return f.Config, nil
	}
	return Config{}, fmt.Errorf("credent: the blind index of %s: %w", c, column.ErrNotRegistered)
}

// Digester makes digests and remembers derived keys. The zero value is ready
// for use. It is safe for concurrent use.
type Digester struct {
	mu    sync.RWMutex
	known map[derived]*sync.Pool
}

type derived struct {
	key         *fernet.Key
	table, name string
}

// maxDerived is the number of derived keys that a Digester remembers before it
// starts over.
const maxDerived = 1024

// Primary returns a plaintext's digest under the primary key, as the column's
// blind index stores it, or nil if the column has no blind index. Errors:
// [keyring.ErrNoKey], [column.ErrNotRegistered].
func (d *Digester) Primary(ring *keyring.Ring, c column.Column, plaintext string) ([]byte, error) {
	if c.Index == "" {
		return nil, nil
	}
	set, err := keyring.Load(ring)
	if err != nil {
		return nil, err
	}
	cfg, err := Of(c)
	if err != nil {
		return nil, err
	}
	return d.digest(set.Keys()[0], &c, plaintext, cfg)
}

// All returns a plaintext's digests under all keys, the primary key first,
// followed by digests under each earlier name of the column, or nil if the
// column has no blind index. Every row with the plaintext has one of them.
// Errors are [Digester.Primary]'s.
func (d *Digester) All(ring *keyring.Ring, c column.Column, plaintext string) ([][]byte, error) {
	if c.Index == "" {
		return nil, nil
	}
	set, err := keyring.Load(ring)
	if err != nil {
		return nil, err
	}
	return d.Under(Keys{Set: set}, &c, plaintext)
}

// Keys are the keys that the digests of one column and tenant may be under.
type Keys struct {
	Set  *keyring.Set // new digests are under its primary key
	Also *fernet.Key  // other clients may write digests under it; or nil
}

// Several reports whether a column's digests may be under several keys or
// names.
func (k Keys) Several(c *column.Column) bool {
	return len(k.Set.Keys()) > 1 || k.Also != nil || c.Was != ""
}

// Under returns a plaintext's digests under all keys and names of a column with
// a blind index. It returns a [column.ErrNotRegistered] if the generated
// package doesn't say how to make them.
func (d *Digester) Under(k Keys, c *column.Column, plaintext string) ([][]byte, error) {
	cfg, err := Of(*c)
	if err != nil {
		return nil, err
	}
	set := k.Set
	if k.Also != nil {
		set = set.Append(k.Also)
	}
	return d.all(set, c, plaintext, cfg)
}

func (d *Digester) all(set *keyring.Set, c *column.Column, plaintext string, cfg Config) (all [][]byte, err error) {
	all = make([][]byte, len(set.Keys()))
	for i, key := range set.Keys() {
		if all[i], err = d.digest(key, c, plaintext, cfg); err != nil {
			return nil, err
		}
	}
	if c.Was == "" {
		return all, nil
	}
	for old := range c.Earlier() {
		digests, err := d.all(set, &old, plaintext, cfg)
		if err != nil {
			return nil, err
		}
		all = append(all, digests...)
	}
	return all, nil
}

// digest returns the first bits of the HMAC, with zero bits at the end of the
// last byte.
func (d *Digester) digest(key *fernet.Key, c *column.Column, plaintext string, cfg Config) ([]byte, error) {
	if cfg.Normalize != nil {
		plaintext = cfg.Normalize(plaintext)
	}
	workers, err := d.workers(key, c)
	if err != nil {
		return nil, c.Wrap("index", err)
	}
	w := workers.Get().(*worker)
	defer workers.Put(w)
	sum := w.sum(plaintext)
	bits := cmp.Or(cfg.Bits, MaxBits)
	sum = sum[:(bits+7)/8]
	if spare := len(sum)*8 - bits; spare > 0 {
		sum[len(sum)-1] &= 0xff << spare
	}
	return sum, nil
}

// worker holds the state of one digest at a time.
type worker struct {
	mac hash.Hash // always reset
	buf []byte    // always cleared
}

func (w *worker) sum(text string) []byte {
	w.buf = append(w.buf[:0], text...)
	defer clear(w.buf)
	w.mac.Write(w.buf)
	defer w.mac.Reset() // it holds the end of the text
	return w.mac.Sum(make([]byte, 0, sha256.Size))
}

// workers returns the workers of one column and key. HKDF-SHA-256 (RFC 5869)
// derives a subkey for blind indexes, the table and the column.
func (d *Digester) workers(key *fernet.Key, c *column.Column) (*sync.Pool, error) {
	of := derived{key, c.Table, c.Name}
	d.mu.RLock()
	known := d.known[of]
	d.mu.RUnlock()
	if known != nil {
		return known, nil
	}
	subkey, err := fernet.Subkey(key, "credent blind index v1\x00"+c.Table+"\x00"+c.Name, sha256.Size)
	if err != nil {
		return nil, err
	}
	workers := &sync.Pool{New: func() any {
		mac := hmac.New(sha256.New, subkey)
		mac.Reset() // makes it keep the hash states of its padded key
		return &worker{mac: mac}
	}}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil || len(d.known) >= maxDerived {
		d.known = make(map[derived]*sync.Pool)
	}
	d.known[of] = workers
	return workers, nil
}

// Claim returns the digest that a statement stores first. For a unique blind
// index with several keys or names, it also returns the digests to store one
// after another in one transaction, from the first to the digest under the
// primary key, so that uniqueness holds across keys and names.
//
// The database can't see that digests under different keys or names belong to
// one plaintext. So each digest is in the index for a moment, and conflicts
// with an existing row under that row's key. Every process uses the same order,
// so of two transactions that store the same plaintext, one waits at the first
// digest.
func (d *Digester) Claim(k Keys, c *column.Column, plaintext string) (first []byte, steps [][]byte, err error) {
	cfg, err := Of(*c)
	if err != nil {
		return nil, nil, err
	}
	if !cfg.Unique || !k.Several(c) {
		first, err = d.digest(k.Set.Keys()[0], c, plaintext, cfg)
		return first, nil, err
	}
	steps, err = d.Under(k, c, plaintext)
	if err != nil {
		return nil, nil, err
	}
	primary := steps[0]
	slices.SortFunc(steps, slices.Compare)
	if !slices.Equal(steps[len(steps)-1], primary) {
		steps = append(steps, primary)
	}
	steps = slices.CompactFunc(steps, slices.Equal) // with few bits, two may be equal
	return steps[0], steps, nil
}
