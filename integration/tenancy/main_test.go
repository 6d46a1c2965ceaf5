// Package tenancy tests that a user's statements affect only the user's rows,
// through row-level security, triggers and roles, and behind PgBouncer as well.
package tenancy

import (
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain runs the tests, or the command credent in a child process.
func TestMain(m *testing.M) { testdb.Main(m) }
