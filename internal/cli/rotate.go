package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/load"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

// rewriting is a command that rewrites stored secrets.
type rewriting struct {
	name string
	run  func(ctx context.Context, db *sql.DB, ring *keyring.Keyring, cfg rotate.Config) (*rotate.Report, error)
	done string // "rewritten"
	todo string // "to rewrite"

	cfg        rotate.Config
	retryFor   retryFlag
	quarantine quarantineFlag
	asJSON     bool
	signs      bool // sign the audit trail's heads at the end

	instead func(ctx context.Context) error // replaces the rewriting; may be nil
}

func (w *rewriting) verb() string {
	if w.cfg.DryRun {
		return w.todo
	}
	return w.done
}

func (a *app) rotate() *cobra.Command {
	w := &rewriting{name: "rotate", run: rotate.Run, done: "rewritten", todo: "to rewrite", signs: true}
	return a.rewriting(w, &cobra.Command{
		Use:   "rotate [flags]",
		Short: "Re-encrypt every secret that is not under the primary key",
		Long: `Rewrite every stored secret that is under a key in ENCRYPTION_KEY_PREVIOUS, so that it is under ENCRYPTION_KEY.

Services may read and write meanwhile: a secret that somebody changes is left to them. It can be stopped at any moment and
started again: it resumes where it stopped, and on Postgres, when all is done, only looks at rows written since. Several runs at
the same time, on one machine or several, share the work on Postgres; if one is killed, the others take over after 15 seconds.
--from-start looks at every row. updated_at stays the same. Secrets that no key opens are left as they are and listed.

If the database fails for a while (a fail-over, a lost connection, a deadlock, a lock, no free connection), it says so and
resumes where it was as soon as it can, for at most --retry-for. A page that takes too long is halved.

Before you run it, every service must have the new key: first all as an earlier one, to read, then all as ENCRYPTION_KEY.

It makes tokens match their columns' states ("credent state list"): accept and off the old way, unbound and under
ENCRYPTION_KEY; write the new way, bound and under the user's key. If no state is set, a token stays as it is in this respect.
Under require a token of the old way is left as it is and listed: nobody should have stored it.

It counts the secrets that are left as they are, and names the first 20. With --quarantine it lists all as soon as they are
found, with table, column, row and reason as a JSON object on each line. If it is killed, every line that ends is whole. If the
list cannot be written, it stops with an error.

If tenants have keys of their own, it re-encrypts these keys. Secrets of tenants with a destroyed key are counted and left.

At the end it verifies the audit trail, and signs the heads of its chains with the primary key, so that entries under an earlier
key still verify when that key is gone.`,
		Example: `  credent rotate --dry-run
  credent rotate --workers 8 --rate 20000
  credent rotate --quarantine quarantine.jsonl
  credent rotate --from-start`,
	}, nil)
}

// rewriting returns a command with the flags common to all rewriting commands.
// check checks the command line; it may be nil.
func (a *app) rewriting(w *rewriting, cmd *cobra.Command, check func() error) *cobra.Command {
	cmd = a.action(cmd, func(ctx context.Context, _ []string) error {
		if err := errors.Join(w.retryFor.check(), w.quarantine.check(w.asJSON)); err != nil {
			return err
		}
		w.cfg.RetryFor = w.retryFor.limit()
		if err := checkWork(w.cfg); err != nil {
			return err
		}
		if check != nil {
			if err := check(); err != nil {
				return err
			}
		}
		if w.instead != nil {
			return w.instead(ctx)
		}
		to, err := w.quarantine.open(a)
		if err != nil {
			return err
		}
		return to.runRewriting(ctx, w)
	})
	cmd.Flags().StringArrayVar(&w.cfg.Columns, "column", nil, "look at this `TABLE.COLUMN` only; may be repeated")
	cmd.Flags().BoolVar(&w.cfg.DryRun, "dry-run", false, "count what would be rewritten, and write nothing")
	cmd.Flags().IntVar(&w.cfg.Workers, "workers", 0, "how many parts of a table to work on at the same time; 0 means "+
		"one for each processor, but at least 4 and at most 16")
	cmd.Flags().BoolVar(&w.cfg.FromStart, "from-start", false, "look at every row, whatever earlier runs have done")
	cmd.Flags().IntVar(&w.cfg.Batch, "batch", rotate.DefaultBatch, "rows in a page")
	cmd.Flags().IntVar(&w.cfg.RowsPerSecond, "rate", 0, "rows to read in a second at most; 0 means no limit")
	cmd.Flags().BoolVar(&w.asJSON, "json", false, "print JSON")
	w.quarantine.add(cmd, "each secret that is left as it is")
	w.retryFor.add(cmd)
	cmd.Annotations = map[string]string{again: "it resumes where it stopped"}
	return cmd
}

