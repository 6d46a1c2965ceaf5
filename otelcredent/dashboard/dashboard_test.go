// Package dashboard has a dashboard for Grafana, credent.json, and pictures of
// it for screens of three widths.
package dashboard_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// inQuery matches labels in braces. Labels in by() also appear in legends.
var inQuery = regexp.MustCompile(`(\w+)!?="`)

var update = flag.Bool("update", false, "work for half a minute, and draw the pictures")

func read(t *testing.T) (d dashboard) {
	t.Helper()
	data, err := os.ReadFile("credent.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestQueriesNameMetrics calls each hook, and checks that Prometheus then
// scrapes every metric and label of the dashboard.
func TestQueriesNameMetrics(t *testing.T) {
	t.Parallel()
	l := newLoad(t, time.Hour)
	said := errors.New("said")
	observer := l.metrics.Observer()
	for _, err := range []error{nil, said} {
		for _, plain := range []bool{true, false} {
			observer.Opened(encrypted.Event{Table: "t", Column: "c", Err: err, Plaintext: plain})
			observer.Sealed(encrypted.Event{Table: "t", Column: "c", Err: err, Plaintext: plain})
		}
	}
	observer.TenantKeys(encrypted.TenantKeyLookup{Known: 1, Read: 1, Kept: 1})
	l.metrics.KeyringLoaded(keyring.Event{Before: []string{"a"}, After: []string{"b"}})
	l.metrics.KeyringLoaded(keyring.Event{Err: said})
	_, run := l.metrics.Rotation(t.Context(), "rotate")
	run.Progress(rotate.Progress{Table: "t", Pass: 1, Read: 1, Rewritten: 1, Total: 1})
	run.Progress(rotate.Progress{Waiting: said})
	if err := run.Quarantine([]rotate.Quarantined{{Table: "t", Column: "c", Err: said}}); err != nil {
		t.Error(err)
	}
	labels := make(map[string]map[string]bool) // by metric
	for _, one := range l.scrape().series {
		name := one.labels["__name__"]
		if labels[name] == nil {
			labels[name] = make(map[string]bool)
		}
		for label := range one.labels {
			labels[name][label] = true
		}
	}
	run.End(nil)
	used := 0
	for _, p := range read(t).Panels {
		for _, target := range p.Targets {
			_, names, err := parse(target.Expr)
			if err != nil {
				t.Errorf("%s: %s: %v", p.Title, target.Expr, err)
			}
			for name := range names {
				used++
				known := labels[name]
				if known == nil {
					t.Errorf("%s: no metric is called %s; there are %s", p.Title, name,
						slices.Sorted(maps.Keys(labels)))
				}
				for _, label := range slices.Concat(inQuery.FindAllStringSubmatch(target.Expr, -1),
					inLegend.FindAllStringSubmatch(target.LegendFormat, -1)) {
					if !known[label[1]] {
						t.Errorf("%s: %s has no label %s", p.Title, name, label[1])
					}
				}
			}
		}
	}
	if used < 15 {
		t.Errorf("only %d metrics are used", used)
	}
}

// TestPicture runs a service under load, with failures and a rotation, and
// draws the dashboard from the scraped metrics. Each panel must have data above
// 0.
func TestPicture(t *testing.T) {
	t.Parallel()
	scrapes, every := 24, 20*time.Millisecond
	if *update {
		scrapes, every = 75, 400*time.Millisecond
	}
	l := newLoad(t, 3*every)
	h := l.run(scrapes, every)
	d := read(t)
	for _, p := range d.Panels {
		lines, err := p.lines(h)
		if err != nil {
			t.Error(err)
		}
		most := 0.0
		for _, l := range lines {
			if math.IsNaN(l.latest()) || l.latest() < 0 {
				t.Errorf("%s: %s: %v", p.Title, l.name, l.values)
			}
			for _, v := range l.values {
				if v > most { // false for a gap
					most = v
				}
			}
		}
		if most == 0 {
			t.Errorf("%s: no data above 0", p.Title)
		}
	}
	note := fmt.Sprintf("a test service on SQLite for %.0f seconds, with damaged rows, a keyring whose source fails "+
		"for a while, a rotation, and an audit trail that can't be written for a while",
		h.scrapes[len(h.scrapes)-1].at.Sub(h.scrapes[0].at).Seconds())
	for _, width := range widths {
		svg, err := draw(d, h, note, width)
		if err != nil {
			t.Fatal(err)
		}
		file := fmt.Sprintf("credent-%d.svg", width)
		if *update {
			if err := os.WriteFile(file, []byte(svg), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		drawn, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range d.Panels {
			if !strings.Contains(string(drawn), ">"+html.EscapeString(p.Title)+"<") {
				t.Errorf("%s lacks the panel %q: redraw it", file, p.Title)
			}
		}
	}
}

// TestQueries compares the query implementation with Prometheus's results for
// the same samples.
func TestQueries(t *testing.T) {
	t.Parallel()
	h := history{interval: 2}
	start := time.Unix(1000, 0)
	// c restarts at 30 s; d appears at 20 s.
	for i, values := range []map[string]float64{
		{"c": 10, "g": 1}, {"c": 20, "g": 2}, {"c": 40, "g": 3, "d": 5}, {"c": 5, "g": 4, "d": 9},
	} {
		s := scrape{at: start.Add(time.Duration(i) * 10 * time.Second)}
		for _, name := range slices.Sorted(maps.Keys(values)) {
			for _, of := range []string{"x", "y"} {
				s.series = append(s.series, series{map[string]string{"__name__": name, "of": of}, values[name]})
			}
		}
		h.scrapes = append(h.scrapes, s)
	}
	for _, test := range []struct {
		query string
		now   int
		want  map[string]float64
	}{
		{`g`, 3, map[string]float64{`__name__="g" of="x" `: 4, `__name__="g" of="y" `: 4}},
		{`g{of="x"}`, 0, map[string]float64{`__name__="g" of="x" `: 1}},
		{`sum(g)`, 3, map[string]float64{"": 8}},
		{`max by (of) (g{of!="x"})`, 3, map[string]float64{`of="y" `: 4}},
		{`sum(rate(c[$__rate_interval]))`, 2, map[string]float64{"": 3}},
		{`sum(increase(c[25s]))`, 3, map[string]float64{"": 2 * (20 + 5)}},
		{`rate(d{of="x"}[$__rate_interval])`, 3, map[string]float64{`of="x" `: 0.4}},
		{`rate(d[$__rate_interval])`, 2, map[string]float64{}}, // one sample
		{`sum(g) / sum(g)`, 3, map[string]float64{"": 1}},
		{`sum(h) or vector(0)`, 3, map[string]float64{"": 0}},
		{`sum(h)`, 3, map[string]float64{}},
	} {
		q, _, err := parse(test.query)
		if err != nil {
			t.Errorf("%s: %v", test.query, err)
			continue
		}
		got := make(map[string]float64)
		for _, one := range q(h, test.now) {
			got[id(one.labels)] = math.Round(one.value*1e9) / 1e9
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.query, diff)
		}
	}
	for _, bad := range []string{
		"", "sum(", "avg(g)", "g offset 5m", "sum(g) by (of)", "rate(g)", "rate(g[x])", "g + g", `g{of=~"x"}`,
	} {
		if _, _, err := parse(bad); err == nil {
			t.Errorf("%q is understood", bad)
		}
	}
}
