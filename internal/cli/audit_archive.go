package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/keyring"
)

// auditArchiver is the state of one audit archive call.
type auditArchiver struct {
	*app
	before moment
	path   string
	yes    bool
	anyway bool
	asJSON bool
}

func (a *app) auditArchive() *cobra.Command {
	x := &auditArchiver{app: a}
	cmd := a.action(&cobra.Command{
		Use:   "archive --before TIME --to FILE [flags]",
		Short: "Take months of the audit trail out of the database, into a file",
		Long: `Verify the audit trail, write the entries of each month that ended before a time to a file, and take them out of
the database, the oldest month first. Signed entries stay that say what was taken out, so "credent audit verify" misses nothing,
and compares the file with them (--archive). The file must not exist yet; it gets a JSON object on each line, and is on the disk
before anything is taken out. The current month stays.

It can't be undone: it asks for the time again, unless --yes is given. On Postgres it needs the role that owns the table. A
trail that doesn't verify isn't archived, unless --despite-findings is given, and then findings in these months can't be found
again.`,
		Example: `  credent audit archive --before 2027-01-01 --to audit-2026.jsonl
  credent audit archive --before 400d --to "audit-$(date +%F).jsonl" --yes --json`,
	}, x.run)
	f := cmd.Flags()
	f.Var(&x.before, "before", "take out months that ended before this `time`: 2027-01-31T16:00:00Z, a date, from "+
		"00:00 UTC, or how long ago, such as 400d")
	f.StringVar(&x.path, "to", "", "write to this `FILE`, which must not be there")
	f.BoolVar(&x.yes, "yes", false, "do not ask")
	f.BoolVar(&x.anyway, "despite-findings", false, "also if the trail doesn't verify")
	f.BoolVar(&x.asJSON, "json", false, "print JSON")
	return required(cmd, "before", "to")
}

func (x *auditArchiver) run(ctx context.Context, _ []string) error {
	ring, err := keyring.FromEnv()
	if err != nil {
		return err
	}
	if !x.yes {
		err := x.confirm(ctx, "To take the entries out of the database, type the time again: ", "the same time",
			x.before.text)
		if err != nil {
			return err
		}
	}
	return withDatabase(ctx, func(db *database) (err error) {
		file, err := x.create()
		if err != nil {
			return err
		}
		months, err := audit.Archive(ctx, db.DB, db.dialect, ring, audit.ArchiveOptions{
			Before: x.before.at, To: file, DespiteFindings: x.anyway,
		})
		if closed := x.close(file); err == nil {
			err = closed
		}
		if err != nil {
			x.tellArchived(months)
			return partly(len(months) > 0, err)
		}
		if x.asJSON {
			if months == nil {
				months = []audit.ArchivedMonth{}
			}
			return x.printJSON(months)
		}
		x.tellArchived(months)
		if len(months) == 0 {
			x.notef("credent: no month with entries ended before %s\n", x.before.at.UTC().Format(time.RFC3339))
		}
		return nil
	})
}

func (x *auditArchiver) tellArchived(months []audit.ArchivedMonth) {
	if x.asJSON {
		return
	}
	for _, m := range months {
		x.printf("archived %s: %s\n", m.From.UTC().Format("2006-01"), count(int(m.Entries), "row"))
	}
}

// create creates the file and syncs its directory, so that the file is durable
// before entries exist only in it.
func (x *auditArchiver) create() (*os.File, error) {
	file, err := os.OpenFile(x.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, messagef("--to: %s is there already; name another file", x.path)
	case err != nil:
		return nil, messagef("--to: %s: %v; nothing was done", x.path, cause(err))
	}
	dir, err := os.Open(filepath.Dir(x.path))
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
	}
	if err != nil {
		return nil, errors.Join(messagef("--to: %s: %v; nothing was done", x.path, cause(err)), file.Close())
	}
	return file, nil
}

// close closes the file, and removes it if it is empty.
func (x *auditArchiver) close(file *os.File) error {
	info, err := file.Stat()
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil && info.Size() == 0 {
		err = os.Remove(x.path)
	}
	if err != nil {
		return messagef("--to: %s: %v", x.path, cause(err))
	}
	return nil
}
