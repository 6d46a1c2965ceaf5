package rotate

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"time"

	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/plaintype"
	"github.com/credent-go/credent/keyring"
)

// ErrDuplicates means that rows have the same secret, and a unique blind index
// allows it once. A [DuplicatesError] lists them.
var ErrDuplicates = errors.New("several rows have the same secret, and a unique blind index allows it once")

// Duplicate lists rows with the same secret.
type Duplicate struct {
	Table  string   `json:"table"`
	Column string   `json:"column"`
	Rows   []string `json:"rows"` // primary keys, in the order of the table
}

// DuplicatesError is an [ErrDuplicates] with the rows.
type DuplicatesError struct{ Duplicates []Duplicate }

// Error names the columns, and quotes no secret.
func (e *DuplicatesError) Error() string {
	counts := make(map[string]int)
	var names []string
	for _, d := range e.Duplicates {
		name := d.Table + "." + d.Column
		if counts[name]++; counts[name] == 1 {
			names = append(names, name)
		}
	}
	for i, name := range names {
		if names[i] = fmt.Sprintf("%s: %d secret", name, counts[name]); counts[name] > 1 {
			names[i] += "s"
		}
	}
	return "rotate: " + ErrDuplicates.Error() + ": " + strings.Join(names, ", ")
}

// Unwrap returns [ErrDuplicates].
func (*DuplicatesError) Unwrap() error { return ErrDuplicates }

// CheckUnique looks for rows that a unique blind index would refuse: the same
// secret, as the index normalizes it, in rows that meet its condition and are
// equal in its other columns. It opens tokens under every key, takes any other
// value as plaintext, and writes nothing. It needs no digests, so it can run
// before there is an index.
//
// It looks at the columns with a unique index or, if Config.Columns names any,
// at those, even if their index isn't unique. Duplicates are a
// [DuplicatesError]. Secrets that don't open are left out: [Verify] counts
// them. It reads the tables once, and again if there are duplicates, and keeps
// 8 bytes for each secret.
func CheckUnique(ctx context.Context, db *sql.DB, keyRing *keyring.Keyring, cfg Config) error {
	ring := (*engine.Ring)(keyRing)
	return checkUnique(ctx, db, ring, cfg, len(cfg.Columns) == 0)
}

func checkUnique(ctx context.Context, db *sql.DB, ring *engine.Ring, cfg Config, only bool) error {
	if ring.Primary() == nil {
		return fmt.Errorf("rotate: %w", engine.ErrNoKey)
	}
	cfg.Batch = cmp.Or(max(cfg.Batch, 0), DefaultBatch)
	columns, err := columnsOf(cfg.In, cfg.Columns)
	if err != nil {
		return err
	}
	if only {
		columns = slices.DeleteFunc(columns, func(c column.Column) bool { return !isUnique(c) })
	}
	if len(columns) == 0 {
		return nil
	}
	r := &run{
		operation: operation{plain: fromPlaintext}, cfg: cfg, db: db, ring: ring, start: time.Now(),
		pace: &pace{most: cfg.Batch},
	}
	var tables []table
	err = r.retrySetup(ctx, func() (err error) {
		if tables, r.store, err = open(ctx, db, columns, nil); err == nil {
			r.keys, err = openTenants(ctx, db, r.store, ring)
		}
		return err
	})
	if err != nil {
		return err
	}
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	found := &DuplicatesError{}
	for _, t := range tables {
		u := &uniqueness{pass: &pass{work: &work{run: r, table: t}}, mac: hmac.New(sha256.New, key)}
		duplicates, err := u.check(ctx)
		if err != nil {
			return fmt.Errorf("rotate: %s: %w", t.label(), err)
		}
		found.Duplicates = append(found.Duplicates, duplicates...)
	}
	if len(found.Duplicates) > 0 {
		return found
	}
	return nil
}

// isUnique reports whether a column has a unique blind index.
func isUnique(c column.Column) bool {
	of, err := blindindex.Of(c)
	return err == nil && of.Unique
}

// uniqueness checks one table's columns.
type uniqueness struct {
	*pass
	mac     hash.Hash
	indexes []blindindex.Config // the columns' indexes
	extra   [][2]int            // range of each column's values in a row's extra values
}

