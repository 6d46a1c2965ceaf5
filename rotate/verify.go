package rotate

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/plaintype"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/keyring"
)

// Errors of [Counts.Err].
var (
	// ErrNotAllPrimary means that not every stored secret is under the primary
	// key.
	ErrNotAllPrimary = errors.New("not every stored secret is under the primary key")

	// ErrIndexBehind means that a blind index has a digest that doesn't belong
	// to the row's secret under a key of the keyring, or one under an earlier
	// key. A missing digest is no error: another program may write without one.
	ErrIndexBehind = errors.New("a blind index is behind")

	// ErrCanaryBehind means that the canary of a column is under an earlier
	// key, or under none of the rings.
	ErrCanaryBehind = errors.New("its canary is behind")

	// ErrPlaintext means that a stored secret isn't a token: it is plaintext,
	// or empty.
	ErrPlaintext = errors.New("some are not encrypted")

	// ErrEarlierName means that a bound token or a digest is under an earlier
	// name of its column.
	ErrEarlierName = errors.New("some are under an earlier name of the column: run rotate before you remove WasNamed")

	// ErrUnbound means that a stored secret is not bound to table, column and
	// tenant, in a column that requires it.
	ErrUnbound = errors.New("not bound to its place, and the column's binding is require")

	// ErrBound means that a stored secret is bound, in a column with binding
	// off.
	ErrBound = errors.New("bound, and the column's binding is off")

	// ErrTenantKey means that a stored secret is under a tenant's key, in a
	// column with tenant keys off.
	ErrTenantKey = errors.New("under a tenant's key, and the column's tenant keys are off")

	// ErrUndecodable means that a secret opens, but its plaintext isn't of its
	// field's type: revealing it fails.
	ErrUndecodable = errors.New("some open and don't decode as their field's type")

	// ErrReadable means that a secret can be read though its tenant's key was
	// destroyed.
	ErrReadable = errors.New("it can be read, though its tenant's key was destroyed: run rotate")
)

// ColumnCount counts the rows of an encrypted column by what is stored in it.
// Null to Damaged, without Bound, add up to Rows.
type ColumnCount struct {
	Table        string           `json:"table"`
	Column       string           `json:"column"`
	Rows         int64            `json:"rows"`
	Null         int64            `json:"null"`
	Bound        int64            `json:"bound"`         // bound to table, column and tenant; counted again by its key
	Earlier      int64            `json:"earlier_name"`  // of these under an earlier name of the column
	PrimaryKey   string           `json:"primary_key"`   // the primary key's ID
	Primary      int64            `json:"primary"`       // under the primary key
	Previous     map[string]int64 `json:"previous"`      // under an earlier key, by its ID
	Tenant       int64            `json:"tenant_key"`    // under the data key of the row's tenant
	Shredded     int64            `json:"shredded"`      // of a tenant with a destroyed key
	Readable     int64            `json:"readable"`      // likewise, but still readable
	UnknownKey   int64            `json:"unknown_key"`   // well-formed, but no key opens it
	NotEncrypted int64            `json:"not_encrypted"` // not a token
	Damaged      int64            `json:"damaged"`       // a malformed token
	OverLength   int64            `json:"over_length"`   // longer than the column's declared size, of any of the above
	Undecodable  int64            `json:"undecodable"`   // opens, and doesn't decode as DecodedAs; counted again by its key

	// DecodedAs says what each secret that opened was decoded as: a Go type,
	// or only "JSON" if the process doesn't know the type.
	DecodedAs string `json:"decoded_as"`
	// UndecodableRows are the primary keys of the first of these rows, at most
	// ten.
	UndecodableRows []string `json:"undecodable_rows,omitempty"`

	// Examples are the first secrets that don't open, that open though their
	// tenant's key was destroyed, or that don't decode, by the text of their
	// rows' keys; at most [MaxExamples]. Config.Quarantine gets all.
	Examples []Quarantined `json:"examples,omitempty"`

	Index  *IndexCount `json:"index,omitempty"`
	Canary CanaryCount `json:"canary"`

	// States are the states that the counts are judged by: the database's and,
	// for binding, the schema's. Unset ones aren't judged.
	States states.Set `json:"states,omitzero"`
}

