package rotate

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/credent-go/credent/internal/retry"
)

// span is a range of a table's rows, in the order of its primary key or, for a
// heap, in heap order.
type span struct {
	after, upTo any    // the key or [tid] before its first row, and its last one; nil for none
	since       string // only rows written since this [horizon]; "" for all

	// For a heap: only rows written before this horizon, "" for all;
	// transactions to skip; the snapshot, nil for the present; and the
	// approximate rows per block, 0 if unknown.
	before  string
	own     []int64
	moment  *moment
	density float64
}

// A sample of the keys that divide a table has sampledPerPart rows per part,
// and at least sampledAtLeast.
const (
	sampledPerPart = 50
	sampledAtLeast = 2000
)

// postgres adds a span's conditions to a query.
func (s span) postgres(t table, query *strings.Builder, args *[]any) {
	var where []string
	bound := func(operator string, key any) {
		if key == nil {
			return
		}
		var values []string
		for i, value := range keyValues(key) {
			*args = append(*args, value)
			values = append(values, fmt.Sprintf("$%d::text::%s", len(*args), t.keyTypes()[i]))
		}
		where = append(where, fmt.Sprintf("(%s) %s (%s)", strings.Join(t.keyColumns(), ", "), operator,
			strings.Join(values, ", ")))
	}
	bound(">", s.after)
	bound("<=", s.upTo)
	where = append(where, s.written(args)...)
	if len(where) > 0 {
		query.WriteString(" WHERE " + strings.Join(where, " AND "))
	}
}

// written returns the conditions on when a row was written, and by which
// transaction.
func (s span) written(args *[]any) (where []string) {
	compare := func(operator, with string) {
		if h, err := parseHorizon(with); err == nil && with != "" {
			*args = append(*args, h.xid())
			where = append(where, fmt.Sprintf("age(t.xmin) %s age($%d::text::xid)", operator, len(*args)))
		}
	}
	compare("<=", s.since)
	compare(">", s.before)
	if len(s.own) > 0 {
		*args = append(*args, xidArray(s.own))
		where = append(where, fmt.Sprintf("t.xmin NOT IN (SELECT unnest($%d::text::xid[]))", len(*args)))
	}
	return where
}

// keyTypes returns the types of the keyColumns.
func (t table) keyTypes() []string {
	if t.scoped {
		return []string{t.tenantType, t.keyType}
	}
	return []string{t.keyType}
}

// divide samples the table's blocks, which takes a few milliseconds for a table
// of any size.
func (p postgres) divide(ctx context.Context, t table, rows int64, parts int) ([]any, error) {
	if rows <= 0 || parts < 2 {
		return nil, nil
	}
	keys := t.onlyKeys()
	query := p.selectRows(keys)
	percent := 100 * float64(max(sampledAtLeast, sampledPerPart*parts)) / float64(rows)
	if percent < 100 {
		fmt.Fprintf(query, " TABLESAMPLE SYSTEM (%s)", strconv.FormatFloat(percent, 'f', -1, 64))
	}
	query.WriteString(" ORDER BY " + strings.Join(t.keyColumns(), ", "))
	sample, err := selectPage(ctx, p.db, keys, query.String(), nil, p.scanKey)
	if err != nil && retry.KindOf(err) == retry.Other && ctx.Err() == nil {
		return nil, nil // a table that can't be sampled is one part
	}
	return quantiles(sample, parts), err
}

// quantiles returns the last keys of equal parts, except the last part, which
// has none.
func quantiles(sample []row, parts int) (bounds []any) {
	parts = min(parts, len(sample))
	for i := 1; i < parts; i++ {
		bounds = append(bounds, sample[i*len(sample)/parts-1].key)
	}
	return bounds
}

// onlyKeys returns the table with only its keys to read.
func (t table) onlyKeys() table {
	t.columns, t.sources, t.extra = nil, nil, nil
	return t
}

// page compares the key with a text cast to the column's own type, so that its
// index and order apply.
func (p postgres) page(ctx context.Context, t table, s span, n int) ([]row, span, bool, error) {
	if t.heap {
		return p.heapPage(ctx, t, s, n)
	}
	query, args := p.selectRows(t), []any{n}
	s.postgres(t, query, &args)
	// Orders by the table's columns, which are indexed, not by the result's
	// columns, which are text.
	fmt.Fprintf(query, " ORDER BY %s LIMIT $1", strings.Join(t.keyColumns(), ", "))
	page, err := selectPage(ctx, p.db, t, query.String(), args, p.scanKey)
	return page, s.behind(page), len(page) == n, err
}

// behind returns the rest of a span in key order, after a page.
func (s span) behind(page []row) span {
	if len(page) > 0 {
		s.after = page[len(page)-1].key
	}
	return s
}