func (u *uniqueness) check(ctx context.Context) (duplicates []Duplicate, err error) {
	u.prepare()
	seen := make([][]uint64, len(u.table.columns))
	err = u.each(ctx, func(i int, _ string, sum [sha256.Size]byte) {
		seen[i] = append(seen[i], binary.BigEndian.Uint64(sum[:]))
	})
	if err != nil {
		return nil, err
	}
	again, any := make([]map[uint64]bool, len(seen)), false
	for i, sums := range seen {
		slices.Sort(sums)
		again[i] = make(map[uint64]bool)
		for j := 1; j < len(sums); j++ {
			if sums[j] == sums[j-1] {
				again[i][sums[j]], any = true, true
			}
		}
		seen[i] = nil
	}
	if !any {
		return nil, nil
	}
	type place struct {
		column int
		sum    [sha256.Size]byte
	}
	groups, order := make(map[place][]string), []place{}
	err = u.each(ctx, func(i int, row string, sum [sha256.Size]byte) {
		if !again[i][binary.BigEndian.Uint64(sum[:])] {
			return
		}
		at := place{i, sum}
		if groups[at] == nil {
			order = append(order, at)
		}
		groups[at] = append(groups[at], row)
	})
	for _, at := range order {
		if rows := groups[at]; len(rows) > 1 {
			duplicates = append(duplicates, Duplicate{u.table.label(), u.table.columns[at.column].Name, rows})
		}
	}
	return duplicates, err
}

// prepare makes the queries read the columns that the indexes depend on.
func (u *uniqueness) prepare() {
	for _, c := range u.table.columns {
		cfg, err := blindindex.Of(c)
		if err != nil {
			cfg = blindindex.Config{} // no index
		}
		from := len(u.table.extra)
		if cfg.Where != "" {
			u.table.extra = append(u.table.extra, "CASE WHEN ("+cfg.Where+") THEN 'yes' END")
		}
		for _, name := range cfg.With {
			u.table.extra = append(u.table.extra, "t."+quote(name))
		}
		u.indexes, u.extra = append(u.indexes, cfg), append(u.extra, [2]int{from, len(u.table.extra)})
	}
}

// each calls f with a sum for each secret that a column's unique index
// compares: two rows conflict if their sums are equal.
func (u *uniqueness) each(ctx context.Context, f func(i int, row string, sum [sha256.Size]byte)) error {
	var rest span
	tell := u.tellTable(u.table)
	for {
		page, behind, more, err := u.readPage(ctx, tell, u.table, rest)
		if err != nil {
			return err
		}
		var keys map[string]tenantkey.Key
		err = u.retry(ctx, tell, func() (err error) {
			keys, err = u.keysOf(ctx, page)
			return err
		})
		if err != nil {
			return err
		}
		for _, r := range page {
			for i, c := range u.table.columns {
				extra := r.extra[u.extra[i][0]:u.extra[i][1]]
				value := r.value(i)
				if !value.Valid || slices.ContainsFunc(extra, func(v sql.NullString) bool { return !v.Valid }) {
					continue
				}
				place := seal.Place{Column: c, Tenant: r.tenant}
				of, err := u.keysAt(value, place, keys)
				if err != nil || of.shredded {
					continue
				}
				stored, err := u.table.original(r, i, u.store)
				if err != nil {
					continue
				}
				plaintext, err := openStored(&u.locate, of.ring, stored, place)
				if err != nil {
					continue
				}
				f(i, r.id, u.sum(u.indexes[i], plaintext, extra))
			}
		}
		if !more {
			return nil
		}
		rest = behind
	}
}

func (u *uniqueness) sum(cfg blindindex.Config, plaintext string, extra []sql.NullString) (sum [sha256.Size]byte) {
	if cfg.Normalize != nil {
		plaintext = cfg.Normalize(plaintext)
	}
	u.mac.Reset()
	for _, text := range append([]sql.NullString{{String: plaintext}}, extra...) {
		_ = binary.Write(u.mac, binary.BigEndian, uint64(len(text.String)))
		u.mac.Write([]byte(text.String))
	}
	u.mac.Sum(sum[:0])
	return sum
}

// openStored returns a stored value's plaintext. The value may itself be
// plaintext.
func openStored(l *seal.Locator, ring *engine.Ring, stored original, p seal.Place) (string, error) {
	if fernet.IsToken(stored.text) {
		o, err := l.OpenAt(ring, p, stored.text)
		if err == nil || !stored.apart { // otherwise it is bytes that start like a token
			return o.Plaintext, err
		}
	}
	plaintext, err := plaintype.Encode(p.Column, stored.kind, stored.text)
	if err != nil {
		return "", err
	}
	return plaintext, column.CheckPlaintext(p.Column, plaintext)
}
