// Package store tests how accounts and credentials are stored, the hooks, and
// that no plaintext leaks.
package store

import (
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain runs the tests, or the command credent in a child process.
func TestMain(m *testing.M) { testdb.Main(m) }
