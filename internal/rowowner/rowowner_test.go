package rowowner_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/rowowner"
)

// database answers one query after the other; nil is no row.
type database struct {
	answers []any
	queries []string
	closed  int
}

func (d *database) Exec(context.Context, string, any, any) error {
	return errors.New("nothing is written")
}

func (d *database) Query(_ context.Context, query string, args, v any) error {
	d.queries = append(d.queries, fmt.Sprint(query, " ", args))
	answer := d.answers[0]
	d.answers = d.answers[1:]
	if err, ok := answer.(error); ok {
		return err
	}
	v.(*entsql.Rows).ColumnScanner = &result{of: d, value: answer, left: answer != nil}
	return nil
}

type result struct {
	of    *database
	value any
	left  bool
}

func (r *result) Next() bool                              { left := r.left; r.left = false; return left }
func (r *result) NextResultSet() bool                     { return false }
func (r *result) Err() error                              { return nil }
func (r *result) Close() error                            { r.of.closed++; return nil }
func (r *result) Columns() ([]string, error)              { return nil, nil }
func (r *result) ColumnTypes() ([]*sql.ColumnType, error) { return nil, nil }
func (r *result) Scan(dest ...any) error {
	*dest[0].(*sql.NullString) = r.value.(sql.NullString)
	return nil
}

func TestFind(t *testing.T) {
	t.Parallel()
	const (
		look  = `SELECT CAST(tenant AS TEXT) FROM t WHERE id = $1`
		one   = look + " FOR NO KEY UPDATE [7]"
		first = look + " [7]"
		of1   = look + " AND tenant = $2 FOR NO KEY UPDATE [7 u1]"
		of2   = look + " AND tenant = $2 FOR NO KEY UPDATE [7 u2]"
	)
	u1, u2, null := sql.NullString{String: "u1", Valid: true}, sql.NullString{String: "u2", Valid: true}, sql.NullString{}
	failure := errors.New("failure")
	for name, test := range map[string]struct {
		dialect string
		citus   bool
		answers []any
		want    []string
		tenant  string
		there   bool
		err     error
	}{
		"postgres":      {dialect.Postgres, false, []any{u1}, []string{one}, "u1", true, nil},
		"postgres, not": {dialect.Postgres, false, []any{nil}, []string{one}, "", false, nil},
		"sqlite": {
			dialect.SQLite, false, []any{u1}, []string{`SELECT CAST(tenant AS TEXT) FROM t WHERE id = ? [7]`}, "u1", true, nil,
		},
		"citus":               {dialect.Postgres, true, []any{u1, u1}, []string{first, of1}, "u1", true, nil},
		"citus, not":          {dialect.Postgres, true, []any{nil}, []string{first}, "", false, nil},
		"citus, NULL":         {dialect.Postgres, true, []any{null}, []string{first}, "", true, nil},
		"citus, moved":        {dialect.Postgres, true, []any{u1, nil, u2, u2}, []string{first, of1, first, of2}, "u2", true, nil},
		"citus, deleted":      {dialect.Postgres, true, []any{u1, nil, nil}, []string{first, of1, first}, "", false, nil},
		"citus, fails":        {dialect.Postgres, true, []any{failure}, []string{first}, "", false, failure},
		"citus, fails second": {dialect.Postgres, true, []any{u1, failure}, []string{first, of1}, "", false, failure},
	} {
		d := &database{answers: test.answers}
		on := rowowner.Database{On: d, Dialect: test.dialect, IsCitus: test.citus}
		tenant, there, err := on.Find(t.Context(), rowowner.Table{Name: "t", Tenant: "tenant", Key: "id"}, 7)
		if tenant.String != test.tenant || there != test.there || !errors.Is(err, test.err) {
			t.Errorf("%s: %q %v %v", name, tenant.String, there, err)
		}
		if diff := cmp.Diff(test.want, d.queries); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if failed := map[bool]int{true: 1}[test.err != nil]; d.closed != len(d.queries)-failed {
			t.Errorf("%s: %d of %d results were closed", name, d.closed, len(d.queries))
		}
	}
	d := &database{answers: []any{u1, nil, u2, nil, u1, nil}}
	on := rowowner.Database{On: d, Dialect: dialect.Postgres, IsCitus: true}
	if _, there, err := on.Find(t.Context(), rowowner.Table{}, 7); there || err == nil {
		t.Errorf("a row that is made anew all the time: %v, %v", there, err)
	}
}
