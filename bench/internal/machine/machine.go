// Package machine describes the machine and software of a benchmark.
package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/pgserver"
)

// Machine describes the machine and software of a measurement.
type Machine struct {
	CPU      string
	Cores    int
	Memory   string
	System   string
	Postgres string
	Modules  []string // the ones passed to Read, with their versions
	Date     string
}

// Read inspects the machine, and the versions of modules in this binary.
func Read(modules ...string) Machine {
	m := Machine{
		CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Memory: memory(),
		System: runtime.GOOS + "/" + runtime.GOARCH, Date: time.Now().UTC().Format(time.DateOnly),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			for _, name := range modules {
				if dep.Path == name {
					m.Modules = append(m.Modules, name+" "+dep.Version)
				}
			}
		}
	}
	return m
}

// PostgresVersion asks a server for its version.
func PostgresVersion(ctx context.Context, server *pgserver.Server) (version string, err error) {
	db, _, err := credent.OpenDB(server.URL("postgres"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.QueryRowContext(ctx, "SHOW server_version").Scan(&version)
	return version, err
}

// memory returns how much memory the machine has.
func memory() string {
	text := field("/proc/meminfo", "MemTotal")
	if kb, err := strconv.ParseFloat(strings.TrimSuffix(text, " kB"), 64); err == nil {
		return fmt.Sprintf("%.0f GB", kb/1e6)
	}
	return text
}

// field returns a value from a file of lines "name: value", or a text saying
// that it is unknown.
func field(path, name string) string {
	const unknown = "unknown"
	f, err := os.Open(path)
	if err != nil {
		return unknown
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	return unknown
}
