package rotate

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/ledger"
	"github.com/credent-go/credent/internal/pgserver"
)

// heapTable creates a table with two columns and the given number of rows.
func heapTable(t *testing.T, rows int) (postgres, table, *tracer) {
	t.Helper()
	url := pgserver.DatabaseForTest(t, pgserver.Shared())
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	tr := &tracer{}
	cfg.Tracer = tr
	db := stdlib.OpenDB(*cfg)
	t.Cleanup(func() { _ = db.Close() })
	for _, statement := range []string{
		"CREATE TABLE plan_t (id uuid PRIMARY KEY, a varchar(500), b varchar(500), note text)",
		"INSERT INTO plan_t SELECT gen_random_uuid(), 'gAAAA' || repeat('x', 150), 'gAAAA' || repeat('y', 150) FROM " +
			fmt.Sprintf("generate_series(1, %d) n", rows),
		"ANALYZE plan_t",
	} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	tab := table{name: "plan_t", columns: []column.Column{
		{Table: "plan_t", Name: "a", Size: 500}, {Table: "plan_t", Name: "b", Size: 500},
	}}
	s := postgres{db}
	if err := s.describe(t.Context(), &tab); err != nil {
		t.Fatal(err)
	}
	now, err := s.horizon(t.Context(), tab)
	if err != nil || !now.inHeap() {
		t.Fatalf("%+v, %v", now, err)
	}
	return s, tab.asHeap(), tr
}

// changesOf returns changes to column a that leave b unchanged.
func changesOf(page []row) []change {
	changes := make([]change, len(page))
	for i, r := range page {
		value := sql.NullString{String: "gAAAAnew" + r.id, Valid: true}
		changes[i] = change{row: r, cells: []cell{{changed: true, value: value}, {}}}
	}
	return changes
}

// A page is a range of blocks, and its rows are written by location; neither
// needs an index.
func TestPlansInTheOrderOfTheHeap(t *testing.T) {
	t.Parallel()
	s, tab, tr := heapTable(t, 20_000)
	tr.sent = nil
	whole := span{after: tid{}, upTo: tid{block: 1 << 20}}
	page, rest, more, err := s.page(t.Context(), tab, whole, 1000)
	if err != nil || len(page) != 1000 || !more {
		t.Fatal(len(page), more, err)
	}
	if plan := tr.plan(t, s.db); !strings.Contains(plan, "Tid Range Scan on plan_t") {
		t.Errorf("a page:\n%s", plan)
	}
	tr.sent = nil
	done, err := s.write(t.Context(), tab, changesOf(page))
	if err != nil || done.rows != 1000 || done.own == 0 || done.stuck != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	if plan := tr.plan(t, s.db); !strings.Contains(plan, "Tid Scan on plan_t") ||
		strings.Contains(plan, "using plan_t") {
		t.Errorf("a write:\n%s", plan)
	}
	// Our own transaction's rows are skipped.
	tr.sent = nil
	rest = span{
		after: tid{}, upTo: tid{block: 1 << 20}, own: []int64{done.own},
		since: horizon{place: "p", transaction: done.own}.String(), density: rest.density,
	}
	for more = true; more; {
		if page, rest, more, err = s.page(t.Context(), tab, rest, 1000); err != nil || len(page) > 0 {
			t.Fatal(len(page), err)
		}
	}
	if plan := tr.plan(t, s.db); !strings.Contains(plan, "Tid Range Scan on plan_t") ||
		!strings.Contains(plan, "hashed SubPlan") {
		t.Errorf("a snapshot:\n%s", plan)
	}
}

// No page exceeds its limit, whatever the blocks contain, and each row is in
// exactly one page.
func TestPagesOfAHeap(t *testing.T) {
	t.Parallel()
	s, tab, _ := heapTable(t, 5000)
	if _, err := s.db.ExecContext(t.Context(),
		"DELETE FROM plan_t WHERE (ctid::text::point)[0] BETWEEN 20 AND 150"); err != nil {
		t.Fatal(err)
	}
	var want int
	if err := s.db.QueryRowContext(t.Context(), "SELECT count(*) FROM plan_t").Scan(&want); err != nil {
		t.Fatal(err)
	}
	now, err := s.horizon(t.Context(), tab)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 7, 100, 4000} {
		seen := make(map[string]bool)
		rest, more := span{after: tid{}, upTo: tid{block: now.blocks}}, true
		for more {
			var page []row
			if page, rest, more, err = s.page(t.Context(), tab, rest, n); err != nil || len(page) > n {
				t.Fatal(len(page), err)
			}
			for _, r := range page {
				if seen[r.id] {
					t.Fatalf("row %s is in two pages", r.id)
				}
				seen[r.id] = true
			}
		}
		if len(seen) != want {
			t.Errorf("%d rows in pages of %d, want %d", len(seen), n, want)
		}
	}
}

// A transaction is recorded only if nobody changed any column of its rows since
// we read them, even a column that it doesn't write. Its own columns are
// rewritten in either case.
func TestWhatIsNotedAsOurs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile   []string
		rows, stuck int64
		own         bool
	}{
		"nothing":            {nil, 10, 0, true},
		"another column":     {[]string{"UPDATE plan_t SET note = 'x'"}, 10, 0, false},
		"the other column":   {[]string{"UPDATE plan_t SET b = 'gAAAAold'"}, 10, 0, false},
		"the column":         {[]string{"UPDATE plan_t SET a = 'gAAAAold'"}, 0, 0, false},
		"a lock":             {[]string{"SELECT FROM plan_t FOR UPDATE"}, 10, 0, true},
		"gone":               {[]string{"DELETE FROM plan_t"}, 0, 0, false},
		"moved by an update": {[]string{"UPDATE plan_t SET note = repeat('x', 2000)"}, 10, 0, false},
		"back in its place": {
			[]string{
				"CREATE INDEX ON plan_t (b, note)", "UPDATE plan_t SET b = 'gAAAAold'",
				"VACUUM (INDEX_CLEANUP ON) plan_t", "UPDATE plan_t SET note = 'x'",
			},
			10, 0, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, tab, _ := heapTable(t, 10)
			page, _, _, err := s.page(t.Context(), tab, span{after: tid{}, upTo: tid{block: 10}}, 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, statement := range c.meanwhile {
				if _, err := s.db.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			done, err := s.write(t.Context(), tab, changesOf(page))
			if err != nil || done.rows != c.rows || done.stuck != c.stuck || (done.own != 0) != c.own {
				t.Errorf("%+v, %v", done, err)
			}
		})
	}
}

