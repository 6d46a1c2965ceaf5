// Package paths tests every way to write and to read a secret through ent, by
// raw SQL and around Credent.
package paths

import (
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain can be the command credent.
func TestMain(m *testing.M) { testdb.Main(m) }
