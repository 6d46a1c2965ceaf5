package audit_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestLinksNothing checks that package audit imports no database driver, no
// Atlas, no command, and none of the packages that it records.
func TestLinksNothing(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 20 {
		t.Fatalf("only %d packages", len(deps))
	}
	for _, path := range deps {
		for _, unwanted := range []string{
			"jackc", "lib/pq", "sqlite", "ariga.io", "spf13", "credent/migrate", "credent/client", "credent/encrypted",
			"internal/entcrypt",
		} {
			if strings.Contains(path, unwanted) {
				t.Errorf("it links %s", path)
			}
		}
	}
}
