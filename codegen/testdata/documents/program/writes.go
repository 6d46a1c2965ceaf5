//go:build ignore

package program

import (
	"context"
	"errors"
	"fmt"

	ent "github.com/credent-go/credent/codegen/testdata/PACKAGE"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/doc"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/owner"
	"github.com/credent-go/credent/encrypted"
)

// creates stores new rows.
func (r *run) creates() {
	ctx, c := r.ctx, r.c
	r.has("create, tenant by edge", r.doc("edge").ID, "edge", r.o1)
	d, err := c.Doc.Create().SetOwnerID(r.o2.ID).SetTitle(r.title()).SetBody(encrypted.New("field")).Save(ctx)
	r.expect("create, tenant by field", err, nil)
	r.has("create, tenant by field", d.ID, "field", r.o2)
	d, err = c.Doc.Create().SetOwner(r.o1).SetTitle(r.title()).SetNote(encrypted.New("note")).Save(ctx)
	r.expect("create without a body", err, nil)
	r.lacks("create without a body", d.ID)

	f, err := c.Fix.Create().SetTitle(r.title()).SetBody(encrypted.New("default")).Save(ctx)
	r.expect("create, default tenant", err, nil)
	body, err := c.Fix.GetX(ctx, f.ID).Body.Reveal()
	r.expect("create, default tenant", err, nil)
	equal(r, "create, default tenant", body, "default")

	// Only the database knows a tenant that it fills in.
	err = c.Dbd.Create().SetBody(encrypted.New("database")).Exec(ctx)
	r.expect("create, the database's default tenant", err, r.unowned)
	equal(r, "rows of the database's default tenant", c.Dbd.Query().CountX(ctx) == 0, r.scoped != nil)

	hooked := r.client()
	hooked.Doc.Use(func(next ent.Mutator) ent.Mutator {
		return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
			if d := m.(*ent.DocMutation); m.Op().Is(ent.OpCreate) {
				d.SetOwnerID(r.o2.ID)
				if title, _ := d.Title(); title == "late" {
					d.SetBody(encrypted.New("set late"))
				}
			}
			return next.Mutate(ctx, m)
		})
	})
	d, err = hooked.Doc.Create().SetOwner(r.o1).SetTitle(r.title()).SetBody(encrypted.New("hook")).Save(ctx)
	r.expect("create, a hook changes the tenant", err, nil)
	r.has("create, a hook changes the tenant", d.ID, "hook", r.o2)
	d, err = hooked.Doc.Create().SetOwner(r.o1).SetTitle("late").Save(ctx)
	r.expect("create, a hook sets the secret", err, nil)
	r.has("create, a hook sets the secret", d.ID, "set late", r.o2)

	bulk, err := hooked.Doc.CreateBulk(
		hooked.Doc.Create().SetTitle(r.title()).SetOwner(r.o1).SetBody(encrypted.New("bulk")),
		hooked.Doc.Create().SetTitle(r.title()).SetOwner(r.o1),
	).Save(ctx)
	r.expect("bulk", err, nil)
	r.has("bulk", bulk[0].ID, "bulk", r.o2)
	r.lacks("bulk, without a body", bulk[1].ID)

	owners := []*ent.Owner{r.o1, r.o2, r.o1}
	bulk, err = c.Doc.MapCreateBulk(owners, func(b *ent.DocCreate, i int) {
		b.SetOwner(owners[i]).SetTitle(r.title()).SetBody(encrypted.New(fmt.Sprint("mapped ", i)))
	}).Save(ctx)
	r.expect("MapCreateBulk", err, nil)
	for i, d := range bulk {
		r.has("MapCreateBulk", d.ID, fmt.Sprint("mapped ", i), owners[i])
	}
}

