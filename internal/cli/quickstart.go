package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
)

func (a *app) quickstart() *cobra.Command {
	var keep bool
	cmd := a.action(&cobra.Command{
		Use:   "quickstart [flags]",
		Short: "See it at work, on a throw-away database",
		Long: `Make a key and an SQLite database in a temporary folder, store credentials there, show them as they are stored,
read them back, and remove the folder. It ignores DATABASE_URL and ENCRYPTION_KEY.`,
		Example: `  credent quickstart
  credent quickstart --keep   # leaves database and key there, to look around`,
	}, func(ctx context.Context, _ []string) (err error) {
		folder, err := os.MkdirTemp("", "credent-quickstart-")
		if err != nil {
			return err
		}
		signal.Ignore(syscall.SIGPIPE) // it would end the process before the directory is removed
		if !keep {
			defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
		}
		return a.newTour(folder, keep).run(ctx)
	})
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the folder with database and key, and print its path")
	return cmd
}

// tour is a running quickstart.
type tour struct {
	*app
	command string // how the user runs this program
	folder  string
	keep    bool
	bold    bool
	steps   int

	key    string
	db     *database
	client *ent.Client
	alpaca uuid.UUID
}

func (a *app) newTour(folder string, keep bool) *tour {
	return &tour{
		app:     a,
		command: commandName(),
		folder:  folder,
		keep:    keep,
		bold:    isTerminal(a.out.file) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
	}
}

// commandName returns the name the user called the program by, unless it is a
// temporary file of go run.
func commandName() string {
	if name := os.Args[0]; !strings.HasPrefix(name, os.TempDir()) {
		return name
	}
	return "credent"
}

func (t *tour) run(ctx context.Context) (err error) {
	t.printf("Credent stores broker credentials in a database, with their secrets encrypted. This is the\n" +
		"whole road, with a key and an SQLite file made for it. Nothing of yours is read or changed.\n")
	t.makeKey()
	if t.db, err = open(ctx, "sqlite:"+t.file(), true); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.db.Close()) }()
	for _, step := range []func(context.Context) error{t.makeTables, t.store, t.showRow, t.readBack, t.tryOtherKey} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return t.finish()
}

func (t *tour) file() string { return filepath.Join(t.folder, "credent.db") }

// step prints a step's heading and the command that does the same.
func (t *tour) step(title, command string) {
	t.steps++
	head := fmt.Sprintf("%d. %s", t.steps, title)
	if t.bold {
		head = "\x1b[1m" + head + "\x1b[0m"
	}
	t.printf("\n%s\n", head)
	if command != "" {
		t.printf("   $ %s %s\n", t.command, command)
	}
}

func (t *tour) line(name, value string) { t.printf("   %-16s %s\n", name, value) }

func (t *tour) makeKey() {
	t.step("Make a key", "key generate")
	t.key = keyring.GenerateKey()
	t.printf("   32 random bytes as %d characters. Anyone who has them can read the secrets.\n", len(t.key))
}

func (t *tour) makeTables(ctx context.Context) error {
	t.step("Make the tables", "migrate apply")
	err := migrate.Apply(ctx, t.db.DB, migrate.Config{Progress: func(name string) {
		t.printf("   applied %s\n", strings.TrimSuffix(name, ".sql"))
	}})
	if err != nil {
		return err
	}
	ring, err := keyring.New(t.key)
	if err != nil {
		return err
	}
	t.client, err = client.New(t.db.DB, t.db.dialect, client.Config{Keyring: ring})
	return err
}

// The tour's secrets, obviously made up.
var madeUp = []struct{ kind, apiKey, secretKey string }{
	{"alpaca", "PK-MADE-UP-1", "this-is-not-a-real-secret"},
	{"polygon", "polygon-made-up-1", "neither-is-this"},
}

