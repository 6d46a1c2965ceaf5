package cli

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/rotate"
)

// progressEvery is how often a line tells how far a rotation is where no bar can be drawn.
const progressEvery = 5 * time.Second

func (a *app) rotate() *cobra.Command {
	var (
		asJSON bool
		cfg    rotate.Config
	)
	cmd := a.action(&cobra.Command{
		Use:   "rotate [flags]",
		Short: "Re-encrypt every secret that is not under the primary key",
		Long: `Rewrite every stored secret that is under a key in ENCRYPTION_KEY_PREVIOUS, so that it is under ENCRYPTION_KEY.

Services may read and write meanwhile: a secret that somebody changes is left to them. It can be stopped at any moment
and started again. updated_at stays as it is. Secrets that no key opens are left as they are and listed.

Before it, every service must have the new key: first all as an earlier one, to read, then all as ENCRYPTION_KEY.`,
		Example: `  credent rotate --dry-run
  credent rotate --workers 4 --rate 20000`,
	}, func(ctx context.Context, _ []string) error {
		if cfg.Workers < 0 || cfg.Batch < 0 || cfg.RowsPerSecond < 0 {
			return usageError("--workers, --batch and --rate cannot be negative")
		}
		return a.runRotate(ctx, cfg, asJSON)
	})
	cmd.Flags().BoolVar(&cfg.DryRun, "dry-run", false, "count what would be rewritten, and write nothing")
	cmd.Flags().IntVar(&cfg.Workers, "workers", rotate.DefaultWorkers, "how many pages to rewrite at the same time")
	cmd.Flags().IntVar(&cfg.Batch, "batch", rotate.DefaultBatch, "rows in a page")
	cmd.Flags().IntVar(&cfg.RowsPerSecond, "rate", 0, "rows to read in a second at most; 0 means no limit")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) runRotate(ctx context.Context, cfg rotate.Config, asJSON bool) error {
	ring, err := credent.KeyringFromEnv()
	if err != nil {
		return err
	}
	return withOwner(ctx, func(db *database) error {
		var done func()
		cfg.Progress, done = a.progress(cfg.DryRun)
		report, err := rotate.Run(ctx, db.DB, ring, cfg)
		done()
		if report == nil {
			return err
		}
		if asJSON {
			if err := a.printJSON(rotationJSON(report)); err != nil {
				return err
			}
		} else {
			a.printRotation(report)
		}
		if ctx.Err() != nil {
			return messagef("stopped after %s; run `credent rotate` again to go on", count(int(report.Rewritten()), "row"))
		}
		return err
	})
}

// withOwner calls f with a database that has the schema it needs, and a role that sees all rows of it.
func withOwner(ctx context.Context, f func(db *database) error) error {
	return withDatabase(ctx, func(db *database) error {
		if err := db.checkMigrations(ctx); err != nil {
			return err
		}
		for _, column := range credent.EncryptedColumns() {
			if err := db.checkVisible(ctx, column.Table); err != nil {
				return err
			}
		}
		return f(db)
	})
}

// progress returns what shows the progress of a rotation to people, a bar where it can be drawn and lines otherwise, and
// what ends it.
func (a *app) progress(dryRun bool) (show func(rotate.Progress), done func()) {
	verb := "rewritten"
	if dryRun {
		verb = "to rewrite"
	}
	file, ok := a.note.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		last := time.Now()
		return func(p rotate.Progress) {
			if time.Since(last) >= progressEvery {
				last = time.Now()
				a.notef("%s, pass %d: %d of %d rows read, %d %s\n", p.Table, p.Pass, p.Read, p.Total, p.Rewritten, verb)
			}
		}, func() {}
	}
	var (
		bar  *progressbar.ProgressBar
		pass int
	)
	return func(p rotate.Progress) {
			if bar == nil || pass != p.Pass {
				pass = p.Pass
				bar = progressbar.NewOptions64(p.Total, progressbar.OptionSetWriter(file), progressbar.OptionShowCount(),
					progressbar.OptionShowIts(), progressbar.OptionSetItsString("rows"), progressbar.OptionSetPredictTime(true),
					progressbar.OptionSetDescription(p.Table+", pass "+strconv.Itoa(p.Pass)),
					progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
			}
			_ = bar.Set64(p.Read)
		}, func() {
			if bar != nil {
				_ = bar.Finish()
			}
		}
}

func (a *app) printRotation(report *rotate.Report) {
	verb := "rewritten"
	if report.DryRun {
		verb = "to rewrite"
	}
	for _, t := range report.Tables {
		a.printf("%s (%s): %s read, %d %s", t.Table, strings.Join(t.Columns, ", "), count(int(t.Rows), "row"), t.Rewritten, verb)
		if t.Skipped > 0 {
			a.printf(", %d left to others who changed them", t.Skipped)
		}
		a.printf("\n")
		for i, q := range t.Quarantined {
			if i == maxShown {
				a.printf("  and %d more, which --json lists\n", len(t.Quarantined)-i)
				break
			}
			a.printf("  %s.%s of row %s: %s\n", t.Table, q.Column, q.Row, trimPackage(q.Err.Error()))
		}
	}
}

type rotationTable struct {
	Table       string           `json:"table"`
	Columns     []string         `json:"columns"`
	Rows        int64            `json:"rows"`
	Rewritten   int64            `json:"rewritten"`
	Skipped     int64            `json:"skipped"`
	Passes      int              `json:"passes"`
	Quarantined []rotationBadRow `json:"quarantined"`
}

