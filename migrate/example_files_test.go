package migrate_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/sqlite"
)

// empty returns an empty SQLite database and a function that closes it.
func empty() (*sql.DB, func()) {
	db, _, err := credent.OpenDB("sqlite::memory:", credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	return db, func() { _ = db.Close() }
}

// directory returns a migration directory with a copy of the module's own
// files, and a function that removes it.
func directory() (path string, remove func()) {
	path, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	files, err := migrate.Files(dialect.SQLite)
	if err == nil {
		err = os.CopyFS(path, files)
	}
	if err != nil {
		log.Fatal(err)
	}
	return path, func() { _ = os.RemoveAll(path) }
}

func ExampleApply_dryRun() {
	db, closeDB := empty()
	defer closeDB()
	err := migrate.Apply(context.Background(), db, migrate.Config{
		Target: "20261124030000",
		DryRun: func(p migrate.Planned) { fmt.Println("would run", p.Name, p.Transaction) },
	})
	fmt.Println(err)
	// Output:
	// would run 20261124030000_create_tables.sql true
	// <nil>
}

// Adopt is for a Postgres database created by the Python application. It
// refuses an empty one.
func ExampleAdopt() {
	db, closeDB := empty()
	defer closeDB()
	_, err := migrate.Adopt(context.Background(), db, migrate.Config{})
	fmt.Println(errors.Is(err, migrate.ErrNothingToAdopt))
	// Output: true
}

// A service that finds drift at its start should stop.
func ExampleCheck() {
	ctx := context.Background()
	db, closeDB := empty()
	defer closeDB()
	if err := migrate.Apply(ctx, db, migrate.Config{}); err != nil {
		log.Fatal(err)
	}
	report, err := migrate.Check(ctx, db, migrate.Config{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Err())
	if _, err := db.ExecContext(ctx, "DROP INDEX idx_user_credentials_user_id"); err != nil {
		log.Fatal(err)
	}
	if report, err = migrate.Check(ctx, db, migrate.Config{}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(errors.Is(report.Err(), migrate.ErrDrift))
	// Output:
	// <nil>
	// true
}

func ExampleFiles() {
	files, err := migrate.Files(dialect.SQLite)
	if err != nil {
		log.Fatal(err)
	}
	names, err := fs.Glob(files, "*_create_tables.sql")
	fmt.Println(names, err)
	// Output: [20261124030000_create_tables.sql] <nil>
}

// Diff writes the migration that the directory lacks for the ent schema; here
// it lacks none.
func ExampleDiff() {
	dev, closeDB := empty()
	defer closeDB()
	path, remove := directory()
	defer remove()
	written, err := migrate.Diff(context.Background(), dev, path, "nothing")
	fmt.Println(written, err)
	// Output: false <nil>
}

// A handwritten migration starts with an empty file.
func ExampleNew() {
	path, remove := directory()
	defer remove()
	file, err := migrate.New(path, "fill_names")
	fmt.Println(strings.HasSuffix(file, "_fill_names.sql"), err)
	// Output: true <nil>
}

// Hash updates atlas.sum after a file was written by hand.
func ExampleHash() {
	path, remove := directory()
	defer remove()
	file, err := migrate.New(path, "fill_names")
	if err != nil {
		log.Fatal(err)
	}
	sql := "UPDATE user_accounts SET account_name = user_id WHERE account_name = '';\n"
	if err := os.WriteFile(filepath.Join(path, file), []byte(sql), 0o600); err != nil {
		log.Fatal(err)
	}
	fmt.Println(migrate.Hash(path))
	// Output: <nil>
}

// Lint finds what a statement would break, by file and line.
func ExampleLint() {
	dev, closeDB := empty()
	defer closeDB()
	path, remove := directory()
	defer remove()
	file, err := migrate.New(path, "drop_secrets")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, file), []byte("ALTER TABLE user_accounts DROP COLUMN account_name;\n"),
		0o600); err != nil {
		log.Fatal(err)
	}
	if err := migrate.Hash(path); err != nil {
		log.Fatal(err)
	}
	found, err := migrate.Lint(context.Background(), dev, os.DirFS(path), migrate.LintOptions{Latest: 1})
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range found {
		fmt.Println(d.Line, d.Name, d.Severity)
	}
	// Output: 1 destructive error
}
