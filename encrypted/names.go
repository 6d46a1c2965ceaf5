package encrypted

import (
	"slices"

	"entgo.io/ent/schema"
)

// WasNamed declares earlier names of the field's column in the database, so
// that it can be renamed: TABLE.COLUMN, or only COLUMN in the same table. A
// Postgres schema isn't part of a name.
//
//	encrypted.String("mail").WasNamed("email")
//
// The tokens of [Field.Bound] and the digests of a [BlindIndex] depend on the
// names of table and column. Those made under an earlier name still open, are
// found and are unique. rotate.Run moves them to the current name; once
// rotate.Verify counts none under an earlier name, remove the declaration.
//
// If the table was renamed, declare that once with [TableWasNamed]. Code
// generation refuses names that another encrypted column has or had.
func (f *Field) WasNamed(names ...string) *Field {
	f.text.WasNamed = append(slices.Clone(f.text.WasNamed), names...)
	return f
}

// TableAnnotation is what an entity with encrypted fields tells the code
// generation's extension.
type TableAnnotation struct {
	WasNamed []string // earlier names of the table
}

// TableAnnotationName is the name of [TableAnnotation] among the annotations of
// an entity.
const TableAnnotationName = "CredentTable"

// TableWasNamed declares earlier names of an entity's table in the database,
// for all of its encrypted fields. Use it in the entity's Annotations:
//
//	func (Person) Annotations() []schema.Annotation {
//		return []schema.Annotation{encrypted.TableWasNamed("patients")}
//	}
//
// It combines with [Field.WasNamed]: each column of the table is known by every
// name that it may have had in every table.
func TableWasNamed(names ...string) TableAnnotation { return TableAnnotation{WasNamed: names} }

// Name implements ent's schema.Annotation.
func (TableAnnotation) Name() string { return TableAnnotationName }

// Merge implements ent's schema.Merger: a mixin and a schema may both have it.
func (a TableAnnotation) Merge(other schema.Annotation) schema.Annotation {
	switch other := other.(type) {
	case TableAnnotation:
		a.WasNamed = append(slices.Clone(a.WasNamed), other.WasNamed...)
	case *TableAnnotation:
		if other != nil {
			return a.Merge(*other)
		}
	}
	return a
}