// page checks for a NULL key in a part that starts at the table's first row,
// because no bound would find it.
func (s sqlite) page(ctx context.Context, t table, of span, n int) ([]row, span, bool, error) {
	if of.after == nil && of.upTo != nil {
		var null bool
		err := s.db.QueryRowContext(ctx, fmt.Sprintf("SELECT EXISTS (SELECT 1 FROM %s AS t WHERE %s IS NULL)",
			t.quoted(), strings.Join(t.keyColumns(), " IS NULL OR "))).Scan(&null)
		if err != nil {
			return nil, of, false, err
		}
		if null {
			return nil, of, false, fmt.Errorf("%w: it is NULL in a row", ErrPrimaryKey)
		}
	}
	page, err := s.rows(ctx, t, of, fmt.Sprint(n))
	return page, of.behind(page), len(page) == n, err
}

// rows returns rows of a span up to a LIMIT.
func (s sqlite) rows(ctx context.Context, t table, of span, limit string) ([]row, error) {
	key := strings.Join(t.keyColumns(), ", ")
	var where []string
	var args []any
	for _, bound := range []struct {
		operator string
		key      any
	}{{">", of.after}, {"<=", of.upTo}} {
		if bound.key != nil {
			values := keyValues(bound.key)
			args = append(args, values...)
			where = append(where, fmt.Sprintf("(%s) %s (?%s)", key, bound.operator,
				strings.Repeat(", ?", len(values)-1)))
		}
	}
	query := s.selectRows(t)
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	return selectPage(ctx, s.db, t, query+" ORDER BY "+key+" LIMIT "+limit, args, s.scanKey)
}

// divide walks the keys' index.
func (s sqlite) divide(ctx context.Context, t table, rows int64, parts int) (bounds []any, err error) {
	var last any
	keys := t.onlyKeys()
	for range parts - 1 {
		row, err := s.rows(ctx, keys, span{after: last}, fmt.Sprintf("1 OFFSET %d", max(rows/int64(parts)-1, 0)))
		if err != nil || len(row) == 0 {
			return bounds, err
		}
		last = row[0].key
		bounds = append(bounds, last)
	}
	return bounds, nil
}

// encodeKey returns a row's key as text for decodeKey.
func encodeKey(key any) (string, error) {
	if key == nil {
		return "", nil
	}
	var texts []string
	for _, value := range keyValues(key) {
		switch value := value.(type) {
		case string:
			if utf8.ValidString(value) {
				texts = append(texts, "t"+value)
			} else { // SQLite allows invalid UTF-8
				texts = append(texts, "x"+hex.EncodeToString([]byte(value)))
			}
		case []byte:
			texts = append(texts, "b"+hex.EncodeToString(value))
		case int64:
			texts = append(texts, "i"+strconv.FormatInt(value, 10))
		case float64:
			texts = append(texts, "f"+strconv.FormatUint(math.Float64bits(value), 16))
		case tid:
			texts = append(texts, "c"+value.String())
		case share:
			texts = append(texts, "h"+strconv.FormatInt(int64(value), 10))
		default:
			return "", fmt.Errorf("%w: it is a %T", ErrPrimaryKey, value)
		}
	}
	encoded, err := json.Marshal(texts)
	return string(encoded), err
}

// decodeKey parses a text from encodeKey; nil for "".
func decodeKey(text string) (any, error) {
	if text == "" {
		return nil, nil
	}
	var texts []string
	if err := json.Unmarshal([]byte(text), &texts); err != nil {
		return nil, err
	}
	values := make([]any, len(texts))
	for i, tagged := range texts {
		if tagged == "" {
			return nil, fmt.Errorf("%w: a position has no type", ErrPrimaryKey)
		}
		var err error
		switch kind, text := tagged[0], tagged[1:]; kind {
		case 't':
			values[i] = text
		case 'x':
			var raw []byte
			raw, err = hex.DecodeString(text)
			values[i] = string(raw)
		case 'b':
			values[i], err = hex.DecodeString(text)
		case 'i':
			values[i], err = strconv.ParseInt(text, 10, 64)
		case 'f':
			var bits uint64
			bits, err = strconv.ParseUint(text, 16, 64)
			values[i] = math.Float64frombits(bits)
		case 'c':
			values[i], err = parseTID(text)
		case 'h':
			var n int64
			n, err = strconv.ParseInt(text, 10, 64)
			values[i] = share(n)
		default:
			err = fmt.Errorf("%w: a position is of no known type", ErrPrimaryKey)
		}
		if err != nil {
			return nil, err
		}
	}
	switch len(values) {
	case 1:
		return values[0], nil
	case 2:
		return scopedKey{values[0], values[1]}, nil
	}
	return nil, fmt.Errorf("%w: a position has %d values", ErrPrimaryKey, len(values))
}
