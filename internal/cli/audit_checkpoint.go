package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/keyring"
)

func (a *app) auditCheckpoint() *cobra.Command {
	var path string
	return a.pathFlag(a.action(&cobra.Command{
		Use:   "checkpoint [flags]",
		Short: "Sign the heads of the audit trail's chains, to keep outside the database",
		Long: `Verify the audit trail and sign the head of each chain, which is how far a writer has got: a JSON object in each
line, for "credent audit verify --checkpoint". Keep them out of reach of anyone who can change the database. It also stores an
entry with the same content, signed with ENCRYPTION_KEY, which vouches for entries under earlier keys: run it before such a key
is removed. A member of credent_auditor can't store it, and only gets the checkpoints.

With --out it first compares the trail with the checkpoints in the file, and adds nothing if that finds something; otherwise it
replaces the file with the last checkpoint of each writer, including writers that are gone. Run it as often as you want to know.

Chains that don't verify aren't signed: exit code 3 if others were, and "credent audit verify" says what was found.`,
		Example: `  credent audit checkpoint --out /mnt/worm/checkpoints.jsonl
  credent audit checkpoint | ssh log-host 'cat >> checkpoints.jsonl'`,
	}, func(ctx context.Context, _ []string) error { return a.signTrail(ctx, path) }), &path)
}

func (a *app) pathFlag(cmd *cobra.Command, path *string) *cobra.Command {
	cmd.Flags().StringVar(path, "out", "", "write to this `FILE` in place of standard output")
	return cmd
}

// notPermitted is Postgres' SQLSTATE for insufficient privilege.
const notPermitted = "42501"

func (a *app) signTrail(ctx context.Context, path string) error {
	ring, err := keyring.FromEnv()
	if err != nil {
		return err
	}
	known, err := knownCheckpoints(path)
	if err != nil {
		return err
	}
	return withDatabase(ctx, func(db *database) error {
		if len(known) > 0 {
			report, err := audit.Verify(ctx, db.DB, db.dialect, ring, audit.VerifyOptions{Checkpoints: known})
			if err == nil {
				err = report.Err()
			}
			if err != nil {
				return err
			}
		}
		_, _, err := audit.SignHeads(ctx, db.DB, db.dialect, ring)
		switch {
		case dberror.State(err) == notPermitted:
			a.notef("credent: note: this role may not add entries, so the heads are not signed in the database too\n")
		case err != nil:
			return err
		}
		heads, report, err := audit.Checkpoints(ctx, db.DB, db.dialect, ring)
		if err != nil {
			return err
		}
		if path == "" {
			return errors.Join(a.printCheckpoints(heads), partly(len(heads) > 0, report.Err()))
		}
		if err := replaceCheckpoints(path, newestCheckpoints(append(known, heads...))); err != nil {
			return err
		}
		a.printf("signed the heads of %s\n", count(len(heads), "chain"))
		return partly(len(heads) > 0, report.Err())
	})
}

// knownCheckpoints reads a file's checkpoints, if the file exists.
func knownCheckpoints(path string) ([]audit.Checkpoint, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, messagef("--out: %s: %v", path, cause(err))
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, messagef("--out: %s is no file; leave --out out to write to standard output", path)
	}
	known, err := audit.ReadCheckpoints(file)
	if err != nil {
		return nil, messagef("--out: %s: %s; move it away", path, trimPackage(err.Error()))
	}
	if len(known) == 0 { // cut off, perhaps
		return nil, messagef("--out: %s has no checkpoint to compare the trail with; move it away", path)
	}
	return known, nil
}

// newestCheckpoints returns each writer's last checkpoint, ordered by writer.
// The trail was verified against all checkpoints, so the last one covers the
// earlier ones.
func newestCheckpoints(all []audit.Checkpoint) (newest []audit.Checkpoint) {
	slices.SortFunc(all, func(a, b audit.Checkpoint) int {
		return cmp.Or(cmp.Compare(a.Writer.String(), b.Writer.String()), cmp.Compare(a.Seq, b.Seq), a.At.Compare(b.At))
	})
	for i, c := range all {
		if i+1 == len(all) || all[i+1].Writer != c.Writer {
			newest = append(newest, c)
		}
	}
	return newest
}

func (a *app) printCheckpoints(all []audit.Checkpoint) error {
	enc := json.NewEncoder(a.out)
	for _, c := range all {
		if err := enc.Encode(c); err != nil {
			return err
		}
	}
	return nil
}

// replaceCheckpoints writes a temporary file and renames it to path.
func replaceCheckpoints(path string, all []audit.Checkpoint) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fileError(path, err)
	}
	defer func() {
		_ = file.Close() // a second close after success
		if err != nil {
			_ = os.Remove(file.Name())
			err = fileError(path, err)
		}
	}()
	enc := json.NewEncoder(file)
	for _, c := range all {
		if err = enc.Encode(c); err != nil {
			return err
		}
	}
	if err = file.Sync(); err == nil {
		err = file.Close()
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	return err
}
