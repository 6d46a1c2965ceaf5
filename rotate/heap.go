package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A run reads a plain Postgres table in heap order, because keys such as random
// UUIDs aren't stored in order: in key order, nearly every row would need
// another block to be read, changed and evicted from the cache just for that
// row.
//
// Rows move. An update writes a new version of the row, perhaps to a block that
// the pass has already read. So a pass in heap order only covers the versions
// that existed when it began. Each of them stays in its block until somebody
// changes the row, and the new version then belongs to a transaction after the
// pass's horizon. VACUUM FULL and similar commands move versions, but into
// another file, which invalidates the horizon; see [horizon].
//
// So later passes read what was written since the first pass began. Each later
// pass reads a snapshot, which contains every row exactly once. The run ends
// when a snapshot has nothing to rewrite. At the moment of that snapshot, each
// row was as required, and a row that moves later keeps its content.
//
// Later passes skip the run's own writes, or they would read every row again.
// The rows of one of our transactions need no second look if it wrote only rows
// that nobody had changed in any column since we read them, so that it copied
// only values we had examined, and if no trigger changed them; see
// postgres.writeRead. We record that transaction's number. A later change to
// such a row creates a version with another number.
//
// The pass over the heap leaves rows written since it began to the snapshots,
// so that nothing is read twice. After the transaction counter has wrapped
// around, it reads everything, because a very old version may have a new
// transaction's number, and a snapshot could mistake it for one of ours.

// tid is the location of a row's version in its heap. As a position, it is the
// last processed version.
type tid struct {
	block int64
	item  int
}

// String returns what parseTID reads.
func (t tid) String() string { return fmt.Sprintf("(%d,%d)", t.block, t.item) }

func parseTID(text string) (t tid, err error) {
	block, item, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(text, "("), ")"), ",")
	if t.block, err = strconv.ParseInt(block, 10, 64); err == nil {
		t.item, err = strconv.Atoi(item)
	}
	if !ok || err != nil {
		return tid{}, errors.New("rotate: a position is in no block")
	}
	return t, nil
}

// share is the end of a part of a heap, counted in shares of the heap's current
// size. Heaps grow, even through the previous pass.
type share int64

const shares = 1 << 20

func (s share) of(blocks int64) tid {
	whole, rest := blocks/shares, blocks%shares // avoids an overflow
	return tid{block: whole*int64(s) + rest*int64(s)/shares}
}

// divideHeap returns the ends of equal parts, without the last part's.
func divideHeap(parts int) (bounds []any) {
	for i := 1; i < parts; i++ {
		bounds = append(bounds, share(int64(i)*shares/int64(parts)))
	}
	return bounds
}

// Extra expressions read with a heap's rows.
const (
	rowTID     = iota // location of the version
	rowVersion        // the transaction that wrote it
)

// asHeap returns the table for reading in heap order.
func (t table) asHeap() table {
	t.heap, t.extra = true, []string{rowTID: "t.ctid", rowVersion: "t.xmin"}
	return t
}

// position returns a row's position in the order in which the table is read.
func (t table) position(r row) (any, error) {
	if !t.heap {
		return r.key, nil
	}
	return parseTID(r.extra[rowTID].String)
}

// A page is read from as many blocks as it probably needs, plus a few. If rows
// are sparse, as among dead rows, the number of blocks grows up to blocksPerRow
// for each row of the page.
const (
	densityAtFirst = 8
	blocksMore     = 1.06
	blocksPerRow   = 16
)

// window returns the number of blocks expected to hold n rows.
func (s span) window(n int) int64 {
	density := s.density
	if density == 0 {
		density = densityAtFirst
	}
	return int64(max(1, min(math.Ceil(float64(n)*blocksMore/density), float64(n*blocksPerRow))))
}

// heapPage reads the rows of some blocks by a TID range scan.
func (p postgres) heapPage(ctx context.Context, t table, s span, n int) ([]row, span, bool, error) {
	after, end := s.after.(tid), s.upTo.(tid)
	if after.block >= end.block {
		return nil, s, false, nil
	}
	upTo := tid{block: min(end.block, after.block+s.window(n))}
	query, args := p.heapQuery(t, s, n, after, upTo)
	var page []row
	read := func(on querier) (err error) {
		page, err = selectPage(ctx, on, t, query, args, p.scanKey)
		return err
	}
	var err error
	if s.moment != nil {
		err = s.moment.read(ctx, p.db, read)
	} else {
		err = read(p.db)
	}
	if err != nil {
		return nil, s, false, err
	}
	s.after = upTo
	if len(page) == n {
		if s.after, err = t.position(page[n-1]); err != nil {
			return nil, s, false, err
		}
	}
	blocks := max(1, s.after.(tid).block-after.block)
	if s.density = float64(len(page)) / float64(blocks); s.density == 0 {
		s.density = 1.0 / blocksPerRow
	}
	return page, s, s.after.(tid).block < end.block, nil
}