func (a *app) runRewriting(ctx context.Context, w *rewriting) (err error) {
	var done bool // some rows are rewritten or checked
	defer func() {
		if lost := w.quarantine.close(); lost != nil {
			err = partly(done, lost)
		}
	}()
	w.cfg.Quarantine = w.quarantine.callback()
	ring, err := keyring.FromEnv()
	if err != nil {
		return err
	}
	return withTables(ctx, func(db *database) error {
		if !w.cfg.DryRun { // which changes nothing, also on a standby
			if ctx, err = db.trailed(ctx); err != nil {
				return err
			}
		}
		show, end := a.progress()
		w.cfg.Progress = func(p rotate.Progress) { show(rotationStep(p, w.verb(), w.cfg.RetryFor)) }
		report, err := w.run(ctx, db.DB, ring, w.cfg)
		end()
		done = report != nil && !w.cfg.DryRun && report.Rewritten() > 0
		if report == nil {
			var schema *rotate.SchemaError
			if errors.As(err, &schema) && strings.Contains(schema.SQL, "\n") {
				a.printf("%s\n", schema.SQL)
			}
			return err
		}
		if w.asJSON {
			if err := a.printJSON(rotationJSON(report)); err != nil {
				return err
			}
		} else {
			a.printRotation(report, w.verb())
		}
		if ctx.Err() != nil {
			return messagef("stopped after %s; run `credent %s` again to go on", count(int(report.Rewritten()),
				"row"), w.name)
		}
		if err == nil && w.signs && !w.cfg.DryRun && len(w.cfg.Columns) == 0 {
			err = a.signHeads(ctx, db, ring)
		}
		return partly(done || !w.cfg.DryRun && errors.Is(err, rotate.ErrQuarantined), err)
	})
}

// maxWorkers is more than any server has processors for. Each worker takes up
// to two of its connections.
const maxWorkers = 256

// checkWork checks the flags that say how much is done at once.
func checkWork(cfg rotate.Config) error {
	switch {
	case cfg.Workers < 0 || cfg.Batch < 0 || cfg.RowsPerSecond < 0:
		return usageError("--workers, --batch and --rate cannot be negative")
	case cfg.Workers > maxWorkers:
		return usageError(fmt.Sprintf("--workers can be %d at most, as each takes two connections", maxWorkers))
	case cfg.Batch > load.MaxBatch:
		return usageError(fmt.Sprintf("--batch can be %d at most, as that many rows are held in memory", load.MaxBatch))
	}
	return nil
}

// withOwner calls f with a database that has the required schema, as a role
// that sees all rows.
func withOwner(ctx context.Context, f func(db *database) error) error {
	return withDatabase(ctx, func(db *database) error {
		if err := db.checkMigrations(ctx); err != nil {
			return err
		}
		for _, column := range encrypted.Columns() {
			if err := db.checkVisible(ctx, column.Table); err != nil {
				return err
			}
		}
		return f(db)
	})
}

// withTables calls f with a database that may have pending migrations, because
// the command may be needed before they can run. Package rotate itself checks
// the tables and whether the role sees all of their rows.
func withTables(ctx context.Context, f func(db *database) error) error {
	return withDatabase(ctx, func(db *database) error {
		if err := db.checkMigrations(ctx); err != nil && !errors.Is(err, migrate.ErrPending) {
			return err
		}
		return f(db)
	})
}

// rotationStep returns a rotation's progress.
func rotationStep(p rotate.Progress, verb string, limit time.Duration) step {
	if p.Waiting != nil {
		return waitingStep(p.Waiting, p.Pause, limit)
	}
	return step{
		task: p.Table + ", pass " + strconv.Itoa(p.Pass), done: p.Read, total: p.Total,
		line: fmt.Sprintf("%s, pass %d: %d of %d rows read, %d %s", p.Table, p.Pass, p.Read, p.Total, p.Rewritten,
			verb),
	}
}

