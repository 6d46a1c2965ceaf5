//go:build ignore

package program

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	ent "github.com/credent-go/credent/codegen/testdata/PACKAGE"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/account"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/deed"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/doc"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/enttest"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/intercept"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/membership"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/owner"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/predicate"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
)

func isNoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }

func membershipOf(a *ent.Account, g *ent.Group) []predicate.Membership {
	if g == nil {
		return []predicate.Membership{membership.AccountID(a.ID)}
	}
	return []predicate.Membership{membership.AccountID(a.ID), membership.GroupID(g.ID)}
}

// deeds returns how many deeds have a number.
func (r *run) deeds(number string) int {
	return r.c.Deed.Query().Where(deed.NumberIs(encrypted.New(number))).CountX(r.ctx)
}

// at returns a modifier that sets the body, and its digest.
func at(body string, tenant any) func(*entsql.UpdateBuilder) {
	return func(u *entsql.UpdateBuilder) {
		u.Set(doc.FieldBody, encrypted.At(encrypted.New(body), doc.BodyColumn, tenant))
		u.Set(doc.FieldBodyIndex, encrypted.DigestOf(encrypted.New(body), doc.BodyColumn, nil))
	}
}

// modifiers sets secrets in Modify.
func (r *run) modifiers() {
	ctx, c := r.ctx, r.c
	d := r.doc("old")
	r.expect("Modify with a tenant", c.Doc.UpdateOneID(d.ID).Modify(at("with", r.o1.ID)).Exec(ctx), nil)
	r.has("Modify with a tenant", d.ID, "with", r.o1)
	r.expect("Modify without a tenant", c.Doc.UpdateOneID(d.ID).Modify(at("without", nil)).Exec(ctx), nil)
	r.has("Modify without a tenant", d.ID, "without", r.o1)
	n, err := c.Doc.Update().Where(doc.Title(d.Title)).Modify(at("many", nil)).Save(ctx)
	r.expect("Modify of many, one row", err, nil)
	equal(r, "Modify of many, one row", n, 1)
	r.has("Modify of many, one row", d.ID, "many", r.o1)
	n, err = c.Doc.Update().Where(doc.Title("none")).Modify(at("none", nil)).Save(ctx)
	r.expect("Modify of many, no row", err, nil)
	equal(r, "Modify of many, no row", n, 0)
	r.expect("Modify of many rows", c.Doc.Update().Modify(at("all", r.o1.ID)).Exec(ctx), encrypted.ErrManyRows)
	bare := func(u *entsql.UpdateBuilder) {
		u.Set(doc.FieldBody, encrypted.New("bare")).Set(doc.FieldBodyIndex, encrypted.DigestOf(encrypted.New("bare"),
			doc.BodyColumn, nil))
	}
	err = c.Doc.UpdateOneID(d.ID).Modify(bare).Exec(ctx)
	r.expect("Modify with a bare secret", err, encrypted.ErrNoLocation)
	equal(r, "the error shows the call", err != nil && strings.Contains(err.Error(), "encrypted.At("), true)
	r.expect("Modify without the digest", c.Doc.UpdateOneID(d.ID).Modify(func(u *entsql.UpdateBuilder) {
		u.Set(doc.FieldBody, encrypted.At(encrypted.New("x"), doc.BodyColumn, r.o1.ID))
	}).Exec(ctx), encrypted.ErrBlindIndex)
	r.expect("Modify that clears without the digest", c.Doc.UpdateOneID(d.ID).Modify(func(u *entsql.UpdateBuilder) {
		u.SetNull(doc.FieldBody)
	}).Exec(ctx), encrypted.ErrBlindIndex)
	r.has("after refusals of Modify", d.ID, "many", r.o1)
	moved := func(u *entsql.UpdateBuilder) { u.Set(doc.FieldOwnerID, r.o2.ID) }
	r.refused("Modify that moves", c.Doc.UpdateOneID(d.ID).Modify(moved).Exec(ctx), d.ID, "many", "many", r.o2)
	d = r.doc("own")
	r.refused("Modify with another tenant", c.Doc.UpdateOneID(d.ID).Modify(at("wrong", r.o2.ID)).Exec(ctx), d.ID,
		"own", "wrong", r.o1)

	// A modifier that has nothing to do with secrets.
	d = r.doc("old")
	r.expect("Modify of the title, body cleared",
		c.Doc.Update().Where(doc.ID(d.ID)).ClearBody().Modify(func(u *entsql.UpdateBuilder) {
			u.Set(doc.FieldTitle, entsql.Expr(`title || 'C:\dir'`))
		}).Exec(ctx), nil)
	r.lacks("Modify of the title, body cleared", d.ID)
	equal(r, "the title", c.Doc.GetX(ctx, d.ID).Title, d.Title+`C:\dir`)
}

