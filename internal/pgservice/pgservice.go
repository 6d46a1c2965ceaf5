// Package pgservice reads libpq's files: service files, which have the settings
// of a connection by a name, and password files.
package pgservice

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
)

// Files returns the service files to look into, in order: the given one, or
// PGSERVICEFILE or the one at home, and then the system's.
func Files(given string) []string {
	var files []string
	switch {
	case given != "":
		files = append(files, given)
	case os.Getenv("PGSERVICEFILE") != "":
		files = append(files, os.Getenv("PGSERVICEFILE"))
	default:
		if home, err := os.UserHomeDir(); err == nil {
			files = append(files, filepath.Join(home, ".pg_service.conf"))
		}
	}
	if dir := os.Getenv("PGSYSCONFDIR"); dir != "" {
		files = append(files, filepath.Join(dir, "pg_service.conf"))
	}
	return files
}

// Read returns the settings of a service in a file, and whether it is
// there.
func Read(file, service string) (s map[string]string, found bool) {
	f, err := os.Open(file)
	if err != nil {
		return nil, false
	}
	defer func() { _ = f.Close() }() // only read
	s = make(map[string]string)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		switch name, value, ok := strings.Cut(line, "="); {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			if found {
				return s, true
			}
			found = line == "["+service+"]"
		case found && ok:
			s[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return s, found
}
