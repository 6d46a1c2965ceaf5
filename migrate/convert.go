package migrate

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/postgres"
	atlas "ariga.io/atlas/sql/schema"
	"ariga.io/atlas/sql/sqlite"
	"entgo.io/ent/dialect/sql/schema"

	"github.com/credent-go/credent/internal/expand"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/indextrigger"
	"github.com/credent-go/credent/internal/plaintype"
)

// ErrTypeChange means that a change of the schema would lose a column's values:
// a cast of plaintext to Postgres's text for it, or of tokens to anything.
// *TypeChangeError says what to do instead.
var ErrTypeChange = errors.New("the change of type would lose the column's values")

// TypeChangeError is an [ErrTypeChange] of a column.
type TypeChangeError struct {
	Table, Column string
	From, To      string // types in the directory and in the schema
	Reason        string
	Do            []string // in this order
}

// Error names the column, and gives the steps.
func (e *TypeChangeError) Error() string {
	text := fmt.Sprintf("%s.%s from %s to %s: %s: %s", e.Table, e.Column, e.From, e.To, ErrTypeChange, e.Reason)
	for i, step := range e.Do {
		text += fmt.Sprintf("; %d. %s", i+1, step)
	}
	return text
}

// Unwrap returns ErrTypeChange.
func (e *TypeChangeError) Unwrap() error { return ErrTypeChange }

// converter turns plaintext columns that aren't text into encrypted ones, in
// two files: the first adds a column for tokens, and the second puts it in the
// plaintext column's place. ent would cast the column.
type converter struct {
	dialect       string
	tables        []*schema.Table
	before, after []*migrate.Change // not visible to ent
}

// hook hides the conversions from ent's comparison and collects their
// statements.
func (v *converter) hook(next schema.Differ) schema.Differ {
	return schema.DiffFunc(func(current, desired *atlas.Schema) ([]atlas.Change, error) {
		for _, to := range desired.Tables {
			from, ok := current.Table(to.Name)
			if !ok {
				continue
			}
			for _, c := range slices.Clone(to.Columns) {
				if err := v.column(from, to, c); err != nil {
					return nil, err
				}
			}
			v.abandon(from, to)
		}
		return next.Diff(current, desired)
	})
}

// column converts one column if necessary.
func (v *converter) column(from, to *atlas.Table, c *atlas.Column) error {
	old, ok := from.Column(c.Name)
	if !ok || old.Type == nil || c.Type == nil {
		return nil
	}
	encrypted := hasGeneratedCheck(v.tables, to.Name, c.Name) || v.known(to.Name, c.Name) != nil && isTextColumn(c)
	if !encrypted && hasTokenCheck(from, c.Name) && (!isTextColumn(c) || !hasTokenCheck(to, c.Name)) {
		return toPlaintext(from, old, c)
	}
	kind, isText := kindOf(v.dialect, old)
	if !encrypted || isText {
		return nil
	}
	of := column.Column{Table: to.Name, Name: c.Name, Size: sizeOf(c)}
	if known := v.known(to.Name, c.Name); known != nil {
		if of = *known; !plaintype.Takes(of, kind) {
			return &TypeChangeError{
				Table: to.Name, Column: c.Name, From: typeOf(old), To: "an encrypted " + plaintypeName(of),
				Reason: "no value of the one is a value of the other", Do: []string{
					"change the column to a type whose values fit, or give the encrypted field another name",
					"run migrate.Diff again",
				},
			}
		}
		of.Schema = "" // ent's versioned migrations omit it
	} else if to.PrimaryKey != nil && len(to.PrimaryKey.Parts) == 1 {
		of.ID = to.PrimaryKey.Parts[0].C.Name
	}
	if tokens, ok := from.Column(expand.Tokens(c.Name)); ok {
		v.swap(from, old, tokens, of)
		return nil
	}
	_, taken := to.Column(expand.Tokens(c.Name))
	err := expand.CheckName(c.Name)
	if taken {
		err = fmt.Errorf("the schema has a column %q, but the column for tokens needs that name", expand.Tokens(c.Name))
	}
	if err != nil {
		return &TypeChangeError{
			Table: to.Name, Column: c.Name, From: typeOf(old), To: typeOf(c), Reason: err.Error(),
			Do: []string{"rename one of the columns", "run migrate.Diff again"},
		}
	}
	v.expand(from, to, old, c, of)
	return nil
}

// abandon drops the triggers of conversions that the schema no longer wants;
// ent drops their token columns.
func (v *converter) abandon(from, to *atlas.Table) {
	for _, c := range from.Columns {
		if _, ok := from.Column(expand.Tokens(c.Name)); !ok {
			continue
		}
		if _, ok := to.Column(expand.Tokens(c.Name)); !ok {
			undo := expand.Undo(v.dialect, column.Column{Table: from.Name, Name: c.Name})
			v.before = append(v.before, triggerChanges(fmt.Sprintf("%q of %q stays plaintext", c.Name, from.Name),
				undo[:len(undo)-1])...)
		}
	}
}

// known returns a given table's registered column, or nil.
func (v *converter) known(table, name string) *column.Column {
	for _, c := range column.All() {
		if c.Table == table && c.Name == name {
			return &c
		}
	}
	return nil
}

