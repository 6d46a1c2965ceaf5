// Package tenancy tests that a user's statements touch the user's rows only, by
// row-level security, triggers and roles, also behind PgBouncer.
package tenancy

import (
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain can be the command credent.
func TestMain(m *testing.M) { testdb.Main(m) }
