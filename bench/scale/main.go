// Command scale measures Credent's commands on a table of many rows, by default
// 10 million, on a Postgres server that it starts: their speed, their memory,
// and the cost of lookups compared with a table of 10,000 rows. It prints a
// report and writes it to report.md beside its sources. See docs/scale.md.
//
//	go run ./scale                 # up to an hour, and 25 GB of disk
//	go run ./scale -rows 200000    # about a minute; writes nothing
//
// The commands run as separate processes, as an operator runs them, with the
// keys in the environment. Everything is measured once; each ratio compares
// measures of the same run.
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
	"syscall"
	"time"

	"github.com/credent-go/credent/bench/internal/machine"
	"github.com/credent-go/credent/internal/pgserver"
)

// fullRows is the number of rows in the repository's report.
const fullRows = 10_000_000

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	rows := flags.Int("rows", fullRows, "credentials in the table; 10 of each account")
	dir := flags.String("out", "", "where to write report.md (default: beside the sources, with 10 million rows)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *rows < 1000 {
		return errors.New("-rows must be at least 1000")
	}
	if *dir == "" && *rows == fullRows {
		*dir = sources()
	}
	r, err := measureAll(ctx, *rows, progress)
	if err != nil {
		return err
	}
	text := r.markdown()
	if _, err := io.WriteString(out, text); err != nil || *dir == "" {
		return err
	}
	return os.WriteFile(filepath.Join(*dir, "report.md"), []byte(text), 0o600)
}

// measureAll runs everything, and writes its current step to progress.
func measureAll(ctx context.Context, rows int, progress io.Writer) (_ *report, err error) {
	r := &report{rows: rows, machine: machine.Read("entgo.io/ent", "github.com/jackc/pgx/v5"), start: time.Now()}
	note := func(text string) {
		_, _ = fmt.Fprintf(progress, "%6.0f s  %s\n", time.Since(r.start).Seconds(), text)
	}
	command, remove, err := build(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	server, err := pgserver.Start(ctx, pgserver.OnDisk(), pgserver.WithSetting("shared_buffers", "1GB"),
		pgserver.WithSetting("max_wal_size", "8GB"), pgserver.WithSetting("maintenance_work_mem", "512MB"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	if r.machine.Postgres, err = machine.PostgresVersion(ctx, server); err != nil {
		return nil, err
	}
	few, err := newTable(ctx, server, command, fewRows)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, few.drop()) }()
	// Measures with several rotations use a tenth of the rows.
	tenth, err := newTable(ctx, server, command, max(20_000, rows/10))
	if err != nil {
		return nil, err
	}
	many, err := newTable(ctx, server, command, rows)
	if err != nil {
		return nil, errors.Join(err, tenth.drop())
	}
	defer func() { err = errors.Join(err, many.drop()) }()
	for _, step := range []struct {
		text string
		run  func() error
	}{
		{"load few", func() error { return few.load(ctx, nil) }},
		{"load a tenth", func() error { return tenth.load(ctx, nil) }},
		{"shared and resumed rotations", func() error { return r.rotations(ctx, tenth) }},
		{"drop the tenth", tenth.drop},
		{"import", func() error { return many.load(ctx, r) }},
		{"lookups", func() error { return r.lookups(ctx, few, many) }},
		{"reading commands", func() error { return r.reading(ctx, many) }},
		{"rotate with a key that opens nothing", func() error { return r.wrongKey(ctx, many) }},
		{"rotate, verify", func() error { return r.rotate(ctx, many) }},
		{"one bare UPDATE", func() error { return r.bare(ctx, many) }},
	} {
		note(step.text)
		if err := step.run(); err != nil {
			return nil, fmt.Errorf("%s: %w", step.text, err)
		}
	}
	r.took = time.Since(r.start)
	note("done")
	return r, nil
}