// If one row of a page was changed by others, no row is lost.
func TestOneOfAPageWasChanged(t *testing.T) {
	t.Parallel()
	s, tab, _ := heapTable(t, 10)
	page, _, _, err := s.page(t.Context(), tab, span{after: tid{}, upTo: tid{block: 10}}, 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.ExecContext(t.Context(), "UPDATE plan_t SET b = 'gAAAAold' WHERE id::text = $1",
		page[3].id); err != nil {
		t.Fatal(err)
	}
	done, err := s.write(t.Context(), tab, changesOf(page))
	if err != nil || done.rows != 10 || done.own == 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	var id string
	err = s.db.QueryRowContext(t.Context(), "SELECT id::text FROM plan_t WHERE a LIKE 'gAAAAnew%' AND xmin <> "+
		"$1::text::xid",
		horizon{transaction: done.own}.xid()).Scan(&id)
	if err != nil || id != page[3].id {
		t.Errorf("%s, %v: the row whose other column was changed is taken for ours", id, err)
	}
}

// A row that somebody changes while our statement waits for it isn't recorded
// as ours either.
func TestChangedWhileWeWaited(t *testing.T) {
	t.Parallel()
	s, tab, _ := heapTable(t, 1)
	page, _, _, err := s.page(t.Context(), tab, span{after: tid{}, upTo: tid{block: 10}}, 100)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := s.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(t.Context(), "UPDATE plan_t SET b = 'gAAAAold'"); err != nil {
		t.Fatal(err)
	}
	var done written
	answered := make(chan error)
	go func() {
		var err error
		done, err = s.write(t.Context(), tab, changesOf(page))
		answered <- err
	}()
	for waits := false; !waits; {
		if err := s.db.QueryRowContext(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity "+
			"WHERE datname = current_database() AND wait_event_type = 'Lock')").Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil || done.rows != 1 || done.own != 0 || done.stuck != 0 {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestMarks(t *testing.T) {
	t.Parallel()
	for _, position := range []string{"", `["c12.3"]`, `["t] 1"]`} {
		for _, own := range [][]int64{nil, {5}, {5, 6, 7, 1 << 40}} {
			gotPosition, got := cutMark(mark(position, own))
			if gotPosition != position || !slices.Equal(got, own) {
				t.Errorf("%q %v: %q %v", position, own, gotPosition, got)
			}
		}
	}
	if position, own := cutMark(`["c1.2"] 5 !`); position != `["c1.2"]` || own != nil {
		t.Errorf("%q, %v", position, own)
	}
	own := addOwn(addOwn(nil, []int64{7, 3, 7}), []int64{5, 3})
	if diff := cmp.Diff([]int64{3, 5, 7}, own); diff != "" {
		t.Error(diff)
	}
	for i := range int64(2 * maxOwn) {
		own = addOwn(own, []int64{100 + i})
	}
	if len(own) != maxOwn {
		t.Errorf("%d are noted", len(own))
	}
}

// Parts cover a heap of any size, and an interrupted part continues from its
// position.
func TestPartsOfAHeap(t *testing.T) {
	t.Parallel()
	for _, blocks := range []int64{0, 1, 7, 1000, 1 << 32} {
		began := horizon{place: "p", transaction: 5, blocks: blocks}
		p := &pass{work: &work{table: table{heap: true}}, state: ledger.State{Began: began.String()}}
		last := tid{}
		bounds := append(divideHeap(5), nil)
		for i, bound := range bounds {
			of := ledger.Part{}
			var err error
			if i > 0 {
				if of.After, err = encodeKey(bounds[i-1]); err != nil {
					t.Fatal(err)
				}
			}
			if of.UpTo, err = encodeKey(bound); err != nil {
				t.Fatal(err)
			}
			s, err := p.span(&part{of: of})
			if err != nil || s.after != last || s.before == "" {
				t.Fatalf("part %d of %d blocks begins at %v, and the one before ends at %v: %v", i, blocks,
					s.after, last, err)
			}
			last = s.upTo.(tid)
		}
		if last != (tid{block: blocks}) {
			t.Errorf("the last of %d blocks is %v", blocks, last)
		}
		s, err := p.span(&part{at: `["c(1,3)"]`})
		if err != nil || s.after != (tid{1, 3}) {
			t.Errorf("%+v, %v", s, err)
		}
	}
	// After a wraparound of transaction numbers, nothing is left to a snapshot.
	began := horizon{place: "p", transaction: neverWrapped, blocks: 1}
	p := &pass{work: &work{table: table{heap: true}}, state: ledger.State{Began: began.String()}}
	if s, err := p.span(&part{}); err != nil || s.before != "" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := p.span(&part{at: `["t1"]`}); err == nil {
		t.Error("a key is a place in a heap")
	}
	for _, text := range []string{"", "1", "(1", "(x,1)", "(1,x)"} {
		if at, err := parseTID(text); err == nil {
			t.Errorf("%q is %v", text, at)
		}
	}
}
