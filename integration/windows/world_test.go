package windows

import (
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/lib/pq"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/integration/sequence/ent"
	"github.com/credent-go/credent/integration/sequence/ent/note"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/internal/testdb/bare"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// keyTable is credent_tenant_keys, which other schemas create in their
// migration.
const keyTable = `CREATE TABLE credent_tenant_keys (tenant varchar(255) NOT NULL PRIMARY KEY, wrapped varchar(500),
	created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, destroyed_at timestamp)`

// noteColumns are the columns that go through the windows.
var noteColumns = []encrypted.Column{note.BodyColumn, note.EmailColumn, note.CodeColumn}

// mover is a writer, which is in one state at a time.
type mover interface {
	move(to states.Set)
	work(n int) error
}

// world is a database with its writers.
type world struct {
	*testing.T
	size    int
	batch   int // a writer's operations in a round
	url     string
	dbs     map[string]*sql.DB // by driver
	key     string
	ring    *keyring.Keyring
	owners  []string
	parts   []*part
	movers  []mover // in moving order
	writers []*writer
	python  *foreign

	// Between rounds no writer uses these.
	taken    []string // codes of stable rows
	shared   []*entry // stable rows of the last rounds
	digested int      // how many of them existed from the beginning
	round    int
	races    int

	mu     sync.Mutex
	racing map[string]race
}

// race is how often a code was tried in a round, and accepted.
type race struct{ tried, accepted int }

func newWorld(t *testing.T, size int) *world {
	t.Helper()
	w := &world{
		T: t, size: size, batch: min(12+size/1000, 100), key: keyring.GenerateKey(), dbs: make(map[string]*sql.DB),
		racing: make(map[string]race),
	}
	w.ring = must(keyring.New(w.key))
	for i := range 60 {
		w.owners = append(w.owners, fmt.Sprintf("owner %d", i))
	}
	w.url = bare.NewDatabase(t, "")
	for _, driver := range []string{"postgres", "pgx"} {
		db, err := sql.Open(driver, w.url)
		if err != nil {
			t.Fatal(err)
		}
		db.SetMaxIdleConns(8)
		t.Cleanup(func() { _ = db.Close() })
		w.dbs[driver] = db
	}
	bare.CreateTables(t, ent.NewClient(ent.Driver(entsql.OpenDB(dialect.Postgres, w.dbs["pgx"]))).Schema.Create)
	w.exec(dropChecks)
	w.exec(keyTable)
	for _, statements := range [][]string{
		encrypted.IndexTriggers(dialect.Postgres, noteColumns...), encrypted.StatesTable(dialect.Postgres),
		encrypted.TenantTriggers(dialect.Postgres, noteColumns...), encrypted.CanaryTable(dialect.Postgres),
	} {
		for _, statement := range statements {
			w.exec(statement)
		}
	}
	return w
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (w *world) exec(statement string, args ...any) {
	w.Helper()
	if _, err := w.dbs["postgres"].ExecContext(w.Context(), statement, args...); err != nil {
		w.Fatal(err)
	}
}

// seed stores the rows as an application without encryption does.
func (w *world) seed() {
	w.Helper()
	w.exec("INSERT INTO owners (id) SELECT unnest($1::text[])", pq.Array(w.owners))
	for i := range 5 {
		w.parts = append(w.parts, newPart(w, i))
	}
	byTitle := make(map[string]*entry, w.size)
	for _, p := range w.parts {
		var columns [5][]sql.NullString
		for i := range w.size / len(w.parts) {
			e := p.fresh()
			e.stable = i%4 == 0
			p.add(e)
			byTitle[e.title] = e
			if e.stable && e.texts[code] != nil {
				w.taken = append(w.taken, *e.texts[code])
			}
			for c, text := range []*string{&e.title, &e.owner, e.texts[body], e.texts[email], e.texts[code]} {
				columns[c] = append(columns[c], nullable(text))
			}
		}
		w.exec("INSERT INTO notes (title, owner_id, body, email, code) SELECT * FROM unnest($1::text[], $2::text[], "+
			"$3::text[], $4::text[], $5::text[])",
			pq.Array(columns[0]), pq.Array(columns[1]), pq.Array(columns[2]), pq.Array(columns[3]),
			pq.Array(columns[4]))
	}
	w.digested = len(w.taken)
	rows, err := w.dbs["postgres"].QueryContext(w.Context(), "SELECT id, title FROM notes")
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id int
		var title string
		if err := rows.Scan(&id, &title); err != nil {
			w.Fatal(err)
		}
		byTitle[title].id = id
	}
	if err := rows.Err(); err != nil {
		w.Fatal(err)
	}
}

func nullable(text *string) sql.NullString {
	if text == nil {
		return sql.NullString{}
	}
	return sql.NullString{String: *text, Valid: true}
}

// given returns the states of every column.
func given(s states.Set) (list []encrypted.ColumnStates) {
	for _, c := range noteColumns {
		list = append(list, encrypted.ColumnStates{
			Column: c, Encryption: s.Encryption, Binding: s.Binding, TenantKeys: s.TenantKeys,
		})
	}
	return list
}

func (w *world) client(driver string, s states.Set) *ent.Client {
	return ent.NewClient(ent.Driver(must(encrypted.NewDriver(entsql.OpenDB(dialect.Postgres, w.dbs[driver]),
		encrypted.Config{
			Keyring: w.ring, Columns: noteColumns, States: given(s),
		}))))
}

func (w *world) config(s states.Set) rotate.Config {
	return rotate.Config{In: noteColumns, States: given(s), Batch: min(w.size/8, rotate.DefaultBatch)}
}

// begin starts Python, which writes plaintext and no digests.
func (w *world) begin(s states.Set) {
	w.Helper()
	w.python = startPython(w.T, w.parts[4], w.url, w.key)
	w.python.old = true
	w.movers = []mover{w.python}
	w.python.move(s)
}

// beginGo starts the services once the digests are filled in.
func (w *world) beginGo(s states.Set) {
	w.Helper()
	for i, driver := range []string{"postgres", "pgx", "postgres", "pgx"} {
		w.writers = append(w.writers, &writer{part: w.parts[i], driver: driver})
	}
	w.python.old = false
	w.movers = []mover{w.writers[0], w.writers[1], w.python, w.writers[2], w.writers[3]}
	for _, m := range w.movers {
		m.move(s)
	}
	for range w.movers {
		w.work()
	}
}

// moveAll moves one writer after another into the next state, and lets all of
// them work after each move.
func (w *world) moveAll(to states.Set) {
	w.Helper()
	for _, m := range w.movers {
		m.move(to)
		w.work()
	}
}

// work lets all writers run one batch each concurrently, and returns when all
// have stopped.
func (w *world) work() {
	w.Helper()
	w.workBeside(w.batch, nil, nil)
}

// pace tells a writer to run another batch.
type pace chan struct{}

// workBeside lets all writers run a batch, and another one at each of their
// paces, until done is closed. A nil done counts as closed.
func (w *world) workBeside(batch int, paces []pace, done <-chan struct{}) {
	w.Helper()
	w.round++
	var wg sync.WaitGroup
	for i, m := range w.movers {
		wg.Go(func() {
			for {
				if err := m.work(batch); err != nil {
					w.Error(err)
					return
				}
				if done == nil {
					return
				}
				select {
				case <-done:
					return
				case <-paces[i]:
				}
			}
		})
	}
	wg.Wait()
	w.judge()
	if w.Failed() {
		w.FailNow()
	}
}

// maxOld is how many batches an old writer may run beside FillIndexes, which
// never ends beside one that keeps storing rows without digests.
const maxOld = 6

// rotate runs a command. After each of its pages the writers continue.
func (w *world) rotate(s step) {
	w.Helper()
	var paces []pace
	for range w.movers {
		paces = append(paces, make(pace, 1))
	}
	cfg := w.config(s.states)
	var told atomic.Int32
	cfg.Progress = func(rotate.Progress) {
		if w.python.old && told.Add(1) > maxOld {
			return
		}
		for _, p := range paces {
			select {
			case p <- struct{}{}:
			default: // it is still busy with the last one
			}
		}
	}
	done := make(chan struct{})
	var report *rotate.Report
	var err error
	go func() {
		defer close(done)
		report, err = s.rotate(w.Context(), w.dbs["pgx"], w.ring, cfg)
	}()
	// Otherwise Python would keep storing rows without digests, and rotate
	// would never end.
	w.python.beside = true
	w.workBeside(15, paces, done)
	w.python.beside = false
	<-done
	if err != nil {
		w.Fatalf("%s: %v", s.name, err)
	}
	w.exec("VACUUM ANALYZE notes") // docs/blind-index.md: otherwise lookups read dead rows
	if s.before == addChecks && len(report.Tables[0].Validated) != len(columnNames) {
		w.Errorf("%s validated %v", s.name, report.Tables[0].Validated)
	}
	if s.before == "" && report.Rewritten() < int64(w.size/2) {
		w.Errorf("%s has rewritten %d rows", s.name, report.Rewritten())
	}
}

// tried records an attempt to be the first with a code.
func (w *world) tried(text string, accepted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.racing[text]
	r.tried++
	if accepted {
		r.accepted++
	}
	w.racing[text] = r
}

// judge checks that each race of the round had one winner, and gives the taken
// codes to the writers.
func (w *world) judge() {
	w.Helper()
	for text, r := range w.racing {
		if r.accepted != 1 {
			w.Errorf("%s: %d of %d were accepted", text, r.accepted, r.tried)
		}
		if r.tried > 1 {
			w.races++
		}
	}
	clear(w.racing)
	for _, writer := range w.writers {
		writer.raced = 0
	}
	for _, p := range w.parts {
		for _, e := range p.stored {
			w.shared = append(w.shared, e)
			if e.texts[code] != nil {
				w.taken = append(w.taken, *e.texts[code])
			}
		}
		p.stored = nil
	}
}

// totals are the counters of all writers.
type totals struct{ operations, lookups, refused, races int }

func (w *world) totals() totals {
	sum := totals{races: w.races}
	for _, p := range w.parts {
		sum.operations += p.operations
		sum.lookups += p.lookups
		sum.refused += p.refused
	}
	return sum
}
