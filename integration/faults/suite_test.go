//go:build linux

package faults

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/credent-go/credent/internal/cli"
)

const (
	// envFull selects the suite's long form.
	envFull = "CREDENT_TEST_FAULTS"
	// envCommand makes the test binary run the command credent.
	envCommand = "CREDENT_TEST_COMMAND"
)

const (
	settleLimit = 30 * time.Second // for a scenario's leftovers to disappear
	maxLogged   = 8                // printed findings of one kind and scenario
)

func TestMain(m *testing.M) {
	prepareClock()
	if os.Getenv(envCommand) != "" {
		os.Exit(cli.Main())
	}
	os.Exit(m.Run())
}

// scenario is one kind of fault.
type scenario struct {
	name  string
	limit time.Duration // of the long form; twice its time on two cores
	run   func(*trial)
}

var scenarios = []scenario{
	{"fail-over, synchronous", 8 * time.Minute, failOverSynchronous},
	{"fail-over, asynchronous, lag", 8 * time.Minute, failOverAsynchronous},
	{"PgBouncer, killed and frozen", 3 * time.Minute, pgBouncer},
	{"network cuts, halves, delays", 3 * time.Minute, network},
	{"network swallows", 3 * time.Minute, blackhole},
	{"server frozen", 3 * time.Minute, frozenServer},
	{"commands frozen", 3 * time.Minute, frozenCommands},
	{"commands killed", 8 * time.Minute, kills},
	{"deadlocks", 3 * time.Minute, deadlocks},
	{"disk full", 5 * time.Minute, diskFull},
	{"log of the server full", 5 * time.Minute, logFull},
	{"standard output closed or full", 3 * time.Minute, noOutput},
}

// TestFaults runs the scenarios one after another, because each counts leftover
// goroutines.
func TestFaults(t *testing.T) {
	full := os.Getenv(envFull) == "full"
	var trials []*trial
	began := time.Now()
	for _, s := range slices.Concat(scenarios, clockScenarios) {
		tr := &trial{name: s.name, full: full}
		goroutines := runtime.NumGoroutine()
		ran := t.Run(s.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), s.limit)
			defer cancel()
			tr.T, tr.ctx = t, ctx
			defer func(began time.Time) { tr.took = time.Since(began) }(time.Now())
			s.run(tr)
		})
		if tr.T == nil {
			continue // not selected by -run
		}
		tr.goroutines.Store(leftGoroutines(goroutines))
		trials = append(trials, tr)
		if n := tr.faults(); n > 0 || !ran {
			t.Errorf("%s: %d faults", s.name, n)
		}
		if tr.operations.Load()+tr.reads.Load() == 0 {
			t.Errorf("%s did nothing", s.name)
		}
	}
	t.Logf("%s in all\n%s", time.Since(began).Round(time.Second), table(trials))
}

// leftGoroutines waits for goroutines to end, and returns how many don't.
func leftGoroutines(before int) int64 {
	eventually(settleLimit, func() bool { return runtime.NumGoroutine() <= before })
	return int64(max(0, runtime.NumGoroutine()-before))
}

// eventually reports whether a condition becomes true within a limit.
func eventually(limit time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(limit); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// trial is one run of a scenario, with its counts.
type trial struct {
	*testing.T
	ctx  context.Context //nolint:containedctx // lives for one scenario
	name string
	full bool
	took time.Duration

	operations  atomic.Int64 // acknowledged writes and completed commands
	reads       atomic.Int64 // rows read and opened, or lookups
	failed      atomic.Int64 // operations that failed because of the fault
	undone      atomic.Int64 // acknowledged by a server and lost on its standby
	lost        atomic.Int64
	wrong       atomic.Int64
	foreign     atomic.Int64
	stuck       atomic.Int64
	connections atomic.Int64
	goroutines  atomic.Int64

	mu     sync.Mutex
	logged map[*atomic.Int64]int
	notes  []string
}

// faults is the sum of the columns that must be 0.
func (tr *trial) faults() int64 {
	return tr.lost.Load() + tr.wrong.Load() + tr.foreign.Load() + tr.stuck.Load() + tr.connections.Load() +
		tr.goroutines.Load()
}

// found counts a finding, and prints the first ones of its kind.
func (tr *trial) found(counter *atomic.Int64, format string, args ...any) {
	counter.Add(1)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.logged == nil {
		tr.logged = make(map[*atomic.Int64]int)
	}
	if tr.logged[counter]++; tr.logged[counter] <= maxLogged {
		tr.Logf(format, args...)
	}
}

// notef adds a figure to the foot of the table.
func (tr *trial) notef(format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.notes = append(tr.notes, fmt.Sprintf(format, args...))
}

// pick returns the number for the current form.
func (tr *trial) pick(short, long int) int {
	if tr.full {
		return long
	}
	return short
}

// must fails the trial if an error isn't nil.
func (tr *trial) must(err error) {
	tr.Helper()
	if err != nil {
		tr.Fatal(err)
	}
}

func table(trials []*trial) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "operations\treads\tfailed\tundone\tlost\twrong\tanother user's\tstuck\tconnections\t"+
		"goroutines\tseconds\t scenario")
	var sum [10]int64
	for _, tr := range trials {
		row := [10]int64{
			tr.operations.Load(), tr.reads.Load(), tr.failed.Load(), tr.undone.Load(), tr.lost.Load(), tr.wrong.Load(),
			tr.foreign.Load(), tr.stuck.Load(), tr.connections.Load(), tr.goroutines.Load(),
		}
		for i, n := range row {
			sum[i] += n
			_, _ = fmt.Fprintf(w, "%d\t", n)
		}
		_, _ = fmt.Fprintf(w, "%.0f\t %s\n", tr.took.Seconds(), tr.name)
	}
	for _, n := range sum {
		_, _ = fmt.Fprintf(w, "%d\t", n)
	}
	_, _ = fmt.Fprintln(w, "\t all")
	_ = w.Flush()
	for _, tr := range trials {
		for _, note := range tr.notes {
			_, _ = fmt.Fprintf(&text, "%s: %s\n", tr.name, note)
		}
	}
	return text.String()
}
