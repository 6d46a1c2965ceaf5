package codegen

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/entc/gen"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// isIndex reports whether a field belongs to a blind index.
func isIndex(f *gen.Field) bool { return f.Annotations[encrypted.IndexAnnotationName] != nil }

// joinIndexes assigns a node's blind indexes to its encrypted fields.
func joinIndexes(node *gen.Type, fields []encryptedField) (faults []error) {
	for _, f := range node.Fields {
		if !isIndex(f) {
			continue
		}
		var annotation encrypted.IndexAnnotation
		if err := decode(f.Annotations[encrypted.IndexAnnotationName], &annotation); err != nil {
			faults = append(faults, err)
			continue
		}
		found := false
		for i := range fields {
			if fields[i].Field.Name != annotation.Of {
				continue
			}
			found = true
			switch fields[i].Annotation.Type {
			case "string", "[]byte", "time.Time":
				fields[i].Index = f
				with, err := storageKeys(node, annotation)
				fields[i].UniqueWith, fields[i].AcrossTenants = with, annotation.AcrossTenants
				fields[i].Declared = annotation
				faults = append(faults, err, checkConditions(node, fields[i]), checkIndexTenant(fields[i], annotation))
				nameLookupIndex(node, fields[i])
				addGapIndex(node, fields[i])
			default:
				faults = append(faults, fmt.Errorf("%s.%s is JSON and cannot have a blind index: equal values may be "+
					"written differently", node.Name, annotation.Of))
			}
		}
		if !found {
			faults = append(faults, fmt.Errorf("%s: encrypted.BlindIndex(%q): the schema has no encrypted field of "+
				"that name", node.Name, annotation.Of))
		}
	}
	return faults
}

// checkIndexTenant refuses a blind index that contradicts its field's tenant.
func checkIndexTenant(f encryptedField, a encrypted.IndexAnnotation) error {
	switch {
	case a.AcrossTenants && f.Tenant == "":
		return fmt.Errorf("%s.%s has a blind index with AcrossTenants and no Tenant: remove AcrossTenants",
			f.Node.Name, f.Field.Name)
	case a.Unique && f.Tenant != "" && !a.AcrossTenants && !slices.Contains(a.With, f.Tenant):
		return fmt.Errorf("%s.%s has a unique blind index, and equal secrets of two tenants have different digests: "+
			"make it unique for each tenant with Unique(%q), or for all with AcrossTenants()", f.Node.Name,
			f.Field.Name, f.Tenant)
	}
	return nil
}