func (a *app) printRotation(report *rotate.Report, verb string) {
	for _, t := range report.Tables {
		a.printf("%s (%s): %s read, %d %s", t.Table, strings.Join(t.Columns, ", "), count(int(t.Rows), "row"),
			t.Rewritten, verb)
		if t.Indexed > 0 {
			a.printf(", %d of them in a blind index only", t.Indexed)
		}
		if t.Renamed > 0 {
			a.printf(", %d of them from an earlier name of their column", t.Renamed)
		}
		if t.Others > 0 {
			a.printf(", %s read by other runs", count(int(t.Others), "row"))
		}
		if t.Skipped > 0 {
			a.printf(", %d left to others who changed them", t.Skipped)
		}
		if t.Shredded > 0 {
			a.printf(", %s of tenants with a destroyed key", count(int(t.Shredded), "secret"))
		}
		a.printf("\n")
		if !t.ChangedSince.IsZero() {
			a.printf("  earlier runs have looked at the other rows, which nobody has written since %s; --from-start "+
				"looks again\n", t.ChangedSince.UTC().Format(time.RFC3339))
		}
		if t.QuarantinedByOthers > 0 {
			a.printf("  %s that another run lists can't be opened\n", count(int(t.QuarantinedByOthers), "secret"))
		}
		for _, q := range t.Examples {
			if q.Row == "" {
				a.printf("  the canary of %s.%s: %s\n", t.Table, q.Column, trimPackage(q.Err.Error()))
				continue
			}
			a.printf("  %s.%s of row %s: %s\n", t.Table, q.Column, printable(q.Row), trimPackage(q.Err.Error()))
		}
		if more := t.Quarantined - int64(len(t.Examples)); more > 0 {
			a.printf("  and %d more, which --quarantine lists\n", more)
		}
		if t.Canaries > 0 {
			a.printf("  %s %s in credent_canary\n", count(int(t.Canaries), "token"), verb)
		}
		for _, name := range t.Validated {
			a.printf("  validated the constraint %s\n", name)
		}
		for _, column := range t.Unchecked {
			a.printf("  no constraint keeps plaintext out of %s.%s yet; on Credent's own tables the migrations "+
				"add it\n", t.Table, column)
		}
	}
}

type rotationTable struct {
	Table       string              `json:"table"`
	Columns     []string            `json:"columns"`
	Rows        int64               `json:"rows"`
	Others      int64               `json:"others"`
	Since       *time.Time          `json:"changed_since,omitempty"`
	Rewritten   int64               `json:"rewritten"`
	Indexed     int64               `json:"indexed"`
	Renamed     int64               `json:"renamed"`
	Skipped     int64               `json:"skipped"`
	Shredded    int64               `json:"shredded"`
	Canaries    int64               `json:"canaries"`
	Passes      int                 `json:"passes"`
	Quarantined int64               `json:"quarantined"`
	Elsewhere   int64               `json:"quarantined_by_others"`
	Examples    []quarantinedSecret `json:"examples"` // examples, at most rotate.MaxExamples
	Validated   []string            `json:"validated"`
	Unchecked   []string            `json:"unchecked"`
}

func rotationJSON(report *rotate.Report) any {
	tables := make([]rotationTable, len(report.Tables))
	for i, t := range report.Tables {
		tables[i] = rotationTable{
			Table: t.Table, Columns: t.Columns, Rows: t.Rows, Rewritten: t.Rewritten, Indexed: t.Indexed,
			Others: t.Others, Renamed: t.Renamed, Skipped: t.Skipped, Shredded: t.Shredded, Canaries: t.Canaries,
			Passes: t.Passes, Quarantined: t.Quarantined, Elsewhere: t.QuarantinedByOthers,
			Examples:  []quarantinedSecret{},
			Validated: append([]string{}, t.Validated...), Unchecked: append([]string{}, t.Unchecked...),
		}
		if !t.ChangedSince.IsZero() {
			tables[i].Since = &t.ChangedSince
		}
		for _, q := range t.Examples {
			tables[i].Examples = append(tables[i].Examples, quarantinedLine(q))
		}
	}
	return struct {
		DryRun bool            `json:"dry_run"`
		Tables []rotationTable `json:"tables"`
	}{report.DryRun, tables}
}
