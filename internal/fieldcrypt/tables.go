package fieldcrypt

import (
	"slices"
	"strings"
)

// encryptedTable is a table with encrypted columns.
type encryptedTable struct {
	name    string
	quoted  [2]string // as ent writes it for Postgres and for SQLite
	columns []ColumnInfo
	watched []string // those with a blind index, and the indexes; and the columns below

	tenant string   // column that says whose a row is; "" if no column's keys depend on it
	via    string   // column whose change may change that, by a trigger; "" for none
	scoped []string // the columns whose keys do
}

func (c *codec) add(column ColumnInfo) {
	t := c.table(column.Table)
	if t == nil {
		quoted := [2]string{`"` + column.Table + `"`, "`" + column.Table + "`"}
		c.tables = append(c.tables, encryptedTable{name: column.Table, quoted: quoted})
		t = &c.tables[len(c.tables)-1]
	}
	t.columns = append(t.columns, column)
	watch := func(name string) {
		if !slices.Contains(t.watched, name) {
			t.watched = append(t.watched, name)
		}
	}
	if column.Index != "" {
		watch(column.Name)
		watch(column.Index)
	}
	if c.isScoped(column) {
		c.scopes = true
		t.tenant, t.scoped = column.Tenant, append(t.scoped, column.Name)
		watch(column.Tenant)
		watch(column.Name)
		if f := followOf(column.Table); f.Via != "" {
			t.via = f.Via
			watch(f.Via)
			c.sources = append(c.sources, f)
		}
	}
}

// table returns what is known of a table, or nil. Names are compared without their case, as SQLite does, also in quotes; in
// Postgres two tables, or columns, whose names differ in nothing else are not told apart.
func (c *codec) table(name string) *encryptedTable {
	for i := range c.tables {
		if strings.EqualFold(c.tables[i].name, name) {
			return &c.tables[i]
		}
	}
	return nil
}

// names reports whether a statement names a table with encrypted columns.
func (c *codec) names(query string) bool {
	return slices.ContainsFunc(c.tables, func(t encryptedTable) bool { return t.in(query) })
}

func (t encryptedTable) in(query string) bool {
	return strings.Contains(query, t.quoted[0]) || strings.Contains(query, t.quoted[1])
}

// column returns an encrypted column of a table. Of one that is not known it returns the size only, that of the table's
// widest; and 0 if it has none.
func (c *codec) column(table, name string) ColumnInfo {
	var widest ColumnInfo
	if t := c.table(table); t != nil {
		for _, column := range t.columns {
			if strings.EqualFold(column.Name, name) {
				return column
			}
			widest.Size = max(widest.Size, column.Size)
		}
	}
	return widest
}

// key returns the column of a table's primary key.
func (c *codec) key(table string) string {
	if t := c.table(table); t != nil {
		return t.columns[0].key()
	}
	return defaultKey
}

// watched returns the columns of a table of which a statement's cells are wanted.
func (c *codec) watched(table string) []string {
	if t := c.table(table); t != nil {
		return t.watched
	}
	if f := c.source(table); f != nil {
		return []string{f.SourceColumn}
	}
	return nil
}

// source returns what follows a table's column, or nil.
func (c *codec) source(table string) *Follow {
	for i := range c.sources {
		if strings.EqualFold(c.sources[i].Source, table) {
			return &c.sources[i]
		}
	}
	return nil
}

// index returns the column of another's blind index, or "".
func (c *codec) index(table, name string) string {
	return c.column(table, name).Index
}

// storesIndexed reports whether a statement without secrets may store NULL, or something else, in a column with a blind index.
func (c *codec) storesIndexed(query string) bool {
	first := newLexer(query, nil)
	if first.kind != word || !strings.EqualFold(first.text, "UPDATE") && !strings.EqualFold(first.text, "INSERT") {
		return false
	}
	query = strings.ToLower(query)
	return slices.ContainsFunc(c.tables, func(t encryptedTable) bool {
		return strings.Contains(query, strings.ToLower(t.name)) &&
			slices.ContainsFunc(t.watched, func(name string) bool { return strings.Contains(query, strings.ToLower(name)) })
	})
}

// keyOf returns the column of the primary key of the table that a query names, if it names one.
func (c *codec) keyOf(query string) string {
	found := ""
	for _, t := range c.tables {
		if t.in(query) {
			if found != "" {
				return defaultKey
			}
			found = t.columns[0].key()
		}
	}
	return found
}

// columnOf returns the encrypted column of a name in the tables that a query names, or nil if it is in none or in several.
func (c *codec) columnOf(query, name string) *ColumnInfo {
	var found *ColumnInfo
	for _, t := range c.tables {
		for i := range t.columns {
			if t.columns[i].Name != name || !t.in(query) {
				continue
			}
			if found != nil {
				return nil
			}
			found = &t.columns[i]
		}
	}
	return found
}