// rawSQL stores secrets by ExecContext and QueryContext.
func (r *run) rawSQL() {
	ctx, c := r.ctx, r.c
	set := r.sql("UPDATE docs SET body = ?, body_index = ? WHERE id = ?")
	args := func(body string, tenant any) []any {
		return []any{encrypted.At(encrypted.New(body), doc.BodyColumn, tenant), encrypted.DigestOf(encrypted.New(body),
			doc.BodyColumn, nil)}
	}
	d, other := r.doc("old"), r.doc("other")
	_, err := c.ExecContext(ctx, set, append(args("raw", r.o1.ID), d.ID)...)
	r.expect("raw", err, nil)
	r.has("raw", d.ID, "raw", r.o1)
	_, err = c.ExecContext(ctx, set, encrypted.New("bare"), nil, d.ID)
	r.expect("raw, a bare secret", err, encrypted.ErrNoLocation)
	_, err = c.ExecContext(ctx, r.sql("UPDATE docs SET body = ? WHERE id = ?"), args("raw", r.o1.ID)[0], d.ID)
	r.expect("raw, without the digest", err, encrypted.ErrBlindIndex)
	_, err = c.ExecContext(ctx, set, append(args("no tenant", nil), d.ID)...)
	if r.scoped == nil {
		r.expect("raw, without the tenant", err, nil)
		r.has("raw, without the tenant", d.ID, "no tenant", r.o1)
	} else {
		r.expect("raw, without the tenant", err, encrypted.ErrNoTenant)
		r.has("raw, without the tenant", d.ID, "raw", r.o1)
	}
	_, err = c.ExecContext(ctx, r.sql("UPDATE docs SET body = ?, body_index = ? WHERE id IN (?, ?)"),
		append(args("same", r.o1.ID), d.ID, other.ID)...)
	r.expect("raw, two rows", err, encrypted.ErrManyRows)
	r.has("raw, two rows", other.ID, "other", r.o1)
	titles := []string{r.title(), r.title()}
	_, err = c.ExecContext(ctx, r.sql("INSERT INTO docs (owner_id, title, body, body_index) VALUES (?, ?, ?, ?), (?, "+
		"?, ?, ?)"),
		slices.Concat([]any{r.o1.ID, titles[0]}, args("row 1", r.o1.ID), []any{r.o2.ID, titles[1]},
			args("row 2", r.o2.ID))...)
	r.expect("raw insert of two", err, nil)
	for i, o := range []*ent.Owner{r.o1, r.o2} {
		r.has("raw insert of two", c.Doc.Query().Where(doc.Title(titles[i])).OnlyIDX(ctx), fmt.Sprint("row ", i+1), o)
	}
	if r.dialect == dialect.SQLite {
		_, err = c.ExecContext(ctx, "UPDATE docs SET body = $1, body_index = $2 WHERE id = $3",
			append(args("numbered", r.o1.ID), d.ID)...)
		equal(r, "numbered arguments are refused", err != nil && strings.Contains(err.Error(), "use ?"), true)
	}
	_, err = c.ExecContext(ctx, r.sql("UPDATE docs SET title = ? WHERE id = ?"), encrypted.Redacted, d.ID)
	r.expect("the text of a printed secret", err, encrypted.ErrRedacted)
	_, err = c.ExecContext(ctx, r.sql("UPDATE docs SET title = ? WHERE id = ?"),
		map[string]any{"a": encrypted.New("x")}, d.ID)
	r.expect("a secret in a map", err, encrypted.ErrNoLocation)

	rows, err := c.QueryContext(ctx, r.sql("UPDATE docs SET body = ?, body_index = ? WHERE id = ? RETURNING body"),
		append(args("returned", r.o1.ID), d.ID)...)
	r.expect("raw RETURNING", err, nil)
	for rows.Next() {
		var body encrypted.Secret
		check(rows.Scan(&body))
		_, err := body.Reveal()
		r.expect("reveal what database/sql scanned", err, encrypted.ErrNoOpener)
		if r.tenantKeys() {
			continue
		}
		text, err := body.OpenedBy(encrypted.OpenerOf(r.ring, doc.BodyColumn, r.o1.ID)).Reveal()
		r.expect("OpenerOf", err, nil)
		equal(r, "OpenerOf", text, "returned")
		if r.scoped != nil {
			_, err = body.OpenedBy(encrypted.OpenerOf(r.ring, doc.BodyColumn, r.o2.ID)).Reveal()
			r.expect("OpenerOf another tenant", err, encrypted.ErrWrongLocation)
		}
	}
	r.expect("raw RETURNING", errors.Join(rows.Err(), rows.Close()), nil)
	r.has("raw RETURNING", d.ID, "returned", r.o1)

	many := make([]any, map[string]int{dialect.SQLite: 32_767, dialect.Postgres: 65_536}[r.dialect])
	for i := range many {
		many[i] = i
	}
	_, err = c.ExecContext(ctx, "UPDATE docs SET title = title WHERE id IN ("+r.sql(strings.Repeat("?, ",
		len(many)-1)+"?")+")", many...)
	r.expect("too many arguments", err, encrypted.ErrTooManyArgs)
	r.has("after too many arguments", d.ID, "returned", r.o1)
}

