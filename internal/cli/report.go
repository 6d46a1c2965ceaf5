package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	evidence "github.com/credent-go/credent/internal/report"
	"github.com/credent-go/credent/internal/report/look"
	evidencepage "github.com/credent-go/credent/internal/report/page"
	"github.com/credent-go/credent/keyring"
)

// reporter is the state of one report call.
type reporter struct {
	*app
	html    string
	asJSON  bool
	tenants bool
	sample  int64
	within  time.Duration
}

func (a *app) report() *cobra.Command {
	r := &reporter{app: a}
	cmd := a.action(&cobra.Command{
		Use:   "report [flags]",
		Short: "Write a report for an auditor",
		Long: `Write one page for an auditor: the encrypted columns and how many secrets each has, the keys by their IDs and how
old they are, the state of each protection, what was verified and when, migrations and drift, which rows each role sees, the
audit trail, and the tenants that were shredded; and what it could not look at, and why. docs/report.md says what each part
means.

The page needs no network and no script, and prints. It has no secret, token or database address, and no tenant's name unless
--tenants is given. With --json it prints the same as a document for programs; its fields keep their meaning as long as its
"format" is 1.

It changes nothing, and reads a bounded part of the tables however long they are: the database counts, for at most --within, and
--sample rows of each table are opened. "credent verify" opens all, and the report shows its records. It works without
ENCRYPTION_KEY too, and then says less.

Exit code 1 if something isn't as it should be, 3 if something could not be looked at that a key, another role or more time
would show; the report is written in both cases.`,
		Example: `  credent verify                      # opens every secret, and records what it found
  credent report --html evidence.html
  credent report --json | jq .findings`,
	}, r.run)
	cmd.Flags().StringVar(&r.html, "html", "", "write the page to this `FILE`, or - for standard output")
	cmd.Flags().BoolVar(&r.asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&r.tenants, "tenants", false, "name the tenants that were shredded")
	cmd.Flags().Int64Var(&r.sample, "sample", 1000, "open the secrets of `N` rows of each table, or of some more; "+
		"0 means none")
	cmd.Flags().DurationVar(&r.within, "within", time.Minute, "how long one count or another question to the database "+
		"may take")
	return cmd
}

func (r *reporter) run(ctx context.Context, _ []string) error {
	switch {
	case r.html == "" && !r.asJSON:
		return usageError("give --html FILE or --json")
	case r.html == "-" && r.asJSON:
		return usageError("--html - and --json both print to standard output")
	case r.sample < 0 || r.within <= 0:
		return usageError("--sample is negative, or --within is not positive")
	}
	cfg := look.Config{Columns: column.All(), Sample: r.sample, Within: r.within, Names: r.tenants, Reason: reason}
	var err error
	if cfg.Keyring, err = keyring.FromEnv(); errors.Is(err, keyring.ErrNoKey) {
		cfg.Keyring, cfg.NoKey = nil, reason(err)
	} else if err != nil {
		return err
	}
	return withDatabase(ctx, func(db *database) error {
		if cfg.Dialect = db.dialect; db.standby != nil {
			cfg.Standby = db.standby.String()
		}
		show, done := r.progress()
		cfg.Progress = func(what string, n, total int64) {
			line := "looking at " + what
			if total > 0 {
				line += fmt.Sprintf(": %d of %d rows", n, total)
			}
			show(step{task: what, done: n, total: max(total, 1), line: line})
		}
		found, err := look.Look(ctx, db.DB, cfg)
		done()
		if err != nil {
			return err
		}
		return r.write(found)
	})
}

// write writes the report, and returns an error if it has findings or gaps.
func (r *reporter) write(found *evidence.Report) error {
	var err error
	switch {
	case r.html == "-":
		err = evidencepage.Write(r.out, found)
	case r.html != "":
		err = writeFile(r.html, func(w io.Writer) error { return evidencepage.Write(w, found) })
	}
	if err == nil && r.asJSON {
		err = r.printJSON(found)
	}
	if err != nil {
		return err
	}
	avoidable, first := 0, ""
	for _, g := range found.Gaps {
		if g.Avoidable {
			if avoidable++; avoidable == 1 {
				first = g.Part + ": " + g.What + ": " + g.Why
			}
		}
	}
	switch n := len(found.Findings); {
	case n == 1:
		return messagef("the report is written, and has a finding: %s", found.Findings[0].Text)
	case n > 1:
		return messagef("the report is written, and has %d findings; the first: %s", n, found.Findings[0].Text)
	case avoidable > 0:
		return partly(true, messagef("the report is written, and lacks %s; the first: %s", count(avoidable, "part"),
			first))
	}
	return nil
}

// writeFile writes a temporary file and renames it to path. Only its owner can
// read it.
func writeFile(path string, write func(io.Writer) error) (err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return messagef("%s is no file", path)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fileError(path, err)
	}
	defer func() {
		_ = file.Close() // a second close after success
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	buffered := bufio.NewWriter(file)
	if err = write(buffered); err == nil {
		err = errors.Join(buffered.Flush(), file.Sync(), file.Close())
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return fileError(path, err)
	}
	return nil
}
