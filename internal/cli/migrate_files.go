package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"entgo.io/ent/dialect"
	"github.com/spf13/cobra"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/dburl"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/migrate"
)

func (a *app) migrateNew() *cobra.Command {
	var dir string
	cmd := a.action(&cobra.Command{
		Use:   "new NAME --dir DIR",
		Short: "Write an empty migration file, for SQL by hand",
		Long: `Write a migration file without statements, with a version after the existing ones, and update atlas.sum. When the
statements are in it, run "credent migrate hash".`,
		Example: `  credent migrate new backfill_expiry --dir migrate/postgres`,
		Args:    arguments(1, "name of the migration"),
	}, func(_ context.Context, args []string) error {
		file, err := migrate.New(dir, args[0])
		if err != nil {
			return dirError(dir, err)
		}
		a.printf("%s\n", file)
		return nil
	})
	dirFlag(cmd, &dir)
	return required(cmd, "dir")
}

func (a *app) migrateHash() *cobra.Command {
	var dir string
	cmd := a.action(&cobra.Command{
		Use:   "hash --dir DIR",
		Short: "Write atlas.sum for the existing files",
		Long: `Write atlas.sum for the migration files that are there now: after one was written or corrected by hand, or after
two branches were merged; in that case look at the order of the files first. Never correct a file that a database has.`,
		Example: `  credent migrate hash --dir migrate/postgres`,
	}, func(context.Context, []string) error {
		if err := someFiles(dir); err != nil {
			return err
		}
		if err := migrate.Hash(dir); err != nil {
			return dirError(dir, err)
		}
		return nil
	})
	dirFlag(cmd, &dir)
	return required(cmd, "dir")
}

func (a *app) migrateDiff() *cobra.Command {
	var dir, devURL string
	cmd := a.action(&cobra.Command{
		Use:   "diff NAME --dir DIR --dev-url URL",
		Short: "Write a migration to the schema that this version needs",
		Long: `Compare what the migration files make with the schema that this version of credent needs, and write what is
missing as a new file, or for Postgres as several if one would block a service: a second file validates constraints, and one
more for each index builds it CONCURRENTLY. Read them before you commit them: a renamed field is a dropped and an added column.
Lint's findings about them are printed.

` + devURLHelp,
		Example: `  credent migrate diff add_expiry --dir migrate/sqlite --dev-url sqlite::memory:
  credent migrate diff add_expiry --dir migrate/postgres --dev-url postgres://postgres@localhost/postgres`,
		Args: arguments(1, "name of the migration"),
	}, func(ctx context.Context, args []string) error {
		return withDev(ctx, devURL, func(dev *database) error {
			before, err := migrationFiles(dir)
			if err != nil {
				return err
			}
			written, err := migrate.Diff(ctx, dev.DB, dir, args[0])
			if err != nil {
				return dirError(dir, err)
			}
			if !written {
				a.printf("nothing to write: %s is up to date\n", dir)
				return nil
			}
			after, err := migrationFiles(dir)
			if err != nil {
				return err
			}
			a.printf("wrote %s to %s\n", count(len(after)-len(before), "migration"), dir)
			return a.adviseOn(ctx, dev, dir, len(after)-len(before))
		})
	})
	dirFlag(cmd, &dir)
	devURLFlag(cmd, &devURL)
	return required(cmd, "dir", "dev-url")
}

// someFiles refuses a folder without migrations, such as the parent folder: an
// answer would be about nothing.
func someFiles(dir string) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return messagef("there is no folder %s; correct --dir", dir)
	}
	files, err := migrationFiles(dir)
	if err == nil && len(files) == 0 {
		return messagef("there are no migration files in %s; correct --dir", dir)
	}
	return err
}

func migrationFiles(dir string) ([]string, error) { return filepath.Glob(filepath.Join(dir, "*.sql")) }

// adviseOn prints lint's findings in the newest files, which follow from the
// schema and need the maintainer's decision.
func (a *app) adviseOn(ctx context.Context, dev *database, dir string, newest int) error {
	found, err := migrate.Lint(ctx, dev.DB, os.DirFS(dir), migrate.LintOptions{Latest: newest})
	if err != nil {
		return dirError(dir, err)
	}
	for _, d := range found {
		a.printFinding(d)
	}
	return nil
}

const devURLHelp = `The files are run on a throw-away database: for Postgres one that is made and dropped on the server of
--dev-url, with a role that may do that, and for SQLite one in memory. Roles belong to the whole server and stay.`

func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", "", "the `folder` with the migration files and atlas.sum")
}

func devURLFlag(cmd *cobra.Command, devURL *string) {
	cmd.Flags().StringVar(devURL, "dev-url", "", "where to make a throw-away database: sqlite::memory: or the `URL` "+
		"of a Postgres")
}

// dirError says what to do about a migration directory's error.
func dirError(dir string, err error) error {
	text := trimPackage(err.Error())
	switch {
	case errors.Is(err, os.ErrNotExist):
		return messagef("there is no folder %s; correct --dir", dir)
	case errors.Is(err, migrate.ErrChanged):
		return messagef("%s; if that is right, run `credent migrate hash --dir %s`", text, dir)
	case errors.Is(err, migrate.ErrUnknownVersion):
		return messagef("%s; the files in %s are named VERSION_name.sql", text, dir)
	}
	return err
}

// withDev calls f with an empty database that is dropped afterwards.
func withDev(ctx context.Context, devURL string, f func(dev *database) error) (err error) {
	if scheme, rest, _ := strings.Cut(devURL, ":"); strings.HasPrefix(scheme, "sqlite") && rest != ":memory:" {
		return messagef("--dev-url: the throw-away database of SQLite is in memory; use sqlite::memory:")
	}
	server, err := openDev(ctx, devURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	if server.dialect == dialect.SQLite {
		return f(server)
	}
	name := "credent_dev_" + strings.ToLower(rand.Text())
	if _, err := server.ExecContext(ctx, "CREATE DATABASE "+column.QuoteName(name)+" TEMPLATE template0"); err != nil {
		return fmt.Errorf("make a throw-away database: %w", err)
	}
	defer func() { err = errors.Join(err, server.drop(name)) }()
	settings, cause := dburl.Parse(devURL)
	if cause != "" {
		return messagef("%s; correct --dev-url", cause) // openDev would have found it
	}
	settings["dbname"] = name
	dev, err := openDev(ctx, settings.String())
	if err != nil {
		return err
	}
	return errors.Join(f(dev), dev.Close())
}

// openDev is open with errors that name the flag.
func openDev(ctx context.Context, devURL string) (*database, error) {
	db, err := open(ctx, devURL, false)
	var connecting *connectError
	if errors.Is(err, credent.ErrURL) || errors.As(err, &connecting) {
		return nil, messagef("%s; correct --dev-url", trimPackage(err.Error()))
	}
	return db, err
}

// drop drops a database, even if the command was interrupted.
func (db *database) drop(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := db.ExecContext(ctx, "DROP DATABASE IF EXISTS "+column.QuoteName(name)); err != nil {
		return fmt.Errorf("drop the throw-away database %s: %w", name, err)
	}
	return nil
}
