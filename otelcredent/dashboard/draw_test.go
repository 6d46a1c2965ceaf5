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

// dashboard is what is drawn of a dashboard's JSON.
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

// line is one series of a panel over all scrapes. NaN is a gap.
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
					all = append(all, line{strings.TrimSpace(name), gap(len(h.scrapes))})
				}
				all[at].values[now] = one.value
			}
		}
		slices.SortStableFunc(all[first:], func(a, b line) int { return strings.Compare(a.name, b.name) })
	}
	return all, nil
}

func gap(n int) []float64 { return slices.Repeat([]float64{math.NaN()}, n) }

// latest returns the last value that isn't missing.
func (l line) latest() float64 {
	for _, v := range slices.Backward(l.values) {
		if !math.IsNaN(v) {
			return v
		}
	}
	return math.NaN()
}

const (
	column, rowHeight = 50, 32 // pixels of the grid
	margin            = 16
	header            = 84
)

var colors = []string{"#1f6fb2", "#d1661f", "#2f8f4e", "#a63a79", "#7a6a1e", "#5a55b8", "#b3302f", "#3c8d93"}

// draw draws a dashboard.
func draw(d dashboard, h history, note string) (string, error) {
	bottom := 0
	for _, p := range d.Panels {
		bottom = max(bottom, p.GridPos.Y+p.GridPos.H)
	}
	width, height := 24*column+2*margin, bottom*rowHeight+header+margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" `+
		`role="img" aria-labelledby="title" font-family="system-ui, sans-serif" font-size="13">`+"\n", width, height)
	fmt.Fprintf(&b, "<title id=\"title\">%s: %s</title>\n", html.EscapeString(d.Title), html.EscapeString(note))
	fmt.Fprintf(&b, "<rect width=\"%d\" height=\"%d\" fill=\"#f3f4f6\"/>\n", width, height)
	text(&b, margin, 38, "font-size=\"24\" font-weight=\"600\" fill=\"#16191d\"", d.Title)
	text(&b, margin, 62, "fill=\"#4b5159\"", note)
	for _, p := range d.Panels {
		lines, err := p.lines(h)
		if err != nil {
			return "", err
		}
		x, y := p.GridPos.X*column+margin, p.GridPos.Y*rowHeight+header
		w, high := p.GridPos.W*column-10, p.GridPos.H*rowHeight-10
		fmt.Fprintf(&b, "<g transform=\"translate(%d %d)\">\n", x, y)
		fmt.Fprintf(&b, "<rect width=\"%d\" height=\"%d\" rx=\"6\" fill=\"#fff\" stroke=\"#d5d9de\"/>\n", w, high)
		text(&b, 12, 22, "font-weight=\"600\" fill=\"#16191d\"", p.Title)
		if p.Type == "stat" {
			p.stat(&b, lines)
		} else {
			p.chart(&b, lines, h, w, high)
		}
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String(), nil
}

func text(b *strings.Builder, x, y int, attributes, what string) {
	fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" %s>%s</text>\n", x, y, attributes, html.EscapeString(what))
}

// stat draws the last value, in red from the last threshold on.
func (p panel) stat(b *strings.Builder, lines []line) {
	shown, color := "no data", "#16191d"
	if len(lines) > 0 {
		last := lines[0].latest()
		shown = p.format(last, 0)
		for _, step := range p.FieldConfig.Defaults.Thresholds.Steps {
			color = "#1c7a3f"
			if step.Value != nil && last >= *step.Value {
				color = "#b3302f"
				break
			}
		}
	}
	text(b, 12, 74, "font-size=\"34\" font-weight=\"600\" fill=\""+color+"\"", shown)
}

// chart draws the series over the time, from 0.
func (p panel) chart(b *strings.Builder, lines []line, h history, w, high int) {
	const left, top = 62, 38
	perRow := 2
	for _, l := range lines {
		if len(l.name) > 34 {
			perRow = 1
		}
	}
	legendRows := (len(lines) + perRow - 1) / perRow
	right, bottom := w-16, high-34-18*legendRows
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
		return left + float64(right-left)*float64(at.Sub(start))/float64(end.Sub(start))
	}
	yOf := func(v float64) float64 { return float64(bottom) - float64(bottom-top)*v/most }
	for v := 0.0; v <= most*1.001; v += step {
		fmt.Fprintf(b, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1[3]f\" stroke=\"#e6e8eb\"/>\n", left, right,
			yOf(v))
		text(b, left-8, int(yOf(v))+4, "text-anchor=\"end\" font-size=\"11\" fill=\"#4b5159\"", p.format(v, step))
	}
	tick := time.Duration(niceStep(end.Sub(start).Seconds()) * float64(time.Second))
	for at := start; !at.After(end); at = at.Add(tick) {
		text(b, int(xOf(at)), bottom+16, "text-anchor=\"middle\" font-size=\"11\" fill=\"#4b5159\"",
			fmt.Sprintf("%g s", at.Sub(start).Seconds()))
	}
	if len(lines) == 0 {
		text(b, (left+right)/2, (top+bottom)/2, "text-anchor=\"middle\" fill=\"#4b5159\"", "no data")
	}
	for i, l := range lines {
		color := colors[i%len(colors)]
		var path strings.Builder
		pen := "M"
		for now, v := range l.values {
			if math.IsNaN(v) {
				pen = "M"
				continue
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", pen, xOf(h.scrapes[now].at), yOf(v))
			pen = "L"
		}
		fmt.Fprintf(b, "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-linecap=\"round\" "+
			"stroke-linejoin=\"round\"/>\n", path.String(), color)
		x, y := 14+(i%perRow)*(w-24)/2, high-12-18*(legendRows-1-i/perRow)
		fmt.Fprintf(b, "<rect x=\"%d\" y=\"%d\" width=\"12\" height=\"4\" rx=\"2\" fill=\"%s\"/>\n", x, y-6, color)
		text(b, x+18, y, "font-size=\"12\" fill=\"#2b3036\"", l.name)
	}
}

// niceStep returns 1, 2 or 5 times a power of ten, for at most five steps.
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

// format writes a value in the panel's unit, on an axis of a step.
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