// reads scans secrets into everything that ent offers.
func (r *run) reads() {
	ctx, c := r.ctx, r.c
	d := r.doc("read")
	d.Update().SetNote(encrypted.New("note")).ExecX(ctx)
	reveal := func(what string, s encrypted.Secret, body string, want error) {
		text, err := s.Reveal()
		r.expect(what, err, want)
		if want == nil {
			equal(r, what, text, body)
		}
	}
	of := c.Owner.Query().WithDocs(func(q *ent.DocQuery) { q.Where(doc.ID(d.ID)) }).Where(owner.ID(r.o1.ID)).OnlyX(ctx)
	reveal("eager loading", of.Edges.Docs[0].Body, "read", nil)
	reveal("the outer entity of eager loading", of.Pin, "pin", nil)
	reveal("an edge", r.o1.QueryDocs().Where(doc.ID(d.ID)).OnlyX(ctx).Body, "read", nil)
	reveal("an edge's own entity", d.QueryOwner().OnlyX(ctx).Pin, "pin", nil)

	var own []struct {
		Body    encrypted.Secret `sql:"body"`
		OwnerID int              `sql:"owner_id"`
	}
	check(c.Doc.Query().Where(doc.ID(d.ID)).Select(doc.FieldBody, doc.FieldOwnerID).Scan(ctx, &own))
	reveal("Select and Scan", own[0].Body, "read", nil)
	var alone []struct {
		Body encrypted.Secret `sql:"body"`
	}
	check(c.Doc.Query().Where(doc.ID(d.ID)).Select(doc.FieldBody).Scan(ctx, &alone))
	reveal("Select without the tenant", alone[0].Body, "read", r.unowned)
	partial := c.Doc.Query().Where(doc.ID(d.ID)).Select(doc.FieldBody).OnlyX(ctx)
	reveal("an entity without the tenant", partial.Body, "read", r.unowned)
	reveal("an entity with the tenant",
		c.Doc.Query().Where(doc.ID(d.ID)).Select(doc.FieldBody, doc.FieldOwnerID).OnlyX(ctx).Body, "read", nil)

	var alias []struct {
		K       encrypted.Secret `sql:"k"`
		OwnerID int              `sql:"owner_id"`
	}
	as := func(column string) func(*entsql.Selector) {
		return func(s *entsql.Selector) { s.Select(entsql.As(column, "k"), doc.FieldOwnerID) }
	}
	check(c.Doc.Query().Where(doc.ID(d.ID)).Modify(as(doc.FieldBody)).Scan(ctx, &alias))
	reveal("an alias", alias[0].K, "read", r.scoped)
	alias = nil
	check(c.Doc.Query().Where(doc.ID(d.ID)).Modify(as(doc.FieldNote)).Scan(ctx, &alias))
	reveal("an alias of a column without tenant", alias[0].K, "note", r.unknown) // it could be any column

	var counts []struct {
		Title string
		Count int
	}
	check(c.Doc.Query().Where(doc.ID(d.ID)).GroupBy(doc.FieldTitle).Aggregate(ent.Count()).Scan(ctx, &counts))
	equal(r, "GroupBy", counts[0].Count, 1)
	equal(r, "IDs", c.Doc.Query().Where(doc.ID(d.ID)).IDsX(ctx)[0], d.ID)
	extra := c.Doc.Query().Modify(func(s *entsql.Selector) { s.AppendSelectAs(doc.FieldBody, "copy") }).
		Where(doc.ID(d.ID)).OnlyX(ctx)
	reveal("beside another alias", extra.Body, "read", nil)

	nested := r.client()
	nested.Doc.Intercept(intercept.Func(func(ctx context.Context, _ intercept.Query) error {
		o, err := nested.Owner.Query().Where(owner.ID(r.o1.ID)).Only(ctx)
		if err == nil {
			reveal("a query within an interceptor", o.Pin, "pin", nil)
		}
		return err
	}))
	reveal("a query with an interceptor", nested.Doc.GetX(ctx, d.ID).Body, "read", nil)

	var log strings.Builder
	debug := r.client(ent.Log(func(args ...any) { fmt.Fprintln(&log, args...) })).Debug()
	debugged := debug.Doc.Create().SetOwner(r.o1).SetTitle(r.title()).SetBody(encrypted.New("CANARY")).SaveX(ctx)
	reveal("Debug", debug.Doc.GetX(ctx, debugged.ID).Body, "CANARY", nil)
	equal(r, "Debug prints secrets", strings.Contains(log.String(), "CANARY"), false)
	equal(r, "Debug prints statements", strings.Contains(log.String(), "INSERT INTO"), true)
	r.has("Debug", debugged.ID, "CANARY", r.o1)
}