// expand adds a column for tokens. The plaintext column and its indexes stay.
func (v *converter) expand(from, to *atlas.Table, old, c *atlas.Column, of column.Column) {
	statements := expand.Columns(v.dialect, of)
	comment := fmt.Sprintf("%q of %q becomes encrypted: this adds the column for its tokens", c.Name, to.Name)
	if len(v.before) == 0 {
		comment += ". Services go on to use the plaintext.\n" +
			"-- Next run rotate.Encrypt (credent encrypt) until rotate.Verify finds no plaintext. Then let " +
			"migrate.Diff write the\n-- next file, which drops the plaintext, and apply it with the service that " +
			"uses the encrypted field"
	}
	v.before = append(v.before, &migrate.Change{Cmd: statements[0], Comment: comment})
	v.after = append(v.after, triggerChanges(fmt.Sprintf("empty the token of %q of %q when a writer changes the "+
		"plaintext", c.Name, to.Name),
		statements[1:])...)

	tokens := *c
	tokens.Name, tokens.Type = expand.Tokens(c.Name), &atlas.ColumnType{Type: c.Type.Type, Raw: c.Type.Raw, Null: true}
	tokens.Indexes, tokens.ForeignKeys, tokens.Default = nil, nil, nil
	beside := tokens
	from.AddColumns(&beside)
	to.AddColumns(&tokens)
	c.Type, c.Default, c.Attrs = old.Type, old.Default, old.Attrs
	to.Attrs = slices.DeleteFunc(to.Attrs, func(a atlas.Attr) bool {
		check, ok := a.(*atlas.Check)
		return ok && strings.Contains(check.Expr, tokenPrefix) && mentions(check.Expr, c.Name)
	})
	for _, attr := range from.Attrs {
		if check, ok := attr.(*atlas.Check); ok && mentions(check.Expr, c.Name) {
			to.AddAttrs(check)
		}
	}
	for _, index := range from.Indexes {
		if _, ok := to.Index(index.Name); !ok && indexes(index, old) {
			to.AddIndexes(index)
		}
	}
}

// swap puts the token column in the plaintext column's place.
func (v *converter) swap(from *atlas.Table, old, tokens *atlas.Column, of column.Column) {
	statements := expand.Swap(v.dialect, of)
	if isSQLite(v.dialect) { // keeps a column that something else refers to
		var drops []string
		for _, index := range from.Indexes {
			if needs(index, old) {
				drops = append(drops, "DROP INDEX "+column.QuoteName(index.Name))
			}
		}
		if of.Index != "" {
			drops = append(drops, indextrigger.Drops(v.dialect, indextrigger.Column{
				Table: of.Table, Token: of.Name,
				Index: of.Index, Key: of.ID,
			})...)
		}
		statements = slices.Insert(statements, len(statements)-2, drops...)
	}
	for i, cmd := range statements {
		change := &migrate.Change{Cmd: cmd}
		switch i {
		case 0:
			change.Comment = fmt.Sprintf("the tokens of %q of %q take the plaintext's place, once every row has one",
				old.Name, from.Name)
		case len(statements) - 2:
			change.Comment = "the plaintext goes\n-- atlas:nolint destructive"
		case len(statements) - 1:
			change.Comment = "the tokens get its name\n-- atlas:nolint incompatible"
		}
		v.before = append(v.before, change)
	}
	from.Columns = slices.DeleteFunc(from.Columns, func(c *atlas.Column) bool { return c == old })
	from.Indexes = slices.DeleteFunc(from.Indexes, func(index *atlas.Index) bool { return needs(index, old) })
	from.Attrs = slices.DeleteFunc(from.Attrs, func(a atlas.Attr) bool {
		check, ok := a.(*atlas.Check)
		return ok && mentions(check.Expr, old.Name)
	})
	tokens.Name = old.Name
}

// needs reports whether an index has a column, also in its condition. Dropping
// the column drops such an index.
func needs(index *atlas.Index, c *atlas.Column) bool {
	return indexes(index, c) || slices.ContainsFunc(index.Attrs, func(a atlas.Attr) bool {
		switch where := a.(type) {
		case *postgres.IndexPredicate:
			return mentions(where.P, c.Name)
		case *sqlite.IndexPredicate:
			return mentions(where.P, c.Name)
		}
		return false
	})
}

// toPlaintext refuses to turn a column with tokens into a plaintext column.
func toPlaintext(t *atlas.Table, old, c *atlas.Column) error {
	check := tokenCheck(t, c.Name)
	return &TypeChangeError{
		Table: t.Name, Column: c.Name, From: typeOf(old) + " with tokens", To: typeOf(c),
		Reason: "the column holds tokens, and the field is not encrypted any more",
		Do: []string{
			fmt.Sprintf("write a migration that drops the CHECK %q, with \"-- atlas:nolint encrypted_column\" above it",
				check.Name),
			"while the schema still has the encrypted field, run rotate.DecryptToPlaintext (credent decrypt)",
			"change the field to plaintext. If it isn't text, write the conversion by hand: ALTER TABLE … ALTER " +
				"COLUMN … TYPE … USING …, with \"-- atlas:nolint encrypted_column\"; a time is RFC 3339 in text, " +
				"bytes are in UTF-8, the rest is JSON",
			"run migrate.Diff again",
		},
	}
}

// kindOf returns a column's kind of value, and whether it is text.
func kindOf(d string, c *atlas.Column) (plaintype.Kind, bool) {
	if isSQLite(d) {
		return plaintype.OfSQLite(c.Type.Raw)
	}
	switch t := c.Type.Type.(type) {
	case *atlas.StringType:
		return plaintype.Hexed, true
	case *postgres.UserDefinedType:
		return plaintype.OfPostgres(t.T)
	}
	return plaintype.OfPostgres(c.Type.Raw)
}

// typeOf returns the name of a column's type.
func typeOf(c *atlas.Column) string {
	if t, ok := c.Type.Type.(*atlas.StringType); ok && c.Type.Raw == "" {
		return t.T
	}
	return c.Type.Raw
}

func plaintypeName(c column.Column) string {
	if c.Type == "" {
		return "string"
	}
	return c.Type
}
