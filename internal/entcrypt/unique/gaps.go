// Package unique keeps blind indexes complete, and unique ones unique: it
// stores missing digests of rows with a secret, and claims a secret's digests
// under all keys.
package unique

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/entcrypt/owner"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
)

// ErrNeedsTx means that a statement needs other statements in the same
// transaction, but isn't in one.
var ErrNeedsTx = errors.New("run it in a transaction")

var errAbsent = errors.New("the secret is absent")

// Rows maintains the blind indexes of one statement's columns.
type Rows struct {
	Ctx     context.Context //nolint:containedctx // lives for one statement
	Next    dialect.ExecQuerier
	Read    func(query string, args []any) (*entsql.Rows, error) // gives secrets their keys
	Keys    func(tenant string) (*tenantkey.Sealing, error)
	Policy  *seal.Policy
	Dialect string
	InTx    bool
	Memory  *Memory
	Tables  *owner.Tables

	gaps map[string][]gap // by table and column
}

// maxGaps is the number of rows without a digest that a statement reads.
// Package rotate fills in more.
const maxGaps = 1000

// Memory remembers which columns recently had rows without a digest. The zero
// value is ready for use. It is safe for concurrent use.
type Memory struct{ seen sync.Map }

// gapsMemory is how long a column's lookups query for such rows first, rather
// than fail and run again.
const gapsMemory = 10 * time.Second

// Seen reports whether the column recently had such rows.
func (g *Memory) Seen(name string) bool {
	at, ok := g.seen.Load(name)
	return ok && time.Since(at.(time.Time)) < gapsMemory
}

// See notes that the column has such rows.
func (g *Memory) See(name string) { g.seen.Store(name, time.Now()) }

// gap is a row without a digest.
type gap struct {
	stored, tenant string
	neutral        []byte // digest under the keyring's primary key
}

// ForLookup makes sure that no row with the secret lacks its digest. On
// Postgres, outside a transaction, it returns armed: the statement itself finds
// such rows, unless there were some recently.
func (r *Rows) ForLookup(l *blindindex.Digests, owner seal.Owner) (armed bool, err error) {
	keys, err := r.Policy.DigestKeys(l.Column(), owner)
	if err != nil {
		return false, l.Column().Wrap("look up", err)
	}
	of, table, steps, err := l.Claim(r.Policy.Digests, keys)
	switch {
	case err != nil:
		return false, of.Wrap("look up", err)
	case r.Dialect == dialect.Postgres && !r.InTx && !r.Memory.Seen(of.String()):
		return true, nil
	}
	w := Wanted{neutral: steps[len(steps)-1]}
	if r.Policy.DigestsOfTenant(&of) {
		ring, err := r.Policy.Keyring()
		if err == nil {
			w.In = In{true, owner.Tenant}
			w.neutral, err = l.Neutral(r.Policy.Digests, ring)
		}
		if err != nil {
			return false, of.Wrap("look up", err)
		}
	}
	matched, err := r.fill(of, table, w, steps)
	if matched && err == nil {
		err = Claim{Of: of, Table: table, Steps: steps, In: w.In}.Run(r.Ctx, r.Next)
	}
	if err != nil {
		return false, of.Wrap("look up", err)
	}
	return false, nil
}

// fill stores the first step in rows that have the secret but no digest, and
// reports whether there are any. Several steps need a transaction.
func (r *Rows) fill(of column.Column, table string, w Wanted, steps [][]byte) (matched bool, err error) {
	gaps, err := r.findGaps(of, table)
	if err != nil {
		return false, err
	}
	for _, g := range gaps {
		if !bytes.Equal(g.neutral, w.neutral) || w.OfTenant && g.tenant != w.Tenant {
			continue
		}
		if (len(steps) > 1 || w.OfTenant) && !r.InTx { // it uses its server's key of the tenant
			return true, ErrNeedsTx
		}
		matched = true
		if err := r.fillGap(of, table, g.stored, steps[0], w.In); err != nil {
			return true, fmt.Errorf("%w: one has this secret and cannot be filled in: %w", blindindex.ErrNotFilled, err)
		}
	}
	return matched, nil
}

