package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/states"
)

// plainOp says what an operation does with plaintext.
type plainOp int

const (
	notPlain plainOp = iota
	fromPlaintext
	toPlaintext
)

// makesKeys reports whether the operation puts tokens under tenants' keys.
func (cfg *Config) makesKeys(tables []table) bool {
	return slices.ContainsFunc(tables, func(t table) bool {
		return slices.ContainsFunc(t.columns,
			func(c column.Column) bool { return cfg.States.Given(&c).TenantKeys >= states.Write })
	})
}

// tenants reads the tenants' keys. It is nil for a database without them.
type tenants struct {
	db    *sql.DB
	on    dialect.ExecQuerier // the same pool
	ring  *engine.Ring
	table table // the key table, to be processed like others
	used  atomic.Bool
}

// openTenants returns nil if the key table is missing.
func openTenants(ctx context.Context, db *sql.DB, s store, ring *engine.Ring) (*tenants, error) {
	t := table{name: tenantkey.Table, tenant: tenantkey.Tenant, columns: []column.Column{{
		Table: tenantkey.Table, Name: tenantkey.Column, Size: tenantkey.Size,
		ID: tenantkey.Tenant, Tenant: tenantkey.Tenant,
	}}}
	err := s.describe(ctx, &t)
	if errors.Is(err, ErrNoTable) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("rotate: %s: %w", t.name, err)
	}
	return &tenants{db: db, on: entsql.Conn{ExecQuerier: db}, ring: ring, table: t}, nil
}

// any reports whether any tenant has a key. Most databases have none, and then
// pages need no further query.
func (t *tenants) any(ctx context.Context) (bool, error) {
	if t.used.Load() {
		return true, nil
	}
	var any bool
	if err := t.db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+quote(t.table.name)+")").
		Scan(&any); err != nil {
		return false, err
	}
	if any {
		t.used.Store(true)
	}
	return any, nil
}

// of returns the keys of a page's tenants, as of a snapshot, or currently for
// nil.
func (t *tenants) of(ctx context.Context, page []row, at *moment) (keys map[string]tenantkey.Key, err error) {
	if t == nil {
		return nil, nil
	}
	if any, err := t.any(ctx); !any || err != nil {
		return nil, err
	}
	var names []string
	seen := make(map[string]bool)
	for _, r := range page {
		if r.tenant.Valid && !seen[r.tenant.String] {
			seen[r.tenant.String] = true
			names = append(names, r.tenant.String)
		}
	}
	if at == nil {
		return tenantkey.Read(ctx, t.on, t.ring, names)
	}
	err = at.read(ctx, t.db, func(on querier) (err error) {
		keys, err = tenantkey.Read(ctx, entsql.Conn{ExecQuerier: on}, t.ring, names)
		return err
	})
	return keys, err
}

// keysOf returns the keys of a page's tenants. It creates missing keys if
// everything has to be under one.
func (p *pass) keysOf(ctx context.Context, page []row) (map[string]tenantkey.Key, error) {
	if p.isOfKeys() {
		return nil, nil
	}
	if p.plain == toPlaintext || p.cfg.DryRun || !p.cfg.makesKeys([]table{p.table}) {
		return p.keys.of(ctx, page, nil)
	}
	p.keys.used.Store(true)
	found, err := p.keys.of(ctx, page, nil)
	if err != nil {
		return nil, err
	}
	made := false
	for tenant, key := range found {
		if key == (tenantkey.Key{}) {
			made = true
			if err := tenantkey.Make(ctx, p.keys.on, p.ring, tenant); err != nil {
				return nil, err
			}
		}
	}
	if !made {
		return found, nil
	}
	return p.keys.of(ctx, page, nil)
}

// isOfKeys reports whether this is the table of tenants' keys.
func (p *pass) isOfKeys() bool { return p.table.isOfKeys() }

// wrappedCell computes the new value of a tenant's wrapped key.
func (p *pass) wrappedCell(stored sql.NullString, tenant string) (cell, error) {
	if !stored.Valid {
		return cell{shredded: true}, nil
	}
	wrapped, changed, err := rewrap(p.ring, tenant, stored.String)
	if err != nil || !changed {
		return cell{}, err
	}
	return cell{changed: true, value: sql.NullString{String: wrapped, Valid: true}}, nil
}

