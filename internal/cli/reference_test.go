package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The reference has a section for every command, with all of its flags and an
// example.
func TestReference(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := WriteReference(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	commands := 0
	actions(new(app).root(), func(cmd *cobra.Command) {
		commands++
		_, section, ok := strings.Cut(text, "# "+cmd.CommandPath()+"\n")
		if !ok {
			t.Errorf("%s is missing", cmd.CommandPath())
			return
		}
		section, _, _ = strings.Cut(section, "\n## ")
		section, _, _ = strings.Cut(section, "\n### ")
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !f.Hidden && !strings.Contains(section, "| `--"+f.Name) {
				t.Errorf("%s: --%s is missing", cmd.CommandPath(), f.Name)
			}
		})
		if !cmd.HasExample() || !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		if !strings.Contains(text, "(#"+anchor(cmd)+")") {
			t.Errorf("%s is not in the table", cmd.CommandPath())
		}
	})
	if commands < 30 {
		t.Errorf("%d commands", commands)
	}
	for _, name := range []string{envDatabase, "ENCRYPTION_KEY_FILE", "Exit codes"} {
		if !strings.Contains(text, name) {
			t.Errorf("%s is missing", name)
		}
	}
	if fences := strings.Count(text, "```"); fences%2 != 0 {
		t.Errorf("%d lines with ```", fences)
	}
}

func TestProse(t *testing.T) {
	t.Parallel()
	got := prose(&cobra.Command{Long: "One\ntwo.\n\n  a  b\n  c  d\n\n" + strings.Repeat("four ", 30)})
	want := "One two.\n\n```\na  b\nc  d\n```\n\n" +
		strings.TrimSpace(strings.Repeat("four ", 24)) + "\n" + strings.TrimSpace(strings.Repeat("four ", 6))
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
