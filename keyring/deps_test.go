package keyring_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestLinksNothing checks that package keyring imports no database driver, no
// ent, no Atlas and no command.
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
			"database/sql", "jackc", "lib/pq", "sqlite", "entgo.io",
			"ariga.io", "spf13",
		} {
			if strings.Contains(path, unwanted) {
				t.Errorf("it links %s", path)
			}
		}
	}
}
