package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/pgserver"
)

// machine says what was measured on and with.
type machine struct {
	cpu      string
	cores    int
	memory   string
	system   string
	postgres string
	python   string
	modules  []string
	date     string
}

// shown are the modules whose versions matter.
var shown = []string{
	"entgo.io/ent", "github.com/fernet/fernet-go", "github.com/jackc/pgx/v5", "github.com/lib/pq",
	"github.com/tink-crypto/tink-go/v2", "gorm.io/gorm", "gorm.io/driver/postgres",
}

func readMachine(ctx context.Context) (m machine, err error) {
	m = machine{
		cpu: field("/proc/cpuinfo", "model name"), cores: runtime.NumCPU(), memory: memory(),
		system: runtime.GOOS + "/" + runtime.GOARCH, date: time.Now().UTC().Format(time.DateOnly),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			for _, name := range shown {
				if dep.Path == name {
					m.modules = append(m.modules, name+" "+dep.Version)
				}
			}
		}
	}
	m.python, err = pythonVersions(ctx, python())
	return m, err
}

// pythonVersions returns the versions of Python and of the packages that the
// Python application needs.
func pythonVersions(ctx context.Context, python string) (string, error) {
	const script = "import sys, sqlalchemy, psycopg2, cryptography; print('Python %d.%d.%d' % sys.version_info[:3], " +
		"'SQLAlchemy ' + sqlalchemy.__version__, 'psycopg2 ' + psycopg2.__version__.split()[0], " +
		"'cryptography ' + cryptography.__version__, sep=', ')"
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, python, "-c", script)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return "", fmt.Errorf("the Python application cannot run: %s: %w: %s; scripts/need python installs what it needs",
			python, err, lines[len(lines)-1])
	}
	return strings.TrimSpace(string(out)), nil
}

func postgresVersion(ctx context.Context, server *pgserver.Server) (version string, err error) {
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

// field returns a value of a file of lines "name: value", or that it is not
// known.
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
