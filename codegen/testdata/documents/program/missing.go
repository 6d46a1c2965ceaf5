//go:build ignore

package program

import (
	"context"
	"errors"
	"fmt"
	"time"

	entsql "entgo.io/ent/dialect/sql"

	ent "github.com/credent-go/credent/codegen/testdata/PACKAGE"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/fix"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/permit"
	"github.com/credent-go/credent/encrypted"
)

// missing gives secrets that each row has as absent ones, of every kind and on
// every path.
func (r *run) missing() {
	ctx := r.ctx
	full := func() *ent.PermitCreate {
		return r.c.Permit.Create().SetNumber(encrypted.New("")).SetIssued(encrypted.NewValue(time.Now())).
			SetTerms(encrypted.NewValue(map[string]int{}))
	}
	p, err := full().Save(ctx)
	r.expect("create of an empty text, without a note", err, nil)
	r.expect("an absent note", p.Update().SetNote(encrypted.Secret{}).Exec(ctx), nil)
	id := entsql.ConflictColumns(permit.FieldID)
	refused := func(what, field string, err error) {
		var invalid *ent.ValidationError
		if !errors.As(err, &invalid) || invalid.Name != field {
			r.expect(fmt.Sprint("missing ", field, ", ", what), fmt.Errorf("%w, want a validation error", err), nil)
		}
	}
	var terms encrypted.Value[map[string]int]
	var issued encrypted.Value[time.Time]
	var number encrypted.Secret
	refused("create", "terms", full().SetTerms(terms).Exec(ctx))
	refused("create", "issued", full().SetIssued(issued).Exec(ctx))
	refused("bulk", "terms", r.c.Permit.CreateBulk(full(), full().SetTerms(terms)).Exec(ctx))
	refused("update", "issued", p.Update().SetIssued(issued).Exec(ctx))
	refused("update many", "number", r.c.Permit.Update().SetNumber(number).Exec(ctx))
	refused("upsert", "terms", full().SetTerms(terms).OnConflict(id).UpdateNewValues().Exec(ctx))
	refused("SetTerms of an upsert", "terms", full().OnConflict(id).SetTerms(terms).Exec(ctx))
	refused("SetTerms of a bulk of upserts", "terms", r.c.Permit.CreateBulk(full(), full()).OnConflict(id).
		SetTerms(terms).Exec(ctx))
	refused("SetBody of an upsert, of a tenant", "body", r.c.Fix.Create().SetTitle(r.title()).
		SetBody(encrypted.New("new")).
		OnConflictColumns(fix.FieldTitle).SetBody(number).Exec(ctx))
	refused("SetEmail of an upsert, of an index", "email", r.c.Account.Create().SetName("n").
		SetEmail(encrypted.New("e")).
		OnConflictColumns("id").SetEmail(number).Exec(ctx))

	hooked := r.client()
	hooked.Permit.Use(func(next ent.Mutator) ent.Mutator {
		return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
			m.(*ent.PermitMutation).SetNumber(encrypted.New("late"))
			return next.Mutate(ctx, m)
		})
	})
	r.expect("a hook sets what is missing", hooked.Permit.Create().SetNumber(number).
		SetIssued(encrypted.NewValue(time.Now())).
		SetTerms(encrypted.NewValue(map[string]int{})).Exec(ctx), nil)
}
