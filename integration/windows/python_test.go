package windows

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/states"
)

// maxGaps is how many rows without a digest Python may leave: fewer than the
// 1,000 that clients fill in on their own.
const maxGaps = 200

// pyOp is an operation of writer.py, and pyResult its result.
type pyOp struct {
	Kind    string     `json:"kind"`
	Title   string     `json:"title"`
	Owner   string     `json:"owner"`
	Texts   [3]*string `json:"texts"`
	Digests bool       `json:"digests"`

	on   *entry // the row it reads or updates
	dup  bool   // its code is another row's
	next *entry // the row if the database accepts it
}

type pyResult struct {
	Texts   [3]*string `json:"texts"`
	Refused bool       `json:"refused"`
	Error   string     `json:"error"`
}

// foreign is the Python writer. It reads and writes its own part of the rows.
type foreign struct {
	*part
	in    io.Writer
	out   *bufio.Reader
	state states.Set
	gaps  map[*entry]bool // rows it stored without digests
	old   bool            // it writes no digests
	// beside means that rotate runs, which ends when no row lacks a digest.
	beside bool
}

func python() string {
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		return "/usr/bin/python3"
	}
	return "python3"
}

// pythonOf returns the Python code under a mark on a documentation page.
func pythonOf(t *testing.T, page, mark string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "<!-- python: "+mark+";")
	_, rest, ok2 := strings.Cut(rest, "```python\n")
	code, _, ok3 := strings.Cut(rest, "```")
	if !ok || !ok2 || !ok3 {
		t.Fatalf("docs/%s has no Python under %q", page, mark)
	}
	return code
}

func startPython(t *testing.T, p *part, url, key string) *foreign {
	t.Helper()
	code, err := os.ReadFile("writer.py")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python(), "-c",
		pythonOf(t, "binding.md", "a bound token")+pythonOf(t, "tenant-keys.md", "a tenant's key")+string(code))
	cmd.Env = append(os.Environ(), "DATABASE_URL="+url, "ENCRYPTION_KEY="+key)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil {
			t.Errorf("Python: %v", err)
		}
	})
	return &foreign{part: p, in: in, out: bufio.NewReader(out), gaps: make(map[*entry]bool)}
}

func (f *foreign) move(to states.Set) { f.state = to }

// work runs a batch of operations, and compares their results.
func (f *foreign) work(n int) error {
	ops := make([]*pyOp, n)
	now := make(map[*entry]*entry) // rows after the previous operations
	gaps := len(f.gaps)
	for i := range ops {
		ops[i] = f.choose(now, gaps < maxGaps)
		if !ops[i].Digests {
			gaps++
		}
	}
	line, err := json.Marshal(map[string]any{
		"states": []int{int(f.state.Encryption), int(f.state.Binding), int(f.state.TenantKeys)}, "ops": ops,
	})
	if err != nil {
		return err
	}
	if _, err := f.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("python: %w", err)
	}
	if line, err = f.out.ReadBytes('\n'); err != nil {
		return fmt.Errorf("python: %w", err)
	}
	var results []pyResult
	if err := json.Unmarshal(line, &results); err != nil {
		return err
	}
	if len(results) != len(ops) {
		return errors.New("python: not every operation has a result")
	}
	for i, op := range ops {
		if err := f.settle(op, results[i]); err != nil {
			return fmt.Errorf("python: %s %s: %w", op.Kind, op.Title, err)
		}
	}
	return nil
}

// choose generates an operation.
func (f *foreign) choose(now map[*entry]*entry, mayGap bool) *pyOp {
	op := &pyOp{Digests: !f.old && (f.beside || !mayGap || f.random.IntN(12) > 0)}
	kind := f.random.IntN(8)
	if f.old && (kind == 3 || !mayGap) {
		kind = 0
	}
	switch kind {
	case 0, 1, 2:
		e := f.shared()
		op.Kind, op.on, op.next = "read", e, e
		if of, ok := now[e]; ok {
			op.next = of
		}
		op.Title, op.Digests = e.title, true
	case 3:
		op.Kind, op.dup, op.Digests = "insert", true, true
		op.next = f.fresh()
		op.next.texts[code] = &f.w.taken[f.random.IntN(f.w.digested)]
	case 4:
		op.Kind, op.next = "insert", f.fresh()
	default:
		e := f.changeable()
		op.Kind, op.on = "update", e
		op.next = f.fresh()
		op.next.title, op.next.owner = e.title, e.owner
		now[e] = op.next
	}
	if op.Kind != "read" {
		op.Title, op.Owner, op.Texts = op.next.title, op.next.owner, op.next.texts
	}
	return op
}

func (f *foreign) settle(op *pyOp, got pyResult) error {
	f.operations++
	switch {
	case got.Error != "":
		return errors.New(got.Error)
	case got.Refused != op.dup:
		return fmt.Errorf("refused: %v, want %v", got.Refused, op.dup)
	case op.dup:
		f.refused++
	case op.Kind == "read":
		for i, text := range op.next.texts {
			if !same(text, got.Texts[i]) {
				return fmt.Errorf("secret %d reads differently", i)
			}
		}
	case op.Kind == "insert":
		op.next.stable = true
		f.add(op.next)
		f.gap(op.next, op.Digests)
		f.stored = append(f.stored, op.next)
	default:
		f.set(op.on, op.next.owner, op.next.texts)
		f.gap(op.on, op.Digests)
	}
	return nil
}

func (f *foreign) gap(e *entry, digests bool) {
	if digests {
		delete(f.gaps, e)
	} else {
		f.gaps[e] = true
	}
}
