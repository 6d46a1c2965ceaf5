package driver

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"
	"entgo.io/ent/schema/field"
	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite" // the database driver

	"github.com/credent-go/credent/internal/entcrypt/record"
	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/entcrypt/statement"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/states"
)

var liveColumn = column.Column{Client: "live", Entity: "Live", Table: "live", Name: "key", Size: 500, Tenant: "user_id"}

func init() { column.Register(column.Binding{Column: liveColumn}) } //nolint:gochecknoinits // as generated code does

// counter counts a driver's queries.
type counter struct {
	dialect.Driver
	n int
}

func (c *counter) Query(ctx context.Context, query string, args, v any) error {
	c.n++
	return c.Driver.Query(ctx, query, args, v)
}

// A client reads the database's states with its first statement, then at most
// twice a minute, and never uses states older than a minute.
func TestLive(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "live.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	run := func(query string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	next := &counter{Driver: entsql.OpenDB(dialect.SQLite, db)}
	l, err := newLive(next, Config{Columns: []column.Column{liveColumn}, States: states.New(states.Binding,
		states.Accept, liveColumn)}, true)
	if err != nil {
		t.Fatal(err)
	}
	on := statement.Conn{Next: next, Dialect: dialect.SQLite}
	binding := func(queries int) states.State {
		t.Helper()
		next.n = 0
		p, err := l.policy(t.Context(), on)
		if err != nil {
			t.Fatal(err)
		}
		if next.n != queries {
			t.Errorf("%d queries, want %d", next.n, queries)
		}
		return p.States.Of(&liveColumn).Binding
	}
	age := func(d time.Duration) {
		now := *l.now.Load()
		now.at = time.Now().Add(-d)
		l.now.Store(&now)
	}
	want := func(what string, got, want states.State) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}

	want("without the table", binding(1), states.Accept)
	want("on the hot path", binding(0), states.Accept)
	run(`CREATE TABLE credent_states (column_name text, protection text, state text, changed_at datetime)`)
	run(`INSERT INTO credent_states VALUES ('live.key', 'binding', 'write', CURRENT_TIMESTAMP), ('other.key', 'binding', 'off', CURRENT_TIMESTAMP)`)
	want("young", binding(0), states.Accept)
	age(early)
	want("half its time", binding(2), states.Write)
	run(`UPDATE credent_states SET state = 'require'`)
	age(early)
	l.busy.Lock() // another statement is reading them
	want("while another reads", binding(0), states.Write)
	age(states.Lifetime)
	want("its time is up", binding(2), states.Require)
	l.busy.Unlock()

	// Once the states are too old, an error counts.
	run(`UPDATE credent_states SET state = 'sometimes'`)
	age(early)
	want("an error", binding(2), states.Require)
	age(states.Lifetime)
	if _, err := l.policy(t.Context(), on); !errors.Is(err, states.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	run(`UPDATE credent_states SET protection = 'encryption', state = 'off'`)
	if _, err := l.policy(t.Context(), on); !errors.Is(err, states.ErrInvalidStates) {
		t.Errorf("contradiction: got %v", err)
	}
}

// A client that read the states long ago doesn't create a row if the database
// has required a trail since.
func TestIdleWithoutTrail(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "idle.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	run := func(query string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	run(`CREATE TABLE credent_states (column_name text, protection text, state text, changed_at datetime)`)
	run(`CREATE TABLE live (id integer PRIMARY KEY, key text, user_id text)`)
	drv, err := Follow(entsql.OpenDB(dialect.SQLite, db), Config{Columns: []column.Column{liveColumn}})
	if err != nil {
		t.Fatal(err)
	}
	if err := Read(t.Context(), drv); err != nil {
		t.Fatal(err)
	}
	run(`INSERT INTO credent_states VALUES ('` + states.Trail + `', 'encryption', 'require', CURRENT_TIMESTAMP)`)
	l := drv.(*cryptDriver).live.(*live)
	old := *l.now.Load()
	old.at = time.Now().Add(-states.Lifetime)
	l.now.Store(&old)

	spec := sqlgraph.NewCreateSpec("live", sqlgraph.NewFieldSpec("id", field.TypeInt))
	spec.SetField("user_id", field.TypeString, "u-1")
	stamp.Create(drv, "live", spec)
	if err := sqlgraph.CreateNode(t.Context(), drv, spec); !errors.Is(err, states.ErrTrailRequired) {
		t.Errorf("got %v, want ErrTrailRequired", err)
	}
	var n int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM live").Scan(&n); err != nil || n != 0 {
		t.Errorf("there are %d rows, %v", n, err)
	}
}

