package hooks_test

import (
	"context"
	"testing"
	"time"

	"entgo.io/ent"
	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql/schema"
	"entgo.io/ent/schema/field"

	credent "github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/migrate"
	"github.com/credent-go/credent/internal/hooks"
)

// nowhere is a driver that nothing reaches, since the last hook answers.
type nowhere struct{ dialect.Driver }

func (nowhere) Dialect() string { return dialect.Postgres }

// Every time in a mutation is as Postgres will store it, including times that a
// later schema adds.
func TestTimesAreUTC(t *testing.T) {
	t.Parallel()
	client := credent.NewClient(credent.Driver(nowhere{}))
	hooks.Install(client, hooks.Config{})
	given := time.Date(2026, 1, 2, 3, 4, 5, 6789, time.FixedZone("", 3600))
	want := given.UTC().Truncate(time.Microsecond)
	seen := 0
	client.Use(func(ent.Mutator) ent.Mutator {
		return ent.MutateFunc(func(_ context.Context, m ent.Mutation) (ent.Value, error) {
			for _, name := range m.Fields() {
				value, _ := m.Field(name)
				if at, ok := value.(time.Time); ok {
					if seen++; at != want {
						t.Errorf("%s.%s is %v, want %v", m.Type(), name, at, want)
					}
				}
			}
			return nil, nil
		})
	})
	for _, test := range []struct {
		columns []*schema.Column
		m       ent.Mutation
		run     func() error
	}{
		func() (c struct {
			columns []*schema.Column
			m       ent.Mutation
			run     func() error
		},
		) {
			create := client.UserAccount.Create().SetUserID("u").SetAccountName("a")
			c.columns, c.m, c.run = migrate.UserAccountsColumns, create.Mutation(),
				func() error { return create.Exec(t.Context()) }
			return c
		}(),
		func() (c struct {
			columns []*schema.Column
			m       ent.Mutation
			run     func() error
		},
		) {
			create := client.UserCredential.Create().SetUserID("u").SetUserAccountID([16]byte{1})
			c.columns, c.m, c.run = migrate.UserCredentialsColumns, create.Mutation(),
				func() error { return create.Exec(t.Context()) }
			return c
		}(),
	} {
		times := 0
		for _, column := range test.columns {
			if column.Type != field.TypeTime {
				continue
			}
			times++
			if err := test.m.SetField(column.Name, given); err != nil {
				t.Fatal(err)
			}
		}
		before := seen
		func() {
			defer func() { _ = recover() }() // ent takes the answer for an entity
			_ = test.run()
		}()
		if seen-before != times || times < 2 {
			t.Errorf("%s: saw %d times, want %d", test.m.Type(), seen-before, times)
		}
	}
}
