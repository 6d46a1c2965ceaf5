package fieldcrypt

import (
	"cmp"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash"
	"sync"

	"entgo.io/ent/schema/field"
)

// ErrIndex means that a statement would store a secret and leave its blind index behind, or set the index itself.
var ErrIndex = errors.New("the blind index of the column cannot be kept in step")

// Sizes of the digests in a blind index, in bits.
const (
	MinIndexBits = 8
	MaxIndexBits = sha256.Size * 8
)

// IndexConfig says what the digests of a blind index are made of.
type IndexConfig struct {
	// Bits is the size of a digest; 0 means MaxIndexBits. With fewer, different secrets have the same one now and then.
	Bits int
	// Normalize gives secrets that are to be found alike the same text; nil leaves them as they are. It must always give
	// the same for the same, in every process.
	Normalize func(string) string
	// Unique says that the database lets a digest in once.
	Unique bool
}

// Digest is the type of the field that has a column's blind index. It holds nothing: digests are written by the driver of the
// client, and not read.
type Digest struct{}

// IndexField is the ent ValueScanner of a field of type [Digest]. It discards what is scanned.
type IndexField struct{ IndexConfig }

// Value returns NULL.
func (IndexField) Value(Digest) (driver.Value, error) { return nil, nil }

// ScanValue returns a target that keeps nothing.
func (IndexField) ScanValue() field.ValueScanner { return discard{} }

// FromValue returns the one value that there is.
func (IndexField) FromValue(driver.Value) (Digest, error) { return Digest{}, nil }

// discard is a target that keeps nothing.
type discard struct{}

// Scan keeps nothing.
func (discard) Scan(any) error { return nil }

// Value is not used; ent wants targets to be Valuers.
func (discard) Value() (driver.Value, error) { return nil, nil }

// IndexOf returns what a column's blind index is made of. If the generated package has not said so, it is an [ErrNotBound].
func IndexOf(c ColumnInfo) (IndexConfig, error) {
	registry.RLock()
	scanner := registry.indexes[[2]string{c.Table, c.Name}]
	registry.RUnlock()
	if scanner != nil {
		if f, ok := scanner().(IndexField); ok {
			return f.IndexConfig, nil
		}
	}
	return IndexConfig{}, fmt.Errorf("fieldcrypt: the blind index of %s: %w", c, ErrNotBound)
}

// digest returns that of a plaintext under a key: the first bits of HMAC-SHA-256 (RFC 2104), in as many bytes as they need, of
// which the last is filled up with zero bits.
func (cfg IndexConfig) digest(k *Key, c ColumnInfo, plaintext string) ([]byte, error) {
	if cfg.Normalize != nil {
		plaintext = cfg.Normalize(plaintext)
	}
	d, err := k.digester(c)
	if err != nil {
		return nil, c.wrap("index", err)
	}
	sum := d.sum(plaintext)
	bits := cmp.Or(cfg.Bits, MaxIndexBits)
	sum = sum[:(bits+7)/8]
	if spare := len(sum)*8 - bits; spare > 0 {
		sum[len(sum)-1] &= 0xff << spare
	}
	return sum, nil
}

// digester makes the digests of one column under one key. It is safe for concurrent use.
type digester struct{ workers sync.Pool }

// digestWorker is the state of one digest at a time.
type digestWorker struct {
	mac     hash.Hash // always reset
	scratch scratch
}

func (d *digester) sum(text string) []byte {
	w := d.workers.Get().(*digestWorker)
	defer d.workers.Put(w)
	w.scratch.resize(len(text))
	defer w.scratch.clear()
	copy(w.scratch.buf, text)
	w.mac.Write(w.scratch.buf)
	defer w.mac.Reset() // until then it has the end of the text
	return w.mac.Sum(make([]byte, 0, sha256.Size))
}

// digester returns that of a column. Its key is derived by HKDF-SHA-256 (RFC 5869) for this use, table and column alone.
func (k *Key) digester(c ColumnInfo) (*digester, error) {
	place := [2]string{c.Table, c.Name}
	known := k.digesters()
	if d, ok := known.Load(place); ok {
		return d.(*digester), nil
	}
	subkey, err := hkdf.Key(sha256.New, k.fernet()[:], nil, "credent blind index v1\x00"+c.Table+"\x00"+c.Name, sha256.Size)
	if err != nil {
		return nil, err
	}
	d := &digester{}
	d.workers.New = func() any {
		mac := hmac.New(sha256.New, subkey)
		mac.Reset() // as in newEngine
		return &digestWorker{mac: mac}
	}
	first, _ := known.LoadOrStore(place, d)
	return first.(*digester), nil
}

// Digest returns what the blind index of a column has for a plaintext: its digest under the primary key, or nil if the column
// has no index. Errors: [ErrNoKey], [ErrNotBound].
func (r *Keyring) Digest(c ColumnInfo, plaintext string) ([]byte, error) {
	if c.Index == "" {
		return nil, nil
	}
	cfg, err := IndexOf(c)
	if err != nil {
		return nil, err
	}
	return r.digest(cfg, c, plaintext)
}

// Digests returns the digests of a plaintext under all keys, the primary one first, or nil if the column has no index. One of
// them is in the index of each row that has the plaintext. Errors are those of [Keyring.Digest].
func (r *Keyring) Digests(c ColumnInfo, plaintext string) ([][]byte, error) {
	if c.Index == "" {
		return nil, nil
	}
	cfg, err := IndexOf(c)
	if err != nil {
		return nil, err
	}
	return r.digests(cfg, c, plaintext)
}

func (r *Keyring) digest(cfg IndexConfig, c ColumnInfo, plaintext string) ([]byte, error) {
	k, err := r.load()
	if err != nil {
		return nil, err
	}
	return cfg.digest(k.list[0], c, plaintext)
}

func (r *Keyring) digests(cfg IndexConfig, c ColumnInfo, plaintext string) ([][]byte, error) {
	k, err := r.load()
	if err != nil {
		return nil, err
	}
	all := make([][]byte, len(k.list))
	for i, key := range k.list {
		if all[i], err = cfg.digest(key, c, plaintext); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (c ColumnInfo) wrap(op string, err error) error {
	return &Error{Op: op, Table: c.Table, Column: c.Name, Err: err}
}
