// Package growth tests work that is divided among workers and processes, and
// that resumes where it stopped.
package growth

import (
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain runs the tests, or the command credent in a child process.
func TestMain(m *testing.M) { testdb.Main(m) }
