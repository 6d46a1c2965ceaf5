package codegen

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/credent-go/credent/encrypted"
)

// nameInDatabase matches valid earlier names of tables and columns.
var nameInDatabase = regexp.MustCompile(`^[\p{L}\p{N}_$]([\p{L}\p{N}_$ -]*[\p{L}\p{N}_$])?$`)

// place returns the current name of the field's column, as TABLE.COLUMN.
func (f encryptedField) place() string { return f.Node.Table() + "." + f.StorageKey() }

// findNames sets the fields' earlier column names. It reports invalid ones:
// malformed names, and names that several columns have or had, because their
// tokens could not be told apart.
func findNames(fields []encryptedField) (faults []error) {
	for i := range fields {
		var err error
		if fields[i].Was, err = earlierNames(fields[i]); err != nil {
			faults = append(faults, err)
		}
	}
	for i, f := range fields {
		for _, name := range f.Was {
			for j, other := range fields {
				switch {
				case other.place() == name:
					faults = append(faults, fmt.Errorf("%s.%s was named %q, which is the column of %s.%s now: "+
						"nothing would tell their tokens and digests apart. Give one of them a third name, rotate, "+
						"remove the declaration, and then rename",
						f.Node.Name, f.Field.Name, name, other.Node.Name, other.Field.Name))
				case j < i && slices.Contains(other.Was, name):
					faults = append(faults, fmt.Errorf("%s.%s and %s.%s were both named %q: nothing would tell their "+
						"tokens and digests apart. In a mixin of several entities write WasNamed(\"COLUMN\") without "+
						"the table, and declare a renamed table with encrypted.TableWasNamed in the Annotations of "+
						"its entity", other.Node.Name, other.Field.Name, f.Node.Name, f.Field.Name, name))
				}
			}
		}
	}
	return faults
}

// earlierNames returns a field's earlier column names, as TABLE.COLUMN.
func earlierNames(f encryptedField) ([]string, error) {
	refuse := func(call, name, why string) error {
		return fmt.Errorf("%s.%s has %s(%q): %s", f.Node.Name, f.Field.Name, call, name, why)
	}
	var of encrypted.TableAnnotation
	if err := decode(f.Node.Annotations[encrypted.TableAnnotationName], &of); err != nil {
		return nil, fmt.Errorf("%s: annotation %s: %w", f.Node.Name, encrypted.TableAnnotationName, err)
	}
	tables := []string{f.Node.Table()}
	for _, table := range of.WasNamed {
		switch {
		case !nameInDatabase.MatchString(table):
			return nil, refuse("encrypted.TableWasNamed", table, "write the name of a table, without the Postgres "+
				"schema")
		case table == f.Node.Table():
			return nil, refuse("encrypted.TableWasNamed", table, "that is its present name")
		case slices.Contains(tables, table):
			return nil, refuse("encrypted.TableWasNamed", table, "it is there twice")
		}
		tables = append(tables, table)
	}
	columns, names := []string{f.StorageKey()}, []string{}
	for _, name := range f.WasNamed {
		table, column, full := strings.Cut(name, ".")
		if !full {
			table, column = f.Node.Table(), name
		}
		written := table + "." + column
		switch {
		case !nameInDatabase.MatchString(column) || full && !nameInDatabase.MatchString(table):
			return nil, refuse("WasNamed", name, "write COLUMN or TABLE.COLUMN, as the database had it, without the "+
				"Postgres schema")
		case written == f.place():
			return nil, refuse("WasNamed", name, "that is its present name")
		case slices.Contains(names, written):
			return nil, refuse("WasNamed", name, "it is there twice")
		}
		names = append(names, written)
		if table == f.Node.Table() {
			columns = append(columns, column)
		}
	}
	for _, table := range tables {
		for _, column := range columns {
			if name := table + "." + column; name != f.place() && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if len(names) > 0 && strings.Contains(f.Node.Table(), ",") {
		return nil, fmt.Errorf("%s.%s has earlier names, and its table has a comma in its name",
			f.Node.Name, f.Field.Name)
	}
	return names, nil
}
