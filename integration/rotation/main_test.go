// Package rotation tests rotation, and encrypting and decrypting existing rows,
// beside writers in Go and Python and when killed.
package rotation

import (
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain runs the tests, or the command credent in a child process.
func TestMain(m *testing.M) { testdb.Main(m) }
