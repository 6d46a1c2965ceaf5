package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
)

// rotated is the output of `credent rotate --json`.
type rotated struct {
	Tables []struct {
		Rewritten int `json:"rewritten"`
	} `json:"tables"`
}

func rewritten(r ran) (n int, err error) {
	var out rotated
	if err := json.Unmarshal(r.out, &out); err != nil {
		return 0, fmt.Errorf("rotate --json: %w", err)
	}
	for _, t := range out.Tables {
		n += t.Rewritten
	}
	return n, nil
}

// newKey adds a new primary key and keeps the previous one.
func (t *table) newKey() { t.keys = []string{keyring.GenerateKey(), t.keys[0]} }

// rotateAll rewrites all rows, and returns the cost.
func (t *table) rotateAll(ctx context.Context, args ...string) (ran, error) {
	t.newKey()
	if err := t.tidy(ctx); err != nil {
		return ran{}, err
	}
	result, err := t.do(ctx, 0, t.keys, nil, append([]string{"rotate", "--json"}, args...)...)
	if err != nil {
		return result, err
	}
	if n, err := rewritten(result); err != nil || n != t.rows {
		return result, errors.Join(err, fmt.Errorf("rotate rewrote %d rows of %d", n, t.rows))
	}
	return result, nil
}

// tidy removes dead rows before the next measure.
func (t *table) tidy(ctx context.Context) error {
	if _, err := t.db.ExecContext(ctx, "VACUUM FULL ANALYZE user_credentials"); err != nil {
		return err
	}
	_, err := t.db.ExecContext(ctx, "CHECKPOINT")
	return err
}

// rotations compares two processes with one, each with one worker, and measures
// a rotation that is stopped half-way.
func (r *report) rotations(ctx context.Context, t *table) error {
	one, err := t.rotateAll(ctx, "--workers", "1")
	if err != nil {
		return err
	}
	t.newKey()
	if err := t.tidy(ctx); err != nil {
		return err
	}
	var both [2]*running
	for i := range both {
		if both[i], err = t.begin(ctx, t.keys, nil, "rotate", "--json", "--workers", "1"); err != nil {
			return err
		}
	}
	sum, last := 0, time.Duration(0)
	for _, b := range both {
		result, err := b.end(0)
		if err != nil {
			return err
		}
		n, err := rewritten(result)
		if err != nil {
			return err
		}
		sum, last = sum+n, max(last, result.took)
	}
	if sum != t.rows {
		return fmt.Errorf("two rotations rewrote %d rows of %d", sum, t.rows)
	}
	r.target("two processes with a worker each / one", 1.3, false, one.took.Seconds()/last.Seconds())

	whole, err := t.rotateAll(ctx)
	if err != nil {
		return err
	}
	lost, err := t.stopped(ctx, whole.took)
	if err != nil {
		return err
	}
	r.target("what a rotation loses that is stopped and resumed / a whole one", 0.05, true,
		lost.Seconds()/whole.took.Seconds())
	again, err := t.do(ctx, 0, t.keys, nil, "rotate", "--json")
	if err != nil {
		return err
	}
	r.target("a rotation with nothing to do / a whole one", 0.05, true, again.took.Seconds()/whole.took.Seconds())
	return nil
}

// stopped stops a rotation on its way and resumes it. It returns how much
// longer both took together than an uninterrupted one.
func (t *table) stopped(ctx context.Context, whole time.Duration) (time.Duration, error) {
	for part := range 3 {
		t.newKey()
		if err := t.tidy(ctx); err != nil {
			return 0, err
		}
		running, err := t.begin(ctx, t.keys, nil, "rotate", "--json")
		if err != nil {
			return 0, err
		}
		time.Sleep(whole * time.Duration(part+2) / 4)
		if err := running.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return 0, err
		}
		first, err := running.end(130)
		if err != nil {
			return 0, err
		}
		second, err := t.do(ctx, 0, t.keys, nil, "rotate", "--json")
		if err != nil {
			return 0, err
		}
		n, err := rewritten(second)
		if err != nil {
			return 0, err
		}
		if n > 0 && n < t.rows {
			return first.took + second.took - whole, nil
		}
	}
	return 0, errors.New("at each stop the rotation had already ended or not yet begun")
}

