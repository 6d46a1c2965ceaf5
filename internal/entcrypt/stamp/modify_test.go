package stamp_test

import (
	"database/sql/driver"
	"errors"
	"strings"
	"testing"

	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"
	"entgo.io/ent/schema/field"

	cryptdriver "github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/entcrypt/hint"
	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/states"
)

// A modifier's secrets know their location. Rows 1 and 2 are tenant a's.
func TestModifiers(t *testing.T) {
	t.Parallel()
	first := func(s *entsql.Selector) { s.Where(entsql.EQ(s.C("id"), 1)) }
	none := func(s *entsql.Selector) { s.Where(entsql.EQ(s.C("id"), 9)) }
	at := func(tenant any) any { return stamp.At(fieldcrypt.New("new"), rentedKey, tenant) }
	for name, test := range map[string]struct {
		id        any
		predicate func(*entsql.Selector)
		modify    func(*entsql.UpdateBuilder)
		want      error
		key       string
	}{
		"one":               {1, nil, func(b *entsql.UpdateBuilder) { b.Set("key", at(nil)) }, nil, "new"},
		"one, its tenant":   {1, nil, func(b *entsql.UpdateBuilder) { b.Set("key", at("a")) }, nil, "new"},
		"one that matches":  {nil, first, func(b *entsql.UpdateBuilder) { b.Set("key", at(nil)) }, nil, "new"},
		"none that matches": {nil, none, func(b *entsql.UpdateBuilder) { b.Set("key", at(nil)) }, nil, "old"},
		"many": {
			nil, nil, func(b *entsql.UpdateBuilder) { b.Set("key", at(nil)) },
			stamp.ErrManyRows, "old",
		},
		"many, their tenant": {
			nil, nil, func(b *entsql.UpdateBuilder) { b.Set("key", at("a")) },
			stamp.ErrManyRows, "old",
		},
		"bare": {
			1, nil, func(b *entsql.UpdateBuilder) { b.Set("key", fieldcrypt.New("new")) },
			stamp.ErrNoLocation, "old",
		},
		"compared": {
			1, nil,
			func(b *entsql.UpdateBuilder) { b.Set("kind", "x").Where(entsql.EQ("key", fieldcrypt.New("old"))) },
			stamp.ErrNoLocation, "old",
		},
		"another field": {
			nil, nil,
			func(b *entsql.UpdateBuilder) { b.Set("kind", entsql.Expr("upper('x') || id")) }, nil, "old",
		},
		"tenant": {
			1, nil, func(b *entsql.UpdateBuilder) { b.Set("user_id", "b") },
			seal.ErrWrongLocation, "old",
		},
		"tenant to NULL": {
			1, nil, func(b *entsql.UpdateBuilder) { b.SetNull("user_id") },
			seal.ErrWrongLocation, "old",
		},
		"tenant by expression": {
			1, nil, func(b *entsql.UpdateBuilder) { b.Set("user_id", entsql.Expr("lower('B')")) },
			seal.ErrWrongLocation, "old",
		},
	} {
		c := open(t, cryptdriver.Config{States: states.New(states.Binding, states.Require, rentedKey, rentedPIN)})
		for id := 1; id <= 2; id++ {
			if err := c.create(t, "rented", id, nil, set{"key", "old"}, set{"user_id", "a"}); err != nil {
				t.Fatal(err)
			}
		}
		spec := updateSpec("rented", "id", "key")
		spec.Predicate = test.predicate
		spec.AddModifier(test.modify)
		_, err := c.update(t, spec, test.id)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		opensAs(t, name, c.row(t, "rented", 1, "key")[0], rentedKey, "a", test.key)
		opensAs(t, name, c.row(t, "rented", 2, "key")[0], rentedKey, "a", "old")
	}
}

