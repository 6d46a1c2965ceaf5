package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/internal/retry"
)

// readers lists the commands that a standby can run, with the flag that they
// require, if any. Other commands that use a database need the primary. "key
// retire" needs it although it only reads, because changes that a standby
// hasn't replayed may need the key. "credential import --dry-run" needs it
// because it looks rows up in a read-write transaction, as an import does.
var readers = map[string]string{
	"account list":      "",
	"audit list":        "",
	"audit verify":      "",
	"credential export": "",
	"credential list":   "",
	"credential show":   "",
	"doctor":            "",
	"encrypt":           "check-unique",
	"inventory":         "",
	"migrate apply":     "dry-run",
	"migrate status":    "",
	"report":            "",
	"rotate":            "dry-run",
	"state list":        "",
	"tenant list":       "",
	"verify":            "",
}

// isReader reports whether a standby can run a command as it was called.
func isReader(cmd *cobra.Command) bool {
	_, path, _ := strings.Cut(cmd.CommandPath(), " ")
	flag, ok := readers[path]
	if !ok || flag == "" {
		return ok
	}
	f := cmd.Flags().Lookup(flag)
	return f != nil && f.Value.String() == "true"
}

// called is a running command.
type called struct {
	*app
	cmd *cobra.Command
}

type calledKey struct{}

// calling returns a command's context.
func (a *app) calling(cmd *cobra.Command) context.Context {
	return context.WithValue(cmd.Context(), calledKey{}, called{a, cmd})
}

// standby holds how far a standby has replayed.
type standby struct {
	position string       // in the primary's log
	at       sql.NullTime // the last transaction's commit time, if any
}

// String returns "2026-01-02T15:04:05Z (0/3000148)", or only the position.
func (s *standby) String() string {
	if !s.at.Valid {
		return s.position
	}
	return s.at.Time.UTC().Format(time.RFC3339) + " (" + s.position + ")"
}

// meetStandby finds out whether the server is a standby. It refuses commands
// that need the primary with [retry.ErrStandby], and for other commands prints
// a note about the standby's position.
func (db *database) meetStandby(ctx context.Context) error {
	if !db.isPostgres() {
		return nil
	}
	c, ok := ctx.Value(calledKey{}).(called)
	if !ok || !isReader(c.cmd) {
		return retry.CheckWritable(ctx, db.DB)
	}
	var (
		is       bool
		found    standby
		position sql.NullString
	)
	err := db.QueryRowContext(ctx, `SELECT pg_catalog.pg_is_in_recovery(),
CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()::text END,
CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_xact_replay_timestamp() END`).Scan(&is, &position, &found.at)
	switch {
	case err != nil:
		return fmt.Errorf("ask whether this is a standby: %w", err)
	case !is:
		return nil
	case !position.Valid:
		return errors.New("the server is in recovery, and does not say how far")
	}
	found.position = position.String
	if db.standby = &found; !c.saysItself() {
		c.notef("credent: note: this is a standby, replayed up to %s\n", db.standby)
	}
	return nil
}

// saysItself reports whether the command's result contains this note.
func (c called) saysItself() bool { return c.cmd.Name() == "doctor" }
