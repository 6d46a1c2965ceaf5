// Package sqltext classifies raw SQL by its first word, for the audit trail.
// When in doubt, it takes a statement for a change.
package sqltext

import (
	"slices"
	"strings"
)

// IsControl reports whether a statement affects only the session or its
// transaction, so that it changes no rows.
func IsControl(query string) bool {
	switch first(query) {
	case "SAVEPOINT", "RELEASE", "ROLLBACK", "SET", "RESET", "SHOW", "LOCK":
		return true
	}
	return false
}

// IsQuery reports whether a statement is a plain query. A function that it
// calls on Postgres may still write.
func IsQuery(query string) bool {
	switch first(query) {
	case "SELECT", "VALUES", "SHOW":
		return !slices.Contains(strings.Fields(strings.ToUpper(query)), "INTO")
	}
	return false
}

// IsWith reports whether a statement begins with WITH, which may introduce a
// query or a change.
func IsWith(query string) bool { return first(query) == "WITH" }

// first returns a statement's first word in upper case, or "" for several
// statements.
func first(query string) string {
	query = strings.Trim(query, "; \t\r\n")
	if strings.Contains(query, ";") {
		return ""
	}
	end := strings.IndexFunc(query, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
	if end < 0 {
		end = len(query)
	}
	return strings.ToUpper(query[:end])
}
