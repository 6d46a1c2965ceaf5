package rotate

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/keyring"
)

// ErrUnknownTenant means that a tenant has neither a key nor a row, so the name
// is most likely wrong.
var ErrUnknownTenant = errors.New("no such tenant: it has no key and no row")

// Tenant is a tenant with a data key, or with one that was destroyed.
type Tenant struct {
	ID          string     `json:"tenant"`
	CreatedAt   time.Time  `json:"created_at"`   // UTC
	DestroyedAt *time.Time `json:"destroyed_at"` // UTC; nil if the key is there
}

// openKeys is openTenants for a database that must have the table.
func openKeys(ctx context.Context, db *sql.DB, s store, ring *engine.Ring) (*tenants, error) {
	keys, err := openTenants(ctx, db, s, ring)
	if err == nil && keys == nil {
		err = fmt.Errorf("rotate: %s: %w", tenantkey.Table, ErrNoTable)
	}
	return keys, err
}

// Destroyed is what [DestroyTenant] did.
type Destroyed struct {
	Tenant string    `json:"tenant"`
	At     time.Time `json:"destroyed_at"` // when the key was destroyed, perhaps by an earlier call; UTC
	Again  bool      `json:"again"`        // it was destroyed before
	Rows   int64     `json:"rows"`         // of the tenant
	// Secrets is the number of secrets in these rows, which nobody can read
	// now.
	Secrets int64 `json:"secrets"`
	// Overwritten is how many of them were not under the tenant's key, and were
	// overwritten.
	Overwritten int64 `json:"overwritten"`
	// Outlives names the columns with digests under the keyring, since the
	// schema looks them up across tenants. They are gone from the rows; in an
	// earlier copy, anyone with the keyring can test guesses.
	Outlives []string `json:"digests_outlive_key"`
}

