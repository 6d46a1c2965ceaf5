package page

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/credent-go/credent/internal/report"
	"github.com/credent-go/credent/rotate"
)

// Charts use their own units, and the browser stretches them: wide is a chart's
// width, and high the height of a column chart. Their texts are HTML beside
// them, so that they keep their size.
const (
	wide = 1000
	high = 100
)

// underChart shows which keys each column's secrets are under.
type underChart struct {
	Rows   []barRow
	Legend []legend
}

// barRow is one stacked bar.
type barRow struct {
	Name  string
	Note  string // source of its numbers
	Total int64
	Parts []part
}

// Label describes the bar in words.
func (r barRow) Label() string {
	var texts []string
	for _, p := range r.Parts {
		texts = append(texts, fmt.Sprintf("%s %s", Number(p.N), p.Name))
	}
	if len(texts) == 0 {
		return r.Name + ": none"
	}
	return r.Name + ": " + strings.Join(texts, ", ")
}

// part is a segment of a bar.
type part struct {
	Name, Class string
	N           int64
	X, Width    int
}

// legend explains a color.
type legend struct{ Name, Class string }

// kinds describes the categories that aren't keys, with their colors.
var kinds = map[string]legend{
	rotate.UnderTenantKey: {"under the key of their tenant", "tenant"},
	rotate.UnderDestroyed: {"shredded", "gone"},
	rotate.UnderReadable:  {"readable, though shredded", "bad"},
	rotate.UnderUnknown:   {"under no known key, or altered", "bad"},
	rotate.UnderNone:      {"not encrypted", "bad"},
	rotate.UnderDamaged:   {"damaged", "bad"},
}

// newUnderChart uses each column's last verification, or its sample if no
// verification has the counts.
func newUnderChart(r *report.Report) underChart {
	chart := underChart{}
	order, names := newNames(r.Keys)
	for _, t := range r.Tables {
		for _, c := range t.Columns {
			row := barRow{Name: c.Table + "." + c.Column}
			under := c.Sample.Under
			if row.Note = "a sample of " + Number(c.Sample.Secrets); t.Whole {
				row.Note = "all, now"
			}
			if run, ok := lastOf(r.Verifications, row.Name); ok && len(run.Under) > 0 && !t.Whole {
				under, row.Note = run.Under, "all, on "+day(run.At)
			} else if !c.Sample.Opened {
				continue
			}
			row.Total, row.Parts = stack(under, order, names)
			chart.Rows = append(chart.Rows, row)
			for _, p := range row.Parts {
				if l := (legend{p.Name, p.Class}); !slices.Contains(chart.Legend, l) {
					chart.Legend = append(chart.Legend, l)
				}
			}
		}
	}
	return chart
}

func lastOf(all []report.Verification, name string) (report.Run, bool) {
	for _, v := range all {
		if v.Column == name {
			return v.Last()
		}
	}
	return report.Run{}, false
}

// newNames assigns a color and a name to each key, in order.
func newNames(keys []report.Key) (order []string, names map[string]legend) {
	names = make(map[string]legend)
	for i, k := range keys {
		if k.Use != "tenants" {
			order = append(order, k.ID)
			names[k.ID] = legend{"under key " + k.ID, "key" + strconv.Itoa(min(i, 4))}
		}
	}
	for _, kind := range []string{
		rotate.UnderTenantKey, rotate.UnderDestroyed, rotate.UnderReadable, rotate.UnderUnknown, rotate.UnderNone,
		rotate.UnderDamaged,
	} {
		order, names[kind] = append(order, kind), kinds[kind]
	}
	return order, names
}

// stack lays the counts side by side. Even the smallest count stays visible.
func stack(under map[string]int64, order []string, names map[string]legend) (total int64, parts []part) {
	for _, n := range under {
		total += n
	}
	x := 0
	for _, name := range order {
		n := under[name]
		if n == 0 {
			continue
		}
		width := max(int(float64(n)/float64(total)*wide), 6)
		parts = append(parts, part{names[name].Name, names[name].Class, n, x, width})
		x += width
	}
	for i := range parts { // make room for parts wider than their share
		parts[i].X, parts[i].Width = parts[i].X*wide/x, max(parts[i].Width*wide/x, 1)
	}
	return total, parts
}

// ageRow shows the time range of a key's tokens.
type ageRow struct {
	report.Key
	Class    string
	X, Width int
}

