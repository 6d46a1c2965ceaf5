package dashboard_test

import (
	"fmt"
	"html"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

// dashboard holds the drawn parts of a dashboard's JSON.
type dashboard struct {
	Title  string
	Panels []panel
}

type panel struct {
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct {
		Defaults struct {
			Unit       string
			Thresholds struct{ Steps []struct{ Value *float64 } }
		}
	}
	Targets []struct{ Expr, LegendFormat string }
}

// line is one series of a panel over all scrapes. NaN marks a gap.
type line struct {
	name   string
	values []float64
}

var inLegend = regexp.MustCompile(`{{(\w+)}}`)

// lines computes a panel's series.
func (p panel) lines(h history) (all []line, err error) {
	for _, target := range p.Targets {
		q, _, err := parse(target.Expr)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", p.Title, target.Expr, err)
		}
		places := make(map[string]int)
		first := len(all)
		for now := range h.scrapes {
			for _, one := range q(h, now) {
				at, known := places[id(one.labels)]
				if !known {
					at = len(all)
					places[id(one.labels)] = at
					name := inLegend.ReplaceAllStringFunc(target.LegendFormat,
						func(name string) string { return one.labels[strings.Trim(name, "{}")] })
					all = append(all, line{
						strings.TrimSpace(name), slices.Repeat([]float64{math.NaN()}, len(h.scrapes)),
					})
				}
				all[at].values[now] = one.value
			}
		}
		slices.SortStableFunc(all[first:], func(a, b line) int { return strings.Compare(a.name, b.name) })
	}
	return all, nil
}

// latest returns the last value that isn't a gap.
func (l line) latest() float64 {
	for _, v := range slices.Backward(l.values) {
		if !math.IsNaN(v) {
			return v
		}
	}
	return math.NaN()
}

// widths are the pictures' widths in pixels: a phone's, a tablet's and a
// desktop's.
var widths = []int{360, 768, 1280}

const (
	rowHeight   = 32 // one unit of the grid
	margin, gap = 12, 10
	padding     = 12 // inside a panel
	lineHeight  = 18
	charWidth   = 7.3 // width of most letters in wide fonts
)

// style has sufficient contrast in light and dark mode.
const style = `
text { font: 12px system-ui, sans-serif; fill: #4b5159 }
.name { font-size: 24px; font-weight: 600 }
.title { font-size: 13px; font-weight: 600 }
.value { font-size: 34px; font-weight: 600 }
.name, .title, .value { fill: #16191d }
.good { fill: #1c7a3f }
.bad { fill: #b3302f }
.page { fill: #f3f4f6 }
.panel { fill: #fff; stroke: #d5d9de }
.axis { stroke: #e6e8eb }
.line { fill: none; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round }
.s0 { stroke: #1f6fb2 }
.s1 { stroke: #d1661f }
.s2 { stroke: #2f8f4e }
.s3 { stroke: #a63a79 }
.s4 { stroke: #7a6a1e }
.s5 { stroke: #5a55b8 }
@media (prefers-color-scheme: dark) {
text { fill: #b3bac2 }
.name, .title, .value { fill: #eceef0 }
.good { fill: #5cc481 }
.bad { fill: #f2807d }
.page { fill: #101317 }
.panel { fill: #1a1e24; stroke: #343a42 }
.axis { stroke: #2b3038 }
.s0 { stroke: #5fa8e6 }
.s1 { stroke: #ef8f4f }
.s2 { stroke: #5bbd7b }
.s3 { stroke: #de78b3 }
.s4 { stroke: #c9b458 }
.s5 { stroke: #9d99ee }
}
`

const colors = 6 // line colors in style

