package canary

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/plaintype"
	"github.com/credent-go/credent/internal/states"
)

const (
	// sampleSize is the number of a column's secrets that a check opens, and
	// lookedAt the number of rows that it reads to find them: most rows may
	// have none, and a check must not read a table of millions.
	sampleSize = 10
	lookedAt   = 200
	// evidence is the number of tokens that Keep opens.
	evidence = 1000
)

// Rows is the result of checking a column's rows.
type Rows struct {
	Opened int    // secrets that opened
	Err    error  // why none opened, or what is wrong with those that did
	Unseen string // why there were none to open; then the canary decides
}

// secret is one stored secret.
type secret struct {
	token     string
	place     seal.Place
	digest    []byte
	plaintext func() string // nil if it doesn't open
	ring      *keyring.Ring // the keyring that opened it
}

// sampler opens a sample of one column's secrets.
type sampler struct {
	DB
	ring    *keyring.Ring
	of      column.Column
	stored  column.Column // of, as the table of states names it, with its schema
	given   states.Set    // the states in the database
	locate  seal.Locator
	digests blindindex.Digester
}

// HiddenRows says why rows aren't checked if row-level security applies. The
// query would be unbounded: the database reads rows until it finds some that
// the role may see.
const HiddenRows = "row-level security hides rows from this role"

// look opens the column's last secrets by primary key. It accepts tokens bound
// or not, under the keyring or tenants' keys, unless the column's states in the
// database refuse them.
func (s *sampler) look(ctx context.Context) (Rows, error) {
	t, err := s.table(ctx, s.of)
	if err != nil {
		return Rows{}, err
	}
	if t.hidden {
		return Rows{Unseen: HiddenRows}, nil
	}
	d := dialect.Postgres
	if s.SQLite {
		d = dialect.SQLite
	}
	stored, _, err := states.Read(ctx, s.On, d)
	if err != nil {
		return Rows{}, err
	}
	s.given = states.TableOf(stored, []column.Column{s.stored}).Given(&s.stored)
	found, err := s.read(ctx, s.lastRows(t))
	switch {
	case err != nil:
		return Rows{}, err
	case len(found) > 0:
		return s.openAll(ctx, found)
	}
	return Rows{Unseen: fmt.Sprintf("the last rows, up to %d, have no secret", lookedAt)}, nil
}

// lastRows returns the query for the last secrets. The database finds them by
// the primary key's index, and stops.
func (s *sampler) lastRows(t table) string {
	order := ""
	if key := t.readableKey(); len(key) > 0 {
		names := make([]string, len(key))
		for i, name := range key {
			names[i] = column.QuoteName(name) + " DESC"
		}
		order = " ORDER BY " + strings.Join(names, ", ")
	}
	return fmt.Sprintf(`SELECT s, t, i FROM (%s%s LIMIT %d) AS x WHERE s IS NOT NULL LIMIT %d`, s.selected(), order, lookedAt, sampleSize)
}

// anyTokens returns a query for any tokens, which may read the whole table.
func (s *sampler) anyTokens() string {
	return fmt.Sprintf(`SELECT s, t, i FROM (%s) AS x WHERE CAST(s AS TEXT) LIKE '%s%%' LIMIT %d`, s.selected(), fernet.Prefix, evidence)
}

func (s *sampler) selected() string {
	tenant, index := "NULL", "NULL"
	if s.of.Tenant != "" {
		tenant = "CAST(" + column.QuoteName(s.of.Tenant) + " AS TEXT)"
	}
	if s.of.Index != "" {
		index = column.QuoteName(s.of.Index)
	}
	return fmt.Sprintf(`SELECT %s AS s, %s AS t, %s AS i FROM %s`, column.QuoteName(s.of.Name), tenant, index, s.of.Quoted())
}

func (s *sampler) read(ctx context.Context, query string) (found []secret, err error) {
	err = s.query(ctx, func(scan func(...any) error) error {
		one := secret{place: seal.Place{Column: s.of}}
		if err := scan(&one.token, &one.place.Tenant, &one.digest); err != nil {
			return err
		}
		found = append(found, one)
		return nil
	}, query)
	return found, err
}

// openAll opens secrets with the keyring, or with tenants' keys if the keyring
// opens none. If all belong to tenants whose key was destroyed, they prove
// nothing about the keyring. err is the database's error.
func (s *sampler) openAll(ctx context.Context, found []secret) (result Rows, err error) {
	for i := range found {
		if err := s.open(&found[i], tenantkey.Key{}); err == nil {
			result.Opened++
		} else {
			result.Err = cmp.Or(result.Err, err)
		}
	}
	shredded := 0
	if result.Opened == 0 {
		if result.Opened, shredded, err = s.openOfTenants(ctx, found); err != nil {
			return Rows{}, err
		}
	}
	switch {
	case result.Opened > 0:
		if result.Err = s.checkDecoded(found); result.Err == nil {
			result.Err = s.checkDigests(found)
		}
	case shredded == len(found):
		result = Rows{Unseen: fmt.Sprintf("the last %d secrets are of tenants whose key was destroyed", len(found))}
	default:
		result.Err = fmt.Errorf("none of the last %d secrets opens: %w", len(found), result.Err)
	}
	return result, nil
}

