//go:build ignore

package program

import (
	entsql "entgo.io/ent/dialect/sql"

	ent "github.com/credent-go/credent/codegen/testdata/PACKAGE"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/doc"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/fix"
	"github.com/credent-go/credent/encrypted"
)

// upserts stores a document whose title is taken.
func (r *run) upserts() {
	ctx := r.ctx
	title := entsql.ConflictColumns(doc.FieldTitle)
	both := entsql.ConflictColumns(doc.FieldOwnerID, doc.FieldTitle)
	taken := func(d *ent.Doc, o *ent.Owner) *ent.DocCreate {
		return r.c.Doc.Create().SetTitle(d.Title).SetOwner(o).SetBody(encrypted.New("new"))
	}
	// stores has an upsert that gives the row another body.
	stores := func(what string, o *ent.Owner, body string, upsert func(*ent.Doc) error) {
		d := r.doc("old")
		r.expect(what, upsert(d), nil)
		r.has(what, d.ID, body, o)
	}
	// refuses has one that is refused if tokens depend on the tenant.
	refuses := func(what string, o *ent.Owner, body string, upsert func(*ent.Doc) error) {
		d := r.doc("old")
		r.refused(what, upsert(d), d.ID, "old", body, o)
	}
	// never has one that is always refused.
	never := func(what string, want error, upsert func(*ent.Doc) error) {
		d := r.doc("old")
		r.expect(what, upsert(d), want)
		r.has(what, d.ID, "old", r.o1)
	}

	stores("UpdateNewValues that moves", r.o2, "new", func(d *ent.Doc) error {
		return taken(d, r.o2).OnConflict(title).UpdateNewValues().Exec(ctx)
	})
	refuses("UpdateBody, conflict of the title", r.o1, "new", func(d *ent.Doc) error {
		return taken(d, r.o2).OnConflict(title).UpdateBody().Exec(ctx)
	})
	stores("UpdateBody and UpdateOwnerID", r.o2, "new", func(d *ent.Doc) error {
		return taken(d, r.o2).OnConflict(title).UpdateBody().UpdateOwnerID().Exec(ctx)
	})
	refuses("UpdateOwnerID alone", r.o2, "old", func(d *ent.Doc) error {
		return taken(d, r.o2).OnConflict(title).UpdateOwnerID().Exec(ctx)
	})
	refuses("SetOwnerID alone", r.o2, "old", func(d *ent.Doc) error {
		return taken(d, r.o1).OnConflict(title).SetOwnerID(r.o2.ID).Exec(ctx)
	})
	stores("UpdateBody, conflict with the tenant", r.o1, "new", func(d *ent.Doc) error {
		return taken(d, r.o1).OnConflict(both).UpdateBody().Exec(ctx)
	})
	stores("SetBody, conflict with the tenant", r.o1, "set", func(d *ent.Doc) error {
		return taken(d, r.o1).OnConflict(both).SetBody(encrypted.New("set")).Exec(ctx)
	})
	stores("SetBody, an insert without", r.o1, "set", func(d *ent.Doc) error {
		return r.c.Doc.Create().SetTitle(d.Title).SetOwner(r.o1).OnConflict(both).
			SetBody(encrypted.New("set")).Exec(ctx)
	})
	d := r.doc("old")
	r.expect("ClearBody", taken(d, r.o1).OnConflict(both).ClearBody().Exec(ctx), nil)
	r.lacks("ClearBody", d.ID)
	refuses("UpdateNewValues without the owner", r.o1, "new", func(d *ent.Doc) error {
		return taken(d, r.o2).OnConflict(title, entsql.ResolveWithNewValues(),
			entsql.ResolveWith(func(s *entsql.UpdateSet) {
				s.SetIgnore(doc.FieldOwnerID).SetIgnore(doc.FieldID)
			})).Exec(ctx)
	})
	stores("Ignore", r.o1, "old", func(d *ent.Doc) error { return taken(d, r.o2).OnConflict(title).Ignore().Exec(ctx) })
	stores("DoNothing", r.o1, "old", func(d *ent.Doc) error {
		if err := taken(d, r.o2).OnConflict(title, entsql.DoNothing()).Exec(ctx); !isNoRows(err) {
			return err
		}
		return nil
	})
	never("SetExcluded without the digest", encrypted.ErrBlindIndex, func(d *ent.Doc) error {
		return taken(d, r.o1).OnConflict(both).Update(func(u *ent.DocUpsert) { u.SetExcluded(doc.FieldBody) }).Exec(ctx)
	})
	stores("Set with At and DigestOf", r.o1, "at", func(d *ent.Doc) error {
		return taken(d, r.o1).OnConflict(both).Update(func(u *ent.DocUpsert) {
			u.Set(doc.FieldBody, encrypted.At(encrypted.New("at"), doc.BodyColumn, r.o1.ID))
			u.Set(doc.FieldBodyIndex, encrypted.DigestOf(encrypted.New("at"), doc.BodyColumn, nil))
		}).Exec(ctx)
	})
	never("Set with At alone", encrypted.ErrBlindIndex, func(d *ent.Doc) error {
		return taken(d, r.o1).OnConflict(both).Update(func(u *ent.DocUpsert) {
			u.Set(doc.FieldBody, encrypted.At(encrypted.New("at"), doc.BodyColumn, r.o1.ID))
		}).Exec(ctx)
	})
	never("Set with a bare secret", encrypted.ErrNoLocation, func(d *ent.Doc) error {
		return taken(d, r.o1).OnConflict(both).Update(func(u *ent.DocUpsert) {
			u.Set(doc.FieldBody, encrypted.New("bare"))
			u.Set(doc.FieldBodyIndex, encrypted.DigestOf(encrypted.New("bare"), doc.BodyColumn, nil))
		}).Exec(ctx)
	})

	fixTitle := r.title()
	fx := func(tenant string) *ent.FixCreate {
		return r.c.Fix.Create().SetTenant(tenant).SetTitle(fixTitle).SetBody(encrypted.New("of " + tenant))
	}
	fx("a").ExecX(ctx)
	r.expect("UpdateNewValues, immutable tenant",
		fx("b").OnConflictColumns(fix.FieldTitle).UpdateNewValues().Exec(ctx), r.scoped)
	fixed := r.c.Fix.Query().Where(fix.Title(fixTitle)).OnlyX(ctx)
	body, err := fixed.Body.Reveal()
	r.expect("reveal in a row of an immutable tenant", err, nil)
	equal(r, "a row of an immutable tenant", fixed.Tenant, "a")
	equal(r, "its body was refused", body == "of a", r.scoped != nil)
}

