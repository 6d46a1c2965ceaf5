package migrate_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The encrypted columns are known to a program that imports nothing else of this module: package ent, when it is initialised,
// says which they are. This program imports package credent, and so could not tell.
func TestColumnsAreKnown(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(strings.Fields(string(out)), "github.com/credent-go/credent/ent") {
		t.Error("package migrate does not import package ent")
	}
}
