// Package store tests what is stored of accounts and credentials, the hooks,
// and that no plaintext leaks.
package store

import (
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain can be the command credent.
func TestMain(m *testing.M) { testdb.Main(m) }
