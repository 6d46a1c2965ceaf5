package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/migrate"
)

func (a *app) migrateAdopt() *cobra.Command {
	var only, asJSON bool
	var locks lockFlags
	cmd := a.action(&cobra.Command{
		Use:   "adopt [flags]",
		Short: "Take over a database that the Python application made",
		Long: `Compare a database that has tables and no migration history with what the first migration makes, which is what
SQLAlchemy's create_all makes of the Python application's models. If they are equal, mark it as applied and apply the others. If
not, change nothing, and print the differences and the SQL that fixes them.

It is for Postgres: on SQLite the first migration has types and constraints that SQLAlchemy does not make.

` + lockHelp,
		Example: `  credent migrate adopt`,
	}, func(ctx context.Context, _ []string) error {
		cfg, err := locks.config()
		if err != nil {
			return err
		}
		cfg.AdoptOnly = only
		if err := withCanaries(&cfg); err != nil {
			return err
		}
		return withDatabase(ctx, func(db *database) error {
			report, err := migrate.Adopt(ctx, db.DB, cfg)
			if report == nil {
				return err
			}
			if asJSON {
				if err := a.printJSON(adoptionJSON(report, err)); err != nil {
					return err
				}
			} else {
				a.printAdoption(report)
			}
			return err
		})
	})
	cmd.Flags().BoolVar(&only, "only", false, "mark the first migration as applied, and do not apply the others")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	locks.add(cmd)
	return cmd
}

func (a *app) printAdoption(report *migrate.AdoptReport) {
	if slices.ContainsFunc(report.Differences, func(d migrate.Difference) bool { return len(d.SQL) > 0 }) {
		a.printf("Run the SQL statement by statement, after: SET lock_timeout = '%ds';\n",
			int(migrate.DefaultLockTimeout.Seconds()))
	}
	for _, d := range report.Differences {
		a.printf("%s\n", d.Finding)
		if d.Note != "" {
			a.printf("  -- %s\n", d.Note)
		}
		for _, stmt := range d.SQL {
			a.printf("  %s\n", stmt)
		}
	}
	if report.Equal != "" {
		a.printf("The tables are at version %s: credent migrate apply --baseline %s\n", report.Equal, report.Equal)
	}
	for _, b := range report.BadRows {
		a.printf("%s\n", b)
	}
	switch {
	case report.Already:
		a.printf("nothing to adopt: the database has a history and is at version %s\n", report.Version)
	case report.Version != "":
		a.printf("adopted at version %s\n", report.Version)
	}
	for _, name := range report.Applied {
		a.printf("applied %s\n", strings.TrimSuffix(name, ".sql"))
	}
}

type differenceJSON struct {
	findingJSON
	SQL  []string `json:"sql"`
	Note string   `json:"note"`
}

type badRowsJSON struct {
	Table      string `json:"table"`
	Constraint string `json:"constraint"`
	Rows       int64  `json:"rows"`
}

func adoptionJSON(report *migrate.AdoptReport, err error) any {
	differences, bad := []differenceJSON{}, []badRowsJSON{}
	for _, d := range report.Differences {
		differences = append(differences, differenceJSON{
			findingJSON{string(d.Kind), d.Object, d.Detail}, append([]string{}, d.SQL...), d.Note,
		})
	}
	for _, b := range report.BadRows {
		bad = append(bad, badRowsJSON(b))
	}
	return struct {
		Already     bool             `json:"already"`
		Version     string           `json:"version"`
		Differences []differenceJSON `json:"differences"`
		Equal       string           `json:"equal"`
		BadRows     []badRowsJSON    `json:"bad_rows"`
		Applied     []string         `json:"applied"`
		Blocked     *jsonBlocked     `json:"blocked"`
	}{
		report.Already, report.Version, differences, report.Equal, bad, append([]string{}, report.Applied...),
		blockedJSON(err),
	}
}
