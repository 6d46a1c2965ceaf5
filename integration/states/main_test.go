// Package states tests the states of columns, and services that disagree on
// them.
package states

import (
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain can be the command credent.
func TestMain(m *testing.M) { testdb.Main(m) }