// findGaps returns the rows without a digest that have a secret that opens. It
// queries once for each statement.
func (r *Rows) findGaps(of column.Column, table string) (gaps []gap, err error) {
	key := table + "\x00" + of.Name
	if gaps, ok := r.gaps[key]; ok {
		return gaps, nil
	}
	what := fmt.Sprintf("credent_gap.%s, credent_gap.%s", column.QuoteName(of.Key()), column.QuoteName(of.Name))
	if r.Policy.IsScoped(&of) {
		what += ", credent_gap." + column.QuoteName(of.Tenant)
	}
	found, err := r.readSecrets(of, blindindex.Gaps(of, table, what)+fmt.Sprint(" LIMIT ", maxGaps+1), nil)
	switch {
	case err != nil:
		return nil, err
	case len(found) > 0:
		r.Memory.See(of.String())
	}
	if len(found) > maxGaps {
		return nil, fmt.Errorf("%w: there are more than %d", blindindex.ErrNotFilled, maxGaps)
	}
	ring, err := r.Policy.Keyring()
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		if f.err != nil {
			continue // it can't be compared with any secret
		}
		digest, err := r.Policy.Digests.Primary(ring, of, f.plaintext)
		if err != nil {
			return nil, err
		}
		gaps = append(gaps, gap{f.stored, f.tenant, digest})
	}
	if r.gaps == nil {
		r.gaps = make(map[string][]gap)
	}
	r.gaps[key] = gaps
	return gaps, nil
}

// fillGap stores the digest of a stored secret. It compares stored values by
// SHA-256, so that plaintext doesn't get into the server's log.
func (r *Rows) fillGap(of column.Column, table, stored string, digest []byte, in In) error {
	is := "CAST(" + column.QuoteName(of.Name) + " AS TEXT)"
	if r.Dialect == dialect.Postgres {
		is = fmt.Sprintf(`encode(sha256(convert_to(%s, 'UTF8')), 'hex') = $2`, is)
		sum := sha256.Sum256([]byte(stored))
		stored = hex.EncodeToString(sum[:])
	} else {
		is += " COLLATE BINARY = $2"
	}
	index := column.QuoteName(of.Index)
	also, args := in.where(of, []any{digest, stored})
	return r.Next.Exec(r.Ctx, fmt.Sprintf("UPDATE %s SET %s = $1 WHERE %[2]s IS NULL AND %s%s", table, index, is,
		also), args, nil)
}

// storedSecret is a row's secret.
type storedSecret struct {
	id                        any
	stored, tenant, plaintext string
	err                       error // why the secret doesn't open
}

// readSecrets runs a query for rows' primary keys, secrets and, if keys depend
// on it, tenants.
func (r *Rows) readSecrets(of column.Column, query string, args []any) (all []storedSecret, err error) {
	rows, err := r.Read(query, args)
	if err != nil {
		return nil, err
	}
	var targets []fieldcrypt.Secret
	for rows.Next() {
		var (
			id     any
			tenant sql.NullString
			target = fieldcrypt.NewTarget(column.OpenerOf(&of))
			dest   = []any{&id, target}
		)
		if r.Policy.IsScoped(&of) {
			dest = append(dest, &tenant)
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		all = append(all, storedSecret{id: id, tenant: tenant.String})
		targets = append(targets, target.Secret())
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil { // Close reads the tenants' keys
		return nil, err
	}
	for i, secret := range targets {
		in := fieldcrypt.Look(secret)
		if in == nil {
			all[i].err = errAbsent
			continue
		}
		all[i].stored = in.Text()
		all[i].plaintext, all[i].err = in.Opener().(interface {
			Check(stored string, row any) (string, error)
		}).Check(in.Text(), in.Row())
	}
	return all, nil
}
