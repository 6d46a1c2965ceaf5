package unique

import (
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/redact"
)

// Depends reports whether an update of a column can make a unique index compare
// a row with others: the column is in the index, or its condition's text names
// it.
func Depends(cfg blindindex.Config, name string) bool {
	return cfg.Unique && (slices.Contains(cfg.With, name) || strings.Contains(strings.ToLower(cfg.Where),
		strings.ToLower(name)))
}

// Move is an argument of an update that can make a unique blind index compare
// its rows with others: the update restores rows, or changes another column of
// the index, and leaves their secrets alone. The database compares digests only
// under one key, so the driver claims the others. The argument restricts the
// update to the rows that the driver has seen.
type Move struct {
	redact.Methods
	Column  column.Column
	Spec    *sqlgraph.UpdateSpec
	Dialect string
	Where   string // the index's condition, in parentheses, or ""
	Unless  string // the same if the update doesn't change the index's other columns
}

// Value implements driver.Valuer. It refuses: only Credent's driver has the
// digests.
func (m *Move) Value() (driver.Value, error) {
	return nil, m.Column.Wrap("index", fieldcrypt.ErrNoDriver)
}

// Of returns the column, in the schema chosen at run time.
func (m *Move) Of() column.Column {
	if m.Spec.Node.Schema == "" {
		return m.Column
	}
	return m.Column.InSchema(m.Spec.Node.Schema)
}

// candidates returns the query for the primary keys of the rows that the update
// may move. If it were named Query, ent would take the argument for a subquery.
func (m *Move) candidates() *entsql.Selector {
	s := m.from()
	s.Select(s.C(m.Spec.Node.ID.Column))
	if m.Spec.Predicate != nil {
		m.Spec.Predicate(s)
	}
	if id := m.Spec.Node.ID; id.Value != nil {
		s.Where(entsql.EQ(s.C(id.Column), id.Value))
	}
	if s.Where(entsql.NotNull(s.C(m.Column.Name))); m.Unless != "" {
		s.Where(entsql.ExprP(m.Unless + " IS NOT TRUE"))
	}
	return s.Limit(maxMoved + 1)
}

// locked makes a query for candidates lock its rows.
func (m *Move) locked(s *entsql.Selector) *entsql.Selector {
	if m.Dialect == dialect.Postgres {
		s.ForUpdate()
	}
	return s
}

// moved returns the query for the given rows that the index compares with
// others: primary key, secret and, if wanted, tenant.
func (m *Move) moved(tenant bool, ids []any) (string, []any) {
	s := m.from()
	s.Select(s.C(m.Spec.Node.ID.Column), s.C(m.Column.Name))
	if tenant {
		s.AppendSelect(s.C(m.Column.Tenant))
	}
	if s.Where(entsql.In(s.C(m.Spec.Node.ID.Column), ids...)); m.Where != "" {
		s.Where(entsql.ExprP(m.Where + " IS TRUE"))
	}
	return s.Query()
}

func (m *Move) from() *entsql.Selector {
	b, node := entsql.Dialect(m.Dialect), m.Spec.Node
	return b.Select().From(b.Table(node.Table).Schema(node.Schema))
}

// ID returns a scanned primary key as an argument.
func (m *Move) ID(scanned any) any {
	if raw, ok := scanned.([]byte); ok && m.Spec.Node.ID.Type != field.TypeBytes {
		return string(raw)
	}
	return scanned
}

// IDs returns the argument for primary keys. SQLite needs none, since others
// can't write meanwhile.
func (m *Move) IDs(ids []any) any {
	if m.Dialect != dialect.Postgres {
		return nil
	}
	texts := make([]string, len(ids))
	for i, id := range ids {
		if raw, ok := id.([]byte); ok {
			id = `\x` + hex.EncodeToString(raw)
		}
		texts[i] = `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(fmt.Sprint(id)) + `"`
	}
	return "{" + strings.Join(texts, ",") + "}"
}

// Predicate restricts the update to the rows that the driver names, and rows
// that it doesn't move.
func (m *Move) Predicate(b *entsql.Builder) {
	if m.Dialect != dialect.Postgres {
		b.WriteString("CAST(").Arg(m).WriteString(" AS INTEGER) IS NULL")
		return
	}
	id := "CAST(" + column.QuoteName(m.Spec.Node.ID.Column) + " AS text)"
	b.WriteString("(" + id + " = ANY (coalesce(").Arg(m).WriteString("::text[], ARRAY[" + id + "]))")
	b.WriteString(" OR " + column.QuoteName(m.Column.Name) + " IS NULL") // the row has no secret
	if m.Unless != "" {
		b.WriteString(" OR " + m.Unless + " IS TRUE")
	}
	b.WriteString(")")
}
