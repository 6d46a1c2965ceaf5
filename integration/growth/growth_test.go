package growth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// rows is how many credentials a test has, and batch how many are a page.
const rows, batch = 2000, 20

// grown is a database with secrets under an old key.
type grown struct {
	*testdb.Env
	newKey string
	after  *keyring.Keyring // the new key first
	ids    []uuid.UUID
}

func grow(t *testing.T, env *testdb.Env) *grown {
	t.Helper()
	g := &grown{Env: env, newKey: keyring.GenerateKey()}
	g.after = ring(t, g.newKey, env.Key)
	account := env.Account(t, "u1")
	for range rows / 500 {
		creates := make([]*ent.UserCredentialCreate, 500)
		for i := range creates {
			creates[i] = env.Client.UserCredential.Create().SetAccount(account).SetUserID("u1").
				SetCredentialType("alpaca").
				SetAPIKey(credent.NewSecret(fmt.Sprint("key ", i))).SetSecretKey(credent.NewSecret("secret"))
		}
		for _, c := range env.Client.UserCredential.CreateBulk(creates...).SaveX(t.Context()) {
			g.ids = append(g.ids, c.ID)
		}
	}
	return g
}

func ring(t *testing.T, primary string, previous ...string) *keyring.Keyring {
	t.Helper()
	r, err := keyring.New(primary, previous...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantPrimary makes sure that every secret is under a keyring's primary key.
func (g *grown) wantPrimary(t *testing.T, ring *keyring.Keyring) {
	t.Helper()
	counts, err := rotate.Verify(t.Context(), g.DB, ring)
	if err == nil {
		err = counts.Err()
	}
	if err != nil || counts[0].Primary != rows || counts[1].Primary != rows {
		t.Errorf("%v: %+v", err, counts)
	}
}

// stopAt rotates until so many rows are read in a pass.
func (g *grown) stopAt(t *testing.T, pass int, read int64) (rewritten, reached int64) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	report, err := rotate.Run(ctx, g.DB, g.after, rotate.Config{Batch: batch, Progress: func(p rotate.Progress) {
		if p.Table == "user_credentials" && p.Pass == pass && p.Read >= read {
			if reached = p.Read; ctx.Err() == nil {
				stop()
			}
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("stopped with %v", err)
	}
	return report.Rewritten(), reached
}

func (g *grown) run(t *testing.T, cfg rotate.Config) rotate.TableReport {
	t.Helper()
	cfg.Batch = batch
	report, err := rotate.Run(t.Context(), g.DB, g.after, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report.Tables[0]
}

// A run goes on where another was stopped, in its first pass or, where there is
// one over all rows, its second. When all is done, a run reads only what was
// written since, where the database can say that, and says so.
func TestResume(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		g := grow(t, env)
		const inHand = 16 * 2 * batch // by all workers, each with a page and the next
		// With the pages in hand it isn't all, nor is it the next time.
		rewritten, reached := g.stopAt(t, 1, rows/4)
		first, postgres := int64(-1), env.Dialect() == "postgres"
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		report, err := rotate.Run(ctx, env.DB, g.after, rotate.Config{Batch: batch, Progress: func(p rotate.Progress) {
			if first < 0 && p.Read > 0 {
				first = p.Read
			}
			if p.Pass == 2 && p.Read >= rows/2 || postgres && p.Read >= rows/2 {
				stop()
			}
		}})
		if !errors.Is(err, context.Canceled) || report.Rewritten()+rewritten > rows || report.Rewritten() == 0 {
			t.Fatalf("%d and %d rows rewritten, %v", rewritten, report.Rewritten(), err)
		}
		if first < reached-inHand {
			t.Errorf("the second run went on at %d, and the first reached %d", first, reached)
		}
		third := g.run(t, rotate.Config{})
		if third.Passes != 2 || third.Rewritten != 0 && !postgres || postgres &&
			(third.Rows+third.Others < rows || third.Others < rows/2-inHand || !third.ChangedSince.IsZero()) {
			t.Errorf("the third: %+v", third)
		}
		g.wantPrimary(t, g.after)

		again := g.run(t, rotate.Config{})
		if postgres {
			if again.Rows != 0 || again.ChangedSince.IsZero() || time.Since(again.ChangedSince) > time.Hour {
				t.Errorf("nothing to do: %+v", again)
			}
		} else if again.Rows != rows || !again.ChangedSince.IsZero() {
			t.Errorf("nothing to do: %+v", again)
		}
		if all := g.run(t, rotate.Config{FromStart: true}); all.Rows != rows || !all.ChangedSince.IsZero() {
			t.Errorf("from the start: %+v", all)
		}

		// A writer that still has the old key as its primary one.
		late := env.Open(t, testopt.WithKeyring(ring(t, env.Key, g.newKey)))
		late.UserCredential.UpdateOneID(g.ids[7]).SetAPIKey(credent.NewSecret("late")).ExecX(t.Context())
		if last := g.run(t, rotate.Config{}); last.Rewritten != 1 {
			t.Errorf("after a late write: %+v", last)
		}
		g.wantPrimary(t, g.after)
	})
}

// Rows that somebody writes under the old key, behind a run that was stopped,
// are rewritten by the run that goes on with it, wherever it was stopped.
func TestLateWritesBehindAStoppedRun(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		g := grow(t, env)
		late := env.Open(t, testopt.WithKeyring(ring(t, env.Key, g.newKey)))
		stops := [][2]int{{1, rows * 3 / 4}, {2, rows * 3 / 4}}
		if env.Dialect() == "postgres" { // the second pass reads what was written since
			stops = [][2]int{{1, rows / 4}, {1, rows / 2}, {2, 1}} // with the pages in hand not all
		}
		for _, stop := range stops {
			g.stopAt(t, stop[0], int64(stop[1]))
			for i := 0; i < rows; i += 100 {
				late.UserCredential.UpdateOneID(g.ids[i]).SetSecretKey(credent.NewSecret("late")).ExecX(t.Context())
			}
		}
		g.run(t, rotate.Config{})
		g.wantPrimary(t, g.after)
	})
}

// Two runs share the work: no row is read by both in one pass, or written by
// the one and found so by the other.
func TestTwoRunsShareTheWork(t *testing.T) {
	t.Parallel()
	g := grow(t, testdb.New(t))
	var (
		began, joined = make(chan struct{}), make(chan struct{})
		wg            sync.WaitGroup
		all           [2]rotate.TableReport
	)
	for i := range all {
		db := g.Pool(t)
		wg.Go(func() {
			var once sync.Once
			if i == 1 {
				<-began
			}
			report, err := rotate.Run(t.Context(), db, g.after,
				rotate.Config{Batch: batch, Progress: func(rotate.Progress) {
					once.Do(func() {
						if i == 1 {
							close(joined)
							return
						}
						close(began)
						<-joined // the first stands still until the second has done a page
					})
				}})
			if err != nil {
				t.Errorf("run %d: %v", i, err)
				return
			}
			all[i] = report.Tables[0]
		})
	}
	wg.Wait()
	if all[0].Rewritten+all[1].Rewritten != rows || all[0].Skipped+all[1].Skipped != 0 || all[0].Rewritten == 0 ||
		all[1].Rewritten == 0 {
		t.Errorf("%+v\n%+v", all[0], all[1])
	}
	g.wantPrimary(t, g.after)
}

// A run that is killed leaves its parts to another, which has them after the
// lease.
func TestKilled(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		g := grow(t, env)
		cmd := exec.CommandContext(t.Context(), os.Args[0], "rotate", "--batch", "10", "--rate", "500")
		cmd.Env = append(os.Environ(), testdb.EnvCommand+"=1", "DATABASE_URL="+env.URL, "ENCRYPTION_KEY="+g.newKey,
			"ENCRYPTION_KEY_PREVIOUS="+env.Key)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for { // until it is during its work, and has saved where
			var saved int64
			env.Value(t, &saved, "SELECT coalesce(sum(rows_read), 0) FROM credent_progress WHERE table_name = "+
				"'user_credentials'")
			if saved > 0 {
				break
			}
			select {
			case <-t.Context().Done():
				t.Fatal("it saved nothing")
			case <-time.After(5 * time.Millisecond):
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		start := time.Now()
		report := g.run(t, rotate.Config{})
		t.Logf("%d rows rewritten after the kill, in %s", report.Rewritten, time.Since(start))
		if report.Rewritten == rows || report.Rewritten == 0 {
			t.Errorf("%+v", report)
		}
		g.wantPrimary(t, g.after)
	})
}

// Positions may go at any moment, one by one or with their table.
func TestPositionsLost(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"all": "DELETE FROM credent_progress", "a part": "DELETE FROM credent_progress WHERE part = 2",
		"the table": "DROP TABLE credent_progress",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := testdb.New(t)
			g := grow(t, env)
			var once sync.Once
			report := g.run(t, rotate.Config{Progress: func(p rotate.Progress) {
				if p.Read > rows/2 {
					once.Do(func() { env.Exec(t, statement) })
				}
			}})
			if report.Rewritten != rows {
				t.Errorf("%+v", report)
			}
			g.wantPrimary(t, g.after)
		})
	}
}

