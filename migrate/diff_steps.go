package migrate

import (
	"fmt"
	"regexp"
	"slices"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/postgres"
	atlas "ariga.io/atlas/sql/schema"
	"entgo.io/ent/dialect/sql/schema"
)

// steps splits the changes that [Diff] writes for Postgres, so that no
// statement reads rows or builds an index under a lock that stops a service:
// constraints are added NOT VALID and validated in a second file, and indexes
// are built CONCURRENTLY, each in its own file.
type steps struct {
	validate, after []*migrate.Change
}

// hook edits the changes to existing tables.
func (s *steps) hook(next schema.Differ) schema.Differ {
	return schema.DiffFunc(func(current, desired *atlas.Schema) ([]atlas.Change, error) {
		changes, err := next.Diff(current, desired)
		for _, change := range changes {
			if m, ok := change.(*atlas.ModifyTable); ok {
				before, _ := current.Table(m.T.Name)
				s.modify(before, m)
			}
		}
		return slices.DeleteFunc(changes, func(change atlas.Change) bool {
			m, ok := change.(*atlas.ModifyTable)
			return ok && len(m.Changes) == 0
		}), err
	})
}

func (s *steps) modify(before *atlas.Table, m *atlas.ModifyTable) {
	var all []atlas.Change
	for _, change := range m.Changes {
		switch c := change.(type) {
		case *atlas.AddCheck:
			all = append(all, s.addCheck(m.T, c.C))
		case *atlas.ModifyCheck:
			all = append(all, &atlas.DropCheck{C: c.From}, s.addCheck(m.T, c.To))
		case *atlas.AddForeignKey:
			c.Extra = append(c.Extra, &postgres.NotValid{})
			s.validateLater(m.T, c.F.Symbol)
			all = append(all, c)
		case *atlas.ModifyColumn:
			all = append(all, s.modifyColumn(before, m, c)...)
		default:
			all = append(all, change)
		}
	}
	m.Changes = all
}

func (s *steps) addCheck(t *atlas.Table, check *atlas.Check) *atlas.AddCheck {
	s.validateLater(t, check.Name)
	return &atlas.AddCheck{C: check, Extra: []atlas.Clause{&postgres.NotValid{}}}
}

func (s *steps) validateLater(t *atlas.Table, constraint string) {
	s.validate = addOnce(s.validate, &migrate.Change{
		Comment: fmt.Sprintf("validate %q of %q, while others read and write", constraint, t.Name),
		Cmd:     fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", quote(t.Name), quote(constraint)),
	})
}

// addOnce keeps a hook that ent calls twice from adding a change twice.
func addOnce(all []*migrate.Change, change *migrate.Change) []*migrate.Change {
	if slices.ContainsFunc(all, func(c *migrate.Change) bool { return c.Cmd == change.Cmd }) {
		return all
	}
	return append(all, change)
}

// modifyColumn removes NOT NULL from a change and adds a CHECK first. A change
// of type recreates the column's CHECKs, which Postgres would otherwise
// validate at once.
func (s *steps) modifyColumn(
	before *atlas.Table, m *atlas.ModifyTable, c *atlas.ModifyColumn,
) (changes []atlas.Change) {
	if c.Change.Is(atlas.ChangeNull) && !c.To.Type.Null {
		check := atlas.NewCheck().SetName(m.T.Name + "_" + c.To.Name + "_not_null").
			SetExpr(quote(c.To.Name) + " IS NOT NULL")
		changes = append(changes, s.addCheck(m.T, check))
		alter := "ALTER TABLE " + quote(m.T.Name) + " "
		s.after = addOnce(s.after, &migrate.Change{
			Comment: fmt.Sprintf("no row of %q may have NULL in %q: fill them in before this file",
				m.T.Name, c.To.Name),
			Cmd: alter + "ALTER COLUMN " + quote(c.To.Name) + " SET NOT NULL, DROP CONSTRAINT " + quote(check.Name),
		})
		c.Change &^= atlas.ChangeNull
	}
	if c.Change.Is(atlas.ChangeType) && before != nil {
		for _, attr := range before.Attrs {
			check, ok := attr.(*atlas.Check)
			if ok && mentions(check.Expr, c.From.Name) && !changesCheck(m.Changes, check.Name) {
				changes = append(changes, &atlas.DropCheck{C: check}, s.addCheck(m.T, check))
			}
		}
	}
	if c.Change != atlas.NoChange {
		changes = append(changes, c)
	}
	return changes
}

// changesCheck reports whether changes already affect a CHECK.
func changesCheck(changes []atlas.Change, name string) bool {
	return slices.ContainsFunc(changes, func(change atlas.Change) bool {
		switch c := change.(type) {
		case *atlas.DropCheck:
			return c.C.Name == name
		case *atlas.ModifyCheck:
			return c.From.Name == name
		}
		return false
	})
}

var (
	planCreateIndex = regexp.MustCompile(`^CREATE (UNIQUE )?INDEX ("(?:[^"]|"")+") ON ("(?:[^"]|"")+"(?:\."(?:[^"]|"")+")?) `)
	planCreateTable = regexp.MustCompile(`^CREATE TABLE ("(?:[^"]|"")+"(?:\."(?:[^"]|"")+")?) `)
)

// split returns a plan as the files to write, in order.
func (s *steps) split(plan *migrate.Plan) (files []*migrate.Plan) {
	made := make(map[string]bool)
	first := &migrate.Plan{Name: plan.Name}
	var indexes []*migrate.Plan
	for _, change := range plan.Changes {
		if m := planCreateTable.FindStringSubmatch(change.Cmd); m != nil {
			made[m[1]] = true
		}
		m := planCreateIndex.FindStringSubmatch(change.Cmd)
		if m == nil || made[m[3]] {
			first.Changes = append(first.Changes, change)
			continue
		}
		concurrent := *change
		concurrent.Cmd = planCreateIndex.ReplaceAllString(change.Cmd, "CREATE ${1}INDEX CONCURRENTLY IF NOT EXISTS "+
			"$2 ON $3 ")
		name := plan.Name + "_index"
		if len(indexes) > 0 {
			name += fmt.Sprintf("_%d", len(indexes)+1)
		}
		indexes = append(indexes, &migrate.Plan{
			Name: name, Directives: []string{"-- atlas:txmode none"}, Changes: []*migrate.Change{&concurrent},
		})
	}
	if len(first.Changes) > 0 {
		files = append(files, first)
	}
	if later := slices.Concat(s.validate, s.after); len(later) > 0 {
		files = append(files, &migrate.Plan{Name: plan.Name + "_validate", Changes: later})
	}
	return append(files, indexes...)
}
