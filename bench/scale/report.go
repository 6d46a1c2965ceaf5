package main

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/credent-go/credent/bench/internal/machine"
)

// memoryLimit is a command's memory limit, in bytes.
const memoryLimit = 100 << 20

// line is a row of the table of commands.
type line struct {
	name   string
	rows   int
	result ran
}

// target is a claim about a ratio, or about a time.
type target struct {
	claim  string
	want   float64
	atMost bool
	got    float64
}

func (t target) met() bool { return t.got == t.want || (t.got < t.want) == t.atMost }

func (t target) row() string {
	sign, verdict := "≥", "met"
	if t.atMost {
		sign = "≤"
	}
	if !t.met() {
		verdict = "**missed**"
	}
	return fmt.Sprintf("| %s | %s %.4g | %.3g | %s |\n", t.claim, sign, t.want, t.got, verdict)
}

// report is the result of a run.
type report struct {
	rows     int
	machine  machine.Machine
	start    time.Time
	took     time.Duration
	lines    []line
	targets  []target
	disk     int64 // the database's size after the import, in bytes
	wal      int64 // bytes logged by a rotation per row
	rotation ran
}

func (r *report) add(name string, rows int, result ran) {
	r.lines = append(r.lines, line{name, rows, result})
}

func (r *report) target(claim string, want float64, atMost bool, got float64) {
	r.targets = append(r.targets, target{claim, want, atMost, got})
}

// all returns the targets, and the memory of each command.
func (r *report) all() []target {
	all := r.targets
	for _, l := range r.lines {
		if l.name == "doctor" {
			continue
		}
		all = append(all, target{
			"resident memory of " + l.name + ", in MB", memoryLimit >> 20, true,
			float64(l.result.memory) / (1 << 20),
		})
	}
	return all
}

// markdown is the whole report.
func (r *report) markdown() string {
	var b strings.Builder
	m := r.machine
	fmt.Fprintf(&b, `# A table of %s rows, measured

Made by `+"`go -C bench run ./scale`"+` on %s in %s.
What the figures mean is in [docs/scale.md](../../docs/scale.md).

- Machine: %s, %d cores, %s of memory, %s. The commands and the server share the cores.
- %s; Postgres %s on the same machine, shared_buffers 1 GB, with fsync off.
- %s.

The database takes %s after the import, %s bytes a row. A rotation logs %s bytes of WAL a row.
Each is measured once, without autovacuum; what writes rows begins after VACUUM FULL, ANALYZE and CHECKPOINT.
What takes several rotations (two processes, a rotation that is stopped) is measured on a tenth of the rows.

`, number(r.rows), m.Date, r.took.Round(time.Second), m.CPU, m.Cores, m.Memory, m.System, runtime.Version(), m.Postgres,
		strings.Join(m.Modules, ", "), size(r.disk), number(int(r.disk/int64(r.rows))), number(int(r.wal)))
	met, all := 0, r.all()
	for _, t := range all {
		if t.met() {
			met++
		}
	}
	fmt.Fprintf(&b, "## Targets\n\n%d of %d met.\n\n| | target | measured | |\n|---|---|---|---|\n", met, len(all))
	for _, t := range all {
		b.WriteString(t.row())
	}
	b.WriteString("\n## Commands\n\n| command | rows a second | time | resident memory |\n|---|---:|---:|---:|\n")
	for _, l := range r.lines {
		fmt.Fprintf(&b, "| `credent %s` | %s | %s | %s |\n", l.name, number(int(l.result.rate(l.rows))),
			l.result.took.Round(time.Second/10), size(l.result.memory))
	}
	return b.String()
}

func join(args []string) string { return strings.Join(args, " ") }

// number writes an integer with a comma between thousands.
func number(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func size(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.0f MB", float64(n)/(1<<20))
}