// DestroyTenant destroys the data key of a tenant, so that its secrets can
// never be read: in the database, and in every copy of its tables that lacks
// the key. Its rows stay. It overwrites the tenant's secrets that aren't under
// its key, such as those stored before there was one or by a client without
// tenant keys. It is one transaction: all of it is done or nothing. It can be
// repeated, even for a tenant that never had a key.
//
// It doesn't reach copies that still have the key: backups, replicas that lag,
// the write-ahead log. Clients that have the key in memory lose it within
// [tenantkey.Lifetime]. Errors: [ErrUnknownTenant], [ErrNoTable], [ErrHidden],
// [ErrTrailRequired], and the database's own.
func DestroyTenant(
	ctx context.Context, db *sql.DB, keyRing *keyring.Keyring, tenant string, columns ...column.Column,
) (done *Destroyed, err error) {
	ring := (*engine.Ring)(keyRing)
	if ring.Primary() == nil {
		return nil, fmt.Errorf("rotate: %w", engine.ErrNoKey)
	}
	tables, s, err := open(ctx, db, columns, nil)
	if err != nil {
		return nil, err
	}
	if err := refuseExpanded(s.dialect(), tables, "encrypt it and apply the migration that drops it first",
		false); err != nil {
		return nil, fmt.Errorf("rotate: destroy the key: %w", err)
	}
	if _, err := openKeys(ctx, db, s, ring); err != nil {
		return nil, err
	}
	trail, err := trailOf(ctx, db, s)
	if err != nil {
		return nil, err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("rotate: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // has no effect after the commit
	d := &destruction{tx: tx, ring: ring, Destroyed: Destroyed{Tenant: tenant}}
	if err := d.do(ctx, tables, s); err != nil {
		return nil, fmt.Errorf("rotate: destroy the key: %w", err)
	}
	note := fmt.Sprintf("%d secrets, %d of them overwritten", d.Secrets, d.Overwritten)
	if d.Again {
		note += "; destroyed before"
	}
	if err := commit(ctx, tx, trail, audit.Entry{
		Action: audit.ActionDestroy, Tenant: tenant, Table: tenantkey.Table, Row: tenant, Rows: d.Rows, Note: note,
	}); err != nil {
		return nil, fmt.Errorf("rotate: destroy the key: %w", err)
	}
	return &d.Destroyed, nil
}

// destruction is the state of one DestroyTenant call.
type destruction struct {
	Destroyed
	tx   *sql.Tx
	ring *engine.Ring
	only *engine.Ring // the tenant's key alone; nil if there is none

	locate seal.Locator
}

func (d *destruction) do(ctx context.Context, tables []table, s store) error {
	now := time.Now().UTC().Truncate(time.Microsecond)
	known, err := d.readKey(ctx)
	if err != nil {
		return err
	}
	d.Outlives = []string{}
	for _, t := range tables {
		if t.tenant == "" {
			continue
		}
		for _, c := range t.columns {
			if c.Index != "" && c.AcrossTenants {
				d.Outlives = append(d.Outlives, c.String())
			}
		}
		if err := d.overwrite(ctx, t, s); err != nil {
			return fmt.Errorf("%s: %w", t.label(), err)
		}
	}
	if !known && d.Rows == 0 {
		return ErrUnknownTenant
	}
	if d.Again {
		return nil
	}
	d.At = now
	_, err = d.tx.ExecContext(ctx, "INSERT INTO "+tenantkey.Table+" (tenant, destroyed_at) VALUES ($1, $2) "+
		"ON CONFLICT (tenant) DO UPDATE SET wrapped = NULL, destroyed_at = excluded.destroyed_at", d.Tenant, now)
	return err
}

// readKey reports whether the tenant has a row in the key table. A key that
// doesn't open counts as missing: the secrets under it are overwritten.
func (d *destruction) readKey(ctx context.Context) (known bool, err error) {
	var (
		wrapped   sql.NullString
		destroyed sql.NullTime
	)
	// A write, so that the row is locked and SQLite's transaction starts as a
	// writer.
	if _, err := d.tx.ExecContext(ctx, "UPDATE "+tenantkey.Table+" SET tenant = tenant WHERE tenant = $1",
		d.Tenant); err != nil {
		return false, err
	}
	err = d.tx.QueryRowContext(ctx, "SELECT wrapped, destroyed_at FROM "+tenantkey.Table+" WHERE tenant = $1",
		d.Tenant).
		Scan(&wrapped, &destroyed)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, err
	}
	d.Again, d.At = destroyed.Valid, destroyed.Time.UTC()
	if wrapped.Valid {
		if key, _, err := tenantkey.Unwrap(d.ring, d.Tenant, wrapped.String); err == nil {
			d.only = engine.Of(key)
		}
	}
	return true, nil
}

// overwrite overwrites the secrets in the tenant's rows that aren't under the
// tenant's key, and all digests.
func (d *destruction) overwrite(ctx context.Context, t table, s store) error {
	rows, err := s.ofTenant(ctx, d.tx, t, d.Tenant)
	if err != nil {
		return err
	}
	d.Rows += int64(len(rows))
	for _, r := range rows {
		tokens, changed := make([]sql.NullString, len(t.columns)), false
		for i, stored := range r.values {
			changed = changed || t.columns[i].Index != "" && stored.Valid && !isVoid(r.indexes[i]) &&
				t.columns[i].Tenant != ""
			place := seal.Place{Column: t.columns[i], Tenant: r.tenant}
			if !stored.Valid || place.Column.Tenant == "" {
				continue
			}
			if d.Secrets++; d.needsKey(place, stored.String) {
				continue
			}
			token, err := unreadable()
			if err != nil {
				return err
			}
			d.Overwritten++
			tokens[i], changed = sql.NullString{String: token, Valid: true}, true
		}
		if changed {
			if err := s.shred(ctx, d.tx, t, r, tokens); err != nil {
				return err
			}
		}
	}
	return nil
}

// needsKey reports whether a secret can't be read without the tenant's key. If
// the key was destroyed earlier, a secret that the keyring doesn't open was
// under it.
func (d *destruction) needsKey(place seal.Place, stored string) bool {
	if d.Again {
		return isShredded(&d.locate, d.ring, place, stored)
	}
	return d.only != nil && isUnder(&d.locate, d.only, place, stored)
}

// shred runs the statement of store.shred. param formats a parameter's number;
// the first parameters are the row's key.
func shred(ctx context.Context, tx querier, t table, tokens []sql.NullString, param, where string, key []any) error {
	set, args := []string{}, key
	for i, c := range t.columns {
		if tokens[i].Valid {
			args = append(args, tokens[i].String)
			set = append(set, quote(c.Name)+" = "+fmt.Sprintf(param, len(args)))
		}
		if c.Index != "" && c.Tenant != "" {
			void, _ := hex.DecodeString(voidDigest().String)
			args = append(args, void)
			set = append(set, fmt.Sprintf("%s = CASE WHEN %s IS NULL THEN %[1]s ELSE %[3]s END", quote(c.Index),
				quote(c.Name), fmt.Sprintf(param, len(args))))
		}
	}
	_, err := tx.ExecContext(ctx, "UPDATE "+t.quoted()+" SET "+strings.Join(set, ", ")+" WHERE "+where, args...)
	return err
}