// storageKeys returns the columns of a unique index's other fields.
func storageKeys(node *gen.Type, a encrypted.IndexAnnotation) (columns []string, err error) {
	for _, name := range a.With {
		i := slices.IndexFunc(node.Fields, func(f *gen.Field) bool { return f.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("%s: encrypted.BlindIndex(%q).Unique(%q): the schema has no field of that name",
				node.Name, a.Of, name)
		}
		columns = append(columns, node.Fields[i].StorageKey())
	}
	return columns, nil
}

// checkConditions refuses a unique index on the digest that differs from the
// blind index's declaration: the client would not know its condition, and would
// accept duplicates while the keyring has several keys.
func checkConditions(node *gen.Type, f encryptedField) error {
	for _, index := range node.Indexes {
		if !index.Unique || !slices.Contains(index.Columns, f.Index.StorageKey()) {
			continue
		}
		var (
			own encrypted.IndexAnnotation
			is  entsql.IndexAnnotation
		)
		err := errors.Join(decode(index.Annotations[own.Name()], &own), decode(index.Annotations[is.Name()], &is))
		if err == nil && own.Of == f.Field.Name && own.Where == is.Where && len(index.Columns) == 1+len(own.With) {
			continue
		}
		where := is.Where
		if where == "" {
			where = "deleted_at IS NULL"
		}
		return errors.Join(err, fmt.Errorf("%s: the unique index of %s is not as its blind index declares it, so "+
			"that the client does not know its columns and its condition: declare it with "+
			"encrypted.BlindIndex(%q).Unique(\"other_field\").Where(%q)",
			node.Name, strings.Join(index.Columns, ", "), f.Field.Name, where))
	}
	return nil
}

// nameLookupIndex names the lookup index beside a partial unique index on the
// same column, because ent would give both the same name.
func nameLookupIndex(node *gen.Type, f encryptedField) {
	for _, index := range node.Indexes {
		if index.Unique || !slices.Equal(index.Columns, []string{f.Index.StorageKey()}) {
			continue
		}
		if slices.ContainsFunc(node.Indexes,
			func(other *gen.Index) bool { return other != index && other.Name == index.Name }) {
			index.Name += "_lookup"
		}
	}
}

// addGapIndex adds an index that finds rows with a secret but no digest, for an
// optional field. For other fields, the digest's own index finds them.
func addGapIndex(node *gen.Type, f encryptedField) {
	if !f.Optional {
		return
	}
	node.Indexes = append(node.Indexes, &gen.Index{
		Name:    strings.ToLower(node.Name) + "_" + f.Index.StorageKey() + "_gaps",
		Columns: []string{f.Index.StorageKey()},
		Annotations: gen.Annotations{
			encrypted.IndexAnnotationName: encrypted.IndexAnnotation{Of: f.Field.Name},
			entsql.IndexAnnotation{}.Name(): entsql.IndexWhere("(" + printedName(f.Index.StorageKey()) +
				" IS NULL) AND (" +
				printedName(f.StorageKey()) + " IS NOT NULL)"),
		},
	})
}

// printedName returns a name as Postgres prints it in a condition: Atlas
// compares texts, and would recreate an index written differently.
func printedName(name string) string {
	if slices.Contains(strings.Fields(quotedWords), name) || !lowerName.MatchString(name) {
		return column.QuoteName(name)
	}
	return name
}

var lowerName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// quotedWords are the words that Postgres quotes when it prints them as names,
// and SQLite's keywords.
const quotedWords = "add all alter analyse analyze and any array as asc asymmetric authorization between bigint " +
	"binary bit boolean both case cast char character check coalesce collate collation column commit concurrently " +
	"constraint create cross current_catalog current_date current_role current_schema current_time current_timestamp " +
	"current_user dec decimal default deferrable delete desc distinct do drop else end escape except exists extract " +
	"false fetch float for foreign freeze from full grant greatest group grouping having ilike in index initially " +
	"inner inout insert int integer intersect interval into is isnull join lateral leading least left like limit " +
	"localtime localtimestamp national natural nchar none normalize not notnull null nullif numeric offset on only " +
	"or order out outer overlaps overlay placing position precision primary real references returning right row " +
	"select session_user set setof similar smallint some substring symmetric table tablesample then time timestamp " +
	"to trailing transaction treat trim true union unique update user using values varchar variadic verbose when " +
	"where window with xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot " +
	"xmlserialize xmltable"

// dropSetters removes setters of blind indexes, for which no caller has values,
// and ent's upsert setters of encrypted fields: the generated files have their
// own, which also set the blind index.
func dropSetters(g *gen.Graph, fields []encryptedField) error {
	drop := make(map[string]map[[2]string]bool)
	for _, f := range fields {
		path := filepath.Join(g.Target, strings.ToLower(f.Node.Name)+"_create.go")
		if drop[path] == nil {
			drop[path] = make(map[[2]string]bool)
		}
		for _, prefix := range []string{"Set", "Update", "Clear"} {
			drop[path][[2]string{f.Node.Name + "Upsert", prefix + f.StructField()}] = true
		}
		if f.Index == nil {
			continue
		}
		for _, prefix := range []string{"Set", "SetNillable"} {
			drop[path][[2]string{f.Node.CreateName(), prefix + f.Index.StructField()}] = true
		}
	}
	for path, methods := range drop {
		if err := dropMethods(path, methods); err != nil {
			return err
		}
	}
	return nil
}
