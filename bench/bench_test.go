package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tiny runs everything, each measure once or twice, with few rows.
func tiny() config {
	return config{
		cryptoRounds: 2, cryptoTime: 100 * time.Microsecond, rounds: 2, turns: 2, bulkTurns: 2, rotateRounds: 2,
		stored: 20, inserts: 2, bulkRows: 20, points: 3,
		growth: []int{20, 40}, rotated: 20, updates: 5, command: "go test",
	}
}

// TestEverything keeps the benchmark from rotting. It says nothing about speed.
func TestEverything(t *testing.T) {
	r, err := measureAll(t.Context(), tiny(), parts(""), &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range r.targets() {
		if target.missing && !strings.HasPrefix(target.claim, "two cores") {
			t.Errorf("%s: not measured", target.claim)
		}
		if target.exact && !target.met() {
			t.Errorf("%s: got %v, want %v", target.claim, target.got.median, target.want)
		}
	}
	text := r.markdown()
	for _, want := range []string{
		"## Targets", "## Cryptography", "## Clients on Postgres", "## Re-encryption", "## Growth", nameTwin,
		nameGORM, nameCopy, "Postgres 1", "Python 3", "gorm.io/gorm v",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	path := filepath.Join(t.TempDir(), "report.svg")
	if err := r.chart(path); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(svg), "<svg") || !strings.Contains(string(svg), "GORM") {
		t.Errorf("the chart has %d bytes, %v", len(svg), err)
	}
	checkTexts(t, string(svg))
}

// checkTexts has that a picture's texts end within it, in a font as wide as
// those are that a viewer may have instead of another.
func checkTexts(t *testing.T, svg string) {
	t.Helper()
	width := regexp.MustCompile(`width="([0-9.]+)pt"`).FindStringSubmatch(svg)
	texts := regexp.MustCompile(`(?s)<text x="([0-9.]+)"[^>]*?scale\(1, -1\)"[^>]*font-size:([0-9.]+)px">([^<]+)<`).FindAllStringSubmatch(svg, -1)
	if width == nil || len(texts) < len(charted)+len(endGroups) {
		t.Fatalf("%d texts in a picture of width %v", len(texts), width)
	}
	number := func(s string) float64 {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, text := range texts {
		if end := number(text[1]) + 0.62*number(text[2])*float64(len(text[3])); end > number(width[1]) {
			t.Errorf("%q ends at %.0f of %s points", text[3], end, width[1])
		}
	}
}

func TestRatios(t *testing.T) {
	t.Parallel()
	a, b := key{"g", "a"}, key{"g", "b"}
	s := series{a: {100, 200, 100}, b: {200, 800, 300, 5}}
	// In pairs of one round: 2, 4, 3.
	if got, want := s.faster(a, b), (ratio{3, 2.5, 3.5}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := s.faster(a, key{"g", "none"}); got != (ratio{}) || got.String() != "–" {
		t.Errorf("nothing measured: got %v", got)
	}
	for _, test := range []struct {
		values []float64
		want   ratio
	}{
		{[]float64{4, 1, 3, 2}, ratio{2.5, 1.75, 3.25}},
		{[]float64{9, 1, 5, 3, 7}, ratio{5, 3, 7}},
		{[]float64{7}, ratio{7, 7, 7}},
	} {
		if got := spread(test.values); got != test.want {
			t.Errorf("%v: got %v, want %v", test.values, got, test.want)
		}
	}
	if got := median(nil); got != 0 {
		t.Errorf("nothing: got %v", got)
	}
	for _, test := range []struct {
		target target
		met    bool
	}{
		{target{want: 2, got: ratio{median: 2}}, true},
		{target{want: 2, got: ratio{median: 1.99}}, false},
		{target{want: 2, got: ratio{median: 2.01}, atMost: true}, false},
		{target{want: 1, got: ratio{median: 0}, exact: true}, false},
		{target{want: 0, missing: true, exact: true}, false},
	} {
		if got := test.target.met(); got != test.met {
			t.Errorf("%+v: got %t", test.target, got)
		}
	}
	for want, target := range map[string]target{
		"| ≥ 2 | 2.00 (1.00–3.00) | met |":            {want: 2, got: ratio{2, 1, 3}},
		"| ≥ 2 | < 2.00 (1.00–3.00) | **missed** |":   {want: 2, got: ratio{1.999, 1, 3}},
		"| ≥ 2 | 1.99 (1.00–3.00) | **missed** |":     {want: 2, got: ratio{1.99, 1, 3}},
		"| ≤ 1.3 | > 1.30 (1.00–3.00) | **missed** |": {want: 1.3, got: ratio{1.301, 1, 3}, atMost: true},
	} {
		if got := strings.TrimSpace(target.row()); got != "|  "+want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestTurns has that the measures of a group take turns, that each is run as
// often as it says, and put back once, at its end.
func TestTurns(t *testing.T) {
	t.Parallel()
	for _, turns := range [][2]int{{0, 0}, {1, 1}, {3, 3}, {7, 7}, {5, 0}} {
		var names, afters []string
		done, want := make(map[string]int), 0
		group := make([]measure, 2)
		for i, name := range []string{"a", "b"} {
			want += max(1, turns[i])
			group[i] = measure{group: "g", name: name, n: 7 + i, turns: turns[i], run: func(n int) error {
				names = append(names, name)
				done[name] += n
				return nil
			}, after: func() error {
				if done[name] != 7+i {
					t.Errorf("%v turns: %s is put back after %d", turns, name, done[name])
				}
				afters = append(afters, name)
				return nil
			}}
		}
		s := make(series)
		if err := round(group, s); err != nil {
			t.Fatal(err)
		}
		if len(afters) != 2 || afters[0] == afters[1] || len(names) != want {
			t.Errorf("%v turns: ran %v, put back %v", turns, names, afters)
		}
		for i := 0; i+1 < 2*min(max(1, turns[0]), max(1, turns[1])); i += 2 {
			if names[i] == names[i+1] {
				t.Errorf("%v turns: %v", turns, names)
			}
		}
		for _, m := range group {
			if times := s[key{"g", m.name}]; len(times) != 1 || times[0] <= 0 {
				t.Errorf("%v turns: %s took %v", turns, m.name, times)
			}
		}
	}
	errAny := errors.New("any")
	failing := measure{group: "g", name: "a", n: 1, run: func(int) error { return errAny }}
	if err := round([]measure{failing}, make(series)); !errors.Is(err, errAny) ||
		!strings.HasPrefix(err.Error(), "g, a: ") {
		t.Errorf("got %v", err)
	}
}

// TestNoPython has what somebody sees who lacks the packages of the Python
// application.
func TestNoPython(t *testing.T) {
	t.Parallel()
	python := filepath.Join(t.TempDir(), "python3")
	script := "#!/bin/sh\necho Traceback >&2\necho \"ModuleNotFoundError: No module named 'sqlalchemy'\" >&2\nexit 1\n"
	if err := os.WriteFile(python, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := pythonVersions(t.Context(), python)
	want := "the Python application cannot run: " + python + ": exit status 1: ModuleNotFoundError: No module named " +
		"'sqlalchemy'; scripts/need python installs what it needs"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := pythonVersions(t.Context(), python+"-none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no Python: got %v", err)
	}
}
