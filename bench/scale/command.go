package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// build builds this checkout's command.
func build(ctx context.Context) (path string, remove func() error, err error) {
	dir, err := os.MkdirTemp("", "credent-scale-")
	if err != nil {
		return "", nil, err
	}
	remove = func() error { return os.RemoveAll(dir) }
	path = filepath.Join(dir, "credent")
	// The command's module has dependencies that bench lacks.
	root := filepath.Join(sources(), "..", "..")
	out, err := exec.CommandContext(ctx, "go", "-C", root, "build", "-o", path, "./cmd/credent").CombinedOutput()
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("go build: %w\n%s", err, out), remove())
	}
	return path, remove, nil
}

// sources is the directory of this file.
func sources() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// ran is the cost of one run of a command.
type ran struct {
	took   time.Duration
	memory int64 // the peak resident size, in bytes
	out    []byte
	code   int
}

// rate returns how many of n rows it processed per second.
func (r ran) rate(n int) float64 { return float64(n) / r.took.Seconds() }

// running is a command that has begun.
type running struct {
	cmd         *exec.Cmd
	out, errOut bytes.Buffer
	start       time.Time
	what        string
}

// begin starts a command on the table, under the keys given.
func (t *table) begin(ctx context.Context, keys []string, in io.Reader, args ...string) (*running, error) {
	r := &running{cmd: exec.CommandContext(ctx, t.command, args...), what: "credent " + strings.Join(args, " ")}
	r.cmd.Env = append(os.Environ(), "DATABASE_URL="+t.url, "ENCRYPTION_KEY="+keys[0],
		"ENCRYPTION_KEY_PREVIOUS="+strings.Join(keys[1:], ","))
	r.cmd.Stdin, r.cmd.Stderr = in, &r.errOut
	// A list of 10 million rows isn't worth keeping.
	r.cmd.Stdout = &limited{to: &r.out, left: 1 << 20}
	r.start = time.Now()
	return r, r.cmd.Start()
}

// end waits for the command, and fails unless it exits with the code given.
func (r *running) end(code int) (ran, error) {
	err := r.cmd.Wait()
	result := ran{took: time.Since(r.start), out: r.out.Bytes(), code: r.cmd.ProcessState.ExitCode()}
	if usage, ok := r.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		result.memory = usage.Maxrss
		if runtime.GOOS == "linux" {
			result.memory *= 1024
		}
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return result, err
	}
	if result.code != code {
		return result, fmt.Errorf("%s: exit code %d, want %d: %s", r.what, result.code, code,
			lastLines(r.errOut.String()))
	}
	return result, nil
}

// do runs a command to its end.
func (t *table) do(ctx context.Context, code int, keys []string, in io.Reader, args ...string) (ran, error) {
	r, err := t.begin(ctx, keys, in, args...)
	if err != nil {
		return ran{}, err
	}
	return r.end(code)
}

func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// limited keeps the first bytes, and drops the rest.
type limited struct {
	to   *bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	keep := min(len(p), l.left)
	l.left -= keep
	l.to.Write(p[:keep])
	return len(p), nil
}
