package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/internal/version"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/kms"
)

// maxInput is the maximum size in bytes of a list of keys.
const maxInput = 64 << 10

// app holds the commands' input, output and environment.
type app struct {
	in  io.Reader
	out io.Writer
	run func(path string, args, env []string) error
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "credent-kms",
		Short: "Make and change keyrings that a key management service keeps wrapped",
		Long: `Make and change keyrings that a key management service keeps wrapped.

ENCRYPTION_KEYRING_URL names the service: awskms://…, gcpkms://…, azurekeyvault://…, hashivault://KEY or base64key://….
ENCRYPTION_KEYRING has the wrapped keyring, or ENCRYPTION_KEYRING_FILE the name of its file. Commands that change it print
the new text, and leave the old one as it is. Keys are never shown, and never written to a file.`,
		Version:       version.String(),
		Args:          noArguments,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetVersionTemplate("credent-kms {{.Version}}\n")
	// Omits the text, which may be a key that starts with a dash.
	root.SetFlagErrorFunc(func(*cobra.Command,
		error,
	) error {
		return errors.New("unknown or malformed flag; see --help")
	})
	root.AddCommand(a.wrap(), a.unwrap(), a.rewrap(), a.addKey(),
		a.change("promote", "Make an earlier key the primary one", kms.Promote),
		a.change("remove-key", "Remove an earlier key, once `credent key retire` says that no secret needs it",
			kms.RemoveKey),
		a.exec())
	return root
}

// noArguments doesn't quote what it refuses, because it may be a key.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unknown command or argument; see `%s --help`", cmd.CommandPath())
	}
	return nil
}

func (a *app) wrap() *cobra.Command {
	var fromEnv, generate bool
	cmd := &cobra.Command{
		Use:   "wrap",
		Short: "Wrap keys from standard input, the primary one first, one a line or separated by commas",
		Example: `  credent-kms wrap --generate > keyring          a new key, which nobody has seen
  credent-kms wrap --env > keyring               the keys of ENCRYPTION_KEY and ENCRYPTION_KEY_PREVIOUS`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if fromEnv && generate {
				return errors.New("--env and --generate exclude each other")
			}
			kmsURL, err := targetURL()
			if err != nil {
				return err
			}
			keys, err := a.keys(fromEnv, generate)
			if err != nil {
				return err
			}
			return a.print(kms.Wrap(cmd.Context(), kmsURL, keys[0], keys[1:]...))
		},
	}
	cmd.Flags().BoolVar(&fromEnv, "env", false, "wrap the keys of ENCRYPTION_KEY and ENCRYPTION_KEY_PREVIOUS")
	cmd.Flags().BoolVar(&generate, "generate", false, "wrap a new key")
	return cmd
}

// targetURL returns the URL to wrap for if there is no wrapped keyring yet.
func targetURL() (string, error) {
	kmsURL := os.Getenv(kms.EnvURL)
	if kmsURL == "" {
		return "", fmt.Errorf("%w: set %s", kms.ErrURL, kms.EnvURL)
	}
	return kmsURL, nil
}

func (a *app) keys(fromEnv, generate bool) ([]string, error) {
	if generate {
		return []string{keyring.GenerateKey()}, nil
	}
	text := os.Getenv("ENCRYPTION_KEY")
	if fromEnv {
		if previous := strings.TrimSpace(os.Getenv("ENCRYPTION_KEY_PREVIOUS")); previous != "" {
			text += "," + previous
		}
	} else {
		data, err := io.ReadAll(io.LimitReader(a.in, maxInput+1))
		switch {
		case err != nil:
			return nil, fmt.Errorf("read standard input: %w", err)
		case len(data) > maxInput:
			return nil, fmt.Errorf("standard input has more than %d bytes", maxInput)
		}
		text = string(bytes.TrimSpace(data))
	}
	text = strings.NewReplacer("\r\n", ",", "\n", ",").Replace(strings.TrimSpace(text))
	return strings.Split(text, ","), nil
}

func (a *app) unwrap() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "unwrap --check",
		Short: "Unwrap the keyring and print the IDs of its keys, the primary one first",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !check {
				return errors.New("keys are not shown; use --check for their IDs, or exec to run a program with them")
			}
			ring, err := kms.FromEnv(cmd.Context())
			if err != nil {
				return err
			}
			for i, key := range ring.Keys() {
				role := "previous"
				if i == 0 {
					role = "primary"
				}
				if _, err := fmt.Fprintln(a.out, key.ID(), role); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "print the IDs of the keys")
	return cmd
}

// envTo names a variable, because other processes could read a base64key:// URL
// on the command line.
const envTo = "ENCRYPTION_KEYRING_URL_TO"

func (a *app) rewrap() *cobra.Command {
	return &cobra.Command{
		Use:   "rewrap",
		Short: "Wrap the keyring for the service in " + envTo + ", or anew for the one it has",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.rewrapped(cmd.Context(), os.Getenv(envTo))
		},
	}
}

func (a *app) addKey() *cobra.Command {
	return &cobra.Command{
		Use:   "add-key",
		Short: "Add a new key, which decrypts only until `promote` makes it the primary one",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.rewrapped(cmd.Context(), "", kms.AddKey(keyring.GenerateKey()))
		},
	}
}

func (a *app) change(name, short string, change func(id string) kms.Change) *cobra.Command {
	return &cobra.Command{
		Use:   name + " KEY-ID",
		Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("give one key ID, as `unwrap --check` prints them")
			}
			return a.rewrapped(cmd.Context(), "", change(args[0]))
		},
	}
}

func (a *app) rewrapped(ctx context.Context, to string, changes ...kms.Change) error {
	kmsURL, wrapped, err := kms.ReadEnv()
	if err != nil {
		return err
	}
	if to == "" {
		to = kmsURL
	}
	return a.print(kms.Rewrap(ctx, kmsURL, wrapped, to, changes...))
}

func (a *app) print(wrapped string, err error) error {
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.out, wrapped)
	return err
}

func (a *app) exec() *cobra.Command {
	return &cobra.Command{
		Use:   "exec -- PROGRAM [ARGUMENT…]",
		Short: "Run a program with the keys in ENCRYPTION_KEY and ENCRYPTION_KEY_PREVIOUS",
		Example: `  credent-kms exec -- credent rotate
  credent-kms exec -- python -m application`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("give the program to run after --")
			}
			kmsURL, wrapped, err := kms.ReadEnv()
			if err != nil {
				return err
			}
			keys, err := kms.InsecureKeys(cmd.Context(), kmsURL, wrapped)
			if err != nil {
				return err
			}
			program, err := exec.LookPath(args[0])
			if err != nil {
				return err
			}
			return a.run(program, args, environment(keys))
		},
	}
}

// environment returns this process's environment, with the keys instead of the
// wrapped keyring.
func environment(keys []string) []string {
	var env []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		switch name {
		case kms.EnvURL, kms.EnvKeyring, kms.EnvKeyringFile, envTo,
			"ENCRYPTION_KEY", "ENCRYPTION_KEY_FILE", "ENCRYPTION_KEY_PREVIOUS", "ENCRYPTION_KEY_PREVIOUS_FILE":
		default:
			env = append(env, variable)
		}
	}
	return append(env, "ENCRYPTION_KEY="+keys[0], "ENCRYPTION_KEY_PREVIOUS="+strings.Join(keys[1:], ","))
}