// testingT is the tests that enttest wants.
type testingT struct{ r *run }

func (t testingT) FailNow()          { panic("enttest failed") }
func (t testingT) Error(args ...any) { t.r.expect("enttest", errors.New(fmt.Sprint(args...)), nil) }

// noDriver uses clients past Credent's driver, with the process's key.
func (r *run) noDriver() {
	ctx := r.ctx
	key := keyring.GenerateKey()
	check(os.Setenv("ENCRYPTION_KEY", key))
	var bare *ent.Client
	if r.dialect == dialect.SQLite {
		var file, name string
		var seq int
		check(r.db.QueryRowContext(ctx, "PRAGMA database_list").Scan(&seq, &name, &file))
		registerSQLite(r.db.Driver())
		dsn := "file:" + file + "?_pragma=foreign_keys(1)&_pragma=busy_timeout(60000)&_txlock=immediate"
		bare = enttest.Open(testingT{r}, dialect.SQLite, dsn)
		defer func() { _ = bare.Close() }()
	} else {
		bare = enttest.NewClient(testingT{r}, enttest.WithOptions(ent.Driver(entsql.OpenDB(r.dialect, r.db))))
	}
	refused := func(what string, err error) { r.expect("no driver: "+what, err, encrypted.ErrNoDriver) }

	// A unique blind index.
	create := func(c *ent.Client, email string) error {
		return c.Account.Create().SetName(email).SetEmail(encrypted.New(email)).Exec(ctx)
	}
	accounts := r.c.Account.Query().CountX(ctx)
	refused("create", create(bare, "twice@example.com"))
	refused("create", create(bare, "twice@example.com"))
	refused("bulk", bare.Account.CreateBulk(bare.Account.Create().SetName("x").SetEmail(encrypted.New("x"))).Exec(ctx))
	equal(r, "no driver: accounts", r.c.Account.Query().CountX(ctx), accounts)
	r.expect("create", create(r.c, "one@example.com"), nil)
	r.expect("create", create(r.c, "two@example.com"), nil)
	equal(r, "create twice", ent.IsConstraintError(create(r.c, "two@example.com")), true)
	_, err := bare.Account.Query().Where(account.EmailIs(encrypted.New("one@example.com"))).Count(ctx)
	refused("look up", err)
	refused("update many, one row",
		bare.Account.Update().Where(account.Name("one@example.com")).SetEmail(encrypted.New("x")).Exec(ctx))
	r.expect("no driver: update many", bare.Account.Update().SetEmail(encrypted.New("x")).Exec(ctx),
		encrypted.ErrManyRows)
	refused("upsert",
		bare.Account.Create().SetName("x").SetEmail(encrypted.New("x")).OnConflictColumns(account.FieldID).
			UpdateNewValues().Exec(ctx))
	for _, email := range []string{"one@example.com", "two@example.com"} {
		n := r.c.Account.Query().Where(account.EmailIs(encrypted.New(email))).CountX(ctx)
		equal(r, "no driver: found by "+email, n, 1)
	}

	// A column with a tenant and a blind index.
	d := r.doc("mine")
	refused("create a document",
		bare.Doc.Create().SetOwner(r.o1).SetTitle(r.title()).SetBody(encrypted.New("x")).Exec(ctx))
	refused("update", bare.Doc.UpdateOneID(d.ID).SetBody(encrypted.New("x")).Exec(ctx))
	refused("Modify", bare.Doc.UpdateOneID(d.ID).Modify(at("x", r.o1.ID)).Exec(ctx))
	_, err = bare.ExecContext(ctx, r.sql("UPDATE docs SET body = ?, body_index = ? WHERE id = ?"),
		encrypted.At(encrypted.New("x"), doc.BodyColumn, r.o1.ID), encrypted.DigestOf(encrypted.New("x"),
			doc.BodyColumn, nil), d.ID)
	refused("raw", err)
	err = bare.Membership.Create().SetAccountID(1).SetGroupID(1).SetInvitation(encrypted.New("x")).Exec(ctx)
	if doc.BodyColumn.Bound {
		refused("create with a bound secret", err)
		refused("move", bare.Doc.UpdateOneID(d.ID).SetOwner(r.o2).Exec(ctx))
		_, err := bare.Doc.GetX(ctx, d.ID).Body.Reveal()
		refused("reveal", err)
	}
	r.has("no driver", d.ID, "mine", r.o1)

	// What needs no more than the key works as before.
	o, err := bare.Owner.Create().SetName("o3").SetPin(encrypted.New("1234")).Save(ctx)
	r.expect("no driver: a plain column", err, nil)
	pin, err := bare.Owner.GetX(ctx, o.ID).Pin.Reveal()
	r.expect("no driver: a plain column", err, nil)
	equal(r, "no driver: a plain column", pin, "1234")
	bare.Owner.DeleteOne(o).ExecX(ctx)

	// Check notices rows of other writers, without a digest.
	token, err := r.ring.Encrypt("raw@example.com")
	check(err)
	r.exec("DELETE FROM memberships")
	r.exec("DELETE FROM accounts")
	r.exec("INSERT INTO accounts (name, email) VALUES ('raw', ?)", token)
	r.expect("Check of a unique index without digests",
		encrypted.Check(ctx, r.db, r.ring, account.EmailColumn), encrypted.ErrBlindIndex)
	r.exec("DELETE FROM accounts")
}