// A modifier that sets an indexed secret must also set its digest.
func TestModifiersOfAnIndex(t *testing.T) {
	t.Parallel()
	s, d := stamp.At(fieldcrypt.New("new"), chestPIN, nil), stamp.DigestOf(fieldcrypt.New("new"), chestPIN, nil)
	for name, test := range map[string]struct {
		modify func(*entsql.UpdateBuilder)
		want   error
		pin    string
	}{
		"both":               {func(b *entsql.UpdateBuilder) { b.Set("pin", s).Set("pin_index", d) }, nil, "new"},
		"no digest":          {func(b *entsql.UpdateBuilder) { b.Set("pin", s) }, blindindex.ErrBlindIndex, "old"},
		"to NULL":            {func(b *entsql.UpdateBuilder) { b.SetNull("pin").SetNull("pin_index") }, nil, ""},
		"to NULL, no digest": {func(b *entsql.UpdateBuilder) { b.SetNull("pin") }, blindindex.ErrBlindIndex, "old"},
		"a backslash":        {func(b *entsql.UpdateBuilder) { b.Set("note", entsql.Expr(`note || 'C:\dir'`)) }, nil, "old"},
	} {
		c := open(t, cryptdriver.Config{})
		if err := c.create(t, "chest", 1, nil, set{"pin", "old"}); err != nil {
			t.Fatal(err)
		}
		spec := updateSpec("chest", "id")
		spec.AddModifier(test.modify)
		if _, err := c.update(t, spec, 1); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		row := c.row(t, "chest", 1, "pin", "pin_index")
		if test.pin == "" {
			if row[0] != "" || row[1] != "" {
				t.Errorf("%s: it isn't NULL", name)
			}
			continue
		}
		opensAs(t, name, row[0], chestPIN, "", test.pin)
		if row[1] != digestOf(t, test.pin) {
			t.Errorf("%s: the digest is another secret's", name)
		}
	}
	// Clearing a secret clears its digest, with any other SQL in the update.
	c := open(t, cryptdriver.Config{})
	if err := c.create(t, "chest", 1, nil, set{"pin", "old"}, set{"note", "x"}); err != nil {
		t.Fatal(err)
	}
	spec := updateSpec("chest", "id")
	spec.AddModifier(func(b *entsql.UpdateBuilder) { b.Set("note", entsql.Expr(`note || 'C:\dir'`)) })
	if _, err := c.update(t, spec, nil, set{"pin", nil}); err != nil {
		t.Fatal(err)
	}
	if row := c.row(t, "chest", 1, "pin", "pin_index", "note"); row[0] != "" || row[1] != "" || row[2] != `xC:\dir` {
		t.Errorf("got %q", row)
	}
}

