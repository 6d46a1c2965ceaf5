package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/credent-go/credent/internal/retry"
)

// progressEvery is the interval between progress lines if no bar can be drawn.
const progressEvery = 5 * time.Second

// step is the progress of a task.
type step struct {
	task        string // a new task gets a new bar
	done, total int64  // a total of -1 is unknown
	bytes       bool   // done and total are in bytes, not rows
	line        string // the progress in words, without a newline
	waiting     string // what it waits for, in words; "" if it doesn't wait
}

// waitingStep says what is waited for, and for how long.
func waitingStep(err error, pause, limit time.Duration) step {
	if limit == 0 {
		limit = retry.DefaultLimit
	}
	return step{waiting: fmt.Sprintf("%s; trying again in %s, for %s at most",
		faultMessage(err), pause.Round(100*time.Millisecond), limit)}
}

const retryForFlag = "retry-for"

// retryFlag is the flag --retry-for.
type retryFlag struct{ of time.Duration }

func (r *retryFlag) add(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&r.of, retryForFlag, retry.DefaultLimit,
		"how long to try the same again when the database fails for a while; 0 means not at all")
}

func (r *retryFlag) check() error {
	if r.of < 0 {
		return usageError("--retry-for is negative")
	}
	return nil
}

// limit returns the value for other packages, which take 0 as the default.
func (r *retryFlag) limit() time.Duration {
	if r.of == 0 {
		return -1
	}
	return r.of
}

// try is for a single action before or after a command's work. If the command
// has the flag --retry-for, the action is retried like the work, but doesn't
// wait for a standby's promotion.
func (db *database) try(ctx context.Context, do func(context.Context) error) error {
	c, ok := ctx.Value(calledKey{}).(called)
	if !ok || c.cmd.Flags().Lookup(retryForFlag) == nil {
		return do(ctx)
	}
	of, err := c.cmd.Flags().GetDuration(retryForFlag)
	if err != nil {
		return err
	}
	policy := c.policy(db, retryFlag{of})
	policy.Final = []retry.Kind{retry.Standby}
	return policy.Do(ctx, func() error { return do(ctx) })
}

// progress returns a function that shows progress, as a bar if one can be drawn
// and otherwise as lines, and a function that ends it.
func (a *app) progress() (show func(step), done func()) {
	file, ok := a.note.(*os.File)
	var told waits
	if !ok || !term.IsTerminal(int(file.Fd())) {
		last := time.Now()
		return func(s step) {
			if told.tell(a, s) {
				return
			}
			if time.Since(last) >= progressEvery {
				last = time.Now()
				a.notef("%s\n", s.line)
			}
		}, func() {}
	}
	var (
		bar  *progressbar.ProgressBar
		task string
	)
	return func(s step) {
			if s.waiting != "" && bar != nil {
				_ = bar.Clear()
			}
			if told.tell(a, s) {
				return
			}
			if bar == nil || task != s.task {
				if bar != nil {
					_ = bar.Finish()
				}
				task = s.task
				bar = progressbar.NewOptions64(s.total, progressbar.OptionSetWriter(file),
					progressbar.OptionShowCount(),
					progressbar.OptionShowIts(), progressbar.OptionSetItsString("rows"),
					progressbar.OptionSetPredictTime(true),
					progressbar.OptionSetDescription(s.task), progressbar.OptionShowBytes(s.bytes),
					progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
			}
			_ = bar.Set64(s.done)
		}, func() {
			if bar != nil {
				_ = bar.Finish()
			}
		}
}

// waits reports what is waited for: new reasons at once, and repeated ones at
// intervals, because each worker waits separately.
type waits struct {
	last map[string]time.Time // by what is waited for
}

// tell reports whether a step only waits, and prints it if it is due.
func (w *waits) tell(a *app, s step) bool {
	if s.waiting == "" {
		return false
	}
	why, _, _ := strings.Cut(s.waiting, "; ")
	if time.Since(w.last[why]) >= progressEvery {
		if w.last == nil {
			w.last = make(map[string]time.Time)
		}
		w.last[why] = time.Now()
		a.notef("credent: %s\n", s.waiting)
	}
	return true
}
