// Package paths tests every way to write and to read a secret: through ent,
// with raw SQL and around Credent.
package paths

import (
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain runs the tests, or the command credent in a child process.
func TestMain(m *testing.M) { testdb.Main(m) }
