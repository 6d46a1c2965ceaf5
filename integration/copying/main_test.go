// Package copying tests the bulk ways in and out: Copy, import and export.
package copying

import (
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain can be the command credent.
func TestMain(m *testing.M) { testdb.Main(m) }
