//go:build linux

package faults

import (
	"bytes"
	"os/exec"
	"strings"
)

// outputs are what a shell can do to a command's standard output.
var outputs = map[string]string{
	"closed":      `exec "$0" "$@" >&-`,
	"full":        `exec "$0" "$@" >/dev/full`,
	"nobody's":    `"$0" "$@" | exec true; exit ${PIPESTATUS[0]}`,
	"only opened": `exec "$0" "$@" 1</dev/null`,
}

// noOutput runs every printing command with a standard output that accepts
// nothing: none may report success.
func noOutput(tr *trial) {
	_, databaseURL := startServer(tr)
	v := newVault(newWorld(tr, databaseURL), 20, 50)
	commands := []string{
		"account list", "credential list", "credential export", "credential export --reveal --format jsonl",
		"verify", "verify --json", "rotate", "rotate --json", "inventory", "state list", "tenant list",
		"migrate status", "doctor", "key generate",
	}
	for _, line := range commands {
		for name, script := range outputs {
			if name == "nobody's" && !strings.HasPrefix(line, "credential export") {
				continue // short output may be written before the reader ends
			}
			args := strings.Fields(line)
			cmd := v.command(databaseURL, args...)
			cmd.Args = append([]string{"bash", "-c", script, cmd.Path}, args...)
			bash, err := exec.LookPath("bash")
			v.must(err)
			cmd.Path = bash
			var said bytes.Buffer
			cmd.Stderr = &said
			err = cmd.Run()
			if v.operations.Add(1); err == nil {
				v.found(&v.wrong, "%s with standard output %s says that it is done", line, name)
				continue
			}
			v.failed.Add(1)
			if name != "nobody's" && said.Len() == 0 {
				v.found(&v.wrong, "%s with standard output %s fails and doesn't say why", line, name)
			}
		}
	}
	v.check()
	v.finish("verify")
	tr.notef("%d commands", len(commands))
	v.close()
}
