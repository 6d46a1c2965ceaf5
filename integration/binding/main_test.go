// Package binding tests tokens that are bound to their place in Credent's own
// tables.
package binding

import (
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain can be the command credent.
func TestMain(m *testing.M) { testdb.Main(m) }
