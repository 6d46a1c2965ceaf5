//go:build linux && !amd64

package faults

import "os"

// clockScenarios is empty: the code that steps a process's clock needs amd64.
var clockScenarios []scenario

func prepareClock() {
	if os.Getenv(envCommand) != "" {
		return
	}
	_, _ = os.Stderr.WriteString("faults: the scenario \"clock steps by hours\" needs amd64, and is NOT RUN here\n")
}
