package migrate

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	entmigrate "github.com/credent-go/credent/ent/migrate"
)

// Credent's encrypted columns are known to a program that doesn't import their
// generated package. The test imports it, but only calls the part that doesn't
// need it.
func TestOwnColumnsAreKnown(t *testing.T) {
	t.Parallel()
	for column, want := range map[[2]string]bool{
		{"user_credentials", "api_key"}:    true,
		{"user_credentials", "secret_key"}: true,
		{"user_credentials", "user_id"}:    false,
		{"user_accounts", "api_key"}:       false,
	} {
		if got := hasGeneratedCheck(entmigrate.Tables, column[0], column[1]); got != want {
			t.Errorf("%v: got %v", column, got)
		}
	}
}

// A program with its own schema that imports this package to migrate must not
// get Credent's columns, or it would check and re-encrypt tables that it lacks.
func TestOwnClientIsNotImported(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	for _, registers := range []string{
		"github.com/credent-go/credent/ent", "github.com/credent-go/credent/ent/usercredential",
	} {
		if slices.Contains(packages, registers) {
			t.Errorf("package migrate imports package %s", registers)
		}
	}
	if !slices.Contains(packages, "github.com/credent-go/credent/ent/migrate") {
		t.Errorf("the list is not what the imports give: %q", packages)
	}
}
