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

// quarantineFlag is the flag --quarantine: where what is left as it is goes, as
// a JSON object in each line. Each line is a write of its own: Linux cuts a
// larger one off when the command is killed.
type quarantineFlag struct {
	path string

	out   io.Writer // nil if the flag isn't given
	file  *os.File  // nil for standard output
	lines int64
	err   error
}

func (q *quarantineFlag) add(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&q.path, "quarantine", "", "write "+what+" to this `FILE`, or - for standard output, as "+
		"JSON lines; they are added to a file that is there")
}

// check refuses what can't be read apart.
func (q *quarantineFlag) check(asJSON bool) error {
	if q.path == "-" && asJSON {
		return usageError("--quarantine - and --json both write to standard output; give --quarantine a file")
	}
	return nil
}

// open opens the file, before anything else is done. It returns where the
// result goes: with - that is standard error.
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
		flags = os.O_WRONLY | os.O_APPEND // of a pipe, that waits for the reader
	}
	file, err := os.OpenFile(q.path, flags, 0o600)
	if err != nil {
		return nil, messagef("--quarantine: %s: %v; nothing was done", q.path, cause(err))
	}
	q.file, q.out = file, file
	return a, q.endLine()
}

// endLine ends the line that a full disk has cut off in an earlier run.
func (q *quarantineFlag) endLine() error {
	info, err := q.file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return nil //nolint:nilerr // the next write says so, if it matters
	}
	last := make([]byte, 1)
	if _, err := q.file.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return nil //nolint:nilerr // a file that can't be read is added to
	}
	if _, err := q.file.WriteString("\n"); err != nil {
		return errors.Join(messagef("--quarantine: %s: %v; nothing was done", q.path, cause(err)), q.file.Close())
	}
	return nil
}

// cause is an error without the path that the message has.
func cause(err error) error {
	var of *os.PathError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// callback returns what rotate.Config takes.
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

// quarantinedLine is a secret as the command writes it.
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

// close returns an error if something that was to be written isn't.
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
