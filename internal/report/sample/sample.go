// Package sample opens the secrets of some rows of a table, and counts them by
// key.
package sample

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/report"
	"github.com/credent-go/credent/rotate"
)

// page is the number of rows opened between two Progress calls.
const page = 1000

// spans is the number of equal ranges that a sample on SQLite divides a table
// into.
const spans = 50

// Config says what to sample.
type Config struct {
	DB       *sql.DB
	Postgres bool
	Columns  []column.Column // columns of one table
	From     string          // the table's name as SQL
	Rows     report.Count    // rows in the table
	Want     int64           // rows to examine
	Within   time.Duration   // limit of one query
	Ring     *keyring.Ring   // nil to inspect tokens without opening them
	Progress func(done int64)
	// Saw, if not nil, is called for each opened secret with its key and the
	// time of encryption.
	Saw func(under string, at time.Time)
}

// Taken is the result of Take.
type Taken struct {
	Rows    int64 // rows examined
	Whole   bool  // these are all of the table's rows
	Columns []report.Sample
}

// Take opens the secrets of some rows: all rows if there are no
// more than wanted, random pages on Postgres, and rows at equal distances on
// SQLite. It holds one query's rows in memory, about as many as wanted.
func Take(ctx context.Context, cfg Config) (Taken, error) {
	s := &sampler{Config: cfg, on: entsql.Conn{ExecQuerier: cfg.DB}}
	for range cfg.Columns {
		s.taken.Columns = append(s.taken.Columns, report.Sample{Under: map[string]int64{}})
	}
	whole := cfg.Rows.Exact && cfg.Rows.N <= cfg.Want
	var err error
	switch {
	case whole:
		err = s.read(ctx, "")
	case cfg.Postgres:
		percent := 100.0
		if cfg.Rows.N > 0 {
			percent = min(100, 100*float64(cfg.Want)/float64(cfg.Rows.N))
		}
		// The number of rows per page varies.
		err = s.read(ctx, fmt.Sprintf(" TABLESAMPLE SYSTEM (%.8f) LIMIT %d", percent, 3*cfg.Want))
	default:
		err = s.spread(ctx)
	}
	if err == nil && s.taken.Rows == 0 && !whole {
		err = errors.New("credent: the sample had no row")
	}
	s.taken.Whole = whole && err == nil
	for i := range s.taken.Columns {
		s.taken.Columns[i].Opened = cfg.Ring != nil && err == nil
	}
	return s.taken, err
}

// sampler is the state of one Take call.
type sampler struct {
	Config
	on     dialect.ExecQuerier
	locate seal.Locator
	taken  Taken
}

// row is a stored row.
type row struct {
	values []sql.NullString
	tenant sql.NullString
}

// spread reads the same number of rows from each range of the table.
func (s *sampler) spread(ctx context.Context) error {
	var first, last int64
	err := s.DB.QueryRowContext(ctx, "SELECT coalesce(min(rowid), 0), coalesce(max(rowid), 0) FROM "+s.From).
		Scan(&first, &last)
	if err != nil {
		return err
	}
	step := max((last-first)/spans+1, 1)
	for from := first; from <= last && from >= first; from += step {
		err := s.read(ctx, fmt.Sprintf(" WHERE rowid >= %d AND rowid < %d ORDER BY rowid LIMIT %d", from, from+step,
			max(s.Want/spans, 1)))
		if err != nil {
			return err
		}
	}
	return nil
}

// read opens the secrets of a query's rows.
func (s *sampler) read(ctx context.Context, which string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, s.Within)
	defer cancel()
	all, err := s.query(ctx, which)
	for err == nil && len(all) > 0 {
		n := min(page, len(all))
		err = s.open(ctx, all[:n])
		if all = all[n:]; s.Progress != nil {
			s.Progress(s.taken.Rows)
		}
	}
	return err
}

