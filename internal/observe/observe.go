// Package observe defines the events that a client reports, to count what it
// does with secrets and tenants' keys.
package observe

import (
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
)

// Observer has the functions that a client calls for its events. Nil functions
// aren't called.
type Observer struct {
	Sealed     func(Event)            // for each secret that was encrypted, or refused
	Opened     func(Event)            // for each secret that was decrypted, or didn't open
	TenantKeys func(tenantkey.Lookup) // for each use of the cache of tenants' keys
}

// Event reports that a secret was sealed or opened, or couldn't be. Unknown
// fields are empty.
type Event struct {
	Table  string // "user_credentials"
	Column string // "api_key"
	Tenant string // the row's tenant
	Err    error  // why it failed

	// Plaintext means that the stored value is plaintext, in a plaintext
	// window.
	Plaintext bool
}

// Of returns the event of a secret in a column, which may be nil.
func Of(c *column.Column, tenant string, plaintext bool, err error) Event {
	e := Event{Tenant: tenant, Err: err, Plaintext: plaintext}
	if c != nil {
		e.Table, e.Column = c.TableName(), c.Name
	}
	return e
}
