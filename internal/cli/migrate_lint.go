package cli

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/migrate"
)

func (a *app) migrateLint() *cobra.Command {
	var (
		dir, devURL string
		opts        migrate.LintOptions
		layout      string
		asJSON      bool
	)
	cmd := a.action(&cobra.Command{
		Use:   "lint --dir DIR --dev-url URL [flags]",
		Short: "Find dangers in migration files",
		Long: `Run the migration files and report dangers in them: loss of data or of a secret's protection, statements that
fail on tables with rows, statements that block readers or writers (with the SQL that does the same in steps), directives that
do not count. It exits with 1 if there are errors, and with 0 if there are only warnings. A comment "-- atlas:nolint NAME" above
a statement leaves out the findings of a name.

` + devURLHelp,
		Example: `  credent migrate lint --dir migrate/sqlite --dev-url sqlite::memory:
  credent migrate lint --dir migrate/postgres --dev-url postgres://postgres@localhost/postgres --since 20261124030200`,
	}, func(ctx context.Context, _ []string) error {
		opts.Layout = migrate.Layout(layout)
		if opts.Latest < 0 {
			return usageError("--latest is negative")
		}
		if err := someFiles(dir); err != nil {
			return err
		}
		return withDev(ctx, devURL, func(dev *database) error {
			found, err := migrate.Lint(ctx, dev.DB, os.DirFS(dir), opts)
			if err != nil {
				return dirError(dir, err)
			}
			return a.printFindings(found, asJSON)
		})
	})
	dirFlag(cmd, &dir)
	devURLFlag(cmd, &devURL)
	cmd.Flags().StringVar(&opts.Since, "since", "", "report only on the files after this `version`, as those before "+
		"are released")
	cmd.Flags().IntVar(&opts.Latest, "latest", 0, "report only on this `number` of the newest files")
	cmd.Flags().StringVar(&layout, "layout", "", "run the files of this `layout` among the others: single or "+
		"partitions")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return required(cmd, "dir", "dev-url")
}

// printFindings prints findings, and returns an error if one of them is an
// error.
func (a *app) printFindings(found []migrate.Diagnostic, asJSON bool) error {
	bad := 0
	for _, d := range found {
		if d.Severity == migrate.SeverityError {
			bad++
		}
		if asJSON {
			continue
		}
		a.printFinding(d)
	}
	switch {
	case asJSON:
		if err := a.printJSON(append([]migrate.Diagnostic{}, found...)); err != nil {
			return err
		}
	case len(found) == 0:
		a.printf("nothing found\n")
	}
	if bad > 0 {
		return messagef("found %s; correct the files, or say why they are right with atlas:nolint", count(bad, "error"))
	}
	return nil
}

// printFinding prints a finding, followed by what to write instead.
func (a *app) printFinding(d migrate.Diagnostic) {
	a.printf("%s\n", d)
	for _, step := range d.Steps {
		a.printf("  %s\n", step)
	}
}
