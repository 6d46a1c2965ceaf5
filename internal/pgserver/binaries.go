//go:build linux || darwin

package pgserver

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// errNoBinaries means that no server was found, and says what to do.
var errNoBinaries = errors.New("no Postgres server found: run `make setup` to install one, " +
	"or set " + EnvURL + " to the URL of a running one")

// binarySearch lists where Postgres may be installed, in order of preference.
type binarySearch struct {
	globs []string // patterns of bin directories; the newest version of each pattern first
	path  []string // directories on PATH: for pg_config, which reports a bin directory, and for the binaries
}

// installed returns the default locations: Debian, Postgres's own makefile,
// Homebrew on both Mac architectures, Postgres's RPMs, Alpine. Other
// distributions have the binaries on PATH.
func installed() binarySearch {
	return binarySearch{
		globs: []string{
			"/usr/lib/postgresql/*/bin",
			"/usr/local/pgsql/bin",
			"/opt/homebrew/opt/postgresql*/bin",
			"/usr/local/opt/postgresql*/bin",
			"/usr/pgsql-*/bin",
			"/usr/libexec/postgresql*",
		},
		path: filepath.SplitList(os.Getenv("PATH")),
	}
}

// serverDir returns the first directory with a server, or errNoBinaries.
func (s binarySearch) serverDir(ctx context.Context) (string, error) {
	for _, dir := range s.dirs(ctx) {
		if hasPrograms(dir, "initdb", "postgres") {
			return dir, nil
		}
	}
	return "", errNoBinaries
}

// clientDir returns the directory with pg_dump and psql, for an external
// server, or "".
func (s binarySearch) clientDir(ctx context.Context) string {
	for _, dir := range append(slices.Clone(s.path), s.dirs(ctx)...) {
		if hasPrograms(dir, "pg_dump", "psql") {
			return dir
		}
	}
	return ""
}

func (s binarySearch) dirs(ctx context.Context) []string {
	var dirs []string
	for _, glob := range s.globs {
		matches, _ := filepath.Glob(glob) // the only error is a malformed pattern
		slices.SortStableFunc(matches, func(a, b string) int { return slices.Compare(versionOf(b), versionOf(a)) })
		dirs = append(dirs, matches...)
	}
	for _, dir := range s.path {
		if hasPrograms(dir, "pg_config") {
			out, err := exec.CommandContext(ctx, filepath.Join(dir, "pg_config"), "--bindir").Output()
			if err == nil {
				dirs = append(dirs, strings.TrimSpace(string(out)))
			}
			break
		}
	}
	return append(dirs, s.path...)
}

var versionNumber = regexp.MustCompile(`\d+`)

// versionOf returns the numbers in the name of a version's directory, with or
// without a trailing bin: 9, 6 for /usr/lib/postgresql/9.6/bin.
func versionOf(binDir string) []int {
	var version []int
	for _, digits := range versionNumber.FindAllString(filepath.Base(strings.TrimSuffix(binDir, "/bin")), -1) {
		n, _ := strconv.Atoi(digits)
		version = append(version, n)
	}
	return version
}

// hasPrograms reports whether a directory has all the programs.
func hasPrograms(dir string, names ...string) bool {
	if !filepath.IsAbs(dir) {
		return false // "." on PATH would run files in a test's directory
	}
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}
