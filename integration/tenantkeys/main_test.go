// Package tenantkeys tests tenants' keys and crypto-shredding.
package tenantkeys

import (
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain can be the command credent.
func TestMain(m *testing.M) { testdb.Main(m) }