// Positions are for one goal: with another key all starts over, also if that
// key was the goal before.
func TestAnotherGoal(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		g := grow(t, env)
		g.stopAt(t, 1, rows/2)
		third := keyring.GenerateKey()
		for _, r := range []*keyring.Keyring{
			ring(t, third, g.newKey, env.Key), g.after,
			ring(t, third, g.newKey, env.Key),
		} {
			if r == g.after {
				r = ring(t, g.newKey, env.Key, third)
			}
			if _, err := rotate.Run(t.Context(), env.DB, r, rotate.Config{Batch: batch}); err != nil {
				t.Fatal(err)
			}
			g.wantPrimary(t, r)
		}
	})
}

// What doesn't open is in the report of every run, whatever earlier ones said.
func TestQuarantinedAgain(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		g := grow(t, env)
		token, err := ring(t, keyring.GenerateKey()).Encrypt("x")
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range g.ids[:3] {
			env.Exec(t, "UPDATE user_credentials SET api_key = $1 WHERE id = $2", token, id)
		}
		g.stopAt(t, 1, rows/2)
		var before []string
		for range 2 {
			report, err := rotate.Run(t.Context(), env.DB, g.after, rotate.Config{Batch: batch})
			if !errors.Is(err, rotate.ErrQuarantined) {
				t.Fatal(err)
			}
			var list []string
			for _, q := range report.Tables[0].Examples {
				list = append(list, q.Row)
			}
			if len(list) != 3 || before != nil && !cmp.Equal(list, before) {
				t.Errorf("%v, before %v", list, before)
			}
			before = list
		}
	})
}

// Verify counts the same with any number of workers.
func TestVerifyByParts(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		g := grow(t, env)
		g.stopAt(t, 1, rows/2)
		var want rotate.Counts
		for _, workers := range []int{1, 3, 16} {
			counts, err := rotate.VerifyWith(t.Context(), env.DB, g.after, rotate.Config{
				Workers: workers, Batch: batch,
				RowsPerSecond: 100_000,
			})
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = counts
			}
			if diff := cmp.Diff(want, counts); diff != "" || counts[0].Rows != rows {
				t.Errorf("%d workers: %s", workers, diff)
			}
		}
	})
}
