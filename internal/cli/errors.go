package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/lib/pq"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	dbopen "github.com/credent-go/credent/open"
	"github.com/credent-go/credent/rotate"
)

// failure is an error of a command called with valid arguments.
type failure struct{ err error }

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// message is an error worded by this package, which needs no further
// explanation.
type message string

func (m message) Error() string { return string(m) }

func messagef(format string, args ...any) error { return message(fmt.Sprintf(format, args...)) }

// usageError is a command-line error that cobra doesn't detect.
type usageError string

func (u usageError) Error() string { return string(u) }

// connectError is an error from connecting to a server.
type connectError struct{ err error }

func (c *connectError) Error() string {
	return "cannot reach the database: " + strings.TrimPrefix(trimPackage(c.err.Error()),
		dbopen.ErrConnect.Error()+": ")
}
func (c *connectError) Unwrap() error { return c.err }

// hints say what to do about errors of other packages. The first match counts.
var hints = []struct {
	target error
	hint   string
}{
	{credent.ErrWrongLocation, "docs/binding.md says what depends on user_id; `credent state list` shows what the " +
		"command knows, and must be as the services have it"},
	{rotate.ErrUnknownTenant, "`credent tenant list` shows those with a key, `credent account list` all"},
	{credent.ErrShredded, "that is final; remove the row, or the account with all of its rows"},
	{rotate.ErrState, "`credent state list` shows the states"},
	{rotate.ErrUnbound, "set its binding to write, run `credent rotate`, and go back to require: docs/binding.md"},
	{rotate.ErrBound, "set its binding to accept, run `credent rotate`, and go back to off: docs/binding.md"},
	{rotate.ErrTenantKey, "set its tenant-keys to accept, run `credent rotate`, and go back to off: " +
		"docs/tenant-keys.md"},
	{rotate.ErrUndecodable, "store them again, or encrypt the plaintext of a backup as its type"},
	{rotate.ErrPlaintext, "run `credent encrypt`"},
	{audit.ErrNoTable, "`credent migrate apply` makes it"},
	{audit.ErrTampered, "`credent audit verify` lists all that it finds, and docs/audit.md says what it means"},
	{audit.ErrPartialView, ""},
	{audit.ErrCheckpoint, "give a file of `credent audit checkpoint`"},
	{rotate.ErrNoTable, "`credent migrate apply` makes Credent's own tables"},
	{keyring.ErrTwoSources, "unset one of them"},
	{keyring.ErrKeyFile, "correct the variable, or the file"},
	{credent.ErrNoKey, "`credent key generate` makes one for a new database; one with data needs the key it was " +
		"written with"},
	{credent.ErrBadKey, "correct that, and keep the key: a database with data needs the one it was written with " +
		"(`credent key generate` is for a new database)"},
	{credent.ErrUnknownKey, "set ENCRYPTION_KEY to the key it was written with, or name that one in " +
		"ENCRYPTION_KEY_PREVIOUS"},
	{credent.ErrCorrupt, "store it again, or restore the row from a backup"},
	{credent.ErrNotEncrypted, "if it is plaintext, `credent encrypt` encrypts it"},
	{credent.ErrTooLong, "nothing was stored"},
	{credent.ErrRedacted, "give the secret itself"},
	{credent.ErrURL, "correct DATABASE_URL"},
	{rotate.ErrDuplicates, "`credent encrypt --check-unique` lists them; change or remove all but one of each"},
	{rotate.ErrQuarantined, "where no key opens them, name the key that they were written with in " +
		"ENCRYPTION_KEY_PREVIOUS; else store them again, or restore the rows from a backup"},
	{rotate.ErrNotDone, "then run the same again"},
	{rotate.ErrNotAllPrimary, "run `credent rotate`"},
	{migrate.ErrNotEqual, "run the SQL above and mend by hand what has none, then `credent migrate adopt` again"},
	{migrate.ErrBadRows, "where they hold plaintext run `credent encrypt`, else mend them, then `credent migrate " +
		"adopt` again"},
	{migrate.ErrNothingToAdopt, "`credent migrate apply` makes them"},
	{migrate.ErrEdited, "restore the file, and put the change into a new one"},
	{migrate.ErrDeleted, "restore the file"},
	{migrate.ErrPending, "run `credent migrate apply`"},
	{migrate.ErrNewer, "update credent"},
	{migrate.ErrDrift, "undo what was changed by hand, or put it into a migration"},
	{migrate.ErrLocked, "try again, or wait longer with --migrator-timeout"},
	{migrate.ErrLockTimeout, "end what holds it or wait until it ends, and run the same again; --lock-retry tries " +
		"for longer"},
	{migrate.ErrPartial, "`credent migrate apply` resumes where it stopped"},
	{migrate.ErrNotClean, "if the Python application made them, run `credent migrate adopt`; if they are " +
		"Credent's, name their version with --baseline; " +
		"if they are others', add --allow-dirty"},
	{migrate.ErrHistoryChanged, "put back what the file had there, and correct it below"},
	{migrate.ErrOutOfOrder, "look at what they do, and add --non-linear if they may run now"},
	{migrate.ErrLayoutMismatch, "docs/schema.md says how rows come to another layout"},
	{migrate.ErrLayoutRefused, "docs/schema.md says what a layout needs, and how rows come to it"},
	{migrate.ErrPooled, "run it with a DATABASE_URL that leads to the server itself"},
	{migrate.ErrFileName, "names are VERSION_name.sql"},
	{migrate.ErrChanged, "this build of credent is broken; install it again"},
	{dbopen.ErrSilent, "look at the network and the server; the same command then resumes where it stopped"},
}

