package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitPartly      = 3
	exitInterrupted = 130 // as shells report a command ended by Ctrl-C
)

// exitCodes describes them in the help and docs/cli.md.
var exitCodes = []struct {
	code          int
	name, meaning string
}{
	{exitOK, "done", "everything was done, and all output was written"},
	{exitFailed, "failed", "nothing was done, or a check found something; also if the output could not be written"},
	{exitUsage, "usage", "the command line is wrong; nothing was done"},
	{exitPartly, "partly done", "some rows or migrations are done and stay so, others are not; the message says " +
		"how to go on"},
	{exitInterrupted, "interrupted", "SIGINT or SIGTERM ended it; what it says is done stays done, and the next run " +
		"resumes"},
}

// exitCodeTable returns the table for the root command's help.
func exitCodeTable() string {
	var b strings.Builder
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "  %-4d %s: %s\n", e.code, e.name, e.meaning)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// exitCodeLine returns the line for every other command's help.
func exitCodeLine() string {
	var list []string
	for _, e := range exitCodes {
		list = append(list, fmt.Sprintf("%d %s", e.code, e.name))
	}
	return "Exit codes: " + strings.Join(list, ", ") + "; `credent --help` says more."
}

// partlyError is an error after some of the work was done and kept.
type partlyError struct{ error }

func (p *partlyError) Unwrap() error { return p.error }

// partly marks an error if some of the work was done.
func partly(some bool, err error) error {
	if err == nil || !some {
		return err
	}
	return &partlyError{err}
}

// isPartly reports whether some of the work was done and kept.
func isPartly(err error) bool {
	var p *partlyError
	return errors.As(err, &p) || errors.Is(err, migrate.ErrPartial) || errors.Is(err, rotate.ErrNotDone)
}
