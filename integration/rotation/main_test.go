// Package rotation tests rotation, encryption of existing rows and their
// undoing, beside writers in Go and Python and when killed.
package rotation

import (
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain can be the command credent.
func TestMain(m *testing.M) { testdb.Main(m) }