func newAges(keys []report.Key) (rows []ageRow) {
	var first, last time.Time
	for _, k := range keys {
		if k.Oldest != nil && (first.IsZero() || k.Oldest.Before(first)) {
			first = *k.Oldest
		}
		if k.Newest != nil && k.Newest.After(last) {
			last = *k.Newest
		}
	}
	all := max(last.Sub(first), time.Second)
	at := func(t time.Time) int { return int(float64(t.Sub(first)) / float64(all) * wide) }
	for i, k := range keys {
		row := ageRow{Key: k, Class: "key" + strconv.Itoa(min(i, 4))}
		if k.Use == "tenants" {
			row.Class = "tenant"
		}
		if k.Oldest != nil && k.Newest != nil {
			row.X, row.Width = min(at(*k.Oldest), wide-6), max(at(*k.Newest)-at(*k.Oldest), 6)
		}
		rows = append(rows, row)
	}
	return rows
}

// trend shows a column's verifications.
type trend struct {
	report.Verification
	Columns []column
	Most    int64 // most secrets in one run
	Latest  []report.Run
}

// Label describes the chart in words.
func (t trend) Label() string {
	ready, failed := 0, int64(0)
	for _, r := range t.Runs {
		if r.Ready {
			ready++
		}
		failed = max(failed, r.Failed)
	}
	last, _ := t.Last()
	return fmt.Sprintf("%s: %d verifications from %s to %s, %d of them ready; %s secrets at the last one, "+
		"and at most %s failures", t.Column, len(t.Runs), day(t.Runs[0].At), day(last.At), ready,
		Number(last.Secrets), Number(failed))
}

// column is one column of a column chart.
type column struct {
	Name, Class         string
	N                   int64
	X, Width, Y, Height int
	Bad                 int // height of the failed part
}

// BadY is the y coordinate where the failed part begins.
func (c column) BadY() int { return high - c.Bad }

// maxListed limits the runs in the table, and maxMonths the months in the
// chart.
const maxListed, maxMonths = 6, 36

func newTrends(all []report.Verification) (trends []trend) {
	for _, v := range all {
		t := trend{Verification: v}
		for _, r := range v.Runs {
			t.Most = max(t.Most, r.Secrets)
		}
		for i, r := range v.Runs {
			c := columnAt(i, len(v.Runs), r.Secrets, t.Most)
			if c.Class = "ready"; !r.Ready {
				c.Class = "behind"
			}
			if r.Failed > 0 {
				c.Bad = max(int(float64(r.Failed)/float64(max(t.Most, 1))*high), 4)
			}
			t.Columns = append(t.Columns, c)
		}
		t.Latest = slices.Clone(v.Runs[max(len(v.Runs)-maxListed, 0):])
		slices.Reverse(t.Latest)
		trends = append(trends, t)
	}
	return trends
}

func newMonths(months []report.Month, now time.Time) (columns []column) {
	var most int64
	for _, m := range months {
		most = max(most, m.N)
	}
	all := allMonths(months, now)
	for i, m := range all {
		c := columnAt(i, len(all), m.N, most)
		if c.Name, c.Class = m.Month, "gone"; m.N == 0 {
			c.Height = 0
		}
		columns = append(columns, c)
	}
	return columns
}

// allMonths adds the months without a destruction, from the first month to the
// current one and for at least a year.
func allMonths(months []report.Month, now time.Time) (all []report.Month) {
	if len(months) == 0 {
		return nil
	}
	const layout = "2006-01"
	last := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	for back := 0; len(all) < maxMonths; back++ {
		m := report.Month{Month: last.AddDate(0, -back, 0).Format(layout)}
		if len(all) >= 12 && m.Month < months[0].Month {
			break
		}
		if i := slices.IndexFunc(months, func(of report.Month) bool { return of.Month == m.Month }); i >= 0 {
			m = months[i]
		}
		all = append(all, m)
	}
	slices.Reverse(all)
	return all
}

// columnAt returns the i-th of n columns, with the first and the last at the
// chart's edges.
func columnAt(i, n int, value, most int64) column {
	width := min(wide*4/5/n, wide/12)
	height := max(int(float64(value)/float64(max(most, 1))*high), 2)
	return column{
		N: value, X: i * (wide - width) / max(n-1, 1), Width: width, Y: high - height,
		Height: height,
	}
}
