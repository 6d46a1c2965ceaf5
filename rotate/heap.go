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

// A plain table of Postgres is gone through in the order of its heap, since
// keys such as random UUIDs have none: by them, each row would be in another
// block, which is read, changed and thrown out of the cache for it alone.
//
// Rows move. Whoever changes a row writes a new version of it, perhaps to a
// block that a pass is past. So what a pass in the order of the heap has found
// isn't the last word. It is about the versions that there were when it began.
// Each of these stays where it is, in its block, until somebody changes the
// row, and then it's a version of a transaction that the horizon of the pass
// says is later. VACUUM FULL and its like move versions, but into another file,
// and then the horizon is none any more; see [horizon].
//
// So the passes after it read what was written since it began, and each of
// these is a snapshot, which has every row exactly once. The run ends when a
// snapshot has nothing to do. Then, at the moment of the snapshot, each row was
// as it should be, and who moves it later takes that along.
//
// They leave out what the run wrote itself, or it would read every row again.
// What a transaction of ours wrote is right as it is if it has written nothing
// but rows that nobody had changed since we read them, in no column, so that
// all that it took along is what we had looked at, and if no trigger made
// something else of it; see postgres.writeRead. We note its number. It says
// nothing about a row that somebody changes later, since the new version has
// another.
//
// The pass over the heap leaves to the snapshots what was written since it
// began, so that nothing is read twice. Where the counter of transactions has
// wrapped around, it reads everything: a version that is very old may then have
// the number of a new transaction, and a snapshot could take it for our own.

// tid is where a row's version is in its heap. As a position it is the last
// that is done.
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

// share is where a part of a heap ends: after so many of its shares. Heaps
// grow, also by the pass before.
type share int64

const shares = 1 << 20

func (s share) of(blocks int64) tid {
	whole, rest := blocks/shares, blocks%shares // or it could be too large
	return tid{block: whole*int64(s) + rest*int64(s)/shares}
}

// divideHeap returns the ends of equal parts, without the last part's.
func divideHeap(parts int) (bounds []any) {
	for i := 1; i < parts; i++ {
		bounds = append(bounds, share(int64(i)*shares/int64(parts)))
	}
	return bounds
}

// Expressions that a row of a heap is read with besides.
const (
	rowTID     = iota // where the version is
	rowVersion        // the transaction that wrote it
)

// asHeap returns the table as one to be gone through in the order of its heap.
func (t table) asHeap() table {
	t.heap, t.extra = true, []string{rowTID: "t.ctid", rowVersion: "t.xmin"}
	return t
}

// position returns the position of a row in the order that the table is gone
// through in.
func (t table) position(r row) (any, error) {
	if !t.heap {
		return r.key, nil
	}
	return parseTID(r.extra[rowTID].String)
}

// A page of a heap is looked for in as many blocks as it probably takes, and
// some more. Where there are few rows, as among dead ones, it's more and more
// blocks, but at most so many times as many as it may have rows.
const (
	densityAtFirst = 8
	blocksMore     = 1.06
	blocksPerRow   = 16
)

// window returns the number of blocks to look for n rows in.
func (s span) window(n int) int64 {
	density := s.density
	if density == 0 {
		density = densityAtFirst
	}
	return int64(max(1, min(math.Ceil(float64(n)*blocksMore/density), float64(n*blocksPerRow))))
}

// heapPage reads the rows of some blocks, which is a TID range scan.
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

// writesAlone says of a table, by the number of its name's argument, whether an
// UPDATE writes only the rows that it names: others' triggers and rules may
// write more in the same transaction, such as a copy of the row as it was. Who
// makes one waits for the lock of the UPDATE that asks.
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

// xidArray returns transactions as Postgres stores them in rows.
func xidArray(list []int64) string {
	texts := make([]string, len(list))
	for i, n := range list {
		texts[i] = horizon{transaction: n}.xid()
	}
	return "{" + strings.Join(texts, ",") + "}"
}

// writeRead writes rows that nobody has changed since they were read, in no
// column. These it finds where they are, without an index; and the transaction
// is noted that wrote them. If there are others, update does what it does in
// any table, and what it writes isn't noted, since a column that we leave as it
// is may not be as we read it.
func (p postgres) writeRead(ctx context.Context, t table, changes []change) (done written, err error) {
	var u update
	u.row(t, changes)
	tids, versions := make([]string, len(changes)), make([]string, len(changes))
	for i, c := range changes {
		tids[i], versions[i] = c.extra[rowTID].String, c.extra[rowVersion].String
	}
	u.where = append(u.where, "t.ctid = "+u.addAs("tid", "tid", nullStrings(tids)),
		"t.xmin = "+u.addAs("version", "xid", nullStrings(versions)))
	// RETURNING has what the row's triggers have made of it.
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

// stuck counts rows that still have their old value, such as when a trigger
// keeps it, or a tenant's key is gone. A later snapshot can't show them: nobody
// has written them since.
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

// ownMarks are the run's own transactions, as text after a position. Each part
// remembers maxOwn; rows of the others are read once more.
const maxOwn = 4096

// mark joins a position and the transactions, each as its distance from the one
// before.
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

// cutMark is the inverse of mark. A position ends with a bracket. A mark that
// can't be read is left out.
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

// addOwn notes transactions in their order.
func addOwn(own, more []int64) []int64 {
	for _, n := range more {
		if i, found := slices.BinarySearch(own, n); !found && len(own) < maxOwn {
			own = slices.Insert(own, i, n)
		}
	}
	return own
}
