package open_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

const (
	module  = "github.com/credent-go/credent"
	drivers = `^(github\.com/jackc/|github\.com/lib/pq|modernc\.org/|github\.com/mattn/go-sqlite3|github\.com/spf13/)`
)

// TestCoreLinksNoDriver checks everything that the core packages link.
func TestCoreLinksNoDriver(t *testing.T) {
	t.Parallel()
	for path, forbidden := range map[string]string{
		"/encrypted":                   drivers + `|^ariga\.io/|^text/template$|^net/http$`,
		"/internal/fieldcrypt/keyring": drivers + `|^ariga\.io/`,
		"/rotate":                      drivers,
		"/migrate":                     drivers,
		"/internal/load":               drivers,
		"/internal/tenancy":            drivers,
		"/internal/hooks":              drivers,
		"/internal/wire":               drivers,
		"/open":                        `^github\.com/lib/pq|^modernc\.org/|^github\.com/mattn/`,
		"":                             `^github\.com/lib/pq|^modernc\.org/|^github\.com/mattn/|^github\.com/spf13/`,
		"/open/libpq":                  `^modernc\.org/|^github\.com/mattn/`,
		"/open/sqlite":                 `^github\.com/lib/pq|^github\.com/mattn/go-sqlite3`,
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", module+path).Output()
		if err != nil {
			t.Fatal(err)
		}
		pattern := regexp.MustCompile(forbidden)
		var linked bool
		for dep := range strings.FieldsSeq(string(out)) {
			linked = linked || dep == module+path
			if pattern.MatchString(dep) {
				t.Errorf("%s links %s", module+path, dep)
			}
		}
		if !linked {
			t.Errorf("%s: the list lacks the package itself", path)
		}
	}
}
