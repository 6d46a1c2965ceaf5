// Package silence runs commands over a network that goes silent.
package silence

import (
	"bytes"
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"iter"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/cli"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

// asCommand makes the test binary run the command credent.
const asCommand = "CREDENT_TEST_AS_COMMAND"

var server *pgserver.Server

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		os.Exit(cli.Main())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if server, err = pgserver.Start(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = server.Stop() }()
	// The commands only wait, and use no CPU.
	flag.Parse()
	if err := flag.Set("test.parallel", "26"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

const rows = 3000

// old is the existing rows' key.
var old = keyring.GenerateKey()

// template creates a database with rows, once. Nobody may be connected to it.
var template = sync.OnceValues(func() (databaseURL string, err error) {
	ctx := context.Background()
	if databaseURL, _, err = server.CreateDatabase(ctx, ""); err != nil {
		return "", err
	}
	db, _, err := testopt.OpenDB(databaseURL)
	if err != nil {
		return "", err
	}
	defer func() { _ = db.Close() }()
	ring, err := keyring.New(old)
	if err != nil {
		return "", err
	}
	if err := testopt.Apply(ctx, db); err != nil {
		return "", err
	}
	client, err := testopt.NewClient(db, "postgres", testopt.WithKeyring(ring))
	if err != nil {
		return "", err
	}
	if err := client.UserAccount.Create().SetUserID("u-1").SetAccountName("a").Exec(ctx); err != nil {
		return "", err
	}
	var all iter.Seq2[credent.CopyRow, error] = func(yield func(credent.CopyRow, error) bool) {
		for i := range rows {
			if !yield(credent.CopyRow{
				UserID: "u-1", CredentialType: "polygon",
				APIKey: credent.NewSecret(fmt.Sprint("key-", i)), SecretKey: credent.NewSecret("s"),
			}, nil) {
				return
			}
		}
	}
	if _, err := testopt.Copy(ctx, db, all, credent.CopyConfig{}, testopt.WithKeyring(ring)); err != nil {
		return "", err
	}
	if err := recordMuch(ctx, db, ring); err != nil {
		return "", err
	}
	return databaseURL, db.Close()
})

// recordMuch fills the audit trail.
func recordMuch(ctx context.Context, db *sql.DB, ring *keyring.Keyring) error {
	trail, err := audit.Open(ctx, db, "postgres", audit.Config{Keyring: ring})
	if err != nil {
		return err
	}
	for i := range rows {
		e := audit.Entry{Action: audit.ActionUpdate, Row: fmt.Sprint(i), Note: strings.Repeat("n", 200)}
		if err := trail.Add(ctx, e); err != nil {
			return err
		}
	}
	return trail.Close(ctx)
}

// store creates a database with rows.
func store(t *testing.T) (databaseURL string) {
	t.Helper()
	from, err := template()
	if err != nil {
		t.Fatal(err)
	}
	databaseURL, drop, err := server.CreateDatabase(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = drop() })
	return databaseURL
}

// proxy forwards data, and drops everything once the server has sent a given
// number of bytes.
type proxy struct {
	left   atomic.Int64 // remaining bytes of the server to forward
	silent chan struct{}
	once   sync.Once
	url    string
}

func startProxy(t *testing.T, databaseURL string, after int64) *proxy {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	target := u.Host
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p := &proxy{silent: make(chan struct{})}
	p.left.Store(after)
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			back, err := new(net.Dialer).DialContext(context.Background(), "tcp4", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			go p.pass(back, client, false)
			go p.pass(client, back, true)
		}
	}()
	u.Host = l.Addr().String()
	p.url = u.String()
	return p
}

func (p *proxy) pass(to io.WriteCloser, from io.Reader, counts bool) {
	buf := make([]byte, 1<<12)
	for {
		n, err := from.Read(buf)
		if counts && p.left.Add(-int64(n)) <= 0 {
			p.once.Do(func() { close(p.silent) })
		}
		select {
		case <-p.silent:
			if err != nil {
				return
			}
			continue
		default:
		}
		if _, writeErr := to.Write(buf[:n]); err != nil || writeErr != nil {
			_ = to.Close()
			return
		}
	}
}

