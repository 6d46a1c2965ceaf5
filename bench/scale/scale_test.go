package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/credent-go/credent/internal/pgserver"
)

func TestReport(t *testing.T) {
	t.Parallel()
	r := &report{rows: 10_000_000, disk: 3 << 30, wal: 1234}
	r.target("a", 2, false, 2)
	r.target("b", 2, false, 1.99)
	r.target("c", 2, true, 2.01)
	r.add("rotate", 10_000_000, ran{took: 100 * time.Second, memory: 101 << 20})
	r.add("verify", 10_000_000, ran{took: 10 * time.Second, memory: 99 << 20})
	text := r.markdown()
	for _, want := range []string{
		"# A table of 10,000,000 rows", "takes 3.0 GB", "322 bytes a row", "logs 1,234 bytes", "2 of 5 met",
		"| a | ≥ 2 | 2 | met |\n", "| b | ≥ 2 | 1.99 | **missed** |\n", "| c | ≤ 2 | 2.01 | **missed** |\n",
		"| resident memory of rotate, in MB | ≤ 100 | 101 | **missed** |\n", "| `credent verify` | 1,000,000 | 10s | " +
			"99 MB |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}

// Each measure is taken on a small table, except for the ones that need a long
// rotation.
func TestMeasures(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	command, remove, err := build(ctx)
	if err != nil {
		t.Fatal(err)
	}
	server, err := pgserver.Start(ctx)
	if err != nil {
		t.Fatal(errors.Join(err, remove()))
	}
	t.Cleanup(func() {
		if err := errors.Join(server.Stop(), remove()); err != nil {
			t.Error(err)
		}
	})
	r := &report{}
	var tables [2]*table
	for i, rows := range []int{100, 1500} {
		if tables[i], err = newTable(ctx, server, command, rows); err != nil {
			t.Fatal(err)
		}
		if err := tables[i].load(ctx, r); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := tables[i].drop(); err != nil {
				t.Error(err)
			}
		})
	}
	if err := r.lookups(ctx, tables[0], tables[1]); err != nil {
		t.Error(err)
	}
	for _, run := range []func(context.Context, *table) error{r.reading, r.wrongKey, r.rotate, r.bare} {
		if err := run(ctx, tables[1]); err != nil {
			t.Fatal(err)
		}
	}
	// Two imports, four commands that read, three rotations and verifications.
	if len(r.lines) != 2+4+3 || len(r.targets) != 3+2 || r.wal < 100 || r.disk == 0 {
		t.Errorf("not everything was measured: %+v", r)
	}
	for _, l := range r.lines {
		if l.result.took <= 0 || l.result.memory < 1<<20 {
			t.Errorf("%s: %+v", l.name, l.result)
		}
	}
	if err := run(ctx, []string{"-rows", "10"}, nil, nil); err == nil {
		t.Error("ten rows are enough")
	}
}