// A row's tenant may be an edge's foreign key. An update may clear or set it,
// or the database may copy it from another table.
func TestEdges(t *testing.T) {
	t.Parallel()
	edge := func(name string, nodes ...driver.Value) *sqlgraph.EdgeSpec {
		return &sqlgraph.EdgeSpec{
			Rel: sqlgraph.M2O, Table: "held", Columns: []string{name},
			Target: &sqlgraph.EdgeTarget{IDSpec: sqlgraph.NewFieldSpec("id", field.TypeString), Nodes: nodes},
		}
	}
	for name, test := range map[string]struct {
		add, clear []*sqlgraph.EdgeSpec
		sets       []set
		want       error
		tenant     string
	}{
		"tenant":            {[]*sqlgraph.EdgeSpec{edge("user_id", "b")}, nil, nil, seal.ErrWrongLocation, "a"},
		"tenant and secret": {[]*sqlgraph.EdgeSpec{edge("user_id", "b")}, nil, []set{{"key", "text"}}, nil, "b"},
		"the same tenant":   {[]*sqlgraph.EdgeSpec{edge("user_id", "a")}, nil, nil, nil, "a"},
		"cleared":           {nil, []*sqlgraph.EdgeSpec{edge("user_id")}, nil, seal.ErrWrongLocation, "a"},
		"cleared, and secret": {
			nil,
			[]*sqlgraph.EdgeSpec{edge("user_id")},
			[]set{{"key", "text"}},
			seal.ErrWrongLocation, "a",
		},
		"account": {[]*sqlgraph.EdgeSpec{edge("account_id", 2)}, nil, nil, seal.ErrWrongLocation, "a"},
		"account and secret": {
			[]*sqlgraph.EdgeSpec{edge("account_id", 2)},
			nil,
			[]set{{"key", "text"}},
			seal.ErrWrongLocation, "a",
		},
		"account and tenant": {
			[]*sqlgraph.EdgeSpec{edge("account_id", 2)},
			nil,
			[]set{{"user_id", "b"}},
			seal.ErrWrongLocation, "a",
		},
		"all of them": {
			[]*sqlgraph.EdgeSpec{edge("account_id", 2)},
			nil,
			[]set{{"user_id", "b"}, {"key", "text"}},
			nil, "b",
		},
		"account, its tenant": {
			[]*sqlgraph.EdgeSpec{edge("account_id", 2)},
			nil,
			[]set{{"user_id", "a"}, {"key", "text"}},
			seal.ErrWrongLocation, "a",
		},
	} {
		c := open(t, cryptdriver.Config{})
		if err := c.create(t, "held", 1, nil, set{"key", "text"}, set{"user_id", "a"},
			set{"account_id", 1}); err != nil {
			t.Fatal(err)
		}
		spec := updateSpec("held", "id")
		spec.Edges.Add, spec.Edges.Clear = test.add, test.clear
		_, err := c.update(t, spec, 1, test.sets...)
		var detail *fieldcrypt.Error
		if !errors.Is(err, test.want) || err != nil && (!errors.As(err, &detail) || detail.Column != "key") {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		row := c.row(t, "held", 1, "key", "user_id")
		opensAs(t, name, row[0], heldKey, test.tenant, "text")
		if row[1] != test.tenant {
			t.Errorf("%s: the row's tenant is %q", name, row[1])
		}
	}
}

// The column that tenants are copied from changes only in a context that says
// that the tokens are re-encrypted.
func TestSource(t *testing.T) {
	t.Parallel()
	c := open(t, cryptdriver.Config{})
	if err := c.create(t, "owners", 1, nil, set{"user_id", "a"}, set{"name", "x"}); err != nil {
		t.Fatal(err)
	}
	modified := func(set func(*entsql.UpdateBuilder)) *sqlgraph.UpdateSpec {
		spec := updateSpec("owners", "id")
		spec.AddModifier(set)
		return spec
	}
	for name, test := range map[string]struct {
		run  func(c client) error
		want error
	}{
		"name": {func(c client) error {
			_, err := c.update(t, updateSpec("owners", "id"), 1, set{"name", "y"})
			return err
		}, nil},
		"tenant": {func(c client) error {
			_, err := c.update(t, updateSpec("owners", "id"), 1, set{"user_id", "b"})
			return err
		}, seal.ErrWrongLocation},
		"by a modifier": {func(c client) error {
			_, err := c.update(t, modified(func(b *entsql.UpdateBuilder) { b.Set("user_id", "b") }), 1)
			return err
		}, seal.ErrWrongLocation},
		"another by a modifier": {func(c client) error {
			_, err := c.update(t, modified(func(b *entsql.UpdateBuilder) { b.Set("name", "z") }), 1)
			return err
		}, nil},
		"by an upsert": {func(c client) error {
			return c.create(t, "owners", 1, []entsql.ConflictOption{
				entsql.ConflictColumns("id"),
				entsql.ResolveWithNewValues(),
			}, set{"user_id", "b"})
		}, seal.ErrWrongLocation},
		"another by an upsert": {func(c client) error {
			return c.create(t, "owners", 1, []entsql.ConflictOption{
				entsql.ConflictColumns("id"),
				entsql.ResolveWith(func(u *entsql.UpdateSet) {
					u.SetExcluded("name")
				}),
			}, set{"user_id", "b"}, set{"name", "w"})
		}, nil},
	} {
		err := test.run(c)
		if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), "owners.user_id") {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		if got := c.row(t, "owners", 1, "user_id")[0]; got != "a" {
			t.Errorf("%s: the tenant is %q", name, got)
		}
	}
	spec := updateSpec("owners", "id")
	spec.SetField("user_id", field.TypeString, "b")
	spec.Node.ID.Value = 1
	ctx := hint.MovingTenants(t.Context())
	if _, err := stamp.Update(ctx, "test", c.Driver, spec, true); err != nil {
		t.Fatal(err)
	}
	if err := sqlgraph.UpdateNode(ctx, c.Driver, spec); err != nil {
		t.Fatal(err)
	}
	if got := c.row(t, "owners", 1, "user_id")[0]; got != "b" {
		t.Errorf("the tenant is %q", got)
	}
}

// Other packages' tables aren't stamped.
func TestOfNoColumn(t *testing.T) {
	t.Parallel()
	spec := sqlgraph.NewCreateSpec("others", sqlgraph.NewFieldSpec("id", field.TypeInt))
	spec.SetField("key", field.TypeString, "text")
	spec.OnConflict = []entsql.ConflictOption{entsql.ConflictColumns("id"), entsql.ResolveWithNewValues()}
	stamp.Create(nil, "test", spec)
	if len(spec.Fields) != 1 || spec.Fields[0].Value != "text" || len(spec.OnConflict) != 2 {
		t.Errorf("got %+v", spec)
	}
	rented := sqlgraph.NewCreateSpec("rented", sqlgraph.NewFieldSpec("id", field.TypeInt))
	rented.SetField("key", field.TypeString, value(t, "rented", "key", "text"))
	stamp.Create(nil, "another", rented)
	if arg := rented.Fields[0].Value.(*column.Arg); arg.Known {
		t.Error("another package's column is stamped")
	}
	none, err := stamp.Update(t.Context(), "test", nil, updateSpec("others", "id"), false)
	if none || err != nil {
		t.Errorf("got %v, %v", none, err)
	}
}
