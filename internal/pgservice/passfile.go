package pgservice

import (
	"bufio"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// PassFile returns the password file: the given one, or the one at home, or ""
// if there is no home.
func PassFile(given string) string {
	if given != "" {
		return given
	}
	if runtime.GOOS == "windows" {
		if dir := os.Getenv("APPDATA"); dir != "" {
			return filepath.Join(dir, "postgresql", "pgpass.conf")
		}
		return ""
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".pgpass")
}

// Password returns the password in the first line of a password file that fits,
// or "". The host has any of the names. Like libpq it doesn't read a file that
// others than its owner have access to, and then open is true.
func Password(file string, hosts []string, port, database, user string) (password string, open bool) {
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() {
		return "", false
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return "", true
	}
	f, err := os.Open(file)
	if err != nil {
		return "", false
	}
	defer func() { _ = f.Close() }() // only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := passFields(line)
		if len(fields) < 5 {
			continue
		}
		fits := func(i int, values ...string) bool {
			return fields[i] == "*" || fields[i] != "" && slices.Contains(values, fields[i])
		}
		if fits(0, hosts...) && fits(1, port) && fits(2, database) && fits(3, user) {
			return fields[4], false
		}
	}
	return "", false
}

// passFields splits a line at its colons. A backslash is before a colon or a
// backslash that belongs to a field.
func passFields(line string) []string {
	var fields []string
	var field strings.Builder
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && i+1 < len(line):
			i++
			field.WriteByte(line[i])
		case c == ':':
			fields = append(fields, field.String())
			field.Reset()
		default:
			field.WriteByte(c)
		}
	}
	return append(fields, field.String())
}