// query returns the rows all at once: the pool may have only one connection,
// which loading tenants' keys needs.
func (s *sampler) query(ctx context.Context, which string) (all []row, err error) {
	var names []string
	for _, c := range s.Columns {
		names = append(names, column.QuoteName(c.Name))
	}
	tenant := "NULL"
	if name := s.Columns[0].Tenant; name != "" {
		tenant = "CAST(" + column.QuoteName(name) + " AS text)"
	}
	rows, err := s.DB.QueryContext(ctx, "SELECT "+strings.Join(names, ", ")+", "+tenant+" FROM "+s.From+which)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		r := row{values: make([]sql.NullString, len(names))}
		dest := []any{}
		for i := range r.values {
			dest = append(dest, &r.values[i])
		}
		if err := rows.Scan(append(dest, &r.tenant)...); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// open counts the rows' secrets by key.
func (s *sampler) open(ctx context.Context, rows []row) (err error) {
	var names []string
	seen := make(map[string]bool)
	for _, r := range rows {
		if r.tenant.Valid && !seen[r.tenant.String] {
			seen[r.tenant.String] = true
			names = append(names, r.tenant.String)
		}
	}
	keys := map[string]tenantkey.Key{}
	if s.Ring != nil && !s.isOfKeys() {
		if keys, err = tenantkey.Read(ctx, s.on, s.Ring, names); err != nil {
			return err
		}
	}
	for _, r := range rows {
		s.taken.Rows++
		for i, c := range s.Columns {
			if into := &s.taken.Columns[i]; r.values[i].Valid {
				into.Secrets++
				s.add(into, r.values[i].String, seal.Place{Column: c, Tenant: r.tenant}, keys)
			}
		}
	}
	return nil
}

func (s *sampler) isOfKeys() bool { return s.Columns[0].Table == tenantkey.Table }

// add counts one secret.
func (s *sampler) add(into *report.Sample, token string, p seal.Place, keys map[string]tenantkey.Key) {
	if s.Ring == nil {
		if !fernet.IsToken(token) {
			into.Under[rotate.UnderNone]++
		}
		return
	}
	under, opened, bound := s.under(token, p, keys)
	into.Under[under]++
	if bound {
		into.Bound++
	}
	if at, ok := tokenTime(token); ok && opened && s.Saw != nil {
		s.Saw(under, at)
	}
}

// under returns the key that a secret is under, or why no key opens it.
func (s *sampler) under(token string, p seal.Place, keys map[string]tenantkey.Key) (under string, opened, bound bool) {
	if s.isOfKeys() {
		_, key, err := tenantkey.Unwrap(s.Ring, p.Tenant.String, token)
		return name(key, err), err == nil, false
	}
	tenant := p.TenantKey(keys)
	if tenant.Data != nil {
		if o, err := s.locate.OpenAt(keyring.Of(tenant.Data), p, token); err == nil {
			return rotate.UnderTenantKey, true, o.Bound
		}
	}
	o, err := s.locate.OpenAt(s.Ring, p, token)
	if errors.Is(tenant.Err, tenantkey.ErrShredded) {
		if errors.Is(err, fernet.ErrUnknownKey) {
			return rotate.UnderDestroyed, false, false
		}
		return rotate.UnderReadable, false, false
	}
	return name(o.Key, err), err == nil, o.Bound
}

func name(key *fernet.Key, err error) string {
	switch {
	case err == nil:
		return key.ID()
	case errors.Is(err, fernet.ErrNotEncrypted):
		return rotate.UnderNone
	case errors.Is(err, fernet.ErrUnknownKey):
		return rotate.UnderUnknown
	}
	return rotate.UnderDamaged
}

// tokenTime returns the time of a token that was opened. It is in the 8 bytes
// after the version (Fernet spec, "Token Format").
func tokenTime(token string) (at time.Time, ok bool) {
	const characters = 12 // 9 bytes
	if len(token) < characters {
		return at, false
	}
	head, err := base64.URLEncoding.DecodeString(token[:characters])
	if err != nil {
		return at, false
	}
	seconds := binary.BigEndian.Uint64(head[1:])
	if seconds > math.MaxInt32*100 {
		return at, false
	}
	return time.Unix(int64(seconds), 0).UTC(), true
}
