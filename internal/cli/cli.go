// Package cli implements the credent command. Only a command's result goes to
// standard output; an error is one line on standard error that says what to do
// next. Neither ever contains a plaintext, a key, a token or a database URL,
// except for what "credential show --reveal", "credential export --reveal" and
// "key generate" print on request, and the tokens of the throwaway database
// that "quickstart" shows.
package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/credent-go/credent/internal/version"
)

// app holds the commands' shared input and output.
type app struct {
	in   *os.File
	out  *output
	note io.Writer // for people: prompts, notes, errors
}

// Main runs the process's command line and returns its exit code.
func Main() int {
	// The first interrupt ends the command within seconds, even if the network
	// is silent. The second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	// Makes writing to a closed pipe return an error instead of ending the
	// process.
	signal.Ignore(syscall.SIGPIPE)

	// Pages of a few megabytes don't need twice the memory until they are
	// collected. More frequent collections cost a few percent of a rotation's
	// time.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}

	a := &app{in: os.Stdin, out: &output{file: os.Stdout}, note: os.Stderr}
	root := a.root()
	checkNames(root)
	cmd, err := root.ExecuteContextC(ctx)
	if lost := a.out.lost(); lost != nil {
		err = &failure{lost}
	}
	if err == nil {
		return exitOK
	}
	e := explain(cmd, err, ctx.Err() != nil)
	a.tell(cmd, e)
	return e.ExitCode
}

func (a *app) root() *cobra.Command {
	root := a.group(&cobra.Command{
		Use:   "credent",
		Short: "Store broker credentials with their secrets encrypted",
		Long: `Credent stores broker credentials in a database, with their secrets encrypted.

Environment:
  DATABASE_URL              postgres://USER:PASSWORD@HOST:PORT/DATABASE
                            or sqlite:FILE; ` + defaultDatabase + ` if not set
  CREDENT_DRIVER            pgx, the default, or libpq, to reach Postgres
  ENCRYPTION_KEY            the key, made by "credent key generate"
  ENCRYPTION_KEY_PREVIOUS   earlier keys, which only decrypt, separated by commas
  ENCRYPTION_KEY_FILE, ENCRYPTION_KEY_PREVIOUS_FILE
                            names of files with the same, instead of the variables
  NO_COLOR                  if set, quickstart prints without bold

On a Postgres standby, commands that only read work, and say how far it has replayed. The others fail there.

Exit codes:
` + exitCodeTable(),
		Example: `  credent quickstart                      # see it at work, on a throw-away database

  export ENCRYPTION_KEY=$(credent key generate)
  credent migrate apply                   # make the tables
  credent account add --user u-1 --name "Ada Lovelace"
  credent credential add --user u-1 --type alpaca`,
		Version: version.String(),
	}, a.quickstart(), a.key(), a.migrate(), a.account(), a.credential(), a.doctor(),
		a.rotate(), a.verify(), a.encrypt(), a.decrypt(), a.inventory(), a.tenant(), a.state(), a.audit(), a.report())
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.note)
	root.SetHelpTemplate(root.HelpTemplate() + "{{if .HasParent}}\n" + exitCodeLine() + "\n{{end}}")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetVersionTemplate("credent {{.Version}}\n")
	return root
}

// group returns a command with subcommands. Without one, it prints its help.
func (a *app) group(cmd *cobra.Command, subcommands ...*cobra.Command) *cobra.Command {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = unknownCommand
	cmd.DisableFlagsInUseLine = true
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(subcommands...)
	return cmd
}

// checkNames makes cobra's own commands refuse unknown names, as groups do.
func checkNames(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				found, rest, err := root.Find(args)
				if err != nil || len(rest) > 0 {
					return unknownCommand(found, rest)
				}
				return nil
			}
		case "completion":
			cmd.SuggestionsMinimumDistance = 2
			cmd.Args, cmd.RunE = unknownCommand, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
}

// action returns a command that runs a function. The function's errors are
// failures, unlike cobra's errors about the command line.
func (a *app) action(cmd *cobra.Command, run func(ctx context.Context, args []string) error) *cobra.Command {
	if cmd.Args == nil {
		cmd.Args = arguments(0, "")
	}
	cmd.DisableFlagsInUseLine = true
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkEmpty(cmd.Flags()); err != nil {
			return err
		}
		if err := run(asOperator(a.calling(cmd)), args); err != nil {
			return &failure{err}
		}
		return nil
	}
	return cmd
}

// checkEmpty refuses flags set to "", as in --user "$UNSET", which must not
// mean all users.
func checkEmpty(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		if f.Value.String() == "" && err == nil {
			err = usageError("--" + f.Name + " is empty")
		}
	})
	return err
}

// required makes some of a command's flags mandatory.
func required(cmd *cobra.Command, names ...string) *cobra.Command {
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		var missing []string
		for _, name := range names {
			if !cmd.Flags().Changed(name) {
				missing = append(missing, "--"+name)
			}
		}
		if len(missing) > 0 {
			return usageError("give " + strings.Join(missing, " and "))
		}
		return nil
	}
	return cmd
}
