// Command migration implements make migration and the migration checks of make
// verify. It compares each migration directory with the ent schema on a
// throwaway database and writes the missing migration, or with -check fails if
// one is missing. It also lints the files, and with -check fails on a lint
// error.
package main

import (
	"context"
	"database/sql"
	_ "embed" // for baseline.txt
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/sqlite"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("migration: ")
	name := flag.String("name", "", "what the migration does, as a part of the file's name")
	root := flag.String("dir", "migrate", "where the directories postgres and sqlite are")
	check := flag.Bool("check", false, "write nothing, and fail if there were something to write")
	flag.Parse()
	if (*name == "") != *check {
		log.Fatal("give either -name or -check")
	}
	if err := run(context.Background(), *root, *name, *check); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, root, name string, check bool) (err error) {
	if check {
		name = "missing"
		tmp, err := os.MkdirTemp("", "credent-migration-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(tmp) }()
		if err := os.CopyFS(tmp, os.DirFS(root)); err != nil {
			return err
		}
		root = tmp
	}
	server, err := pgserver.Start(ctx, pgserver.Shared())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	postgresURL, drop, err := server.CreateDatabase(ctx, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()

	var failed error
	for _, dev := range []struct{ directory, url string }{
		{"postgres", postgresURL},
		{"sqlite", "sqlite::memory:"},
	} {
		path := filepath.Join(root, dev.directory)
		written, err := diff(ctx, dev.url, path, name)
		if err != nil {
			return err
		}
		switch {
		case !written:
			fmt.Printf("migration: %s is up to date with ent/schema\n", dev.directory)
		case check:
			fmt.Printf("migration: %s lacks a migration for ent/schema\n", dev.directory)
			failed = errors.New("run make migration name=what_it_does")
		default:
			fmt.Printf("migration: wrote to %s; read the file before you commit it\n", path)
		}
		if err := lint(ctx, dev.url, path, dev.directory); err != nil && failed == nil {
			failed = fmt.Errorf("%s: %w", dev.directory, err)
		}
	}
	return failed
}

// baseline are the findings in released files.
//
//go:embed baseline.txt
var baseline string

// lint prints a directory's findings that aren't in the baseline. It returns an
// error if one of them is an error, or if a baseline line isn't found.
func lint(ctx context.Context, url, path, directory string) (err error) {
	db, _, err := credent.OpenDB(url, credent.WithDriver(sqlite.Driver()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	found, err := migrate.Lint(ctx, db, os.DirFS(path), migrate.LintOptions{})
	if err != nil {
		return err
	}
	var accepted []string
	for line := range strings.Lines(baseline) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, directory+"/") {
			accepted = append(accepted, line)
		}
	}
	seen := make(map[string]bool)
	bad := 0
	for _, d := range found {
		line := fmt.Sprintf("%s/%s:%d %s", directory, d.File, d.Line, d.Code)
		if seen[line] = true; slices.Contains(accepted, line) {
			continue
		}
		fmt.Printf("migration: %s\n", d)
		for _, step := range d.Steps {
			fmt.Printf("migration:   %s\n", step)
		}
		if d.Severity == migrate.SeverityError {
			bad++
		}
	}
	for _, line := range accepted {
		if !seen[line] {
			return fmt.Errorf("internal/migration/baseline.txt has %q, which is not found: remove it", line)
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d errors found; correct the files, or say why they are right with atlas:nolint", bad)
	}
	return nil
}

func diff(ctx context.Context, url, path, name string) (written bool, err error) {
	var db *sql.DB
	if db, _, err = credent.OpenDB(url, credent.WithDriver(sqlite.Driver())); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return migrate.Diff(ctx, db, path, name)
}