// told is a trail that keeps its entries.
type told struct {
	record.Refusing
	rows []record.Row
}

func (r *told) Write(_ context.Context, _ dialect.ExecQuerier, rows []record.Row) (func(bool), error) {
	r.rows = append(r.rows, rows...)
	return func(bool) {}, nil
}

// A row without a field that can carry its entry uses its foreign key, and so
// does the other row of a symmetric edge.
func TestTrailOfRowsOfEdges(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "edges.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE live (id integer PRIMARY KEY, key text, user_id text,
		parent integer, live_next integer)`); err != nil {
		t.Fatal(err)
	}
	trail := &told{}
	drv, err := New(entsql.OpenDB(dialect.SQLite, db), Config{Columns: []column.Column{liveColumn}, Trail: trail})
	if err != nil {
		t.Fatal(err)
	}
	edge := func(rel sqlgraph.Rel, inverse, bidi bool, name string, to any) *sqlgraph.EdgeSpec {
		return &sqlgraph.EdgeSpec{
			Rel: rel, Inverse: inverse, Bidi: bidi, Table: "live", Columns: []string{name},
			Target: &sqlgraph.EdgeTarget{
				IDSpec: sqlgraph.NewFieldSpec("id", field.TypeInt), Nodes: []sqldriver.Value{to},
			},
		}
	}
	spec := func(edges ...*sqlgraph.EdgeSpec) *sqlgraph.CreateSpec {
		spec := sqlgraph.NewCreateSpec("live", sqlgraph.NewFieldSpec("id", field.TypeInt))
		spec.Edges = edges
		stamp.Create(drv, "live", spec)
		return spec
	}
	create := func(id, note string) record.Row {
		return record.Row{Action: record.Create, Table: "live", ID: id, Note: note}
	}
	next := record.Row{Action: record.Update, Table: "live", ID: "1", Note: "live_next"}
	for _, c := range []struct {
		name string
		edge *sqlgraph.EdgeSpec
		want []record.Row
	}{
		{"many to one", edge(sqlgraph.M2O, true, false, "parent", 1), []record.Row{create("1", "parent")}},
		{"one to one", edge(sqlgraph.O2O, true, false, "live_next", 7), []record.Row{create("2", "live_next")}},
		{"symmetric", edge(sqlgraph.O2O, false, true, "live_next", 1), []record.Row{create("3", "live_next"), next}},
	} {
		trail.rows = nil
		if err := sqlgraph.CreateNode(t.Context(), drv, spec(c.edge)); err != nil {
			t.Fatal(c.name, err)
		}
		if diff := cmp.Diff(c.want, trail.rows); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	trail.rows = nil
	err = sqlgraph.BatchCreate(t.Context(), drv, &sqlgraph.BatchCreateSpec{Nodes: []*sqlgraph.CreateSpec{
		spec(edge(sqlgraph.M2O, true, false, "parent", 1)), spec(edge(sqlgraph.M2O, true, false, "parent", 2)),
	}})
	want := []record.Row{create("4", "parent"), create("5", "parent")}
	if diff := cmp.Diff(want, trail.rows); diff != "" || err != nil {
		t.Errorf("bulk: %v (-want +got):\n%s", err, diff)
	}
	var parents, pairs int
	if err := db.QueryRowContext(t.Context(), `SELECT sum(parent), (SELECT count(*) FROM live AS a JOIN live AS b
		ON a.live_next = b.id AND b.live_next = a.id) FROM live`).Scan(&parents, &pairs); err != nil || parents != 4 ||
		pairs != 2 {
		t.Errorf("%d rows have a parent, %d are paired, %v", parents, pairs, err)
	}
}
