package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/retry"
	"github.com/credent-go/credent/keyring"
)

// auditVerifier is the state of one audit verify call.
type auditVerifier struct {
	*app
	asJSON      bool
	checkpoints []string
	archives    []string
	retryFor    retryFlag
}

func (a *app) auditVerify() *cobra.Command {
	v := &auditVerifier{app: a}
	cmd := a.action(&cobra.Command{
		Use:   "verify [flags]",
		Short: "Look for entries of the audit trail that were removed, changed, moved or inserted",
		Long: `Read the whole audit trail as of one moment, and look for entries that were removed, changed, moved or inserted.
It needs the keys that the entries are signed with: ENCRYPTION_KEY, and for older ones ENCRYPTION_KEY_PREVIOUS. It changes
nothing. Exit code 1 if it finds something, or if it could not look at something, and it says which.

The database alone can't show that the newest entries of a writer were removed, or that an older backup was restored. Keep
checkpoints outside it ("credent audit checkpoint", and OnCheckpoint of the trail), and pass them with --checkpoint. Archived
entries are checked if their files are passed with --archive.`,
		Example: `  credent audit verify
  credent audit verify --checkpoint checkpoints.jsonl --archive 2026-01.jsonl --json`,
	}, v.run)
	f := cmd.Flags()
	f.StringArrayVar(&v.checkpoints, "checkpoint", nil, "a `FILE` of checkpoints that were kept outside of the "+
		"database, or - for standard input; may be repeated")
	f.StringArrayVar(&v.archives, "archive", nil, "a `FILE` of \"credent audit archive\"; may be repeated")
	f.BoolVar(&v.asJSON, "json", false, "print JSON")
	v.retryFor.add(cmd)
	cmd.Annotations = map[string]string{again: beginsAnew}
	return cmd
}

// verifiedTrail is the document of audit verify --json.
type verifiedTrail struct {
	audit.Report
	Checkpoints int `json:"checkpoints"` // checkpoints compared with the trail
}

func (v *auditVerifier) run(ctx context.Context, _ []string) error {
	if err := v.retryFor.check(); err != nil {
		return err
	}
	ring, err := keyring.FromEnv()
	if err != nil {
		return err
	}
	known, err := v.readCheckpoints()
	if err != nil {
		return err
	}
	files, err := openAll(v.archives)
	if err != nil {
		return err
	}
	defer closeAll(files)
	report := verifiedTrail{Checkpoints: len(known)}
	err = withDatabase(ctx, func(db *database) error {
		return v.policy(db, v.retryFor).Do(ctx, func() (err error) {
			opt := audit.VerifyOptions{Checkpoints: known}
			for _, file := range files {
				if _, err := file.Seek(0, io.SeekStart); err != nil {
					return retry.Permanent(messagef("--archive: %s: %v", file.Name(), cause(err)))
				}
				opt.Archives = append(opt.Archives, file)
			}
			report.Report, err = audit.Verify(ctx, db.DB, db.dialect, ring, opt)
			return err
		})
	})
	if err != nil {
		return err
	}
	if v.asJSON {
		err = v.printJSON(report)
	} else {
		err = v.printVerifiedTrail(report)
	}
	return errors.Join(err, report.found())
}

// found returns nil if every entry is verified, and otherwise an error that
// counts the findings. The findings themselves were printed.
func (r *verifiedTrail) found() error {
	if r.Err() == nil {
		return nil
	}
	var text []string
	if n := len(r.Findings) + int(r.More); n > 0 {
		text = append(text, count(n, "finding"))
	}
	if n := len(r.CouldNotLook) + int(r.MoreCouldNotLook); n > 0 {
		text = append(text, count(n, "place")+" that it could not look at")
	}
	return fmt.Errorf("audit: %w: %s", audit.ErrTampered, strings.Join(text, " and "))
}

// policy says how to retry when the database fails temporarily.
func (a *app) policy(db *database, retryFor retryFlag) retry.Policy {
	var told waits
	return retry.Policy{Limit: retryFor.limit(), DB: db.DB, Notify: func(w retry.Wait) {
		told.tell(a, waitingStep(w.Err, w.Pause, retryFor.limit()))
	}}
}

func (v *auditVerifier) readCheckpoints() (all []audit.Checkpoint, err error) {
	for _, path := range v.checkpoints {
		file := v.in
		if path != "-" {
			if file, err = os.Open(path); err != nil {
				return nil, messagef("--checkpoint: %s: %v", path, cause(err))
			}
		}
		known, err := audit.ReadCheckpoints(file)
		if path != "-" {
			_ = file.Close() // read only
		}
		if err != nil {
			return nil, fmt.Errorf("--checkpoint: %s: %w", path, err)
		}
		if len(known) == 0 {
			return nil, messagef("--checkpoint: %s has no checkpoint", path)
		}
		all = append(all, known...)
	}
	return all, nil
}

func openAll(paths []string) (files []*os.File, err error) {
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			closeAll(files)
			return nil, messagef("--archive: %s: %v", path, cause(err))
		}
		files = append(files, file)
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, file := range files {
		_ = file.Close() // read only
	}
}

func (v *auditVerifier) printVerifiedTrail(r verifiedTrail) error {
	line := func(name, format string, args ...any) { v.printf("%-13s%s\n", name, fmt.Sprintf(format, args...)) }
	line("Rows", "%d", r.Entries)
	line("Verified", "%d", r.Verified)
	writers := strconv.Itoa(r.Writers)
	if r.Open > 0 {
		writers += fmt.Sprintf(", %d of them without an end: still running, or killed", r.Open)
	}
	line("Writers", "%s", writers)
	if r.Unlinked > 0 {
		line("Unlinked", "%d: nobody would see their removal; `credent audit checkpoint` ties them to a chain",
			r.Unlinked)
	}
	if r.Checkpoints > 0 {
		line("Checkpoints", "%d", r.Checkpoints)
	} else {
		line("Checkpoints", "none given: nobody would see that the newest entries were removed, or a backup was "+
			"restored")
	}
	if len(r.Archived) > 0 {
		var entries int64
		for _, month := range r.Archived {
			entries += month.Entries
		}
		text := fmt.Sprintf("%s of %s", count(int(entries), "row"), count(len(r.Archived), "month"))
		if len(v.archives) == 0 {
			text += ", not looked at: give their files with --archive"
		}
		line("Archived", "%s", text)
	}
	if len(r.Findings)+len(r.CouldNotLook) == 0 {
		return nil
	}
	v.printf("\n")
	rows := [][]string{{"FINDING", "WHAT"}}
	for _, f := range r.Findings {
		rows = append(rows, []string{string(f.Kind), f.Text})
	}
	if r.More > 0 {
		rows = append(rows, []string{"", fmt.Sprintf("and %d more", r.More)})
	}
	for _, text := range r.CouldNotLook {
		rows = append(rows, []string{"not looked at", text})
	}
	if r.MoreCouldNotLook > 0 {
		rows = append(rows, []string{"", fmt.Sprintf("and %d more", r.MoreCouldNotLook)})
	}
	return v.printTable(rows)
}
