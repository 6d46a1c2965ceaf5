// Command bench measures Credent beside its alternatives, on this machine, in
// one run: the cryptography, clients on a Postgres server that it starts,
// tables of several sizes, and re-encryption. It prints tables of medians and
// of ratios, each the median over pairs measured in the same round, with the
// quartiles. See docs/speed.md.
//
//	go run .          # as make bench: also writes report.md and report.svg
//	go run . -quick   # as make bench-quick: fewer rows and rounds, within two
//	                  # minutes; writes nothing
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/credent-go/credent/bench/internal/machine"
	"github.com/credent-go/credent/internal/pgserver"
)

// config is how much is measured.
type config struct {
	cryptoRounds int
	cryptoTime   time.Duration // of one measure in one round
	rounds       int           // of clients on a database, and of tables of several sizes
	repeats      int           // how often a round runs single statements
	turns        int           // in how many alternating parts these run
	bulkTurns    int           // the same for bulks
	longRepeats  int           // how often a round runs the rest: reads, lists and bulks of different lengths
	trailTimes   int           // how often it reads with and without an audit trail
	rotateRounds int           // of re-encryption
	stored       int           // rows to read
	inserts      int
	bulkRows     int
	points       int
	growth       []int // rows
	rotated      int   // rows
	updates      int   // rows rewritten one by one
	command      string
}

func full() config {
	return config{
		cryptoRounds: 101, cryptoTime: 6 * time.Millisecond,
		// Many short rounds: a machine's other work comes and goes within
		// seconds, and then affects whole rounds.
		rounds: 35, repeats: 8, turns: 20, bulkTurns: 5, longRepeats: 2, trailTimes: 6,
		stored: 10_000, inserts: 50, bulkRows: 5000, points: 100,
		growth: []int{10_000, 100_000, 1_000_000}, rotateRounds: 7, rotated: 200_000, updates: 2000,
		command: "make bench",
	}
}

func quick() config {
	c := full()
	c.cryptoRounds, c.rounds, c.repeats, c.longRepeats, c.rotateRounds = 9, 5, 2, 1, 3
	c.bulkRows = 2500
	c.growth = []int{10_000, 50_000}
	c.rotated, c.updates = 15_000, 300
	c.command = "make bench-quick"
	return c
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	isQuick := flags.Bool("quick", false, "fewer rows and rounds, and no report")
	only := flags.String("only", "", "parts to run, comma-separated: crypto, clients, trail, growth, rotation; or "+
		"accountkey alone; writes no report")
	rows := flags.Int("rows", 0, "credentials in the roll-out of accountkey (default: several sizes)")
	dir := flags.String("out", "", "where to write report.md and report.svg (default: the directory of the sources)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	cfg := full()
	if *isQuick {
		cfg = quick()
	}
	if *rows > 0 {
		cfg.growth = []int{*rows}
	}
	if *only == accountKeyPart {
		return runAccountKey(ctx, cfg, out)
	}
	report, err := measureAll(ctx, cfg, parts(*only), os.Stderr)
	if err != nil {
		return err
	}
	text := report.markdown()
	if _, err := io.WriteString(out, text); err != nil {
		return err
	}
	if (*isQuick || *only != "") && *dir == "" {
		return nil
	}
	if *dir == "" {
		if *dir, err = sourceDir(); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(*dir, "report.md"), []byte(text), 0o600); err != nil {
		return err
	}
	return report.chart(filepath.Join(*dir, "report.svg"))
}

// parts returns a function that reports whether a part is selected.
func parts(only string) func(string) bool {
	return func(part string) bool {
		if only == "" {
			return true
		}
		for p := range strings.SplitSeq(only, ",") {
			if p == part {
				return true
			}
		}
		return false
	}
}

// measureAll runs the parts one after another, and writes their names to
// progress.
func measureAll(ctx context.Context, cfg config, wanted func(string) bool, progress io.Writer) (_ *report, err error) {
	r := &report{cfg: cfg, series: make(series), start: time.Now()}
	r.machine = machine.Read(shown...)
	if r.python, err = pythonVersions(ctx, python()); err != nil {
		return nil, err
	}
	note := func(part string) {
		_, _ = fmt.Fprintf(progress, "%6.0f s  %s\n", time.Since(r.start).Seconds(), part)
	}
	if wanted("crypto") {
		note("crypto")
		b, err := runCrypto(cfg, r.series)
		if err != nil {
			return nil, err
		}
		r.allocs = b.allocs
	}
	server, err := pgserver.Start(ctx, pgserver.OnDisk(), pgserver.WithSetting("shared_buffers", "256MB"),
		pgserver.WithSetting("max_wal_size", "4GB"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	if r.machine.Postgres, err = machine.PostgresVersion(ctx, server); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		name string
		run  func(context.Context, config, *pgserver.Server, series) error
	}{
		{"clients", runEndToEnd},
		{"trail", runTrail},
		{"rotation", runRotation},
		{"growth", runGrowth},
	} {
		if !wanted(part.name) {
			continue
		}
		note(part.name)
		if err := part.run(ctx, cfg, server, r.series); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	r.took = time.Since(r.start)
	note("done")
	return r, nil
}
