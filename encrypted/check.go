package encrypted

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
)

// checkSample is the number of rows of a column that [Check] opens.
const checkSample = 10

// Check makes sure, when a service starts, that the generated code is the
// schema's ([ErrNotBound]) and that the keyring reads what is stored: it opens
// the secrets of each column's last rows by primary key, at most ten, and
// fails if none opens, most likely with [ErrUnknownKey]. Bound or not, under
// the keyring, the tenant's key or a destroyed key: each counts as opened. A
// single damaged row is no reason to fail, and an empty table passes.
//
// It also fails with [ErrIndex] if one of these rows has a digest of something
// else in its blind index, or if the index is unique and none has a digest: a
// client without [NewDriver] or another program wrote them, and nothing keeps
// them unique until rotate has filled the index in.
//
// It looks at the given columns, or at all [Columns] if none is given. A nil
// keyring means [KeyringFromEnv]'s.
func Check(ctx context.Context, db *sql.DB, ring *Keyring, columns ...Column) error {
	if len(columns) == 0 {
		if columns = Columns(); len(columns) == 0 {
			return fmt.Errorf("encrypted: no encrypted column is known: %w", ErrNotBound)
		}
	}
	if err := column.CheckBindings(columns); err != nil {
		return err
	}
	columns, err := column.Distinct(columns)
	if err != nil {
		return err
	}
	if ring == nil {
		if ring, err = KeyringFromEnv(); err != nil {
			return err
		}
	}
	c := checker{db: db, ring: ring}
	var sqlite string
	for _, of := range columns {
		if of.Schema != "" && db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&sqlite) == nil {
			of = of.InSchema("") // as ent, which leaves it out for SQLite
		}
		if err := c.check(ctx, of); err != nil {
			return fmt.Errorf("encrypted: check %s: %w", of, err)
		}
	}
	return nil
}

// checker is one call of Check.
type checker struct {
	db      *sql.DB
	ring    *Keyring
	locate  seal.Locator
	digests blindindex.Digester
}

func (c *checker) check(ctx context.Context, of Column) error {
	samples, err := c.read(ctx, of)
	if err != nil || len(samples) == 0 {
		return err
	}
	var first error
	opened := 0
	for i := range samples {
		if err := c.open(&samples[i], tenantkey.Key{}); err == nil {
			opened++
		} else {
			first = cmp.Or(first, err)
		}
	}
	if opened == 0 && !c.opensWithTenantKeys(ctx, samples) {
		return fmt.Errorf("none of the last %d secrets opens: %w", len(samples), first)
	}
	return c.checkDigests(of, samples)
}

// checkDigests compares the digests of the secrets that opened.
func (c *checker) checkDigests(of Column, samples []sample) error {
	if of.Index == "" {
		return nil
	}
	cfg, err := blindindex.Of(of)
	if err != nil {
		return err
	}
	opened, indexed := 0, 0
	for _, s := range samples {
		if s.plaintext == nil {
			continue
		}
		if opened++; s.digest == nil {
			continue
		}
		indexed++
		digests, err := c.digests.All(c.ring, of, s.plaintext())
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(digests, func(d []byte) bool { return slices.Equal(d, s.digest) }) {
			return fmt.Errorf("%w: it has a digest of something else: run rotate", ErrIndex)
		}
	}
	if cfg.Unique && opened > 0 && indexed == 0 {
		return fmt.Errorf("%w: none of the last %d secrets has a digest, so that nothing keeps them unique: run rotate", ErrIndex, opened)
	}
	return nil
}

// sample is one stored secret.
type sample struct {
	token     string
	place     seal.Place
	digest    []byte
	plaintext func() string // nil if it doesn't open
}

// read reads the secrets of the last rows.
func (c *checker) read(ctx context.Context, of Column) (samples []sample, err error) {
	tenant := "NULL"
	if of.Tenant != "" {
		tenant = "CAST(" + column.QuoteName(of.Tenant) + " AS TEXT)"
	}
	index := "NULL"
	if of.Index != "" {
		index = column.QuoteName(of.Index)
	}
	rows, err := c.db.QueryContext(ctx, fmt.Sprintf("SELECT %s, %s, %s FROM %s WHERE %[1]s IS NOT NULL ORDER BY %[5]s DESC LIMIT %d",
		column.QuoteName(of.Name), tenant, index, of.Quoted(), column.QuoteName(of.Key()), checkSample))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		s := sample{place: seal.Place{Column: of}}
		if err := rows.Scan(&s.token, &s.place.Tenant, &s.digest); err != nil {
			return nil, err
		}
		samples = append(samples, s)
	}
	return samples, rows.Err()
}

// open opens a sample with the keyring and, if there is one, its tenant's key.
func (c *checker) open(s *sample, key tenantkey.Key) error {
	plaintext, err := c.locate.DecryptAt(keyring.With(c.ring, key.Data), s.place, s.token)
	if err == nil {
		s.plaintext = func() string { return plaintext }
	}
	return err
}

// opensWithTenantKeys reports whether a sample opens with its tenant's key, or
// all belong to tenants whose key was destroyed. A database may have no such
// keys.
func (c *checker) opensWithTenantKeys(ctx context.Context, samples []sample) bool {
	var tenants []string
	for _, s := range samples {
		if s.place.Tenant.Valid {
			tenants = append(tenants, s.place.Tenant.String)
		}
	}
	if len(tenants) == 0 {
		return false
	}
	slices.Sort(tenants)
	keys, err := tenantkey.Read(ctx, entsql.Conn{ExecQuerier: c.db}, c.ring, slices.Compact(tenants))
	if err != nil {
		return false
	}
	shredded, opened := 0, 0
	for i := range samples {
		key := keys[samples[i].place.Tenant.String]
		if errors.Is(key.Err, ErrShredded) {
			shredded++
		} else if c.open(&samples[i], key) == nil {
			opened++
		}
	}
	return opened > 0 || shredded == len(samples)
}
