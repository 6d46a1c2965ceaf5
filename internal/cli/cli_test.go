package cli_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/credent-go/credent/internal/cli"
	"github.com/credent-go/credent/keyring"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"credent": func() { os.Exit(cli.Main()) },
	})
}

// TestScripts runs the scripts in testdata, each in its own directory, without
// a key or a database URL. $KEY and $OTHER_KEY hold two keys.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("KEY", keyring.GenerateKey())
			env.Setenv("OTHER_KEY", keyring.GenerateKey())
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"capture":   capture,
			"fails":     fails,
			"holds":     holds,
			"interrupt": interrupt,
			"plain":     plain,
			"releases":  releases,
			"sql":       runSQL,
			"trail":     trail,
			"follow":    follow,
			"followed":  followed,
		},
	})
}

// fails runs a command: fails CODE MESSAGE COMMAND…. It must exit with the code
// and print exactly the message, as one line, on standard error. The script
// checks the output on standard output, such as a table without rows.
func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: fails CODE MESSAGE COMMAND...")
	}
	err := ts.Exec(args[2], args[3:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code: got %d, want %s", code, args[0])
	}
	if got, want := ts.ReadFile("stderr"), "credent: "+args[1]+"\n"; got != want {
		ts.Fatalf("standard error:\n got %q\nwant %q", got, want)
	}
}

// capture sets a variable to the last command's standard output.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: capture VARIABLE")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// runSQL executes a statement on an SQLite file and prints nothing.
func runSQL(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sql FILE STATEMENT")
	}
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = db.Exec(args[1])
	ts.Check(err)
	ts.Check(db.Close())
}

// holder is a database and transaction kept open by holds.
type holder struct {
	db *sql.DB
	tx *sql.Tx
}

// holds keeps a read transaction on an SQLite file open under a name, until
// releases: holds NAME FILE.
func holds(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: holds NAME FILE")
	}
	db, err := sql.Open("sqlite", ts.MkAbs(args[1]))
	ts.Check(err)
	tx, err := db.Begin()
	ts.Check(err)
	var n int
	ts.Check(tx.QueryRow("SELECT count(*) FROM sqlite_master").Scan(&n))
	held.Store(ts.MkAbs(args[0]), holder{db, tx}) // names are unique per script
	ts.Defer(func() { _ = db.Close() })
}

var held sync.Map

// releases ends a transaction that holds began.
func releases(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: releases NAME")
	}
	h, ok := held.LoadAndDelete(ts.MkAbs(args[0]))
	if !ok {
		ts.Fatalf("nothing is held under %s", args[0])
	}
	ts.Check(h.(holder).tx.Rollback())
	ts.Check(h.(holder).db.Close())
}

// interrupt runs a one-word command on an SQLite file, and interrupts it once a
// query's count shows that the first row has changed. It checks that the
// command stops and says how to continue: interrupt FILE QUERY COMMAND FLAG….
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: interrupt FILE QUERY COMMAND FLAG...")
	}
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	defer func() { _ = db.Close() }()
	var stderr strings.Builder
	cmd := exec.Command("sh", append([]string{"-c", `exec credent "$@"`, "sh"}, args[2:]...)...)
	cmd.Dir, cmd.Stderr = ts.Getenv("WORK"), &stderr
	for _, name := range []string{"PATH", "DATABASE_URL", "ENCRYPTION_KEY"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	ts.Check(cmd.Start())
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		var n int
		if err := db.QueryRow(args[1]).Scan(&n); err == nil && n > 0 {
			break
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			ts.Fatalf("%s did nothing", args[2])
		}
	}
	ts.Check(cmd.Process.Signal(os.Interrupt))
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 {
		ts.Fatalf("it ended with %v", err)
	}
	if !regexp.MustCompile("^credent: stopped after [1-9][0-9]* rows; run `credent " + args[2] + "` again to go on\n$").
		MatchString(stderr.String()) {
		ts.Fatalf("standard error: %q", stderr.String())
	}
}

// plain starts a server that refuses TLS as a Postgres without TLS does, and
// sets a variable to its address.
func plain(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: plain VARIABLE")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = listener.Close() })
	ts.Setenv(args[0], listener.Addr().String())
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if _, err := io.ReadFull(conn, make([]byte, 8)); err == nil { // SSLRequest
				_, _ = conn.Write([]byte("N"))
			}
			_ = conn.Close()
		}
	}()
}
