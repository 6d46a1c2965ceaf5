// Package growth tests work that is divided over workers and processes, and
// that resumes where it stopped.
package growth

import (
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain can be the command credent.
func TestMain(m *testing.M) { testdb.Main(m) }
