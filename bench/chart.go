package main

import (
	"image/color"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// charted are the clients in the chart, each with a colour that can be told
// from the others' without seeing red or green.
var charted = []struct {
	name   string
	colour color.Color
}{
	{nameTokenSizePGX, color.RGBA{R: 0x99, G: 0x99, B: 0x99, A: 0xff}},
	{nameCredentPGX, color.RGBA{R: 0x00, G: 0x72, B: 0xb2, A: 0xff}},
	{nameFernetPGX, color.RGBA{R: 0xe6, G: 0x9f, B: 0x00, A: 0xff}},
	{nameHooksPGX, color.RGBA{R: 0xcc, G: 0x79, B: 0xa7, A: 0xff}},
	{nameGORM, color.RGBA{R: 0x00, G: 0x9e, B: 0x73, A: 0xff}},
	{nameTwin, color.RGBA{R: 0xd5, G: 0x5e, B: 0x00, A: 0xff}},
}

// chart draws the speed of the clients, plain ent being 1.
func (r *report) chart(path string) error {
	p := plot.New()
	p.Title.Text = "Speed on Postgres; ent without encryption over pgx is 1"
	p.Y.Label.Text = "times as fast"
	p.Y.Min = 0
	p.Legend.Top, p.Legend.Left = true, true // its texts end where there is room, whatever the viewer's font
	width := vg.Points(13)
	for i, c := range charted {
		values := make(plotter.Values, len(endGroups))
		for j, group := range endGroups {
			values[j] = r.series.faster(key{group, c.name}, key{group, namePlainPGX}).median
		}
		bars, err := plotter.NewBarChart(values, width)
		if err != nil {
			return err
		}
		bars.LineStyle.Width = 0
		bars.Color = c.colour
		bars.Offset = width * vg.Length(2*i-len(charted)+1) / 2
		p.Add(bars)
		p.Legend.Add(c.name, bars)
	}
	p.Y.Max *= 1.45 // room for the legend
	p.NominalX(endGroups...)
	p.X.Max += 0.8 // room for the last one's name
	canvas := vgsvg.New(24*vg.Centimeter, 12*vg.Centimeter)
	p.Draw(draw.New(canvas))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644) //nolint:gosec // G302: for everyone
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(f); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
