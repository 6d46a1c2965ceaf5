// Package copying tests Copy, import and export.
package copying

import (
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain runs the tests, or the command credent in a child process.
func TestMain(m *testing.M) { testdb.Main(m) }
