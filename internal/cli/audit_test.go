package cli_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"entgo.io/ent/dialect"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/keyring"
)

// trail adds entries to an SQLite file's audit trail, as one writer with
// $ENCRYPTION_KEY: trail FILE ENTRY…. Each entry is
// action|actor|tenant|row|outcome, optionally followed by |note|time.
func trail(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: trail FILE ENTRY...")
	}
	ring, err := keyring.New(ts.Getenv("ENCRYPTION_KEY"))
	ts.Check(err)
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	defer func() { _ = db.Close() }()
	t, err := audit.Open(context.Background(), db, dialect.SQLite, audit.Config{Keyring: ring, Writer: "script"})
	ts.Check(err)
	for _, text := range args[1:] {
		fields := append(strings.Split(text, "|"), "", "")
		if len(fields) < 7 {
			ts.Fatalf("%q is no entry", text)
		}
		e := audit.Entry{
			Action: audit.Action(fields[0]), Actor: fields[1], Tenant: fields[2], Table: "user_credentials",
			Column: "api_key", Row: fields[3], Rows: 1, Outcome: audit.Outcome(fields[4]), Note: fields[5],
			Request: "request-" + fields[1],
		}
		if fields[6] != "" {
			e.At, err = time.Parse(time.DateOnly, fields[6])
			ts.Check(err)
		}
		ts.Check(t.Add(context.Background(), e))
	}
	ts.Check(t.Close(context.Background()))
}

// following is a running audit list --follow.
type following struct {
	cmd    *exec.Cmd
	lines  *bufio.Scanner
	stderr *strings.Builder
}

var followings sync.Map

// follow starts credent audit list --follow under a name with flags, and waits
// until it has printed some lines: follow NAME LINES FLAG….
func follow(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: follow NAME LINES FLAG...")
	}
	cmd := exec.Command("sh", append([]string{"-c", `exec credent audit list --follow "$@"`, "sh"}, args[2:]...)...)
	cmd.Dir = ts.Getenv("WORK")
	for _, name := range []string{"PATH", "DATABASE_URL", "ENCRYPTION_KEY"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	f := &following{cmd: cmd, lines: bufio.NewScanner(out), stderr: new(strings.Builder)}
	cmd.Stderr = f.stderr
	ts.Check(cmd.Start())
	ts.Defer(func() { _ = cmd.Process.Kill() })
	followings.Store(ts.MkAbs(args[0]), f)
	f.expect(ts, args[1])
}

// expect reads lines until one contains the text.
func (f *following) expect(ts *testscript.TestScript, text string) {
	for f.lines.Scan() {
		if line := f.lines.Text(); strings.HasPrefix(line, "{") && !json.Valid([]byte(line)) {
			ts.Fatalf("%q is no JSON", line)
		}
		if strings.Contains(f.lines.Text(), text) {
			return
		}
	}
	ts.Fatalf("it ended before %q: %v, %s", text, f.lines.Err(), f.stderr)
}

// followed waits until the command started by follow prints a text. Without a
// text, it interrupts the command and checks that it stops: followed NAME
// [TEXT].
func followed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: followed NAME [TEXT]")
	}
	known, ok := followings.Load(ts.MkAbs(args[0]))
	if !ok {
		ts.Fatalf("nothing runs as %s", args[0])
	}
	f := known.(*following)
	if len(args) > 1 {
		f.expect(ts, args[1])
		return
	}
	ts.Check(f.cmd.Process.Signal(os.Interrupt))
	for f.lines.Scan() {
		ts.Fatalf("more: %q", f.lines.Text())
	}
	var exit *exec.ExitError
	if err := f.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 {
		ts.Fatalf("it ended with %v", err)
	}
	_, err := io.WriteString(ts.Stderr(), f.stderr.String())
	ts.Check(err)
}
