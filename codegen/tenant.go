package codegen

import (
	"fmt"

	"entgo.io/ent/entc/gen"
)

// TenantField returns the field of the row's tenant, or nil if the
// encrypted field names none, or one that is not there.
func (f encryptedField) TenantField() *gen.Field {
	for _, other := range f.Node.Fields {
		if other.Name == f.Tenant {
			return other
		}
	}
	return nil
}

// Copied returns the edge to the entity that the database copies the tenant
// from, or nil.
func (f encryptedField) Copied() *gen.Edge {
	for _, e := range f.Node.Edges {
		if f.CopiedFrom != "" && e.Name == f.CopiedFrom {
			return e
		}
	}
	return nil
}

// Via returns the field that is the foreign key of that edge.
func (f encryptedField) Via() *gen.Field { return f.Copied().Field() }

// SourceTenant returns the field of that entity that the tenant is copied from.
func (f encryptedField) SourceTenant() *gen.Field {
	for _, other := range f.Copied().Type.Fields {
		if other.Name == f.Tenant {
			return other
		}
	}
	return nil
}

// checkCopied finds tenants that can't be copied.
func checkCopied(f encryptedField) error {
	if f.CopiedFrom == "" {
		return nil
	}
	switch e := f.Copied(); {
	case f.Tenant == "":
		return fmt.Errorf("%s.%s has CopiedFrom and no Tenant", f.Node.Name, f.Field.Name)
	case e == nil || !e.OwnFK() || e.Field() == nil:
		return fmt.Errorf("%s.%s has CopiedFrom(%q): name an edge of %s that has its foreign key in a field of it",
			f.Node.Name, f.Field.Name, f.CopiedFrom, f.Node.Name)
	case f.SourceTenant() == nil:
		return fmt.Errorf("%s.%s has CopiedFrom(%q): %s has no field %s", f.Node.Name, f.Field.Name, f.CopiedFrom,
			e.Type.Name, f.Tenant)
	}
	return nil
}

// checkTenant finds invalid tenants, and binding without a tenant.
func checkTenant(f encryptedField) (faults []error) {
	refuse := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s.%s "+format, append([]any{f.Node.Name, f.Field.Name}, args...)...))
	}
	if err := checkCopied(f); err != nil {
		faults = append(faults, err)
	}
	if f.Tenant == "" {
		if f.Bound {
			refuse("is bound and has no tenant to be bound to: add Tenant(\"user_id\"), with the field that has " +
				"a row's tenant")
		}
		return faults
	}
	switch tenant := f.TenantField(); {
	case tenant == nil:
		refuse("has the tenant %q, which is no field of %s: name one, and declare it if it is an edge's",
			f.Tenant, f.Node.Name)
	case IsEncrypted(tenant):
		refuse("has the tenant %s, which is encrypted itself", tenant.Name)
	case !tenant.IsString() && !tenant.IsUUID() && !tenant.Type.Type.Integer():
		refuse("has the tenant %s, which is of type %s: use a field of text, UUIDs or integers",
			tenant.Name, tenant.Type)
	case tenant.Optional || tenant.Nillable:
		refuse("has the tenant %s, which is optional: a row without one would have no key", tenant.Name)
	}
	return faults
}

// checkTenants refuses entities with fields that name different tenants: a row
// has one tenant.
func checkTenants(fields []encryptedField) (faults []error) {
	first := make(map[*gen.Type]encryptedField)
	for _, f := range fields {
		if f.Tenant == "" {
			continue
		}
		if other, ok := first[f.Node]; ok && other.Tenant != f.Tenant {
			faults = append(faults, fmt.Errorf("%s.%s has the tenant %s, and %s the tenant %s: the fields of an "+
				"entity have one tenant", f.Node.Name, f.Field.Name, f.Tenant, other.Field.Name, other.Tenant))
			continue
		}
		if first[f.Node].Field == nil {
			first[f.Node] = f
		}
	}
	return faults
}