// updates changes secrets in place.
func (r *run) updates() {
	ctx, c := r.ctx, r.c
	d := r.doc("before")
	r.expect("update one", d.Update().SetBody(encrypted.New("one")).Exec(ctx), nil)
	r.has("update one", d.ID, "one", r.o1)
	returned, err := d.Update().SetBody(encrypted.New("returned")).Save(ctx)
	r.expect("update one that returns", err, nil)
	body, err := returned.Body.Reveal()
	r.expect("reveal what an update returns", err, nil)
	equal(r, "reveal what an update returns", body, "returned")

	n, err := c.Doc.Update().Where(doc.HasOwnerWith(owner.Name("o1")), doc.Title(d.Title)).
		SetBody(encrypted.New("many")).Save(ctx)
	r.expect("update many, one row by an edge", err, nil)
	equal(r, "update many, one row by an edge", n, 1)
	r.has("update many, one row by an edge", d.ID, "many", r.o1)
	other := r.doc("other")
	n, err = c.Doc.Update().SetBody(encrypted.New("all")).Save(ctx)
	r.expect("update many, many rows", err, encrypted.ErrManyRows)
	equal(r, "update many, many rows", n, 0)
	_, err = c.Doc.Update().SetNote(encrypted.New("all")).Save(ctx)
	r.expect("update many, many rows, a column without tenant", err, encrypted.ErrManyRows)
	r.has("update many, many rows", d.ID, "many", r.o1)
	r.has("update many, many rows", other.ID, "other", r.o1)
	n, err = c.Doc.Update().Where(doc.Title("none")).SetBody(encrypted.New("none")).Save(ctx)
	r.expect("update many, no row", err, nil)
	equal(r, "update many, no row", n, 0)
	n, err = c.Doc.Update().Where(doc.IDIn(d.ID, other.ID)).ClearBody().Save(ctx)
	r.expect("update many, clear", err, nil)
	equal(r, "update many, clear", n, 2)
	r.lacks("update many, clear", d.ID)
	r.lacks("update many, clear", other.ID)

	_, err = c.Doc.UpdateOneID(999_999).SetBody(encrypted.New("none")).Save(ctx)
	equal(r, "update one, no row", ent.IsNotFound(err), true)
	_, err = c.Doc.UpdateOneID(d.ID).Where(doc.Title("none")).SetBody(encrypted.New("none")).Save(ctx)
	equal(r, "update one, another title", ent.IsNotFound(err), true)
	r.lacks("update one, another title", d.ID)

	tx, err := c.Tx(ctx)
	check(err)
	r.expect("update in a transaction",
		errors.Join(tx.Doc.UpdateOneID(d.ID).SetBody(encrypted.New("tx")).Exec(ctx), tx.Commit()), nil)
	r.has("update in a transaction", d.ID, "tx", r.o1)
	tx, err = c.Tx(ctx)
	check(err)
	r.expect("update, rolled back",
		errors.Join(tx.Doc.UpdateOneID(d.ID).SetBody(encrypted.New("lost")).Exec(ctx), tx.Rollback()), nil)
	r.has("update, rolled back", d.ID, "tx", r.o1)

	// A caller's savepoint ends what came after it.
	tx, err = c.Tx(ctx)
	check(err)
	savepoint := func(statement string) {
		_, err := tx.ExecContext(ctx, statement)
		r.expect(statement, err, nil)
	}
	kept := tx.Doc.Create().SetOwner(r.o2).SetTitle(r.title()).SetBody(encrypted.New("kept")).SaveX(ctx)
	savepoint("SAVEPOINT mine")
	r.expect("update after a savepoint", tx.Doc.UpdateOneID(d.ID).SetBody(encrypted.New("lost")).Exec(ctx), nil)
	_, err = tx.ExecContext(ctx, r.sql("UPDATE docs SET body = ?, body_index = ? WHERE id IN (?, ?)"),
		encrypted.At(encrypted.New("lost"), doc.BodyColumn, r.o1.ID), encrypted.DigestOf(encrypted.New("lost"),
			doc.BodyColumn, nil), d.ID, kept.ID)
	r.expect("raw update of many rows in a transaction", err, encrypted.ErrManyRows)
	savepoint("ROLLBACK TO SAVEPOINT mine")
	r.expect("commit", tx.Commit(), nil)
	r.has("before a savepoint", kept.ID, "kept", r.o2)
	r.has("after a savepoint", d.ID, "tx", r.o1)
}