// placeKeys holds the keys for a value in a location.
type placeKeys struct {
	ring     *engine.Ring // opens the value; its primary key is the one to encrypt with
	own      bool         // the primary key is the tenant's own
	shredded bool         // the tenant's key was destroyed
}

// keysAt returns the keys for a value in a location.
func (p *pass) keysAt(
	stored sql.NullString, place seal.Place, keys map[string]tenantkey.Key,
) (placeKeys, error) {
	bare := placeKeys{ring: p.ring}
	if place.Column.Tenant == "" || !place.Tenant.Valid {
		return bare, nil
	}
	switch key := keys[place.Tenant.String]; {
	case errors.Is(key.Err, tenantkey.ErrShredded):
		if p.plain == fromPlaintext && stored.Valid && !fernet.IsToken(stored.String) {
			return placeKeys{}, key.Err // plaintext needs no key, but is left to a person
		}
		bare.shredded = fernet.IsToken(stored.String) || p.plain != toPlaintext
		return bare, nil
	case key.Err != nil && (!stored.Valid || isUnder(&p.locate, p.ring, place, stored.String)):
		return bare, nil
	case key.Err != nil:
		return placeKeys{}, key.Err
	case key.Data != nil:
		return p.keysWith(key.Data, stored, place)
	}
	// A dry run uses a throwaway key.
	if p.plain != toPlaintext && p.cfg.DryRun && p.cfg.States.Given(&place.Column).TenantKeys >= states.Write {
		data, err := fernet.ParseKey(fernet.GenerateKey())
		if err != nil {
			return placeKeys{}, err
		}
		return p.keysWith(data, stored, place)
	}
	return bare, nil
}

// keysWith returns the keys if the tenant has one. It returns an error for a
// token under the keyring if tenants' keys are required.
func (p *pass) keysWith(data *fernet.Key, stored sql.NullString, place seal.Place) (placeKeys, error) {
	state := p.cfg.States.Given(&place.Column).TenantKeys
	switch own := p.rings.of(p.ring, data, alone); {
	case p.plain == toPlaintext:
	case state >= states.Write:
		if state == states.Require && stored.Valid && fernet.IsToken(stored.String) &&
			isUnder(&p.locate, p.ring, place, stored.String) {
			return placeKeys{}, seal.ErrUnderKeyring
		}
		return placeKeys{ring: p.rings.of(p.ring, data, first), own: true}, nil
	case state == states.Unset:
		if stored.Valid && isUnder(&p.locate, own, place, stored.String) {
			return placeKeys{ring: own, own: true}, nil
		}
	}
	return placeKeys{ring: p.rings.of(p.ring, data, last)}, nil
}

// isUnder reports whether a keyring opens a token in its location.
func isUnder(l *seal.Locator, ring *engine.Ring, place seal.Place, token string) bool {
	_, err := l.OpenAt(ring, place, token)
	return err == nil
}

// shreddedCell computes the new value of a secret of a tenant with a destroyed
// key. If the secret can still be read, it is overwritten and its digest
// is cleared, unless the operation isn't about keys.
func (p *pass) shreddedCell(stored sql.NullString, place seal.Place, index sql.NullString) (cell, error) {
	c := cell{shredded: stored.Valid, index: index}
	if place.Column.Index != "" && (!stored.Valid && index.Valid || stored.Valid && !isVoid(index)) {
		if c.changed, c.index = true, (sql.NullString{}); stored.Valid {
			c.index = voidDigest()
		}
	}
	if p.plain != notPlain {
		return cell{shredded: stored.Valid}, nil
	}
	if stored.Valid && !isShredded(&p.locate, p.ring, place, stored.String) {
		token, err := unreadable()
		if err != nil {
			return cell{}, err
		}
		c.changed, c.value = true, sql.NullString{String: token, Valid: true}
	}
	return c, nil
}

// isShredded reports whether a value stored for a tenant with a destroyed key
// is a token that the keyring doesn't open.
func isShredded(l *seal.Locator, ring *engine.Ring, place seal.Place, stored string) bool {
	_, err := l.OpenAt(ring, place, stored)
	return errors.Is(err, fernet.ErrUnknownKey)
}
