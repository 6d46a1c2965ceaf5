//go:build linux || darwin

package outages_test

import (
	"errors"
	"iter"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/pgreplica"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/rotate"
)

func startPrivate(t *testing.T) (*pgserver.Server, error) {
	t.Helper()
	s, err := pgserver.Start(t.Context(), pgserver.Private(), pgserver.WithSetting("restart_after_crash", "on"),
		pgserver.WithSetting("synchronous_commit", "on"))
	if err == nil {
		t.Cleanup(func() { _ = s.Stop() })
	}
	return s, err
}

// crashAfter yields rows, and kills a server process before one of them.
func crashAfter(t *testing.T, w *world, of iter.Seq2[credent.CopyRow, error], n int) iter.Seq2[credent.CopyRow, error] {
	t.Helper()
	return func(yield func(credent.CopyRow, error) bool) {
		i := 0
		for row, err := range of {
			if i++; i == n {
				w.crash(t)
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

// crash kills a server process, and returns when the server has ended another
// session: it then ends all of them.
func (w *world) crash(t *testing.T) {
	t.Helper()
	victim, err := w.admin.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = victim.Close() }()
	witness, err := w.admin.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = witness.Close() }()
	var pid int
	if err := victim.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := witness.ExecContext(t.Context(), "SELECT"); err != nil {
			return
		}
	}
}

// TestFailover kills the primary beside a rotation, over a name that leads to
// the standby afterwards, and also before the standby is promoted.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary, err := pgreplica.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = primary.Stop() })
	url, _, err := primary.CreateDatabase(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := migrated(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	standby, err := primary.AddStandby(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = standby.Stop() })
	if err := primary.Synchronous(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	const n = 2000
	p, through := newProxy(t, url)
	w := worldAt(t, "pgx", through, url)
	w.fill(t, n)
	if err := standby.WaitFor(t.Context(), primary); err != nil {
		t.Fatal(err)
	}
	database := databaseOf(t, w)
	reader := worldAt(t, "postgres", standby.URL(database), standby.URL(database))
	reader.oldKey, reader.newKey, reader.old, reader.new = w.oldKey, w.newKey, w.old, w.new
	checkStandby(t, reader)

	var once sync.Once
	var saw waits
	promoted := make(chan error, 1)
	progress := func(step rotate.Progress) {
		if step.Rewritten > n/4 {
			once.Do(func() {
				// At first the name leads to a server that doesn't accept
				// writes yet.
				p.lead(t, standby.URL(database))
				_ = primary.Kill()
			})
		}
		saw.progress(step)
		if errors.Is(step.Waiting, rotate.ErrStandby) || saw.of(rotate.ErrConnectionLost) > 3 {
			select {
			case promoted <- standby.Promote(t.Context()):
			default:
			}
		}
	}
	report, err := rotate.Run(t.Context(), w.db, w.new, rotate.Config{Batch: 50, Workers: 2, Progress: progress})
	if err != nil || report.Rewritten() != n {
		t.Errorf("got %+v, %v; it waited for %v", report, err, saw.errs)
	}
	if err := <-promoted; err != nil {
		t.Fatal(err)
	}
	if saw.of(rotate.ErrStandby) == 0 {
		t.Errorf("it waited for %v", saw.errs)
	}
	reader.check(t, n, w.new)
}

// checkStandby checks that writing commands fail at once with the reason, and
// that reading ones work.
func checkStandby(t *testing.T, w *world) {
	t.Helper()
	_, err := rotate.Run(t.Context(), w.db, w.new, rotate.Config{})
	if !errors.Is(err, rotate.ErrStandby) {
		t.Errorf("Run: %v", err)
	}
	if _, err := testopt.Copy(t.Context(), w.db, rows(1), credent.CopyConfig{},
		testopt.WithKeyring(w.new)); !errors.Is(err, rotate.ErrStandby) {
		t.Errorf("Copy: %v", err)
	}
	for _, args := range []string{
		"rotate", "encrypt", "migrate check", "account add --user v --name Grace", "account remove u",
		"credential import more.csv", "tenant destroy u --yes",
	} {
		cmd := w.command(t, strings.Fields(args)...)
		writeCSV(t, cmd.Dir+"/more.csv", 1)
		r := run1(cmd)()
		if r.code != 1 || !strings.Contains(r.errors, rotate.ErrStandby.Error()) ||
			!strings.Contains(r.errors, "use the primary in DATABASE_URL") {
			t.Errorf("%s: exit code %d, %q, %q", args, r.code, r.out, r.errors)
		}
	}
	if r := w.run(t, "rotate", "--json"); !strings.Contains(r.errors, `"kind":"standby"`) ||
		!strings.Contains(r.errors, `"sqlstate":"25006"`) {
		t.Errorf("got %q", r.errors)
	}
	for _, args := range []string{"rotate --dry-run", "credential export", "account list", "migrate status"} {
		if r := w.run(t, strings.Fields(args)...); r.code != 0 {
			t.Errorf("%s: exit code %d, %q", args, r.code, r.errors)
		}
	}
}
