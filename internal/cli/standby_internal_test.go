package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// onPrimary lists the commands that need the primary or no database.
var onPrimary = map[string]bool{
	"account add": true, "account move": true, "account remove": true,
	"credential add": true, "credential disable": true, "credential import": true, "credential remove": true,
	"credential replace": true,
	"audit archive":      true, "audit checkpoint": true,
	"decrypt":    true,
	"key retire": true, "key generate": false, "key list": false,
	"migrate adopt": true, "migrate check": true, "migrate diff": true, "migrate lint": true,
	"migrate hash": false, "migrate new": false,
	"quickstart": false,
	"state set":  true, "tenant destroy": true, "audit on": true, "audit off": true,
}

// TestEveryCommandKnowsStandbys requires every new command to be listed in
// readers or onPrimary. TestCommandsOnStandby runs each command on a standby.
func TestEveryCommandKnowsStandbys(t *testing.T) {
	t.Parallel()
	known := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		_, path, _ := strings.Cut(cmd.CommandPath(), " ")
		if cmd.HasSubCommands() || cmd.Name() == "help" {
			return
		}
		flag, reads := readers[path]
		_, other := onPrimary[path]
		if reads == other {
			t.Errorf("%s: a standby can answer it: %v, and it can't: %v", path, reads, other)
		}
		if flag != "" && cmd.Flags().Lookup(flag) == nil {
			t.Errorf("%s has no --%s", path, flag)
		}
		if isReader(cmd) != (reads && flag == "") {
			t.Errorf("%s without flags: a standby can answer it: %v", path, isReader(cmd))
		}
		known++
	}
	walk((&app{in: os.Stdin, out: &output{file: os.Stdout}, note: os.Stderr}).root())
	if want := len(readers) + len(onPrimary); known != want {
		t.Errorf("%d commands, and %d are known", known, want)
	}
}