// writesAlone is SQL that reports whether an UPDATE of a table writes only its
// own rows. Its parameter is the number of the argument with the table's name.
// Other triggers and rules may write more in the same transaction, such as a
// copy of the old row. Creating one waits for the lock of the UPDATE that asks.
const writesAlone = `(SELECT NOT c.relhasrules AND NOT EXISTS (
		SELECT FROM pg_trigger AS g JOIN pg_proc AS f ON f.oid = g.tgfoid
		WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgtype & 16 > 0 AND f.proname NOT LIKE 'credent\_%%')
	FROM pg_class AS c WHERE c.oid = to_regclass($%d::text))`

func (p postgres) heapQuery(t table, s span, n int, after, upTo tid) (query string, args []any) {
	q, args := p.selectRows(t), []any{n, after.String(), upTo.String()}
	where := append([]string{"t.ctid > $2::text::tid", "t.ctid <= $3::text::tid"}, s.written(&args)...)
	q.WriteString(" WHERE " + strings.Join(where, " AND ") + " ORDER BY t.ctid LIMIT $1")
	return q.String(), args
}

// xidArray returns transactions in the form that Postgres stores in rows.
func xidArray(list []int64) string {
	texts := make([]string, len(list))
	for i, n := range list {
		texts[i] = horizon{transaction: n}.xid()
	}
	return "{" + strings.Join(texts, ",") + "}"
}

// writeRead writes rows that nobody has changed in any column since they were
// read. It finds them by location, without an index, and records the
// transaction. If other rows remain, it writes them as update does in any
// table, without recording the transaction, because a column that we don't
// write may differ from what we read.
func (p postgres) writeRead(ctx context.Context, t table, changes []change) (done written, err error) {
	var u update
	u.row(t, changes)
	tids, versions := make([]string, len(changes)), make([]string, len(changes))
	for i, c := range changes {
		tids[i], versions[i] = c.extra[rowTID].String, c.extra[rowVersion].String
	}
	u.where = append(u.where, "t.ctid = "+u.addAs("tid", "tid", nullStrings(tids)),
		"t.xmin = "+u.addAs("version", "xid", nullStrings(versions)))
	// RETURNING returns what the row's triggers produced.
	u.args = append(u.args, t.quoted())
	query := fmt.Sprintf("WITH %s, w AS (%s RETURNING coalesce(%s, false) AS kept) "+
		"SELECT count(*), coalesce(bool_and(kept) AND "+writesAlone+", false), txid_current() FROM w",
		u.source(), u.statement(t), strings.Join(u.kept, " AND "), len(u.args))
	var kept bool
	err = p.locked(ctx, t, changes, func(on querier) error {
		return on.QueryRowContext(ctx, query, u.args...).Scan(&done.rows, &kept, &done.own)
	})
	if !kept {
		done.own = 0
	}
	if err != nil || done.rows == int64(len(changes)) {
		return done, err
	}
	n, err := p.update(ctx, t, changes)
	done.rows += n
	return done, err
}

// stuck counts rows that still have an old value, because a trigger keeps it or
// a tenant's key is gone. A later snapshot can't show them, because they
// weren't written since.
func (p postgres) stuck(ctx context.Context, t table, changes []change, refused []refusal) (n int64, err error) {
	known := make(map[string]bool)
	for _, r := range refused {
		known[t.place(r.row)] = true
	}
	changes = slices.DeleteFunc(slices.Clone(changes), func(c change) bool { return known[t.place(c.row)] })
	var u update
	u.keys(t, changes)
	for i := range t.columns {
		u.column(t, i, changes)
	}
	err = p.db.QueryRowContext(ctx, fmt.Sprintf("WITH %s SELECT count(*) FROM %s AS t JOIN u ON %s", u.source(),
		t.quoted(), strings.Join(u.where, " AND ")), u.args...).Scan(&n)
	return n, err
}

func nullStrings(list []string) []sql.NullString {
	all := make([]sql.NullString, len(list))
	for i, text := range list {
		all[i] = sql.NullString{String: text, Valid: true}
	}
	return all
}

// maxOwn limits the transactions remembered per part because their rows need no
// second look. They are stored as text after a position. Rows of further
// transactions are read once more.
const maxOwn = 4096

// mark appends transactions to a position, each as the difference from the
// previous one.
func mark(position string, own []int64) string {
	if len(own) == 0 {
		return position
	}
	var text strings.Builder
	text.WriteString(position)
	last := int64(0)
	for _, n := range own {
		text.WriteString(" " + strconv.FormatInt(n-last, 36))
		last = n
	}
	return text.String()
}

// cutMark is the inverse of mark. A position ends with a parenthesis.
// Unreadable marks are ignored.
func cutMark(text string) (position string, own []int64) {
	i := strings.LastIndexByte(text, ']') + 1
	last := int64(0)
	for _, distance := range strings.Fields(text[i:]) {
		n, err := strconv.ParseInt(distance, 36, 64)
		if err != nil {
			return text[:i], nil
		}
		last += n
		own = append(own, last)
	}
	return text[:i], own
}

// addOwn adds transactions in order.
func addOwn(own, more []int64) []int64 {
	for _, n := range more {
		if i, found := slices.BinarySearch(own, n); !found && len(own) < maxOwn {
			own = slices.Insert(own, i, n)
		}
	}
	return own
}