type rotationBadRow struct {
	Column string `json:"column"`
	Row    string `json:"row"`
	Reason string `json:"reason"`
}

func rotationJSON(report *rotate.Report) any {
	tables := make([]rotationTable, len(report.Tables))
	for i, t := range report.Tables {
		tables[i] = rotationTable{
			Table: t.Table, Columns: t.Columns, Rows: t.Rows, Rewritten: t.Rewritten, Skipped: t.Skipped,
			Passes: t.Passes, Quarantined: []rotationBadRow{},
		}
		for _, q := range t.Quarantined {
			tables[i].Quarantined = append(tables[i].Quarantined,
				rotationBadRow{Column: q.Column, Row: q.Row, Reason: trimPackage(q.Err.Error())})
		}
	}
	return struct {
		DryRun bool            `json:"dry_run"`
		Tables []rotationTable `json:"tables"`
	}{report.DryRun, tables}
}

func (a *app) verify() *cobra.Command {
	var asJSON bool
	cmd := a.action(&cobra.Command{
		Use:   "verify [flags]",
		Short: "Count which key each stored secret needs",
		Long: `Open every stored secret and count, for each column, how many are under ENCRYPTION_KEY, how many under each earlier
key, and how many cannot be opened. It writes nothing. Exit code 1 unless all are under ENCRYPTION_KEY.`,
		Example: `  credent verify`,
	}, func(ctx context.Context, _ []string) error {
		counts, err := verified(ctx)
		if err != nil {
			return err
		}
		if asJSON {
			err = a.printJSON(counts)
		} else {
			err = a.printTable(verifyRows(counts))
		}
		return errors.Join(err, counts.Err())
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func verified(ctx context.Context) (counts rotate.Counts, err error) {
	ring, err := credent.KeyringFromEnv()
	if err != nil {
		return nil, err
	}
	err = withOwner(ctx, func(db *database) error {
		counts, err = rotate.Verify(ctx, db.DB, ring)
		return err
	})
	return counts, err
}

// verifyRows has a line for each state that is there, and one for the primary key in any case.
func verifyRows(counts rotate.Counts) [][]string {
	rows := [][]string{{"COLUMN", "SECRETS", "STATE"}}
	for _, c := range counts {
		add := func(n int64, state string) {
			rows = append(rows, []string{c.Table + "." + c.Column, strconv.FormatInt(n, 10), state})
		}
		add(c.Primary, "under the primary key")
		for id, n := range c.Previous {
			if n > 0 {
				add(n, "under the earlier key "+id)
			}
		}
		for _, s := range []struct {
			n     int64
			state string
		}{
			{c.UnknownKey, "under no key of the keyring, or altered"},
			{c.NotEncrypted, "not encrypted"},
			{c.Damaged, "damaged"},
			{c.OverLength, "longer than the column's size"},
			{c.Null, "absent (NULL)"},
		} {
			if s.n > 0 {
				add(s.n, s.state)
			}
		}
	}
	return rows
}

func (a *app) keyList() *cobra.Command {
	return a.action(&cobra.Command{
		Use:   "list",
		Short: "List the IDs of the keys in the environment",
		Long: `List the keys in ENCRYPTION_KEY and ENCRYPTION_KEY_PREVIOUS by their IDs. An ID is a fingerprint that tells keys
apart and reveals nothing of them.`,
	}, func(context.Context, []string) error {
		ring, err := credent.KeyringFromEnv()
		if err != nil {
			return err
		}
		rows := [][]string{{"ID", "USE"}}
		for i, key := range ring.Keys() {
			use := "primary: encrypts and decrypts"
			if i > 0 {
				use = "earlier: decrypts"
			}
			rows = append(rows, []string{key.ID(), use})
		}
		return a.printTable(rows)
	})
}

func (a *app) keyRetire() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retire KEY-ID",
		Short: "Make sure that no stored secret needs an earlier key",
		Long: `Make sure that no stored secret needs an earlier key, so that it can be removed from ENCRYPTION_KEY_PREVIOUS. It reads
every secret and changes nothing. Exit code 1 if some need the key: run "credent rotate" first.`,
		Example: `  credent key list
  credent key retire 1f3a9c02`,
	}
	cmd.Args = arguments(1, "KEY-ID")
	return a.action(cmd, func(ctx context.Context, args []string) error {
		ring, err := credent.KeyringFromEnv()
		if err != nil {
			return err
		}
		if err := checkEarlier(ring, args[0]); err != nil {
			return err
		}
		counts, err := verified(ctx)
		if err != nil {
			return err
		}
		if n := counts.Needs(args[0]); n > 0 {
			return messagef("%s still need key %s; run `credent rotate`", count(int(n), "secret"), args[0])
		}
		a.printf("No stored secret needs key %s. Remove it from ENCRYPTION_KEY_PREVIOUS of every service.\n", args[0])
		return nil
	})
}

func checkEarlier(ring *credent.Keyring, id string) error {
	for i, key := range ring.Keys() {
		if key.ID() != id {
			continue
		}
		if i == 0 {
			return messagef("key %s is the primary key; every new secret needs it", id)
		}
		return nil
	}
	return messagef("there is no key of that ID in ENCRYPTION_KEY_PREVIOUS; `credent key list` lists them")
}