// arrange returns the panels in rows: as in the JSON's grid or, in a narrow
// picture, one or two per row. A panel alone in its row fills it.
func arrange(panels []panel, width int) (rows [][]panel) {
	most := 24
	if width < 1000 {
		most = max(1, width/360)
	}
	for _, p := range panels {
		if last := len(rows) - 1; last >= 0 && len(rows[last]) < most && rows[last][0].GridPos.H == p.GridPos.H &&
			(width < 1000 || rows[last][0].GridPos.Y == p.GridPos.Y) {
			rows[last] = append(rows[last], p)
			continue
		}
		rows = append(rows, []panel{p})
	}
	if width < 1000 {
		for _, row := range rows {
			for i := range row {
				row[i].GridPos.X, row[i].GridPos.W = 24/len(row)*i, 24/len(row)
			}
		}
	}
	return rows
}

// draw draws a dashboard in the given width.
func draw(d dashboard, h history, note string, width int) (string, error) {
	var b strings.Builder
	text(&b, margin, 38, "name", d.Title)
	y := 44
	for _, part := range wrap(note, width-2*margin) {
		y += lineHeight
		text(&b, margin, y, "", part)
	}
	y += 14
	column := float64(width-2*margin+gap) / 24
	for _, row := range arrange(d.Panels, width) {
		high := 0
		all := make([][]line, len(row))
		for i, p := range row {
			var err error
			if all[i], err = p.lines(h); err != nil {
				return "", err
			}
			high = max(high, p.height(all[i], int(column*float64(p.GridPos.W))-gap))
		}
		for i, p := range row {
			x, w := margin+int(column*float64(p.GridPos.X)), int(column*float64(p.GridPos.W))-gap
			fmt.Fprintf(&b, "<g transform=\"translate(%d %d)\">\n", x, y)
			fmt.Fprintf(&b, "<rect class=\"panel\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n", w, high)
			text(&b, padding, 23, "title", p.Title)
			if p.Type == "stat" {
				p.stat(&b, all[i])
			} else {
				p.chart(&b, all[i], h, w, high)
			}
			b.WriteString("</g>\n")
		}
		y += high + gap
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" `+
		`style="max-width: 100%%; height: auto" role="img" aria-labelledby="title">
<title id="title">%[3]s: %[4]s</title>
<style>%[5]s</style>
<rect class="page" width="%[1]d" height="%[2]d"/>
%[6]s</svg>
`, width, y-gap+margin, html.EscapeString(d.Title), html.EscapeString(note), style, b.String()), nil
}

func text(b *strings.Builder, x, y int, class, what string) {
	if class != "" {
		class = fmt.Sprintf(" class=%q", class)
	}
	fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\"%s>%s</text>\n", x, y, class, html.EscapeString(what))
}

// wrap breaks a text between words to fit a width.
func wrap(what string, width int) (parts []string) {
	for _, word := range strings.Fields(what) {
		last := len(parts) - 1
		if last < 0 || charWidth*float64(len(parts[last])+1+len(word)) > float64(width) {
			parts = append(parts, word)
			continue
		}
		parts[last] += " " + word
	}
	return parts
}

// stat draws the last value, in red at or above the last threshold.
func (p panel) stat(b *strings.Builder, lines []line) {
	shown, class := "no data", "value"
	if len(lines) > 0 {
		last := lines[0].latest()
		shown = p.format(last, 0)
		for _, step := range p.FieldConfig.Defaults.Thresholds.Steps {
			class = "value good"
			if step.Value != nil && last >= *step.Value {
				class = "value bad"
				break
			}
		}
	}
	text(b, padding, 68, class, shown)
}

const (
	plotTop, plotLeft, plotRight = 38, 62, 20
	ticks                        = 30 // pixels for the times below the plot
	mark                         = 18 // pixels before a name in the legend
)

// height returns the height that a panel needs at a width.
func (p panel) height(lines []line, w int) int {
	if p.Type == "stat" {
		return 84
	}
	_, names := legend(lines, w)
	return max(p.GridPos.H*rowHeight-gap, plotTop+130+ticks+names+padding)
}

// label is a name in the legend.
type label struct {
	x, y  int
	parts []string
}