// command returns the command credent.
func command(
	ctx context.Context, databaseURL, driver string, keys []string, args ...string,
) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = []string{
		asCommand + "=1", "DATABASE_URL=" + databaseURL, "CREDENT_DRIVER=" + driver,
		"ENCRYPTION_KEY=" + keys[0],
		"ENCRYPTION_KEY_PREVIOUS=" + strings.Join(keys[1:], ","), "HOME=" + os.Getenv("HOME"),
	}
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = io.Discard, out
	return cmd, out
}

// TestCommands checks that each long command ends when the network goes silent:
// on its own after a while, or at the first signal. The next run continues.
func TestCommands(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		after int64 // bytes from the server
		args  []string
	}{
		"rotate":        {200_000, []string{"rotate"}},
		"verify":        {200_000, []string{"verify"}},
		"import":        {8_000, []string{"credential", "import", "FILE", "--batch", "100"}},
		"export":        {200_000, []string{"credential", "export", "--reveal"}},
		"doctor":        {4_000, []string{"doctor"}},
		"audit list":    {200_000, []string{"audit", "list"}},
		"audit verify":  {200_000, []string{"audit", "verify"}},
		"migrate check": {2_000, []string{"migrate", "check"}},
	} {
		for _, driver := range []string{"pgx", "libpq"} {
			for _, how := range []string{"signal", "alone"} {
				t.Run(name+"/"+driver+"/"+how, func(t *testing.T) {
					t.Parallel()
					databaseURL := store(t)
					keys := []string{old}
					if name == "rotate" {
						keys = []string{keyring.GenerateKey(), old}
					}
					file := filepath.Join(t.TempDir(), "rows.csv")
					content := "user_id,credential_type,api_key,secret_key\n" +
						strings.Repeat("u-1,polygon,a,b\n", rows)
					if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
						t.Fatal(err)
					}
					args := slices.Clone(test.args)
					if i := slices.Index(args, "FILE"); i >= 0 {
						args[i] = file
					}
					if how == "alone" && len(args) > 0 && name != "doctor" && name != "migrate check" {
						args = append(args, "--retry-for", "0") // otherwise it waits for the network
					}
					p := startProxy(t, databaseURL, test.after)
					ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
					defer cancel()
					cmd, out := command(ctx, p.url, driver, keys, args...)
					if err := cmd.Start(); err != nil {
						t.Fatal(err)
					}
					done := make(chan error, 1)
					go func() { done <- cmd.Wait() }()
					select {
					case <-p.silent:
					case err := <-done:
						t.Fatalf("it ended before the silence, after %d bytes, with %d left: %v\n%s",
							test.after, p.left.Load(), err, out)
					}
					want := "silent"
					stopped := ""
					if how == "signal" {
						want, stopped = "interrupted", "stopped"
						if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
							t.Fatal(err)
						}
					}
					began := time.Now()
					err := <-done
					took := time.Since(began)
					if ctx.Err() != nil || err == nil || cmd.ProcessState.ExitCode() < 0 {
						t.Fatalf("it ended with %v after %s\n%s", err, took, out)
					}
					t.Logf("after %s: %s", took.Round(100*time.Millisecond), strings.TrimSpace(out.String()))
					text := out.String()
					// While one connection is silent, the command may fail to
					// open another.
					if how == "alone" && strings.Contains(text, "it did not answer within 10s") {
						want = ""
					}
					if !strings.Contains(text, want) && (stopped == "" || !strings.Contains(text, stopped)) {
						t.Errorf("it doesn't say %q", want)
					}
					if strings.Contains(out.String(), "127.0.0.1") {
						t.Errorf("it contains the URL")
					}
					if name == "rotate" {
						again, out := command(t.Context(), databaseURL, driver, keys, args...)
						if err := again.Run(); err != nil {
							t.Errorf("the next run: %v\n%s", err, out)
						}
					}
				})
			}
		}
	}
}

// TestNobodyAnswers has a server that accepts no connections.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for _, driver := range []string{"pgx", "libpq"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			cmd, out := command(t.Context(), "postgres://u:IN-VAIN@"+l.Addr().String()+"/d?sslmode=disable", driver,
				[]string{keyring.GenerateKey()}, "account", "list")
			if err := cmd.Run(); err == nil || !strings.Contains(out.String(), "did not answer within 10s") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