// moves gives rows to another tenant.
func (r *run) moves() {
	ctx := r.ctx
	d := r.doc("before")
	r.refused("move without the body", d.Update().SetOwner(r.o2).Exec(ctx), d.ID, "before", "before", r.o2)
	d = r.doc("before")
	r.expect("move to the same owner", d.Update().SetOwner(r.o1).Exec(ctx), nil)
	r.has("move to the same owner", d.ID, "before", r.o1)
	r.expect("move with the body", d.Update().SetOwner(r.o2).SetBody(encrypted.New("moved")).Exec(ctx), nil)
	r.has("move with the body", d.ID, "moved", r.o2)
	r.expect("move and clear", d.Update().SetOwner(r.o1).ClearBody().Exec(ctx), nil)
	r.lacks("move and clear", d.ID)

	d = r.doc("before")
	r.expect("move of many, with the body",
		r.c.Doc.Update().Where(doc.ID(d.ID)).SetOwner(r.o2).SetBody(encrypted.New("many")).Exec(ctx), nil)
	r.has("move of many, with the body", d.ID, "many", r.o2)
	d = r.doc("before")
	r.refused("move of many, without the body",
		r.c.Doc.Update().Where(doc.ID(d.ID)).SetOwner(r.o2).Exec(ctx), d.ID, "before", "before", r.o2)
}

// edges updates an edge schema by its two foreign keys.
func (r *run) edges() {
	ctx, c := r.ctx, r.c
	a := c.Account.Create().SetName("a").SetEmail(encrypted.New("a@example.com")).SaveX(ctx)
	g1, g2 := c.Group.Create().SaveX(ctx), c.Group.Create().SaveX(ctx)
	for _, g := range []*ent.Group{g1, g2} {
		c.Membership.Create().SetAccount(a).SetGroup(g).SetInvitation(encrypted.New("before")).ExecX(ctx)
	}
	n, err := c.Membership.Update().Where(membershipOf(a, g1)...).SetInvitation(encrypted.New("after")).Save(ctx)
	r.expect("update of an edge by its two ids", err, nil)
	equal(r, "update of an edge by its two ids", n, 1)
	_, err = c.Membership.Update().Where(membershipOf(a, nil)...).SetInvitation(encrypted.New("both")).Save(ctx)
	r.expect("update of two edges", err, encrypted.ErrManyRows)
	for g, want := range map[*ent.Group]string{g1: "after", g2: "before"} {
		invitation, err := c.Membership.Query().Where(membershipOf(a, g)...).OnlyX(ctx).Invitation.Reveal()
		r.expect("reveal the secret of an edge", err, nil)
		equal(r, "the secret of an edge", invitation, want)
	}
	g3 := c.Group.Create().AddAccounts(a).SaveX(ctx)
	r.expect("add edges", a.Update().AddGroups(c.Group.Create().SaveX(ctx), c.Group.Create().SaveX(ctx)).Exec(ctx), nil)
	added := c.Membership.Query().Where(membershipOf(a, g3)...).OnlyX(ctx)
	equal(r, "the role of an added edge", added.Role, "member")
	equal(r, "the secret of an added edge is absent", added.Invitation.IsZero(), true)
	equal(r, "edges after they were added", c.Membership.Query().Where(membershipOf(a, nil)...).CountX(ctx), 5)
}

// mixins has an immutable secret with a blind index, all of it from mixins.
func (r *run) mixins() {
	ctx, c := r.ctx, r.c
	title := r.title()
	deed := c.Deed.Create().SetTitle(title).SetNumber(encrypted.New("first")).SaveX(ctx)
	err := c.Deed.Create().SetTitle(title).SetNumber(encrypted.New("second")).OnConflictColumns("title").
		UpdateNewValues().Exec(ctx)
	r.expect("upsert of an immutable secret", err, nil)
	number, err := c.Deed.GetX(ctx, deed.ID).Number.Reveal()
	r.expect("reveal an immutable secret", err, nil)
	equal(r, "an immutable secret after an upsert", number, "first")
	equal(r, "found by the immutable secret", r.deeds("first"), 1)
	equal(r, "found by the secret that was not stored", r.deeds("second"), 0)
	err = c.Deed.Create().SetTitle(r.title()).SetNumber(encrypted.New("third")).OnConflictColumns("title").
		UpdateNewValues().Exec(ctx)
	r.expect("upsert that inserts an immutable secret", err, nil)
	equal(r, "found by the inserted secret", r.deeds("third"), 1)
}
