package stamp_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"
	"entgo.io/ent/schema/field"
	"github.com/google/uuid"
	_ "modernc.org/sqlite"

	cryptdriver "github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/states"
)

const keyA = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=" // from the Fernet spec's vectors

func ring(tb testing.TB) *keyring.Ring {
	tb.Helper()
	r, err := keyring.New(keyA)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// The table rented has two secrets and a tenant, and isn't bound by its schema.
// The table held is, and its tenant is copied from owners by account_id. The
// table chest has a secret with a blind index.
var (
	rentedKey = column.Column{Table: "rented", Name: "key", Size: 500, Type: "string", Tenant: "user_id"}
	rentedPIN = column.Column{Table: "rented", Name: "pin", Size: 500, Type: "string", Tenant: "user_id"}
	heldKey   = column.Column{
		Table: "held", Name: "key", Size: 500, Type: "string", Tenant: "user_id", Bound: true,
		Source: "owners", SourceTenant: "user_id", Via: "account_id",
	}
	chestPIN = column.Column{Table: "chest", Name: "pin", Size: 500, Type: "string", Index: "pin_index"}

	fields = map[string]column.Field{
		"rented.key": register(&rentedKey), "rented.pin": register(&rentedPIN), "held.key": register(&heldKey),
		"chest.pin": register(&chestPIN),
	}
)

func register(c *column.Column) column.Field {
	c.Client = "test"
	f := column.NewField(c.Name, c.Size)
	b := column.Binding{Column: *c, Scanner: func() any { return f }}
	if c.Index != "" {
		b.Digest = func() any { return blindindex.Field{} }
	}
	column.Register(b)
	return f
}

// client is a database with the tables, behind a client's driver.
type client struct {
	db *sql.DB
	dialect.Driver
}

func open(t *testing.T, cfg cryptdriver.Config) client {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	for _, statement := range []string{
		"CREATE TABLE rented (id INTEGER PRIMARY KEY, key TEXT, pin TEXT, user_id TEXT, kind TEXT, UNIQUE (user_id, " +
			"kind))",
		"CREATE TABLE owners (id INTEGER PRIMARY KEY, user_id TEXT, name TEXT)",
		"CREATE TABLE held (id INTEGER PRIMARY KEY, key TEXT, user_id TEXT, account_id INTEGER)",
		"CREATE TABLE chest (id INTEGER PRIMARY KEY, pin TEXT, pin_index BLOB, note TEXT)",
	} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Keyring = ring(t)
	drv, err := cryptdriver.New(entsql.OpenDB(dialect.SQLite, db), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client{db, drv}
}

// row returns the values of the given columns of a row, with "" for NULL.
func (c client) row(t *testing.T, table string, id int, columns ...string) []string {
	t.Helper()
	texts, dest := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range texts {
		dest[i] = &texts[i]
	}
	query := "SELECT " + strings.Join(columns, ", ") + " FROM " + table + " WHERE id = ?"
	if err := c.db.QueryRowContext(t.Context(), query, id).Scan(dest...); err != nil {
		t.Fatal(err)
	}
	values := make([]string, len(columns))
	for i, text := range texts {
		values[i] = text.String
	}
	return values
}

// opensAs fails the test unless a token opens to want at its location. If the
// tenant is "", the column isn't bound.
func opensAs(t *testing.T, name, token string, c column.Column, tenant, want string) {
	t.Helper()
	r := ring(t)
	if tenant != "" {
		var err error
		if r, err = new(seal.Locator).Bind(r, c, tenant); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := r.Decrypt(token); err != nil || text != want {
		t.Errorf("%s: %s of %q opens as %q, %v, want %q", name, c, tenant, text, err, want)
	}
}

// value returns the argument that the column's ValueScanner makes of a text, or
// v itself if the column isn't encrypted.
func value(t *testing.T, table, name string, v any) driver.Value {
	t.Helper()
	f, ok := fields[table+"."+name]
	if !ok {
		return v
	}
	text, ok := v.(string)
	if !ok {
		return v
	}
	arg, err := f.Value(fieldcrypt.New(text))
	if err != nil {
		t.Fatal(err)
	}
	return arg
}

// set is a column and its value.
type set struct {
	name  string
	value any
}

func createSpec(t *testing.T, table string, id int, sets ...set) *sqlgraph.CreateSpec {
	t.Helper()
	spec := sqlgraph.NewCreateSpec(table, sqlgraph.NewFieldSpec("id", field.TypeInt))
	spec.ID.Value = id
	for _, s := range sets {
		spec.SetField(s.name, field.TypeString, value(t, table, s.name, s.value))
	}
	return spec
}

// create stores a row as generated code does.
func (c client) create(t *testing.T, table string, id int, opts []entsql.ConflictOption, sets ...set) error {
	t.Helper()
	spec := createSpec(t, table, id, sets...)
	spec.OnConflict = opts
	stamp.Create(nil, "test", spec)
	return sqlgraph.CreateNode(t.Context(), c.Driver, spec)
}

// update changes the matching rows, as generated code does, and returns their
// number. With an ID it is an UpdateOne.
func (c client) update(t *testing.T, spec *sqlgraph.UpdateSpec, id any, sets ...set) (int, error) {
	t.Helper()
	for _, s := range sets {
		if s.value == nil {
			spec.ClearField(s.name, field.TypeString)
		} else {
			spec.SetField(s.name, field.TypeString, value(t, spec.Node.Table, s.name, s.value))
		}
	}
	spec.Node.ID.Value = id
	none, err := stamp.Update(t.Context(), "test", c.Driver, spec, id != nil)
	if none || err != nil {
		return 0, err
	}
	if id != nil {
		return 1, sqlgraph.UpdateNode(t.Context(), c.Driver, spec)
	}
	return sqlgraph.UpdateNodes(t.Context(), c.Driver, spec)
}

func updateSpec(table string, columns ...string) *sqlgraph.UpdateSpec {
	spec := sqlgraph.NewUpdateSpec(table, columns, sqlgraph.NewFieldSpec("id", field.TypeInt))
	spec.ScanValues = func(names []string) ([]any, error) {
		dest := make([]any, len(names))
		for i := range dest {
			dest[i] = new(sql.NullString)
		}
		return dest, nil
	}
	spec.Assign = func([]string, []any) error { return nil }
	return spec
}

// A tenant has the same text in every type that ent scans it into and that a
// statement may have.
func TestTenantText(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	type custom string
	n, text := 42, "user-1"
	for name, test := range map[string]struct {
		value any
		want  string
	}{
		"string": {text, text}, "pointer": {&text, text}, "bytes": {[]byte(text), text}, "custom": {custom(text), text},
		"UUID": {id, id.String()}, "UUID pointer": {&id, id.String()}, "int": {n, "42"}, "int pointer": {&n, "42"},
		"uint8": {uint8(7), "7"}, "NullString": {sql.NullString{String: text, Valid: true}, text},
		"NullString pointer": {&sql.NullString{String: text, Valid: true}, text},
		"NullInt64":          {&sql.NullInt64{Int64: -3, Valid: true}, "-3"},
		"Null":               {sql.Null[string]{V: text, Valid: true}, text},
		"named":              {sql.Named("n", text), text}, "guard": {&column.Guard{Stored: &n}, "42"},
		"empty": {"", ""},
	} {
		if got, ok := stamp.TenantText(test.value); !ok || got != test.want {
			t.Errorf("%s: got %q, %v, want %q", name, got, ok, test.want)
		}
	}
	for name, value := range map[string]any{
		"nil": nil, "nil pointer": (*string)(nil), "nil UUID": (*uuid.UUID)(nil), "nil bytes": []byte(nil),
		"NULL":         sql.NullString{},
		"NULL pointer": &sql.NullString{}, "bool": true, "float": 1.5, "struct": struct{}{},
		"secret": fieldcrypt.New("x"), "list": []string{"a"},
	} {
		if got, ok := stamp.TenantText(value); ok || got != "" {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// At and DigestOf refuse a value that isn't a secret, or that the column can't
// hold.
func TestAt(t *testing.T) {
	t.Parallel()
	s := fieldcrypt.New("text")
	var absent *fieldcrypt.Secret
	for name, test := range map[string]struct {
		got  any
		want error // the refusal's error; nil for none
		null bool
	}{
		"secret":           {stamp.At(s, chestPIN, nil), nil, false},
		"pointer":          {stamp.At(&s, chestPIN, nil), nil, false},
		"value":            {stamp.At(fieldcrypt.NewValue([]byte("x")), chestPIN, nil), nil, false},
		"digest":           {stamp.DigestOf(s, chestPIN, nil), nil, false},
		"absent":           {stamp.At(fieldcrypt.Secret{}, chestPIN, nil), nil, true},
		"nil":              {stamp.At(absent, chestPIN, nil), nil, true},
		"digest of absent": {stamp.DigestOf(fieldcrypt.Secret{}, chestPIN, nil), nil, true},
		"text":             {stamp.At("canary", chestPIN, nil), fieldcrypt.ErrValue, false},
		"digest of a text": {stamp.DigestOf("canary", chestPIN, nil), fieldcrypt.ErrValue, false},
		"no blind index":   {stamp.DigestOf(s, rentedKey, nil), blindindex.ErrBlindIndex, false},
		"too long": {
			stamp.At(fieldcrypt.New(strings.Repeat("x", 304)), chestPIN, nil),
			column.ErrTooLong, false,
		},
		"digest, too long": {
			stamp.DigestOf(fieldcrypt.New(strings.Repeat("x", 304)), chestPIN, nil),
			column.ErrTooLong, false,
		},
		"not text": {stamp.At(fieldcrypt.New("\xff"), chestPIN, nil), column.ErrNotText, false},
		"redaction marker": {
			stamp.At(fieldcrypt.New(fieldcrypt.Redacted), chestPIN, nil),
			fieldcrypt.ErrRedacted, false,
		},
		"unencodable value": {
			stamp.At(fieldcrypt.NewValue(map[string]any{"f": func() {}}), chestPIN, nil),
			fieldcrypt.ErrValue, false,
		},
	} {
		refusal, refused := test.got.(*column.Refusal)
		if refused != (test.want != nil) || (test.got == nil) != test.null {
			t.Errorf("%s: got a %T", name, test.got)
		}
		if !refused {
			continue
		}
		var detail *fieldcrypt.Error
		if !errors.Is(refusal.Err, test.want) || !errors.As(refusal.Err, &detail) ||
			detail.Table != "chest" && detail.Table != "rented" || strings.Contains(refusal.Err.Error(), "canary") {
			t.Errorf("%s: got %v, want %v", name, refusal.Err, test.want)
		}
	}
}

// A new row's secrets are sealed for its tenant, which a field or an edge sets,
// and are indexed.
func TestCreate(t *testing.T) {
	t.Parallel()
	bound := cryptdriver.Config{States: states.New(states.Binding, states.Require, rentedKey, rentedPIN)}
	for name, test := range map[string]struct {
		cfg    cryptdriver.Config
		sets   []set
		tenant string // that the token is bound to; "" for none
		want   error
	}{
		"bound":              {bound, []set{{"user_id", "a"}, {"key", "text"}}, "a", nil},
		"secret first":       {bound, []set{{"key", "text"}, {"kind", "x"}, {"user_id", "a"}}, "a", nil},
		"not bound":          {cryptdriver.Config{}, []set{{"key", "text"}}, "", nil},
		"no tenant":          {bound, []set{{"key", "text"}}, "", seal.ErrNoTenant},
		"tenant NULL":        {bound, []set{{"key", "text"}, {"user_id", nil}}, "", seal.ErrNoTenant},
		"tenant of a number": {bound, []set{{"key", "text"}, {"user_id", 42}}, "42", nil},
	} {
		c := open(t, test.cfg)
		err := c.create(t, "rented", 1, nil, test.sets...)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		if err == nil {
			opensAs(t, name, c.row(t, "rented", 1, "key")[0], rentedKey, test.tenant, "text")
		} else if !strings.Contains(err.Error(), "rented.key") || !strings.Contains(err.Error(), "user_id") {
			t.Errorf("%s: the error doesn't say what is missing: %v", name, err)
		}
	}
	c := open(t, cryptdriver.Config{})
	spec := createSpec(t, "held", 1, set{"key", "text"})
	spec.Edges = []*sqlgraph.EdgeSpec{{
		Rel: sqlgraph.M2O, Table: "held", Columns: []string{"user_id"},
		Target: &sqlgraph.EdgeTarget{IDSpec: sqlgraph.NewFieldSpec("id", field.TypeString), Nodes: []driver.Value{"b"}},
	}}
	stamp.Create(nil, "test", spec)
	if err := sqlgraph.CreateNode(t.Context(), c.Driver, spec); err != nil {
		t.Fatal(err)
	}
	opensAs(t, "by an edge", c.row(t, "held", 1, "key")[0], heldKey, "b", "text")
}

func digestOf(t *testing.T, text string) string {
	t.Helper()
	digest, err := new(blindindex.Digester).Primary(ring(t), chestPIN, text)
	if err != nil {
		t.Fatal(err)
	}
	return string(digest)
}

// A digest follows its secret on create, on update, and when the secret is
// cleared.
func TestDigests(t *testing.T) {
	t.Parallel()
	c := open(t, cryptdriver.Config{})
	step := func(name, want string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		row := c.row(t, "chest", 1, "pin", "pin_index")
		switch {
		case want == "":
			if row[0] != "" || row[1] != "" {
				t.Errorf("%s: the secret or its digest isn't empty", name)
			}
		case row[1] != digestOf(t, want):
			t.Errorf("%s: got the digest %x, want %x", name, row[1], digestOf(t, want))
		default:
			opensAs(t, name, row[0], chestPIN, "", want)
		}
	}
	first := func(_ int, err error) error { return err }
	step("create", "one", c.create(t, "chest", 1, nil, set{"pin", "one"}))
	step("update one", "two", first(c.update(t, updateSpec("chest", "id", "pin"), 1, set{"pin", "two"})))
	step("update", "three", first(c.update(t, updateSpec("chest", "id"), nil, set{"pin", "three"})))
	step("another field", "three", first(c.update(t, updateSpec("chest", "id"), nil, set{"note", "x"})))
	step("clear one", "", first(c.update(t, updateSpec("chest", "id"), 1, set{"pin", nil})))
	step("set again", "four", first(c.update(t, updateSpec("chest", "id"), 1, set{"pin", "four"})))
	step("clear", "", first(c.update(t, updateSpec("chest", "id"), nil, set{"pin", nil})))
	// A digest set directly is replaced with the secret's.
	spec := createSpec(t, "chest", 2, set{"pin", "five"})
	spec.SetField("pin_index", field.TypeBytes, []byte("forged"))
	stamp.Create(nil, "test", spec)
	if err := sqlgraph.CreateNode(t.Context(), c.Driver, spec); err != nil {
		t.Fatal(err)
	}
	if got := c.row(t, "chest", 2, "pin_index")[0]; got != digestOf(t, "five") {
		t.Errorf("got the digest %x", got)
	}
	// An update may clear many secrets at once, since NULL isn't a token.
	if err := c.create(t, "chest", 1, []entsql.ConflictOption{
		entsql.ConflictColumns("id"),
		entsql.ResolveWithNewValues(),
	}, set{"pin", "six"}); err != nil {
		t.Fatal(err)
	}
	if n, err := c.update(t, updateSpec("chest", "id"), nil, set{"pin", nil}); n != 2 || err != nil {
		t.Errorf("cleared %d rows, %v", n, err)
	}
	if got := c.row(t, "chest", 2, "pin", "pin_index"); got[0] != "" || got[1] != "" {
		t.Error("the secret or its digest isn't empty")
	}
}

// A bulk seals each row for its own tenant.
func TestBatch(t *testing.T) {
	t.Parallel()
	c := open(t, cryptdriver.Config{States: states.New(states.Binding, states.Require, rentedKey, rentedPIN)})
	batch := func(opts []entsql.ConflictOption, specs ...*sqlgraph.CreateSpec) error {
		for _, spec := range specs {
			stamp.Create(nil, "test", spec)
		}
		spec := &sqlgraph.BatchCreateSpec{Nodes: specs}
		spec.OnConflict = opts
		stamp.Batch("test", spec)
		return sqlgraph.BatchCreate(t.Context(), c.Driver, spec)
	}
	if err := batch(nil, createSpec(t, "rented", 1, set{"key", "one"}, set{"user_id", "a"}),
		createSpec(t, "rented", 2, set{"user_id", "b"}),
		createSpec(t, "rented", 3, set{"key", "three"}, set{"pin", "pin"}, set{"user_id", "b"})); err != nil {
		t.Fatal(err)
	}
	opensAs(t, "first", c.row(t, "rented", 1, "key")[0], rentedKey, "a", "one")
	opensAs(t, "third", c.row(t, "rented", 3, "key")[0], rentedKey, "b", "three")
	opensAs(t, "third", c.row(t, "rented", 3, "pin")[0], rentedPIN, "b", "pin")
	if row := c.row(t, "rented", 2, "key", "pin", "user_id"); row[0] != "" || row[1] != "" || row[2] != "b" {
		t.Errorf("got %v", row)
	}
	again := func() []*sqlgraph.CreateSpec {
		return []*sqlgraph.CreateSpec{
			createSpec(t, "rented", 1, set{"key", "new one"}, set{"user_id", "c"}, set{"pin", "p"}),
			createSpec(t, "rented", 2, set{"key", "new two"}, set{"user_id", "d"}, set{"pin", "p"}),
		}
	}
	if err := batch([]entsql.ConflictOption{entsql.ConflictColumns("id"), entsql.ResolveWithNewValues()},
		again()...); err != nil {
		t.Fatal(err)
	}
	opensAs(t, "new values", c.row(t, "rented", 1, "key")[0], rentedKey, "c", "new one")
	opensAs(t, "new values", c.row(t, "rented", 2, "pin")[0], rentedPIN, "d", "p")
	// A setter's secret would go into every conflicting row.
	c = open(t, cryptdriver.Config{})
	err := batch([]entsql.ConflictOption{entsql.ConflictColumns("id"), entsql.ResolveWith(func(s *entsql.UpdateSet) {
		s.Set("key", stamp.OnConflict(fieldcrypt.New("shared"), rentedKey))
	})}, again()...)
	if !errors.Is(err, stamp.ErrManyRows) {
		t.Errorf("got %v, want ErrManyRows", err)
	}
	stamp.Batch("test", &sqlgraph.BatchCreateSpec{})
}

// An upsert leaves no token in another tenant's row. The conflicting row is
// tenant b's, the new row tenant a's.
func TestUpsert(t *testing.T) {
	t.Parallel()
	resolve := func(set func(*entsql.UpdateSet)) entsql.ConflictOption { return entsql.ResolveWith(set) }
	onID, onTenant := entsql.ConflictColumns("id"), entsql.ConflictColumns("user_id", "kind")
	secret := func(c column.Column) any { return stamp.OnConflict(fieldcrypt.New("setter's"), c) }
	for name, test := range map[string]struct {
		opts []entsql.ConflictOption
		sets []set
		own  bool // the conflicting row belongs to the new row's tenant
		want []string
	}{
		"nothing": {
			[]entsql.ConflictOption{onID, entsql.DoNothing()},
			[]set{{"key", "new"}},
			false,
			[]string{"b:old", "b:old pin", "b"},
		},
		"new values": {
			[]entsql.ConflictOption{onID, entsql.ResolveWithNewValues()},
			[]set{{"key", "new"}, {"pin", "new pin"}},
			false,
			[]string{"a:new", "a:new pin", "a"},
		},
		"half of them": {
			[]entsql.ConflictOption{onID, entsql.ResolveWithNewValues()},
			[]set{{"key", "new"}},
			false, nil,
		},
		"ignore": {
			[]entsql.ConflictOption{onID, entsql.ResolveWithIgnore()},
			[]set{{"key", "new"}},
			false,
			[]string{"b:old", "b:old pin", "b"},
		},
		"secret, perhaps another tenant's row": {[]entsql.ConflictOption{
			onID,
			resolve(func(s *entsql.UpdateSet) { s.SetExcluded("key") }),
		}, []set{{"key", "new"}}, false, nil},
		"setter's, perhaps another tenant's row": {[]entsql.ConflictOption{
			onID,
			resolve(func(s *entsql.UpdateSet) { s.Set("key", secret(rentedKey)) }),
		}, []set{{"key", "new"}}, false, nil},
		"tenant only": {[]entsql.ConflictOption{
			onID,
			resolve(func(s *entsql.UpdateSet) { s.SetExcluded("user_id") }),
		}, []set{{"key", "new"}}, false, nil},
		"another field": {
			[]entsql.ConflictOption{
				onID,
				resolve(func(s *entsql.UpdateSet) { s.Set("kind", "y") }),
			},
			[]set{{"key", "new"}},
			false,
			[]string{"b:old", "b:old pin", "b"},
		},
		"tenant in the target": {
			[]entsql.ConflictOption{
				onTenant,
				resolve(func(s *entsql.UpdateSet) { s.SetExcluded("key") }),
			},
			[]set{{"key", "new"}, {"kind", "k"}},
			true,
			[]string{"a:new", "a:old pin", "a"},
		},
		"setter's, tenant in the target": {
			[]entsql.ConflictOption{
				onTenant,
				resolve(func(s *entsql.UpdateSet) { s.Set("pin", secret(rentedPIN)) }),
			},
			[]set{{"key", "new"}, {"kind", "k"}},
			true,
			[]string{"a:old", "a:setter's", "a"},
		},
		"setter's, of another tenant": {
			[]entsql.ConflictOption{
				onTenant,
				resolve(func(s *entsql.UpdateSet) { s.Set("pin", stamp.At(fieldcrypt.New("x"), rentedPIN, "c")) }),
			},
			[]set{{"key", "new"}, {"kind", "k"}},
			true, nil,
		},
		"tenant and a setter's": {[]entsql.ConflictOption{
			onID,
			resolve(func(s *entsql.UpdateSet) {
				s.SetExcluded("user_id").SetExcluded("key").
					Set("pin", secret(rentedPIN))
			}),
		}, []set{{"key", "new"}}, false, []string{"a:new", "a:setter's", "a"}},
		"tenant and NULL": {
			[]entsql.ConflictOption{
				onID,
				resolve(func(s *entsql.UpdateSet) { s.SetExcluded("user_id").SetExcluded("key").SetNull("pin") }),
			},
			[]set{{"key", "new"}},
			false,
			[]string{"a:new", "", "a"},
		},
		"NULL alone": {
			[]entsql.ConflictOption{onID, resolve(func(s *entsql.UpdateSet) { s.SetNull("pin") })},
			[]set{{"key", "new"}},
			false,
			[]string{"b:old", "", "b"},
		},
		"another tenant": {
			[]entsql.ConflictOption{
				onID,
				resolve(func(s *entsql.UpdateSet) { s.Set("user_id", "c").SetExcluded("key").SetNull("pin") }),
			},
			[]set{{"key", "new"}},
			false, nil,
		},
		"an expression for the tenant": {[]entsql.ConflictOption{onID, resolve(func(s *entsql.UpdateSet) {
			s.Set("user_id", entsql.Expr("lower('A')")).SetExcluded("key").SetNull("pin")
		})}, []set{{"key", "new"}}, false, nil},
		"an expression for a secret": {
			[]entsql.ConflictOption{
				onTenant,
				resolve(func(s *entsql.UpdateSet) { s.Set("key", entsql.Expr("excluded.pin")) }),
			},
			[]set{{"key", "new"}, {"kind", "k"}},
			true, nil,
		},
		"a text for a secret": {
			[]entsql.ConflictOption{
				onTenant,
				resolve(func(s *entsql.UpdateSet) { s.Set("key", "gAAAAA") }),
			},
			[]set{{"key", "new"}, {"kind", "k"}},
			true, nil,
		},
	} {
		for _, bound := range []bool{true, false} {
			name := fmt.Sprintf("%s, bound %v", name, bound)
			cfg := cryptdriver.Config{}
			if bound {
				cfg.States = states.New(states.Binding, states.Require, rentedKey, rentedPIN)
			}
			c := open(t, cfg)
			owner := "b"
			if test.own {
				owner = "a"
			}
			if err := c.create(t, "rented", 1, nil, set{"key", "old"}, set{"pin", "old pin"}, set{"user_id", owner},
				set{"kind", "k"}); err != nil {
				t.Fatal(err)
			}
			err := c.create(t, "rented", 1, test.opts, append([]set{{"user_id", "a"}}, test.sets...)...)
			if bound && test.want == nil {
				var detail *fieldcrypt.Error
				if !errors.Is(err, seal.ErrWrongLocation) || !errors.As(err, &detail) ||
					!strings.Contains(err.Error(), "user_id") {
					t.Errorf("%s: got %v, want ErrWrongLocation", name, err)
				}
				opensAs(t, name, c.row(t, "rented", 1, "key")[0], rentedKey, owner, "old")
				continue
			}
			// which ent returns
			if err != nil && (!strings.HasPrefix(name, "nothing") || !errors.Is(err, sql.ErrNoRows)) {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if test.want == nil {
				continue // nothing depends on the tenant
			}
			row := c.row(t, "rented", 1, "key", "pin", "user_id")
			for i, of := range []column.Column{rentedKey, rentedPIN} {
				tenant, want, _ := strings.Cut(test.want[i], ":")
				if !bound {
					tenant = ""
				}
				if test.want[i] == "" {
					if row[i] != "" {
						t.Errorf("%s: %s isn't NULL", name, of)
					}
				} else {
					opensAs(t, name, row[i], of, tenant, want)
				}
			}
			if row[2] != test.want[2] {
				t.Errorf("%s: the row's tenant is %s", name, row[2])
			}
		}
	}
}

// An upsert keeps a blind index in step, or is refused.
func TestUpsertOfAnIndex(t *testing.T) {
	t.Parallel()
	s := func(text string) any { return stamp.OnConflict(fieldcrypt.New(text), chestPIN) }
	d := func(text string) any { return stamp.DigestOf(fieldcrypt.New(text), chestPIN, nil) }
	for name, test := range map[string]struct {
		set  func(*entsql.UpdateSet)
		want string // "" for NULL, "-" for a refusal
	}{
		"new values": {func(u *entsql.UpdateSet) { u.SetExcluded("pin").SetExcluded("pin_index") }, "new"},
		"setter": {func(u *entsql.UpdateSet) {
			u.Set("pin", s("setter's")).
				Set("pin_index", d("setter's"))
		}, "setter's"},
		"ignore":             {func(u *entsql.UpdateSet) { u.SetIgnore("pin").SetIgnore("pin_index") }, "old"},
		"null":               {func(u *entsql.UpdateSet) { u.SetNull("pin").SetNull("pin_index") }, ""},
		"another field":      {func(u *entsql.UpdateSet) { u.Set("note", "x") }, "old"},
		"no digest":          {func(u *entsql.UpdateSet) { u.SetExcluded("pin") }, "-"},
		"setter, no digest":  {func(u *entsql.UpdateSet) { u.Set("pin", s("setter's")) }, "-"},
		"setter, new digest": {func(u *entsql.UpdateSet) { u.Set("pin", s("setter's")).SetExcluded("pin_index") }, "-"},
		"null, no digest":    {func(u *entsql.UpdateSet) { u.SetNull("pin") }, "-"},
		"digest alone":       {func(u *entsql.UpdateSet) { u.Set("pin_index", d("setter's")) }, "-"},
		"immutable":          {func(u *entsql.UpdateSet) { u.SetIgnore("pin").SetExcluded("pin_index") }, "old"},
	} {
		c := open(t, cryptdriver.Config{})
		if err := c.create(t, "chest", 1, nil, set{"pin", "old"}); err != nil {
			t.Fatal(err)
		}
		err := c.create(t, "chest", 1, []entsql.ConflictOption{
			entsql.ConflictColumns("id"),
			entsql.ResolveWith(test.set),
		}, set{"pin", "new"})
		want := test.want
		if want == "-" {
			var detail *fieldcrypt.Error
			if !errors.Is(err, blindindex.ErrBlindIndex) || !errors.As(err, &detail) || detail.Column != "pin" {
				t.Errorf("%s: got %v, want ErrBlindIndex", name, err)
			}
			want = "old"
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		row := c.row(t, "chest", 1, "pin", "pin_index")
		if want == "" {
			if row[0] != "" || row[1] != "" {
				t.Errorf("%s: it isn't NULL", name)
			}
			continue
		}
		opensAs(t, name, row[0], chestPIN, "", want)
		if row[1] != digestOf(t, want) {
			t.Errorf("%s: the digest is another secret's", name)
		}
	}
}

// An update stores a secret in one row, and leaves no token bound to the old
// tenant when the tenant changes. Rows 1 and 2 are tenant a's.
func TestUpdate(t *testing.T) {
	t.Parallel()
	first := func(s *entsql.Selector) { s.Where(entsql.EQ(s.C("id"), 1)) }
	none := func(s *entsql.Selector) { s.Where(entsql.EQ(s.C("id"), 9)) }
	one := 1
	for name, test := range map[string]struct {
		id        any
		predicate func(*entsql.Selector)
		sets      []set
		n         int
		want      error
		key       string // row 1's tenant and secret afterwards
	}{
		"one":               {one, nil, []set{{"key", "new"}}, 1, nil, "a:new"},
		"both":              {one, nil, []set{{"key", "new"}, {"pin", "p"}}, 1, nil, "a:new"},
		"one of many":       {nil, first, []set{{"key", "new"}}, 1, nil, "a:new"},
		"many":              {nil, nil, []set{{"key", "new"}}, 0, stamp.ErrManyRows, "a:old"},
		"none":              {nil, none, []set{{"key", "new"}}, 0, nil, "a:old"},
		"no secret":         {nil, nil, []set{{"kind", nil}}, 2, nil, "a:old"},
		"to NULL":           {nil, nil, []set{{"key", nil}}, 2, nil, ""},
		"the same tenant":   {one, nil, []set{{"user_id", "a"}, {"key", "new"}}, 1, nil, "a:new"},
		"move with all":     {one, nil, []set{{"user_id", "b"}, {"key", "new"}, {"pin", "p"}}, 1, nil, "b:new"},
		"move, one NULL":    {one, nil, []set{{"user_id", "b"}, {"key", "new"}, {"pin", nil}}, 1, nil, "b:new"},
		"move with half":    {one, nil, []set{{"user_id", "b"}, {"key", "new"}}, 0, seal.ErrWrongLocation, "a:old"},
		"move":              {one, nil, []set{{"user_id", "b"}}, 0, seal.ErrWrongLocation, "a:old"},
		"no move":           {one, nil, []set{{"user_id", "a"}}, 1, nil, "a:old"},
		"move of many":      {nil, nil, []set{{"user_id", "b"}}, 0, seal.ErrWrongLocation, "a:old"},
		"move of none":      {nil, none, []set{{"user_id", "b"}}, 0, seal.ErrWrongLocation, "a:old"},
		"move to no tenant": {one, nil, []set{{"user_id", nil}}, 0, seal.ErrWrongLocation, "a:old"},
		"leave with all":    {one, nil, []set{{"user_id", nil}, {"key", nil}, {"pin", nil}}, 1, nil, ""},
		"leave with one": {
			one, nil,
			[]set{{"user_id", nil}, {"key", nil}, {"pin", "p"}},
			0,
			seal.ErrWrongLocation, "a:old",
		},
		"all leave": {nil, nil, []set{{"user_id", nil}}, 0, seal.ErrWrongLocation, "a:old"},
		"many with a move": {
			nil, nil,
			[]set{{"user_id", "b"}, {"key", "new"}, {"pin", "p"}},
			0,
			stamp.ErrManyRows, "a:old",
		},
	} {
		for _, bound := range []bool{true, false} {
			name := fmt.Sprintf("%s, bound %v", name, bound)
			cfg := cryptdriver.Config{}
			if bound {
				cfg.States = states.New(states.Binding, states.Require, rentedKey, rentedPIN)
			}
			c := open(t, cfg)
			for id := 1; id <= 2; id++ {
				if err := c.create(t, "rented", id, nil, set{"key", "old"}, set{"pin", "old"}, set{"user_id", "a"},
					set{"kind", fmt.Sprint(id)}); err != nil {
					t.Fatal(err)
				}
			}
			spec := updateSpec("rented", "id", "key")
			spec.Predicate = test.predicate
			n, err := c.update(t, spec, test.id, test.sets...)
			if !bound && errors.Is(test.want, seal.ErrWrongLocation) {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				continue // nothing depends on the tenant
			}
			if n != test.n && err == nil || !errors.Is(err, test.want) {
				t.Errorf("%s: %d rows, %v, want %d, %v", name, n, err, test.n, test.want)
			}
			tenant, want, _ := strings.Cut(test.key, ":")
			if !bound {
				tenant = ""
			}
			switch got := c.row(t, "rented", 1, "key")[0]; {
			case test.key == "" && got != "":
				t.Errorf("%s: it isn't NULL", name)
			case test.key != "":
				opensAs(t, name, got, rentedKey, tenant, want)
			}
			if strings.HasPrefix(test.key, "a:") {
				if got := c.row(t, "rented", 1, "user_id")[0]; got != "a" {
					t.Errorf("%s: the row's tenant is %q", name, got)
				}
			}
		}
	}
}

// TestUpdateOfNoRow updates a missing row, in a table with secrets that need
// its tenant.
func TestUpdateOfNoRow(t *testing.T) {
	t.Parallel()
	c := open(t, cryptdriver.Config{})
	_, err := c.update(t, updateSpec("held", "id", "key"), 9, set{"key", "new"})
	var missing *sqlgraph.NotFoundError
	if !errors.As(err, &missing) {
		t.Errorf("got %v, want a NotFoundError", err)
	}
}

// An update in the caller's transaction sees the transaction's earlier changes.
func TestUpdateInTx(t *testing.T) {
	t.Parallel()
	c := open(t, cryptdriver.Config{})
	tx, err := c.Tx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inTx := client{c.db, txDriver{tx}}
	if err := inTx.create(t, "held", 1, nil, set{"key", "old"}, set{"user_id", "a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := inTx.update(t, updateSpec("held", "id"), 1, set{"key", "new"}); err != nil {
		t.Fatal(err)
	}
	if n, err := inTx.update(t, updateSpec("held", "id"), nil, set{"key", "newer"}); n != 1 || err != nil {
		t.Fatalf("%d rows, %v", n, err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	opensAs(t, "in a transaction", c.row(t, "held", 1, "key")[0], heldKey, "a", "newer")
}

// txDriver is a transaction, as the driver of ent's transactional client. It
// can't start another one.
type txDriver struct{ dialect.ExecQuerier }

func (d txDriver) Tx(context.Context) (dialect.Tx, error) { return d, nil }
func (txDriver) Dialect() string                          { return dialect.SQLite }
func (txDriver) Close() error                             { return nil }
func (txDriver) Commit() error                            { return nil }
func (txDriver) Rollback() error                          { return nil }