// bulkUpserts stores two documents; the title of one is taken.
func (r *run) bulkUpserts() {
	ctx := r.ctx
	bulk := func(d *ent.Doc) *ent.DocCreateBulk {
		return r.c.Doc.CreateBulk(
			r.c.Doc.Create().SetTitle(d.Title).SetOwner(r.o1).SetBody(encrypted.New("taken")),
			r.c.Doc.Create().SetTitle(d.Title+", too").SetOwner(r.o2).SetBody(encrypted.New("free")),
		)
	}
	both := entsql.ConflictColumns(doc.FieldOwnerID, doc.FieldTitle)
	d := r.doc("old")
	r.expect("bulk, UpdateNewValues", bulk(d).OnConflictColumns(doc.FieldTitle).UpdateNewValues().Exec(ctx), nil)
	r.has("bulk, UpdateNewValues", d.ID, "taken", r.o1)
	free := r.c.Doc.Query().Where(doc.Title(d.Title + ", too")).OnlyX(ctx)
	r.has("bulk, UpdateNewValues", free.ID, "free", r.o2)
	d = r.doc("old")
	r.expect("bulk, UpdateBody, conflict with the tenant",
		bulk(d).OnConflict(both).Update(func(u *ent.DocUpsert) { u.UpdateBody() }).Exec(ctx), nil)
	r.has("bulk, UpdateBody, conflict with the tenant", d.ID, "taken", r.o1)
	d = r.doc("old")
	r.expect("bulk, SetBody of two",
		bulk(d).OnConflict(both).SetBody(encrypted.New("same")).Exec(ctx), encrypted.ErrManyRows)
	r.has("bulk, SetBody of two", d.ID, "old", r.o1)
	d = r.doc("old")
	r.refused("bulk, UpdateBody, conflict of the title",
		bulk(d).OnConflictColumns(doc.FieldTitle).UpdateBody().Exec(ctx), d.ID, "old", "taken", r.o1)
}