// IndexCount counts rows by their digest in a column's blind index, among rows
// with a NULL or a secret that opens.
type IndexCount struct {
	Primary  int64            `json:"primary"`      // the digest under the primary key, or NULL for NULL
	Previous map[string]int64 `json:"previous"`     // the digest under an earlier key, by its ID
	Tenant   int64            `json:"tenant_key"`   // the digest under the data key of the row's tenant
	Earlier  int64            `json:"earlier_name"` // of these, under an earlier name of the column
	Missing  int64            `json:"missing"`      // NULL for a secret, which lookups don't find
	Wrong    int64            `json:"wrong"`        // a digest of something else, or under another key

	// Outlives is the number of digests under the keyring of secrets under
	// their tenants' keys: a copy of such a digest outlives the key. They are
	// counted above too. rotate moves them, unless AcrossTenants.
	Outlives int64 `json:"outlives_tenant_key"`
	// AcrossTenants says that the schema wants digests under the keyring, so
	// that lookups find the rows of all tenants.
	AcrossTenants bool `json:"across_tenants"`
}

// outlives is the number of digests that rotate would move under tenants' keys.
func (c *IndexCount) outlives() int64 {
	if c == nil || c.AcrossTenants {
		return 0
	}
	return c.Outlives
}

// Verify reads every secret and counts which key it needs. It opens and decodes
// them all, and writes nothing. The counts are judged by the states in the
// database. If tenants have their own data keys, the last count is for these
// keys: each needs a key of the keyring, like a secret.
//
// A plain table of many rows on Postgres 14 or newer is counted as of one
// moment, with a snapshot that is kept until it has been read. Elsewhere, for a
// Quarantine, with a limit of rows in a second and in a pool of one connection,
// each page of rows is counted as of the moment at which it was read.
//
// If the database fails for a while, it resumes where it was, or counts a table
// again if its snapshot is gone, and counts no row twice; [VerifyWith] says for
// how long.
func Verify(ctx context.Context, db *sql.DB, ring *keyring.Keyring, columns ...column.Column) (Counts, error) {
	return VerifyWith(ctx, db, ring, Config{In: columns})
}

// VerifyWith is [Verify] with the given columns, states, batch, workers, limit
// of rows per second, RetryFor, Progress and Quarantine. It ignores the other
// fields, and always reads every row.
func VerifyWith(ctx context.Context, db *sql.DB, keyRing *keyring.Keyring, cfg Config) (Counts, error) {
	ring := (*engine.Ring)(keyRing)
	primary := ring.Primary()
	if primary == nil {
		return nil, fmt.Errorf("rotate: %w", engine.ErrNoKey)
	}
	limit := cfg.complete()
	r := &run{cfg: cfg, db: db, ring: ring, start: time.Now(), limit: limit, pace: &pace{most: cfg.Batch}}
	var tables []table
	err := r.retrySetup(ctx, func() (err error) {
		tables, err = r.prepareVerify(ctx, cfg)
		return err
	})
	if err != nil {
		return nil, err
	}
	var counts Counts
	for _, t := range tables {
		v := &verifier{run: r, primary: primary, table: t, tally: new(tally)}
		err := v.do(ctx)
		if err == nil {
			err = r.retryTable(ctx, t, func() error { return v.addCanaries(ctx, r.canaryDB) })
		}
		if err != nil {
			return nil, fmt.Errorf("rotate: %s: %w", t.label(), err)
		}
		if !t.isOfKeys() || v.columns[0].Rows > 0 {
			counts = append(counts, v.columns...)
		}
	}
	return counts, nil
}

// verifier counts the secrets of a table or a part of it.
type verifier struct {
	*run
	primary *fernet.Key
	table   table
	columns []ColumnCount
	*tally
	at    *moment       // the snapshot to count; nil to count each page as of its reading
	found []Quarantined // quarantined in the current page

	// The result of opening the current value with the keyring by, cached
	// because several counts need it; nil for none.
	by        *engine.Ring
	opened    seal.Opened
	openedErr error
}

// open opens the current value.
func (v *verifier) open(ring *engine.Ring, p seal.Place, token string) (seal.Opened, error) {
	if v.by != ring {
		v.by = ring
		v.opened, v.openedErr = v.locate.OpenAt(ring, p, token)
	}
	return v.opened, v.openedErr
}

// begin resets the counts.
func (v *verifier) begin() {
	v.columns = make([]ColumnCount, len(v.table.columns))
	for i, c := range v.table.columns {
		v.columns[i] = ColumnCount{
			Table: v.table.label(), Column: c.Name, PrimaryKey: v.primary.ID(),
			Previous: noneOf(v.ring),
		}
		if v.columns[i].States = v.cfg.States.Given(&c); c.Bound && v.columns[i].States.Binding == states.Unset {
			v.columns[i].States.Binding = states.Require
		}
		if !v.table.isOfKeys() {
			v.columns[i].DecodedAs = plaintype.DecodesAs(c)
		}
		if c.Index != "" {
			v.columns[i].Index = &IndexCount{Previous: noneOf(v.ring), AcrossTenants: c.AcrossTenants}
		}
	}
}

