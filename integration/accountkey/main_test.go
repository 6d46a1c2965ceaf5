// Package accountkey tests the foreign key that ties a credential to its
// account: its roll-out beside a running service, and its effects on SQLite.
package accountkey

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// TestMain runs the tests, or the command credent in a child process.
func TestMain(m *testing.M) { testdb.Main(m) }

const (
	lastWithTriggers = "20261127150000" // migrations
	makesIndex       = "20261127200000"
	addsKey          = "20261127200100"
	validates        = "20261127200200"
	dropsTriggers    = "20261127200300"

	accountKey = "user_credentials_user_id_user_account_id_fkey"
	insert     = "INSERT INTO user_credentials (user_account_id, user_id, credential_type, api_key, secret_key) " +
		"VALUES ($1, $2, 'alpaca', 'gAAAA-not-opened', 'gAAAA-not-opened')"
	mismatches = "SELECT count(*) FROM user_credentials c WHERE NOT EXISTS " +
		"(SELECT 1 FROM user_accounts a WHERE a.id = c.user_account_id AND a.user_id = c.user_id)"
)

// rolloutFiles returns the texts of migration files by version.
func rolloutFiles(t *testing.T, dir fs.FS) map[string]string {
	t.Helper()
	names, err := fs.Glob(dir, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string]string)
	for _, name := range names {
		text, err := fs.ReadFile(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		version, _, _ := strings.Cut(name, "_")
		texts[version] = string(text)
	}
	return texts
}
