package client

import (
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/states"
)

// StatesLifetime is how long a client uses the database's states before it
// reads them again: one minute. Over [Config.Reader] it begins when the standby
// has replayed a change.
const StatesLifetime = states.Lifetime

// TenantKeyLifetime is how long a client uses a tenant's key before it reads it
// again: one minute. A destroyed key is gone from every process after that
// time; over [Config.Reader] it begins when the standby has replayed the
// destruction.
const TenantKeyLifetime = tenantkey.Lifetime