func (v *verifier) add(ctx context.Context, page []row) error {
	if v.table.isOfKeys() {
		for _, r := range page {
			if err := v.columns[0].addWrapped(v.ring, v.primary, r); err != nil {
				v.leave(&v.columns[0], r.id, err)
			}
		}
		return v.tellFound()
	}
	var keys map[string]tenantkey.Key
	err := v.retry(ctx, v.tell, func() (err error) {
		keys, err = v.keys.of(ctx, page, v.at)
		return err
	})
	if err != nil {
		return err
	}
	for _, r := range page {
		for i := range r.values {
			token := r.value(i)
			place := seal.Place{Column: v.table.columns[i], Tenant: r.tenant}
			tenant := place.TenantKey(keys)
			v.by = nil
			v.count(&v.columns[i], token, place, tenant)
			v.decode(&v.columns[i], r.id, token, place, tenant)
			if v.columns[i].Index == nil {
				continue
			}
			if err := v.addIndex(v.columns[i].Index, place, token, r.indexes[i], tenant); err != nil {
				return err
			}
		}
	}
	return v.tellFound()
}

// addWrapped counts a tenant's wrapped key, and returns why no key opens it.
func (c *ColumnCount) addWrapped(ring *engine.Ring, primary *fernet.Key, r row) error {
	if c.Rows++; !r.values[0].Valid {
		c.Shredded++
		return nil
	}
	_, under, err := tenantkey.Unwrap(ring, r.tenant.String, r.values[0].String)
	c.count(primary, under, err)
	return err
}

// count counts a stored value of a tenant with the given key.
func (v *verifier) count(c *ColumnCount, token sql.NullString, p seal.Place, tenant tenantkey.Key) {
	c.Rows++
	if !token.Valid {
		c.Null++
		return
	}
	if utf8.RuneCountInString(token.String) > p.Column.Size {
		c.OverLength++
	}
	if errors.Is(tenant.Err, tenantkey.ErrShredded) {
		if isShredded(&v.locate, v.ring, p, token.String) {
			c.Shredded++
		} else {
			c.Readable++
		}
		return
	}
	if tenant.Data != nil {
		own := v.rings.of(v.ring, tenant.Data, alone)
		if o, err := v.open(own, p, token.String); err == nil {
			c.Tenant++
			c.addPlace(o)
			return
		}
	}
	o, err := v.open(v.ring, p, token.String)
	c.addPlace(o)
	c.count(v.primary, o.Key, err)
}

// addIndex counts the blind index's digest for a token. A tenant with a
// destroyed key should have none.
func (v *verifier) addIndex(c *IndexCount, p seal.Place, token, index sql.NullString, tenant tenantkey.Key) error {
	shredded := errors.Is(tenant.Err, tenantkey.ErrShredded)
	switch {
	case !token.Valid && index.Valid, shredded && index.Valid && !isVoid(index):
		c.Wrong++
		return nil
	case token.Valid && shredded && !index.Valid:
		c.Missing++
		return nil
	case !token.Valid, shredded:
		c.Primary++
		return nil
	}
	plaintext := token.String
	if state := v.cfg.States.Given(&p.Column).Encryption; state == states.Unset || state == states.Require ||
		fernet.IsToken(token.String) {
		o, err := v.open(v.rings.of(v.ring, tenant.Data, last), p, token.String)
		if err != nil {
			return nil //nolint:nilerr // counted as a secret that doesn't open
		}
		plaintext = o.Plaintext
	}
	if !index.Valid {
		c.Missing++
		return nil
	}
	ring := v.ring
	if p.Column.IsIndexedByTenant() {
		ring = v.rings.of(ring, tenant.Data, last)
	}
	keys := ring.Keys()
	digests, err := v.digests.All(ring, p.Column, plaintext)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(digests, func(d []byte) bool { return hex.EncodeToString(d) == index.String })
	if i >= len(keys) { // All returns the earlier names' digests last
		c.Earlier++
	}
	switch {
	case i < 0:
		c.Wrong++
		return nil
	case keys[i%len(keys)] == tenant.Data:
		c.Tenant++
		return nil
	case i%len(keys) == 0:
		c.Primary++
	default:
		c.Previous[keys[i%len(keys)].ID()]++
	}
	if tenant.Data != nil && isUnder(&v.locate, v.rings.of(v.ring, tenant.Data, alone), p, token.String) {
		c.Outlives++
	}
	return nil
}
