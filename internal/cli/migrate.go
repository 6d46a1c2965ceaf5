package cli

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/migrate"
)

func (a *app) migrate() *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "migrate",
		Short: "Bring the database to the schema that this version needs",
	}, a.migrateApply(), a.migrateStatus(), a.migrateCheck(), a.migrateAdopt(),
		a.migrateNew(), a.migrateHash(), a.migrateDiff(), a.migrateLint())
}

func (a *app) migrateApply() *cobra.Command {
	var f applyFlags
	cmd := a.action(&cobra.Command{
		Use:   "apply [flags]",
		Short: "Apply the pending migrations",
		Long: `Apply the migrations that the database lacks, each in its own transaction. It makes an SQLite file that does not
exist. On a database that has them all it does nothing, and several may run it at the same time: one migrates, the others wait.
It continues where "atlas migrate apply" left off, and vice versa.

With a key in ENCRYPTION_KEY it also stores a canary for each encrypted column, which tells services when they start whether
their key is right. It refuses a key that opens none of the existing secrets.

` + lockHelp,
		Example: `  credent migrate apply
  credent migrate apply --dry-run                   # print the SQL
  credent migrate apply --baseline 20261124030000   # the tables are there, made by another application`,
	}, func(ctx context.Context, _ []string) error {
		return a.applyMigrations(ctx, f)
	})
	flags := cmd.Flags()
	flags.StringVar(&f.baseline, "baseline", "",
		"take over a database without history that is at this `version`; the migrations up to it are not run")
	flags.StringVar(&f.layout, "layout", "",
		"the `layout` of a new database, which remembers it: single, partitions or citus; single can become citus "+
			"later")
	flags.BoolVar(&f.allowDirty, "allow-dirty", false, "accept a database without history that has others' tables")
	flags.StringVar(&f.target, "target", "", "stop after the migration of this `version`")
	flags.BoolVar(&f.nonLinear, "non-linear", false, "also run migrations that are older than the newest applied one")
	flags.BoolVar(&f.pooled, "pooled", false,
		"the connection goes through a pooler in transaction mode: refuse what is not safe there")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the statements that would run, and change nothing")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	f.locks.add(cmd)
	return cmd
}

type applyFlags struct {
	baseline, target, layout                      string
	allowDirty, nonLinear, pooled, dryRun, asJSON bool
	locks                                         lockFlags
}

// config returns the configuration from the flags.
func (f applyFlags) config() (cfg migrate.Config, err error) {
	if cfg, err = f.locks.config(); err != nil {
		return cfg, err
	}
	if f.dryRun && f.asJSON {
		return cfg, usageError("--dry-run prints SQL, not JSON")
	}
	if f.baseline != "" && f.allowDirty {
		return cfg, usageError("--baseline and --allow-dirty exclude each other")
	}
	cfg.Baseline, cfg.Target, cfg.Layout = f.baseline, f.target, migrate.Layout(f.layout)
	cfg.AllowDirty, cfg.NonLinear, cfg.Pooled = f.allowDirty, f.nonLinear, f.pooled
	return cfg, nil
}

func (a *app) applyMigrations(ctx context.Context, f applyFlags) (err error) {
	cfg, err := f.config()
	if err != nil {
		return err
	}
	// A missing file has nothing to baseline, and a dry run creates none.
	db, err := open(ctx, databaseURL(), f.baseline == "" && !f.dryRun)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, version := range []string{f.baseline, f.target} {
		if err := checkVersion(db, version); err != nil {
			return err
		}
	}
	if f.dryRun {
		return a.printPlan(ctx, db, cfg)
	}
	if err := withCanaries(&cfg); err != nil {
		return err
	}
	if cfg.Trail, err = db.trail(ctx); err != nil {
		return err
	}
	applied := []string{}
	cfg.Progress = func(name string) {
		name = strings.TrimSuffix(name, ".sql")
		applied = append(applied, name)
		if !f.asJSON {
			a.printf("applied %s\n", name)
		}
	}
	err = migrate.Apply(ctx, db.DB, cfg)
	err = partly(len(applied) > 0, err)
	if f.asJSON {
		return errors.Join(a.printJSON(jsonApplied{applied, blockedJSON(err)}), err)
	}
	if err != nil {
		return err
	}
	status, err := migrate.ReadStatus(ctx, db.DB, migrate.Config{})
	if err != nil {
		return err
	}
	if len(applied) == 0 {
		a.printf("nothing to apply: the database is at version %s\n", status.Current())
	} else {
		a.printf("%s applied, the database is at version %s\n", count(len(applied), "migration"), status.Current())
	}
	a.noteCanaries(ctx, db, cfg.Keyring == nil)
	return nil
}