// open opens a secret with the keyring and, if there is one, its tenant's key.
func (s *sampler) open(one *secret, key tenantkey.Key) error {
	plaintext, err := s.plaintext(one, key)
	if err == nil {
		one.plaintext, one.ring = func() string { return plaintext }, keyring.With(s.ring, key.Data)
	}
	return err
}

// plaintext returns a secret's plaintext, if the column's states accept it.
func (s *sampler) plaintext(one *secret, key tenantkey.Key) (string, error) {
	if e := s.given.Encryption; !fernet.IsToken(one.token) && e != states.Unset && e != states.Require {
		return one.token, nil
	}
	o, err := s.locate.OpenAt(s.ring, one.place, one.token)
	underKeyring := err == nil
	if !underKeyring && key.Data != nil {
		o, err = s.locate.OpenAt(keyring.With(s.ring, key.Data), one.place, one.token)
	}
	switch {
	case err != nil:
		return "", err
	case s.given.Encryption == states.Off:
		return "", seal.ErrEncrypted
	case s.given.Binding == states.Require && !o.Bound:
		return "", fmt.Errorf("%w: the token isn't bound, and the column's binding is require", seal.ErrWrongLocation)
	case s.given.Binding == states.Off && o.Bound:
		return "", fmt.Errorf("%w: the token is bound, and the column's binding is off", seal.ErrWrongLocation)
	case s.given.TenantKeys == states.Require && underKeyring:
		return "", seal.ErrUnderKeyring
	}
	return o.Plaintext, nil
}

// openOfTenants opens secrets with their tenants' keys, if the database has
// any.
func (s *sampler) openOfTenants(ctx context.Context, found []secret) (opened, shredded int, err error) {
	var tenants []string
	for _, one := range found {
		if one.place.Tenant.Valid {
			tenants = append(tenants, one.place.Tenant.String)
		}
	}
	t, err := s.describe(ctx, "", tenantkey.Table)
	if err != nil || len(tenants) == 0 || t.lacks(tenantkey.Table, tenantkey.Tenant, tenantkey.Column) != "" {
		return 0, 0, err
	}
	slices.Sort(tenants)
	keys, err := tenantkey.Read(ctx, s.On, s.ring, slices.Compact(tenants))
	if err != nil {
		return 0, 0, err
	}
	for i := range found {
		key := found[i].place.TenantKey(keys)
		if errors.Is(key.Err, tenantkey.ErrShredded) {
			shredded++
		} else if s.open(&found[i], key) == nil {
			opened++
		}
	}
	return opened, shredded, nil
}

// checkDecoded returns an error if no opened secret decodes as the field's
// type.
func (s *sampler) checkDecoded(found []secret) (failed error) {
	opened := 0
	for _, one := range found {
		if one.plaintext == nil {
			continue
		}
		err := plaintype.Decode(s.of, one.plaintext())
		if err == nil {
			return nil
		}
		opened, failed = opened+1, err
	}
	if failed != nil {
		failed = fmt.Errorf("the last %d secrets that open don't decode as %s; rotate.Verify counts them: %w",
			opened, plaintype.DecodesAs(s.of), failed)
	}
	return failed
}

// checkDigests checks the digests of the opened secrets.
func (s *sampler) checkDigests(found []secret) error {
	if s.of.Index == "" {
		return nil
	}
	cfg, err := blindindex.Of(s.of)
	if err != nil {
		return err
	}
	opened, indexed := 0, 0
	for _, one := range found {
		if one.plaintext == nil {
			continue
		}
		if opened++; one.digest == nil {
			continue
		}
		indexed++
		digests, err := s.digests.All(one.ring, s.of, one.plaintext())
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(digests, func(d []byte) bool { return slices.Equal(d, one.digest) }) {
			return fmt.Errorf("%w: it has another secret's digest: run rotate", blindindex.ErrBlindIndex)
		}
	}
	if cfg.Unique && opened > 0 && indexed == 0 {
		return fmt.Errorf("%w: none of the last %d secrets has a digest, so that nothing keeps them unique: run rotate",
			blindindex.ErrBlindIndex, opened)
	}
	return nil
}

func (db DB) newSampler(ring *keyring.Ring, of column.Column) *sampler {
	return &sampler{DB: db, ring: ring, of: db.named(of), stored: of}
}
