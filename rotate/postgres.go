package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/retry"
)

// postgres writes a page with one statement.
type postgres struct{ db *sql.DB }

func (postgres) maxWorkers() int { return math.MaxInt }

func (postgres) dialect() string { return dialect.Postgres }

func (p postgres) count(ctx context.Context, t table) (int64, error) { return countRows(ctx, p.db, t) }

func (p postgres) describe(ctx context.Context, t *table) error {
	var hidden sql.NullBool
	err := p.db.QueryRowContext(ctx, "SELECT row_security_active(to_regclass($1::text)::oid)", t.quoted()).Scan(&hidden)
	if err != nil {
		return err
	}
	if !hidden.Valid {
		return missing(nil)
	}
	if hidden.Bool {
		return ErrHidden
	}
	if err := p.describeTenant(ctx, t); errors.Is(err, sql.ErrNoRows) {
		t.tenant = ""
	} else if err != nil {
		return err
	}
	t.sources = make([]source, len(t.columns))
	for i, c := range t.columns {
		if _, _, _, err := p.columnType(ctx, t.quoted(), c.Index); errors.Is(err, sql.ErrNoRows) {
			t.columns[i].Index = ""
		} else if err != nil {
			return err
		}
		if t.sources[i], err = p.source(ctx, *t, i); errors.Is(err, sql.ErrNoRows) {
			return missing([]string{c.Name})
		} else if err != nil {
			return err
		}
	}
	// Excludes the columns that the index only includes. The length -1 keeps
	// character(8) from being printed as character, which is one character
	// long.
	keys, err := p.pairs(ctx, `SELECT a.attname, format_type(a.atttypid, -1) FROM pg_index i
		JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts-1])
		WHERE i.indisprimary AND i.indrelid = to_regclass($1::text) ORDER BY array_position(i.indkey::int2[], a.attnum)`, t.quoted())
	if err != nil {
		return err
	}
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i], t.keyType = key[0], key[1]
	}
	return t.setKey(names)
}

// pairs runs a query that returns two texts per row.
func (p postgres) pairs(ctx context.Context, query string, args ...any) (pairs [][2]string, err error) {
	rows, err := p.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var pair [2]string
		if err := rows.Scan(&pair[0], &pair[1]); err != nil {
			return nil, err
		}
		pairs = append(pairs, pair)
	}
	return pairs, rows.Err()
}

// selectRows returns the start of a query for rows.
func (postgres) selectRows(t table) *strings.Builder {
	var query strings.Builder
	fmt.Fprintf(&query, "SELECT t.%s::text", quote(t.key))
	if t.scoped {
		fmt.Fprintf(&query, ", t.%s::text", quote(t.tenant))
	}
	for i, c := range t.columns {
		fmt.Fprintf(&query, ", t.%s::text", quote(t.stored(i)))
		if c.Index != "" {
			fmt.Fprintf(&query, ", encode(t.%s, 'hex')", quote(c.Index))
		}
		if t.sources[i].expanded {
			fmt.Fprintf(&query, ", %s", t.sources[i].expr)
		}
	}
	if t.tenant != "" {
		fmt.Fprintf(&query, ", t.%s::text", quote(t.tenant))
	}
	for _, expression := range t.extra {
		fmt.Fprintf(&query, ", (%s)::text", expression)
	}
	fmt.Fprintf(&query, " FROM %s AS t", t.quoted())
	return &query
}

func (postgres) scanKey(key any) (string, any, error) {
	switch key := key.(type) {
	case string:
		return key, key, nil
	case []byte:
		return string(key), string(key), nil
	}
	return "", nil, fmt.Errorf("%w: it is a %T", ErrPrimaryKey, key)
}

func (p postgres) ofTenant(ctx context.Context, tx querier, t table, tenant string) ([]row, error) {
	cast, none := t.castTenant(tenant)
	if none {
		return nil, nil
	}
	query := p.selectRows(t)
	fmt.Fprintf(query, ` WHERE t.%s::text COLLATE "C" = $1::text`, quote(t.tenant))
	if cast != "" {
		fmt.Fprintf(query, " AND t.%s = $1%s", quote(t.tenant), cast)
	}
	query.WriteString(" FOR UPDATE")
	return selectPage(ctx, tx, t, query.String(), []any{tenant}, p.scanKey)
}

func (postgres) shred(ctx context.Context, tx querier, t table, r row, tokens []sql.NullString) error {
	where := fmt.Sprintf("%s = $1::text::%s", quote(t.key), t.keyType)
	if t.scoped {
		where = fmt.Sprintf("%s = $1::text::%s AND %s = $2::text::%s", quote(t.tenant), t.tenantType,
			quote(t.key), t.keyType)
	}
	return shred(ctx, tx, t, tokens, "$%d", where, keyValues(r.key))
}

func (p postgres) checkWritable(ctx context.Context) error { return retry.CheckWritable(ctx, p.db) }

// stored reads the rows of changes after a statement with a lost answer.
func (p postgres) stored(ctx context.Context, t table, changes []change) (map[string]bool, error) {
	byPlace := make(map[string]change, len(changes))
	for _, c := range changes {
		byPlace[t.place(c.row)] = c
	}
	var u update
	u.keys(t, changes)
	query := fmt.Sprintf("WITH %s %s JOIN u ON %s", u.source(), p.selectRows(t), strings.Join(u.where, " AND "))
	rows, err := selectPage(ctx, p.db, t, query, u.args, p.scanKey)
	found := make(map[string]bool)
	for _, r := range rows {
		if c, ok := byPlace[t.place(r)]; ok && c.isStored(r) {
			found[t.place(r)] = true
		}
	}
	return found, err
}