// lookups alternates lookups on two tables, and measures them.
func (r *report) lookups(ctx context.Context, few, many *table) error {
	var clients [2]*ent.Client
	var ids [2][]uuid.UUID
	for i, t := range []*table{few, many} {
		ring, err := keyring.New(t.keys[0], t.keys[1:]...)
		if err != nil {
			return err
		}
		if clients[i], err = credent.NewClient(t.db, "postgres", credent.Config{Keyring: ring}); err != nil {
			return err
		}
		for range 200 {
			c, err := clients[i].UserCredential.Query().Where(usercredential.APIKeyIs(t.anyKey())).Only(ctx)
			if err != nil {
				return err
			}
			ids[i] = append(ids[i], c.ID)
		}
	}
	for _, what := range []struct {
		name string
		run  func(i int) error
	}{
		{"point lookup", func(i int) error {
			_, err := clients[i].UserCredential.Get(ctx, ids[i][rand.IntN(len(ids[i]))]) //nolint:gosec // G404: no secret
			return err
		}},
		{"lookup by API key", func(i int) error {
			_, err := clients[i].UserCredential.Query().Where(usercredential.APIKeyIs([]*table{few, many}[i].anyKey())).
				Only(ctx)
			return err
		}},
	} {
		var took [2][]time.Duration
		for range 3000 {
			for i := range took {
				t, err := timed(func() error { return what.run(i) })
				if err != nil {
					return fmt.Errorf("%s: %w", what.name, err)
				}
				took[i] = append(took[i], t)
			}
		}
		r.target(fmt.Sprintf("time of a %s / with %s rows", what.name, number(fewRows)), 1.3, true,
			median(took[1]).Seconds()/median(took[0]).Seconds())
	}
	// Check as a service runs it at start-up.
	var checks []time.Duration
	for range 51 {
		t, err := timed(func() error { return credent.Check(ctx, clients[1]) })
		if err != nil {
			return err
		}
		checks = append(checks, t)
	}
	r.target("credent.Check, in ms", 5, true, median(checks).Seconds()*1000)
	return nil
}

func (t *table) anyKey() credent.Secret {
	return credent.NewSecret(apiKey(rand.IntN(t.rows))) //nolint:gosec // G404: which row is read is no secret
}

func median(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)/2]
}

// reading measures the commands that read all rows and write none.
func (r *report) reading(ctx context.Context, t *table) error {
	for _, args := range [][]string{
		{"credential", "list"}, {"credential", "export"}, {"credential", "export", "--reveal"}, {"doctor"},
	} {
		result, err := t.do(ctx, 0, t.keys, nil, args...)
		if err != nil {
			return err
		}
		r.add(join(args), t.rows, result)
	}
	return nil
}

// wrongKey measures a rotation with a key that opens no secret.
func (r *report) wrongKey(ctx context.Context, t *table) error {
	result, err := t.do(ctx, 3, []string{keyring.GenerateKey()}, nil, "rotate")
	if err != nil {
		return err
	}
	r.add("rotate, with a key that opens nothing", t.rows, result)
	return nil
}

// rotate measures a rotation of all rows, and verify.
func (r *report) rotate(ctx context.Context, t *table) error {
	var result ran
	wal, err := t.walOf(ctx, func() (err error) {
		result, err = t.rotateAll(ctx)
		return err
	})
	if err != nil {
		return err
	}
	r.wal, r.rotation = wal/int64(t.rows), result
	r.add("rotate", t.rows, result)
	verified, err := t.do(ctx, 0, t.keys, nil, "verify", "--no-record")
	if err != nil {
		return err
	}
	r.add("verify", t.rows, verified)
	r.target("verify / rotate", 5, false, result.took.Seconds()/verified.took.Seconds())
	return nil
}

// bare measures one statement that writes the same columns of all rows, the
// server's minimum work.
func (r *report) bare(ctx context.Context, t *table) error {
	if err := t.tidy(ctx); err != nil {
		return err
	}
	took, err := timed(func() error {
		_, err := t.db.ExecContext(ctx, "UPDATE user_credentials SET api_key = overlay(api_key PLACING 'A' FROM 60), "+
			"secret_key = overlay(secret_key PLACING 'A' FROM 60), api_key_index = api_key_index")
		return err
	})
	if err != nil {
		return err
	}
	r.target("rotate / one bare UPDATE of the same rows", 0.75, false, took.Seconds()/r.rotation.took.Seconds())
	return nil
}