func (t *tour) store(ctx context.Context) error {
	t.step("Store an Alpaca and a Polygon credential of a user", `account add --user ada --name "Ada Lovelace"`)
	t.printf("   $ %[1]s credential add --user ada --type alpaca    # asks for the two secrets\n"+
		"   $ %[1]s credential add --user ada --type polygon\n", t.command)
	return inTx(ctx, t.client, func(tx *ent.Tx) error {
		account, err := tx.UserAccount.Create().SetUserID("ada").SetAccountName("Ada Lovelace").Save(ctx)
		if err != nil {
			return err
		}
		for _, c := range madeUp {
			row, err := tx.UserCredential.Create().
				SetAccount(account).SetUserID(account.UserID).SetCredentialType(c.kind).
				SetAPIKey(credent.NewSecret(c.apiKey)).SetSecretKey(credent.NewSecret(c.secretKey)).
				Save(ctx)
			if err != nil {
				return err
			}
			if c.kind == "alpaca" {
				t.alpaca = row.ID
			}
			t.line(c.kind, row.ID.String())
		}
		return nil
	})
}

// showRow reads without the client, like any other reader of the file.
func (t *tour) showRow(ctx context.Context) error {
	const query = "SELECT user_id, credential_type, api_key, secret_key FROM user_credentials WHERE id = $1"
	t.step("Look at the Alpaca row as it is stored", "")
	var user, kind, apiKey, secretKey string
	if err := t.db.QueryRowContext(ctx, query, t.alpaca.String()).Scan(&user, &kind, &apiKey, &secretKey); err != nil {
		return err
	}
	t.line("user_id", user)
	t.line("credential_type", kind)
	t.line("api_key", abridged(apiKey))
	t.line("secret_key", abridged(secretKey))
	t.printf("   These are Fernet tokens, which any Fernet library opens with the key.\n")
	return nil
}

// abridged shortens a token to fit on a line.
func abridged(token string) string {
	const shown = 48
	if len(token) <= shown {
		return token
	}
	return fmt.Sprintf("%s… (%d characters)", token[:shown], len(token))
}

func (t *tour) readBack(ctx context.Context) error {
	t.step("Read it back with the key", "credential show "+t.alpaca.String()+" --reveal")
	row, err := t.client.UserCredential.Query().Where(usercredential.ID(t.alpaca)).Only(ctx)
	if err != nil {
		return err
	}
	apiKey, secretKey, err := revealed(row)
	if err != nil {
		return err
	}
	t.line("api_key", apiKey)
	t.line("secret_key", secretKey)
	return nil
}

func (t *tour) tryOtherKey(ctx context.Context) error {
	t.step("Try to read it with another key", "")
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		return err
	}
	client, err := client.New(t.db.DB, t.db.dialect, client.Config{Keyring: ring})
	if err != nil {
		return err
	}
	row, err := client.UserCredential.Query().Where(usercredential.ID(t.alpaca)).Only(ctx)
	if err != nil {
		return err
	}
	_, err = row.APIKey.Reveal()
	if !errors.Is(err, credent.ErrUnknownKey) {
		return fmt.Errorf("quickstart: another key was not refused: %w", err)
	}
	var refusal *credent.Error
	if errors.As(err, &refusal) {
		t.line("refused", refusal.Table+"."+refusal.Column)
		t.line("reason", refusal.Err.Error())
	}
	return nil
}

func (t *tour) finish() error {
	if t.keep {
		keyFile := filepath.Join(t.folder, "key")
		if err := os.WriteFile(keyFile, []byte(t.key+"\n"), 0o600); err != nil {
			return err
		}
		t.printf("\nDatabase and key are left in %s. To look around:\n"+
			"  export DATABASE_URL=sqlite:%s ENCRYPTION_KEY=$(cat %s)\n", t.folder, t.file(), keyFile)
	}
	t.printf("\nTry next, on a database of your own (%s, unless you set DATABASE_URL):\n"+
		"  export ENCRYPTION_KEY=$(%[2]s key generate)   # keep it, it is the only way back to the secrets\n"+
		"  %[2]s migrate apply\n"+
		"  %[2]s --help\n", strings.TrimPrefix(defaultDatabase, "sqlite:"), t.command)
	return nil
}
