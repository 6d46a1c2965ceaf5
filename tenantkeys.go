package credent

import "github.com/credent-go/credent/internal/fieldcrypt/tenantkey"

// TenantKeyLifetime is how long a client uses the key of a tenant before it
// reads it again: one minute. A key that is destroyed is gone from every
// process after that time.
const TenantKeyLifetime = tenantkey.Lifetime

// WithTenantKeys gives each tenant a data key of its own, in columns whose
// schema says whose a row is: user_credentials by its user_id. The key is
// random, made when the first secret of the tenant is stored, and kept in the
// table credent_tenant_keys, encrypted under the keyring. With it the secrets
// of one tenant can be made unreadable, in the database, its replicas and every
// copy without the key, by destroying the key: `credent tenant destroy`, or
// rotate.DestroyTenant. Afterwards a Reveal of the tenant's secrets is
// [ErrShredded], and so is storing another one.
//
// Secrets that are under the keyring itself are read all the same, until
// `credent rotate --tenant-keys` has rewritten them. Every program that reads
// or writes the columns must take part: one without this option and without
// [AllowTenantKeys] cannot read what a service with it writes, and what it
// writes itself is not destroyed with the key. Statements must say whose the
// row is, or choose one row by its id, and queries must select user_id too;
// others are refused with [ErrContext].
//
// Keys are read over the connection of the statement, when its rows have ended,
// and are kept in memory for [TenantKeyLifetime]. A secret that is revealed
// later than that after it was read takes a connection of the pool to read the
// key again, for 5 seconds at the most. docs/tenant-keys.md says in which order
// to go about it.
func WithTenantKeys() Option {
	return func(o *options) { o.tenantKeys, o.hooks.Rebind = true, true }
}

// AllowTenantKeys reads the secrets that are under the keys of their tenants,
// and writes under the keyring: for the time in which not every service has
// [WithTenantKeys] yet, or has it any more. Secrets of tenants whose key was
// destroyed are refused as there.
func AllowTenantKeys() Option {
	return func(o *options) { o.allowTenantKeys, o.hooks.Rebind = true, true }
}
