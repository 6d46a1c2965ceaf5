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

// readers are the commands that a standby can answer: each of them, or with the
// given flag. A command that isn't here needs the primary, if it needs a
// database. "key retire" does though it only reads: what a standby hasn't
// replayed may need the key. "credential import --dry-run" looks rows up as an
// import does, in a transaction that may write.
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

// isReader reports whether a standby can answer a command, as it was called.
func isReader(cmd *cobra.Command) bool {
	_, path, _ := strings.Cut(cmd.CommandPath(), " ")
	flag, ok := readers[path]
	if !ok || flag == "" {
		return ok
	}
	f := cmd.Flags().Lookup(flag)
	return f != nil && f.Value.String() == "true"
}

// called is a command that runs.
type called struct {
	*app
	cmd *cobra.Command
}

type calledKey struct{}

// calling returns the context of a command.
func (a *app) calling(cmd *cobra.Command) context.Context {
	return context.WithValue(cmd.Context(), calledKey{}, called{a, cmd})
}

// standby is how far a standby has got.
type standby struct {
	position string       // in the primary's log
	at       sql.NullTime // commit of the last transaction, if there was one
}

// String returns "2026-01-02T15:04:05Z (0/3000148)", or the position alone.
func (s *standby) String() string {
	if !s.at.Valid {
		return s.position
	}
	return s.at.Time.UTC().Format(time.RFC3339) + " (" + s.position + ")"
}

// meetStandby finds out whether the server is a standby. It refuses commands
// that a standby can't answer, with [retry.ErrStandby], and tells people what
// the others' answer is of.
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

// saysItself reports whether the command's result has the line.
func (c called) saysItself() bool { return c.cmd.Name() == "doctor" }
