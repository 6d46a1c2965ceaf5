// Package observe says what an observer of a client is told, so that what the
// client does with secrets and tenants' keys can be counted.
package observe

import (
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
)

// Observer is told what a client does. The zero value is nobody.
type Observer struct {
	Sealed     func(Event)            // of each secret that was encrypted, or refused
	Opened     func(Event)            // of each secret that was decrypted, or didn't open
	TenantKeys func(tenantkey.Lookup) // of each look at the tenants' keys
}

// Event tells an observer that a secret was sealed or opened, or could not be.
// Fields that aren't known are empty.
type Event struct {
	Table  string // "user_credentials"
	Column string // "api_key"
	Tenant string // of the row
	Err    error  // why it failed

	// Plaintext means that what is stored is plaintext, in a plaintext window.
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
