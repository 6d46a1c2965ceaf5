// Package migrations tests migrations on databases of every age, beside readers
// and writers, and with processes and servers that are killed.
package migrations

import (
	"os"
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain runs the tests, the command credent, or a child of
// TestKilledProcess.
func TestMain(m *testing.M) {
	if os.Getenv(envVictim) != "" {
		os.Exit(victim())
	}
	testdb.Main(m)
}
