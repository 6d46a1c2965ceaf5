package stamp

import (
	"slices"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/entcrypt/unique"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
)

// move adds a [unique.Move] for each unique index that the update may affect.
func (u *updating) move(dialect string) {
	for _, c := range u.columns {
		if c.Index == "" {
			continue
		}
		cfg, err := blindindex.Of(c)
		if err != nil || !cfg.Unique || cfg.Where == "" && len(cfg.With) == 0 {
			continue
		}
		u.spec.AddModifier(func(b *entsql.UpdateBuilder) {
			names := columnsOf(b)
			depends := func(name string) bool { return unique.Depends(cfg, name) }
			if slices.Contains(names, c.Index) || !slices.ContainsFunc(names, depends) {
				return
			}
			m := &unique.Move{Column: c, Spec: u.spec, Dialect: dialect}
			if cfg.Where != "" {
				m.Where = "(" + cfg.Where + ")"
			}
			if !slices.ContainsFunc(names, func(name string) bool { return slices.Contains(cfg.With, name) }) {
				m.Unless = m.Where
			}
			b.Where(entsql.P(m.Predicate))
		})
	}
}
