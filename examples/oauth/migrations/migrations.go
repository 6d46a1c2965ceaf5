// Package migrations contains the migration files of package ent, in the format
// of the stock Atlas command.
package migrations

import (
	"embed"
	"io/fs"
)

//go:generate go run diff.go -dev sqlite::memory: -name schema sqlite

//go:embed sqlite postgres
var files embed.FS

// Files returns the directory of a dialect, "sqlite" or "postgres".
func Files(dialect string) (fs.FS, error) { return fs.Sub(files, dialect) }