// jsonApplied is the document of migrate apply --json.
type jsonApplied struct {
	Applied []string     `json:"applied"`
	Blocked *jsonBlocked `json:"blocked"` // null unless a lock stopped it
}

// printPlan prints the pending SQL.
func (a *app) printPlan(ctx context.Context, db *database, cfg migrate.Config) error {
	planned := 0
	cfg.DryRun = func(p migrate.Planned) {
		planned++
		how := "in a transaction"
		if !p.Transaction {
			how = "without a transaction"
		}
		a.printf("-- %s, %s\n", p.Name, how)
		for _, stmt := range p.Statements {
			a.printf("%s\n", stmt.SQL)
		}
	}
	err := migrate.Apply(ctx, db.DB, cfg)
	if err == nil && planned == 0 {
		a.printf("-- nothing to apply\n")
	}
	return err
}

func checkVersion(db *database, version string) error {
	if version == "" {
		return nil
	}
	files, err := migrate.Files(db.dialect)
	if err != nil {
		return err
	}
	names, err := fs.Glob(files, version+"_*.sql")
	if err != nil || len(names) != 1 {
		return messagef("there is no migration of version %q; `credent migrate status` lists them", version)
	}
	return nil
}

// jsonStatus is the document of migrate status --json.
type jsonStatus struct {
	Layout  string         `json:"layout"`
	Current string         `json:"current"`
	Applied []jsonRevision `json:"applied"`
	Pending []string       `json:"pending"`
	Partial string         `json:"partial,omitempty"`
	Unknown []string       `json:"unknown"`
	OK      bool           `json:"ok"`
}

type jsonRevision struct {
	Version     string    `json:"version"`
	Description string    `json:"description"`
	AppliedAt   time.Time `json:"applied_at"`
	Baseline    bool      `json:"baseline"`
	Layout      string    `json:"layout,omitempty"` // for a layout's file
}

func (a *app) migrateStatus() *cobra.Command {
	var asJSON, check bool
	cmd := a.action(&cobra.Command{
		Use:   "status [flags]",
		Short: "Show which migrations are applied and which are pending",
		Example: `  credent migrate status
  credent migrate status --check && start-the-service`,
	}, func(ctx context.Context, _ []string) error {
		return withDatabase(ctx, func(db *database) error {
			status, err := migrate.ReadStatus(ctx, db.DB, migrate.Config{})
			if err != nil {
				return err
			}
			show := a.printStatus
			if asJSON {
				show = a.printStatusJSON
			}
			if err := show(status); err != nil || !check {
				return err
			}
			return status.Err()
		})
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&check, "check", false, "exit with 1 unless the database is just what this version needs")
	return cmd
}

func (a *app) printStatus(status *migrate.Status) error {
	rows := [][]string{{"VERSION", "NAME", "STATE", "APPLIED AT"}}
	for _, rev := range status.Applied {
		rows = append(rows, []string{rev.Version, rev.Description, stateOf(status, rev), stamp(rev.AppliedAt)})
	}
	for _, name := range status.Pending {
		version, description, _ := strings.Cut(strings.TrimSuffix(name, ".sql"), "_")
		if version != status.Partial { // it is listed as applied already
			rows = append(rows, []string{version, description, "pending", "-"})
		}
	}
	if err := a.printTable(rows); err != nil {
		return err
	}
	if status.Layout != migrate.Single {
		a.printf("\nlayout: %s\n", status.Layout)
	}
	if err := status.Err(); err != nil {
		a.printf("\n%s\n", reason(err))
		return nil
	}
	a.printf("\nthe database is up to date\n")
	return nil
}

func stateOf(status *migrate.Status, rev migrate.Revision) string {
	switch {
	case rev.Version == status.Partial:
		return "applied in part"
	case len(status.Unknown) > 0 && rev.Version >= status.Unknown[0]:
		return "unknown to this version"
	case rev.Baseline:
		return "baseline"
	}
	return "applied"
}

func (a *app) printStatusJSON(status *migrate.Status) error {
	doc := jsonStatus{
		Layout:  string(status.Layout),
		Current: status.Current(),
		Applied: []jsonRevision{},
		Pending: append([]string{}, status.Pending...),
		Partial: status.Partial,
		Unknown: append([]string{}, status.Unknown...),
		OK:      status.Err() == nil,
	}
	for _, rev := range status.Applied {
		doc.Applied = append(doc.Applied, jsonRevision{
			rev.Version, rev.Description, rev.AppliedAt, rev.Baseline,
			string(rev.Layout),
		})
	}
	return a.printJSON(doc)
}
