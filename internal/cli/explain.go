package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/retry"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

// explanation describes an error for people and programs. With --json, it is
// written to standard error as one line.
type explanation struct {
	// Kind is a name for the error that doesn't change between versions.
	Kind     string `json:"kind"`
	Message  string `json:"message"`
	Hint     string `json:"hint"`     // what to do; "" if Message says it
	SQLState string `json:"sqlstate"` // a Postgres server's SQLSTATE; "" for none
	ExitCode int    `json:"exit_code"`
}

// line returns what happened and what to do.
func (e explanation) line() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + "; " + e.Hint
}

// explain returns the explanation of a command's error. interrupted means that
// a signal ended the command.
func explain(cmd *cobra.Command, err error, interrupted bool) explanation {
	var usage usageError
	var failed *failure
	if errors.As(err, &usage) || !errors.As(err, &failed) {
		return explanation{
			Kind: "usage", Message: oneLine(err.Error()), Hint: fmt.Sprintf("see `%s --help`", cmd.CommandPath()),
			ExitCode: exitUsage,
		}
	}
	e := reasonFor(cmd, err, interrupted)
	switch {
	case interrupted:
		e.Kind, e.ExitCode = kindInterrupted, exitInterrupted
	case isPartly(err):
		e.ExitCode = exitPartly
	default:
		e.ExitCode = exitFailed
	}
	return e
}

// tell writes an explanation to standard error.
func (a *app) tell(cmd *cobra.Command, e explanation) {
	if f := cmd.Flags().Lookup("json"); f != nil && f.Value.String() == "true" {
		enc := json.NewEncoder(a.note)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(e) // a write error can't be reported
		return
	}
	a.notef("credent: %s\n", e.line())
}

// reason returns the error and what to do next, in one line.
func reason(err error) string { return reasonFor(nil, err, false).line() }

const kindInterrupted = "interrupted"

func reasonFor(cmd *cobra.Command, err error, interrupted bool) explanation {
	e := explanation{Kind: kindOfError(err), SQLState: dberror.State(err)}
	var msg message
	switch fault := retry.KindOf(err); {
	case errors.As(err, &msg):
		e.Message = oneLine(string(msg))
	case interrupted, errors.Is(err, context.Canceled):
		e.Kind, e.Message = kindInterrupted, "interrupted"
		e.Hint = againHint(cmd)
	case e.withHint(err):
	case e.withSQLite(err):
	case fault != retry.Other && !isFirstContact(err):
		e.Message, e.Hint = faultMessage(err), faultHints[fault]
		if again := againHint(cmd); again != "" {
			e.Hint += "; " + again
		}
	default:
		e.withPostgres(err)
	}
	return e
}

// isFirstContact reports whether the server was never reached, in which case
// DATABASE_URL may be wrong.
func isFirstContact(err error) bool {
	var connecting *connectError
	return errors.As(err, &connecting) && dberror.State(err) == ""
}

// faultMessage describes a database fault and where it happened, without parts
// of the URL, which drivers quote.
func faultMessage(err error) string {
	var connecting *connectError
	if errors.As(err, &connecting) {
		return "cannot reach the database: " + retry.Explain(connecting.err).Error()
	}
	var known *retry.Error
	if errors.As(err, &known) {
		return oneLine(trimPackage(err.Error()))
	}
	return oneLine(retry.Explain(err).Error())
}

// faultHints say what to do about a failed database.
var faultHints = map[retry.Kind]string{
	retry.Lost: "see that the server is up, and that nobody ends its sessions; then run the same again",
	retry.Down: "start the server, or wait until it is up, and run the same again",
	retry.Standby: "use the primary in DATABASE_URL (target_session_attrs=read-write finds it among several hosts); " +
		"if it is the primary, look at default_transaction_read_only",
	retry.Conflict: "run the same again",
	retry.Locked: "end the transaction that holds it (pg_blocking_pids), or wait until it ends, or raise " +
		"lock_timeout; then run the same again",
	retry.Crowded: "end other sessions, or raise max_connections, the role's CONNECTION LIMIT or the pooler's " +
		"limits, " +
		"or use fewer --workers; then run the same again",
	retry.Timeout: "raise statement_timeout for the role, or use a smaller --batch; then run the same again",
	retry.Idle: "raise idle_in_transaction_session_timeout, idle_session_timeout or the pooler's timeout for the " +
		"role; " +
		"then run the same again",
	retry.NoSpace: "make room on the server, or raise the limit that it names; then run the same again",
}

// again is the annotation that says what happens if a command is run again.
const again = "again"

func againHint(cmd *cobra.Command) string {
	if cmd == nil {
		return ""
	}
	return cmd.Annotations[again]
}

// withHint explains errors of other packages.
func (e *explanation) withHint(err error) bool {
	for _, h := range hints {
		if errors.Is(err, h.target) {
			e.Message, e.Hint = oneLine(trimPackage(err.Error())), h.hint
			return true
		}
	}
	return false
}

func (e *explanation) withSQLite(err error) bool {
	text := sqliteReason(err)
	e.Message, e.Hint, _ = strings.Cut(text, "; ")
	return text != ""
}

func (e *explanation) withPostgres(err error) {
	if text := postgresReason(err); text != "" {
		e.Message = text
		return
	}
	e.Message = oneLine(trimPackage(err.Error()))
}

// kindOfError returns an error's kind.
func kindOfError(err error) string {
	for _, k := range errorKinds {
		if errors.Is(err, k.target) {
			return k.kind
		}
	}
	var connecting *connectError
	if fault := retry.KindOf(err); fault != retry.Other {
		return fault.String()
	}
	switch state := dberror.State(err); {
	case strings.HasPrefix(state, "28"):
		return "unauthorized"
	case state == "42501":
		return "not_permitted"
	case errors.As(err, &connecting):
		return "no_connection"
	}
	return retry.Other.String()
}

// errorKinds lists the kinds that programs can distinguish. The first match
// counts.
var errorKinds = []struct {
	target error
	kind   string
}{
	{credent.ErrUncertain, "uncertain"},
	{audit.ErrTampered, "tampered"},
	{audit.ErrNoTable, "no_table"},
	{audit.ErrPartialView, "hidden"},
	{rotate.ErrQuarantined, "quarantined"},
	{rotate.ErrNotDone, "not_done"},
	{rotate.ErrDuplicates, "duplicates"},
	{rotate.ErrNotAllPrimary, "not_all_primary"},
	{rotate.ErrState, "state"},
	{rotate.ErrHidden, "hidden"},
	{rotate.ErrNoTable, "no_table"},
	{rotate.ErrUnknownTenant, "no_tenant"},
	{migrate.ErrLockTimeout, retry.Locked.String()},
	{migrate.ErrLocked, retry.Locked.String()},
	{migrate.ErrPending, "migrations_pending"},
	{migrate.ErrPartial, "migration_partial"},
	{migrate.ErrDrift, "drift"},
	{migrate.ErrLayoutMismatch, "layout"},
	{migrate.ErrLayoutRefused, "layout"},
	{keyring.ErrKeyFile, "bad_key"},
	{credent.ErrBadKey, "bad_key"},
	{credent.ErrNoKey, "no_key"},
	{credent.ErrUnknownKey, "unknown_key"},
	{credent.ErrCorrupt, "corrupt"},
	{credent.ErrURL, "bad_url"},
}
