package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// shown are the modules with versions that matter.
var shown = []string{
	"entgo.io/ent", "github.com/fernet/fernet-go", "github.com/jackc/pgx/v5", "github.com/lib/pq",
	"github.com/tink-crypto/tink-go/v2", "gorm.io/gorm", "gorm.io/driver/postgres",
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
		return "", fmt.Errorf("the Python application cannot run: %s: %w: %s; scripts/need python installs what it "+
			"needs", python, err, lines[len(lines)-1])
	}
	return strings.TrimSpace(string(out)), nil
}
