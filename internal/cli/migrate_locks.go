package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/migrate"
)

const lockHelp = `While a statement of a migration waits for a table, a service's statements on it wait behind it. So it waits
no longer than --lock-timeout, gives back all locks, and tries again after a pause, until --lock-retry has passed. Then nothing
of the file is done, and the error says which sessions held the lock. --migrator-timeout is about other processes that migrate,
and nothing waits behind that.`

// lockFlags hold how long to wait for locks.
type lockFlags struct{ timeout, retry, migrator time.Duration }

func (f *lockFlags) add(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.timeout, "lock-timeout", migrate.DefaultLockTimeout,
		"how long a statement may wait for a table that others use; 0 turns the limit off")
	cmd.Flags().DurationVar(&f.retry, "lock-retry", migrate.DefaultLockRetry,
		"how long to retry a file that timed out waiting; 0 means one try")
	cmd.Flags().DurationVar(&f.migrator, "migrator-timeout", migrate.DefaultMigratorTimeout,
		"how long to wait for another process that is migrating; 0 means not to wait")
}

// config returns the configuration from the flags. A flag of zero means none,
// which a Config expresses as a negative duration.
func (f *lockFlags) config() (cfg migrate.Config, err error) {
	for name, d := range map[string]time.Duration{
		"lock-timeout": f.timeout, "lock-retry": f.retry, "migrator-timeout": f.migrator,
	} {
		if d < 0 {
			return cfg, usageError("--" + name + " is negative")
		}
	}
	orNone := func(d time.Duration) time.Duration {
		if d == 0 {
			return -1
		}
		return d
	}
	cfg.LockTimeout, cfg.LockRetry, cfg.MigratorTimeout = orNone(f.timeout), orNone(f.retry), orNone(f.migrator)
	return cfg, nil
}

// jsonBlocked is a migrate.LockError in JSON.
type jsonBlocked struct {
	File          string       `json:"file"`
	Line          int          `json:"line"`
	Table         string       `json:"table"`
	WaitedSeconds float64      `json:"waited_seconds"`
	Tries         int          `json:"tries"`
	Holders       []jsonHolder `json:"holders"`
}

type jsonHolder struct {
	PID         int     `json:"pid"`
	Application string  `json:"application"`
	State       string  `json:"state"`
	AgeSeconds  float64 `json:"age_seconds"`
}

// blockedJSON returns nil if the error isn't about a lock.
func blockedJSON(err error) *jsonBlocked {
	var blocked *migrate.LockError
	if !errors.As(err, &blocked) {
		return nil
	}
	doc := &jsonBlocked{
		File: blocked.File, Line: blocked.Line, Table: blocked.Table,
		WaitedSeconds: blocked.Waited.Seconds(), Tries: blocked.Tries, Holders: []jsonHolder{},
	}
	for _, h := range blocked.Holders {
		doc.Holders = append(doc.Holders, jsonHolder{h.PID, h.Application, h.State, h.Age.Seconds()})
	}
	return doc
}