// sqliteReason explains errors about the file itself.
func sqliteReason(err error) string {
	switch dberror.SQLite(err) {
	case dberror.SQLiteReadOnly:
		return "the database file is read-only; look at its permissions, and for mode=ro in DATABASE_URL"
	case dberror.SQLiteCantOpen:
		return "the database file cannot be opened; look at its permissions, and whether its folder exists"
	case dberror.SQLiteNotADB:
		return "the file is not an SQLite database; correct DATABASE_URL"
	case dberror.SQLiteBusy, dberror.SQLiteLocked:
		return "another process keeps the database locked; try again when it is done"
	case dberror.SQLiteCorrupt:
		return "the database file is damaged; restore it from a backup"
	case dberror.SQLiteFull:
		return "the disk is full; nothing was stored"
	}
	return ""
}

// refusedTLS is pgx's error text for a server without TLS.
const refusedTLS = "server refused TLS connection"

// postgresReason explains a server's errors and connection errors.
func postgresReason(err error) string {
	text := oneLine(trimPackage(err.Error()))
	if e, ok := dberror.Of(err); ok {
		switch {
		case strings.HasPrefix(e.State, "28"): // invalid authorization
			return e.Message + "; correct user and password in DATABASE_URL"
		case e.State == "3D000": // no such database
			return e.Message + "; make it with createdb, or correct DATABASE_URL"
		case e.State == "23514" && strings.HasSuffix(e.Constraint, "_encrypted"): // check violation
			return text + "; it is not encrypted: run `credent encrypt`, then this again"
		case e.State == "42501": // insufficient privilege
			return e.Message + "; use a role in DATABASE_URL that may do this"
		}
		return text
	}
	var connecting *connectError
	if errors.As(err, &connecting) {
		if errors.Is(err, pq.ErrSSLNotSupported) || strings.Contains(text, refusedTLS) {
			return text + "; if the network between is trusted, set sslmode=disable in DATABASE_URL"
		}
		return text + "; correct DATABASE_URL, or start the server"
	}
	return ""
}

// trimPackage removes package names from the start of an error's text.
func trimPackage(text string) string {
	for {
		name, rest, ok := strings.Cut(text, ": ")
		switch {
		case ok && slices.Contains([]string{
			"credent", "encrypted", "migrate", "rotate", "ent", "pq", "open", "audit",
		}, name):
			text = rest
		default:
			return text
		}
	}
}

// oneLine joins a multi-line error into one line.
func oneLine(text string) string { return strings.Join(strings.FieldsFunc(text, isBreak), "; ") }

func isBreak(r rune) bool { return r == '\n' || r == '\r' }

// flagName matches flags, but not keys, tokens, or almost any secret.
var flagName = regexp.MustCompile(`^(-[a-zA-Z]|--[a-z]+(-[a-z]+)*)$`)

// flagError explains a flag error. It doesn't quote text that may be a secret
// meant as a flag's value.
func flagError(err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		flag := "--" + unknown.GetSpecifiedName()
		if group := unknown.GetSpecifiedShortnames(); group != "" {
			flag = "-" + group[:1]
		}
		if !flagName.MatchString(flag) {
			return usageError("unknown flag; it is not repeated, since it may be a secret")
		}
		if strings.Contains(flag, "key") || strings.Contains(flag, "secret") {
			return usageError("unknown flag " + flag + ": secrets are read from standard input")
		}
		return usageError("unknown flag " + flag)
	}
	var missing *pflag.ValueRequiredError
	if errors.As(err, &missing) {
		return usageError("--" + missing.GetFlag().Name + " needs a value")
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		flag := invalid.GetFlag()
		return usageError(fmt.Sprintf("--%s: %q is not %s", flag.Name, invalid.GetValue(), kindOf(flag)))
	}
	return usageError("a flag is malformed")
}

func kindOf(flag *pflag.Flag) string {
	switch flag.Value.Type() {
	case "bool":
		return "a yes or no: use true or false"
	case "duration":
		return "a duration such as 30s or 5m"
	case "int", "uint":
		return "a whole number"
	case "span", "moment", "word": // types of this package
		return flag.Value.(interface{ wants() string }).wants()
	}
	return "a " + flag.Value.Type()
}

// arguments returns a check for exactly n arguments. Its errors don't quote
// them, because one may be a secret.
func arguments(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == n:
			return nil
		case n == 0:
			return usageError("this command takes flags only")
		case len(args) < n:
			return usageError("which one? Give the " + what)
		}
		return usageError("too many arguments: give one " + what)
	}
}

// unknownCommand checks the arguments of a command that only has subcommands.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q", cmd.CommandPath()+" "+args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text += fmt.Sprintf("; did you mean %s", strings.Join(near, " or "))
	}
	return usageError(text)
}
