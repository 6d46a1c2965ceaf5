package cli

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/migrate"
)

func (a *app) migrateCheck() *cobra.Command {
	var (
		dir    string
		asJSON bool
	)
	cmd := a.action(&cobra.Command{
		Use:   "check [flags]",
		Short: "Find how the database differs from what the migrations make",
		Long: `Compare the history with the migration files, and the tables with what the files make: files that were edited after
they were applied, are missing or out of order; columns, indexes and constraints that differ; policies, row-level
security, triggers, functions and grants, which "atlas schema diff" does not see. It changes nothing. Exit code 1 if it
finds anything.`,
		Example: `  credent migrate check
  credent migrate check --dir migrate/postgres --json`,
	}, func(ctx context.Context, _ []string) error {
		var cfg migrate.Config
		if dir != "" {
			cfg.Dir = os.DirFS(dir)
		}
		return withDatabase(ctx, func(db *database) error {
			report, err := migrate.Check(ctx, db.DB, cfg)
			if report == nil {
				return err
			}
			if err != nil && !errors.Is(err, migrate.ErrCannotCompare) {
				return err // what is in the report is not all
			}
			if err := a.printCheck(report, asJSON); err != nil {
				return err
			}
			if err = errors.Join(report.Err(), err); dir != "" && errors.Is(err, migrate.ErrChanged) {
				return dirError(dir, err)
			}
			return err
		})
	})
	cmd.Flags().StringVar(&dir, "dir", "", "compare with the files of this `folder`; by default this version's files")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

type findingJSON struct {
	Kind   string `json:"kind"`
	Object string `json:"object"`
	Detail string `json:"detail"`
}

func (a *app) printCheck(report *migrate.Report, asJSON bool) error {
	if asJSON {
		found := []findingJSON{}
		for _, f := range report.Findings {
			found = append(found, findingJSON{string(f.Kind), f.Object, f.Detail})
		}
		return a.printJSON(struct {
			Current     string        `json:"current"`
			Findings    []findingJSON `json:"findings"`
			NotCompared string        `json:"not_compared"`
		}{report.Current, found, report.NotCompared})
	}
	for _, f := range report.Findings {
		a.printf("%s\n", f)
	}
	if len(report.Findings) == 0 && report.NotCompared == "" {
		a.printf("at version %s, and everything matches the migrations\n", report.Current)
	}
	return nil
}