// legend returns the lines' labels, on one row if they fit, and the legend's
// height.
func legend(lines []line, w int) (labels []label, high int) {
	w -= 2 * padding
	longest := 1
	for _, l := range lines {
		longest = max(longest, len(l.name))
	}
	perRow := max(1, min(3, int(float64(w)/(charWidth*float64(longest)+mark))))
	rowHigh := 0
	for i, l := range lines {
		if i%perRow == 0 {
			high, rowHigh = high+rowHigh, 0
		}
		parts := wrap(l.name, w/perRow-mark)
		labels = append(labels, label{padding + i%perRow*w/perRow, high, parts})
		rowHigh = max(rowHigh, lineHeight*len(parts))
	}
	return labels, high + rowHigh
}

// chart draws the series over time, with the y axis starting at 0.
func (p panel) chart(b *strings.Builder, lines []line, h history, w, high int) {
	labels, names := legend(lines, w)
	right, bottom := w-plotRight, high-padding-names-ticks
	most := 0.0
	for _, l := range lines {
		for _, v := range l.values {
			if v > most { // false for a gap
				most = v
			}
		}
	}
	step := niceStep(most)
	most = max(1, math.Ceil(most/step)) * step
	if p.FieldConfig.Defaults.Unit == "percentunit" {
		most, step = 1, 0.25
	}
	start, end := h.scrapes[0].at, h.scrapes[len(h.scrapes)-1].at
	xOf := func(at time.Time) float64 {
		return plotLeft + float64(right-plotLeft)*float64(at.Sub(start))/float64(end.Sub(start))
	}
	yOf := func(v float64) float64 { return float64(bottom) - float64(bottom-plotTop)*v/most }
	b.WriteString("<g text-anchor=\"end\">\n")
	for v := 0.0; v <= most*1.001; v += step {
		fmt.Fprintf(b, "<path class=\"axis\" d=\"M%d %.1fH%d\"/>\n", plotLeft, yOf(v), right)
		text(b, plotLeft-8, int(yOf(v))+4, "", p.format(v, step))
	}
	b.WriteString("</g>\n<g text-anchor=\"middle\">\n")
	tick := time.Duration(niceStep(end.Sub(start).Seconds()) * float64(time.Second))
	for at := start; !at.After(end); at = at.Add(tick) {
		text(b, int(xOf(at)), bottom+19, "", fmt.Sprintf("%g s", at.Sub(start).Seconds()))
	}
	if len(lines) == 0 {
		text(b, (plotLeft+right)/2, (plotTop+bottom)/2, "", "no data")
	}
	b.WriteString("</g>\n")
	for i, l := range slices.Backward(lines) { // draws the first line on top
		var path strings.Builder
		pen := "M"
		for now, v := range l.values {
			if math.IsNaN(v) {
				pen = "M"
				continue
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", pen, xOf(h.scrapes[now].at), yOf(v))
			if pen == "M" {
				path.WriteString("h0") // a dot, unless another point follows
			}
			pen = "L"
		}
		at := labels[i]
		y := bottom + ticks + at.y + 14
		fmt.Fprintf(b, "<path class=\"line s%d\" d=\"%sM%d %dh10\"/>\n", i%colors, path.String(), at.x+1, y-4)
		for row, part := range at.parts {
			text(b, at.x+mark, y+row*lineHeight, "", part)
		}
	}
}

// niceStep returns 1, 2 or 5 times a power of ten, giving at most five steps.
func niceStep(most float64) float64 {
	if most <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(most/4)))
	for _, times := range []float64{1, 2, 5, 10} {
		if most/(times*power) <= 5 {
			return times * power
		}
	}
	return 10 * power
}

// format formats a value in the panel's unit, for an axis with the given step.
func (p panel) format(v, step float64) string {
	if math.IsNaN(v) {
		return "no data"
	}
	digits := 0
	if step > 0 && step < 1 {
		digits = int(math.Ceil(-math.Log10(step)))
	}
	switch p.FieldConfig.Defaults.Unit {
	case "percentunit":
		return fmt.Sprintf("%.0f %%", 100*v)
	case "s":
		return fmt.Sprintf("%.*f s", max(digits, 1), v)
	case "ops":
		return fmt.Sprintf("%.*f/s", digits, v)
	}
	return fmt.Sprintf("%.*f", digits, v)
}
