package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

func (a *app) verify() *cobra.Command {
	var (
		asJSON, noRecord bool
		retryFor         retryFlag
		cfg              rotate.Config
		quarantine       quarantineFlag
	)
	cmd := a.action(&cobra.Command{
		Use:   "verify [flags]",
		Short: "Count which key each stored secret needs",
		Long: `Open every stored secret and count, for each column, how many are under ENCRYPTION_KEY, how many under each
earlier key, how many are plaintext, how many cannot be opened, and how many open but do not decode as their field's type; and
the same for digests in blind indexes and for canaries. It needs the tables but not the migrations. Exit code 1 unless all are
under ENCRYPTION_KEY or their user's key, under the current name of their column, and as their columns' states say ("credent
state list"). Missing digests, such as in rows that another program wrote, do not count.

A plain table with many rows on Postgres is counted as of one moment. Until that is done, vacuum keeps rows deleted since. With
--rate or --quarantine each page of rows is counted as of its own moment.

It changes no secret. When it is done it records when it began, how many secrets there were, how many did not open, which keys
they were under, and whether the column was ready, in the table credent_verifications if the migrations have made it, for
"credent inventory --verified" and "credent report"; with --no-record it writes nothing.

With --quarantine it lists every secret that does not open, is plaintext where tokens are required, can be read though its
user's key was destroyed, or does not decode: a JSON object on each line, with table, column, row and reason. If the list cannot
be written, it stops with an error.`,
		Example: `  credent verify
  credent verify --quarantine bad.jsonl`,
	}, func(ctx context.Context, _ []string) error {
		if err := errors.Join(retryFor.check(), quarantine.check(asJSON)); err != nil {
			return err
		}
		if err := checkWork(cfg); err != nil {
			return err
		}
		to, err := quarantine.open(a)
		if err != nil {
			return err
		}
		cfg.RetryFor, cfg.Quarantine = retryFor.limit(), quarantine.callback()
		counts, err := to.verified(ctx, !noRecord, cfg)
		if lost := quarantine.close(); lost != nil {
			return lost
		}
		if err != nil {
			return err
		}
		if asJSON {
			err = to.printJSON(counts)
		} else {
			err = to.printTable(verifyRows(counts))
		}
		return errors.Join(err, counts.Err())
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().IntVar(&cfg.Workers, "workers", 0, "how many parts of a table to read at the same time; 0 means one "+
		"for each processor, but at least 4 and at most 16")
	cmd.Flags().IntVar(&cfg.Batch, "batch", rotate.DefaultBatch, "rows in a page")
	cmd.Flags().IntVar(&cfg.RowsPerSecond, "rate", 0, "rows to read in a second at most; 0 means no limit")
	cmd.Flags().BoolVar(&noRecord, "no-record", false, "do not record when the secrets were verified")
	quarantine.add(cmd, "each secret that doesn't open, or doesn't decode,")
	retryFor.add(cmd)
	cmd.Annotations = map[string]string{again: beginsAnew}
	return cmd
}

// beginsAnew is the hint of commands that keep no state of a stopped run.
const beginsAnew = "it changed nothing, and begins anew"

// verified verifies, and records the result if possible: it doesn't fail for a
// read-only role or a standby.
func (a *app) verified(ctx context.Context, record bool, cfg rotate.Config) (counts rotate.Counts, err error) {
	ring, err := keyring.FromEnv()
	if err != nil {
		return nil, err
	}
	err = withTables(ctx, func(db *database) error {
		began := time.Now()
		show, done := a.progress()
		cfg.Progress = func(p rotate.Progress) { show(verifyStep(p, cfg.RetryFor)) }
		counts, err = rotate.VerifyWith(ctx, db.DB, ring, cfg)
		done()
		if err != nil || !record {
			return err
		}
		if err := db.try(ctx, func(ctx context.Context) error {
			return rotate.RecordVerification(ctx, db.DB, counts, began)
		}); err != nil && !errors.Is(err, rotate.ErrNoTable) {
			a.warnf("this is not recorded: %s", trimPackage(err.Error()))
		}
		return nil
	})
	return counts, err
}

func verifyStep(p rotate.Progress, limit time.Duration) step {
	if p.Waiting != nil {
		return waitingStep(p.Waiting, p.Pause, limit)
	}
	return step{task: p.Table, done: p.Read, total: p.Total, line: fmt.Sprintf("%s: %d of %s verified", p.Table,
		p.Read, count(int(p.Total), "row"))}
}

// verifyRows returns a line for each state that occurs, and always one for the
// primary key.
func verifyRows(counts rotate.Counts) [][]string {
	rows := [][]string{{"COLUMN", "SECRETS", "STATE"}}
	for _, c := range counts {
		add := func(n int64, state string) {
			rows = append(rows, []string{c.Table + "." + c.Column, strconv.FormatInt(n, 10), state})
		}
		add(c.Primary, "under the primary key")
		for _, id := range slices.Sorted(maps.Keys(c.Previous)) {
			if n := c.Previous[id]; n > 0 {
				add(n, "under the earlier key "+id)
			}
		}
		for _, s := range []struct {
			n     int64
			state string
		}{
			{c.Tenant, "under the key of its tenant"},
			{c.Shredded, "shredded: the tenant's key was destroyed"},
			{c.Readable, "readable, though the tenant's key was destroyed"},
			{c.UnknownKey, "under no key of the keyring, or altered"},
			{c.NotEncrypted, "not encrypted"},
			{c.Damaged, "damaged"},
			{c.OverLength, "longer than the column's size"},
			{c.Undecodable, "of these not " + c.DecodedAs + ", as in row " + strings.Join(c.UndecodableRows, ", ")},
			{c.Null, "absent (NULL)"},
			{c.Bound, "of these bound to table, column and tenant"},
			{c.Earlier, "of these under an earlier name of the column: run `credent rotate`"},
		} {
			if s.n > 0 {
				add(s.n, s.state)
			}
		}
		if c.Canary.Previous != "" {
			add(1, "canary under the earlier key "+c.Canary.Previous)
		}
		if c.Canary.Unopened {
			add(1, "canary under no key of the keyring, or altered")
		}
		if c.Index == nil {
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(c.Index.Previous)) {
			if n := c.Index.Previous[id]; n > 0 {
				add(n, "in the blind index under the earlier key "+id)
			}
		}
		if c.Index.Earlier > 0 {
			add(c.Index.Earlier, "in the blind index under an earlier name of the column: run `credent rotate`")
		}
		switch {
		case c.Index.Outlives > 0 && c.Index.AcrossTenants:
			add(c.Index.Outlives, "in the blind index across tenants: a copy of the digest outlives the tenant's key")
		case c.Index.Outlives > 0:
			add(c.Index.Outlives, "in the blind index under the keyring, which outlives the tenant's key: run "+
				"`credent rotate`")
		}
		if c.Index.Wrong > 0 {
			add(c.Index.Wrong, "in the blind index as something else")
		}
		if c.Index.Missing > 0 {
			add(c.Index.Missing, "not in the blind index, and not found by it: run `credent rotate`")
		}
	}
	return rows
}

func (a *app) keyList() *cobra.Command {
	return a.action(&cobra.Command{
		Use:   "list",
		Short: "List the IDs of the keys in the environment",
		Long: `List the keys in ENCRYPTION_KEY and ENCRYPTION_KEY_PREVIOUS, or in their files, by their IDs. An ID is a
fingerprint that tells keys apart and reveals nothing about them.`,
		Example: "  credent key list",
	}, func(context.Context, []string) error {
		ring, err := keyring.FromEnv()
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
		Long: `Make sure that no stored secret needs an earlier key, so that it can be removed from ENCRYPTION_KEY_PREVIOUS. It
reads every secret and changes nothing. Exit code 1 if some need the key: run "credent rotate" first.`,
		Example: `  credent key list
  credent key retire 1f3a9c02`,
	}
	cmd.Args = arguments(1, "KEY-ID")
	var retryFor retryFlag
	retryFor.add(cmd)
	cmd.Annotations = map[string]string{again: beginsAnew}
	return a.action(cmd, func(ctx context.Context, args []string) error {
		if err := retryFor.check(); err != nil {
			return err
		}
		ring, err := keyring.FromEnv()
		if err != nil {
			return err
		}
		if err := checkEarlier(ring, args[0]); err != nil {
			return err
		}
		counts, err := a.verified(ctx, false, rotate.Config{RetryFor: retryFor.limit()})
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

func checkEarlier(ring *keyring.Keyring, id string) error {
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
