package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/rotate"
)

// quarantineFlag is the flag --quarantine. The values left unchanged are
// written there as JSON objects, one per line. Each line is written by its own
// call, because Linux truncates a larger write when the command is killed.
type quarantineFlag struct {
	path string

	out   io.Writer // nil if the flag isn't set
	file  *os.File  // nil for standard output
	lines int64
	err   error
}

func (q *quarantineFlag) add(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&q.path, "quarantine", "", "write "+what+" to this `FILE`, or - for standard output, as "+
		"JSON lines; they are added to a file that is there")
}

// check refuses mixing the result and the quarantine on standard output.
func (q *quarantineFlag) check(asJSON bool) error {
	if q.path == "-" && asJSON {
		return usageError("--quarantine - and --json both write to standard output; give --quarantine a file")
	}
	return nil
}

// open opens the file before anything else is done. It returns the app to print
// the result with: for -, it prints to standard error.
func (q *quarantineFlag) open(a *app) (*app, error) {
	switch q.path {
	case "":
		return a, nil
	case "-":
		q.out = a.out
		return &app{in: a.in, out: &output{file: os.Stderr}, note: a.note}, nil
	}
	flags := os.O_CREATE | os.O_RDWR | os.O_APPEND
	if info, err := os.Stat(q.path); err == nil && !info.Mode().IsRegular() {
		flags = os.O_WRONLY | os.O_APPEND // a pipe, which waits for its reader
	}
	file, err := os.OpenFile(q.path, flags, 0o600)
	if err != nil {
		return nil, messagef("--quarantine: %s: %v; nothing was done", q.path, cause(err))
	}
	q.file, q.out = file, file
	return a, q.endLine()
}

// endLine ends a line that a full disk truncated in an earlier run.
func (q *quarantineFlag) endLine() error {
	info, err := q.file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return nil //nolint:nilerr // the next write reports it, if it matters
	}
	last := make([]byte, 1)
	if _, err := q.file.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return nil //nolint:nilerr // append to an unreadable file without the check
	}
	if _, err := q.file.WriteString("\n"); err != nil {
		return errors.Join(messagef("--quarantine: %s: %v; nothing was done", q.path, cause(err)), q.file.Close())
	}
	return nil
}

// cause returns an error without the path, which the message contains.
func cause(err error) error {
	var of *os.PathError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// callback returns the callback for rotate.Config.
func (q *quarantineFlag) callback() func([]rotate.Quarantined) error {
	if q.out == nil {
		return nil
	}
	return func(list []rotate.Quarantined) error {
		for _, one := range list {
			if err := q.write(quarantinedLine(one)); err != nil {
				return err
			}
		}
		return nil
	}
}

// quarantinedLine converts a secret to its JSON form.
func quarantinedLine(q rotate.Quarantined) quarantinedSecret {
	return quarantinedSecret{Table: q.Table, Column: q.Column, Row: q.Row, Reason: trimPackage(q.Err.Error())}
}

// quarantinedSecret is a line of --quarantine, and an example in --json.
type quarantinedSecret struct {
	Table  string `json:"table"`
	Column string `json:"column"`
	Row    string `json:"row"` // "" for the column's canary
	Reason string `json:"reason"`
}

func (q *quarantineFlag) write(line any) error {
	if q.err != nil {
		return q.err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if q.err = enc.Encode(line); q.err != nil {
		return q.err
	}
	if _, q.err = q.out.Write(b.Bytes()); q.err == nil {
		q.lines++
	}
	return q.err
}

// close returns an error if a line could not be written.
func (q *quarantineFlag) close() error {
	if q.file != nil {
		if info, err := q.file.Stat(); q.err == nil && err == nil && info.Mode().IsRegular() {
			q.err = q.file.Sync()
		}
		if err := q.file.Close(); q.err == nil {
			q.err = err
		}
		q.file = nil
	}
	if q.err == nil {
		return nil
	}
	to := q.path
	if to == "-" {
		to = "standard output"
	}
	return messagef("stopped: the quarantine could not be written to %s, after %s: %v", to,
		count(int(q.lines), "line"), cause(q.err))
}
