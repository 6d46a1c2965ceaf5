package main

import (
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
)

// figures are statistics about the comments of Go code.
type figures struct {
	lines, over80, over100             int
	words, thatOf, which, contractions int
}

var (
	word        = regexp.MustCompile(`[\pL\pN][\pL\pN'’]*`)
	thatOf      = regexp.MustCompile(`(?i)\b(that of|those of)\b`)
	which       = regexp.MustCompile(`(?i)\b(of which|whose)\b`)
	contraction = regexp.MustCompile(
		`(?i)\b(\w+n['’]t|\w+['’](re|ll|ve)|I['’]m|(it|that|there|here|what|who|let)['’]s)\b`)
)

func (f *figures) line(width int) {
	f.lines++
	if width > 80 {
		f.over80++
	}
	if width > 100 {
		f.over100++
	}
}

func (f *figures) count(text string) {
	text = strings.Join(strings.Fields(text), " ")
	f.words += len(word.FindAllString(text, -1))
	f.thatOf += len(thatOf.FindAllString(text, -1))
	f.which += len(which.FindAllString(text, -1))
	f.contractions += len(contraction.FindAllString(text, -1))
}

// printFigures prints a table with a row per directory, or for the current one.
// The last three columns count per 1,000 words.
func printFigures(w io.Writer, dirs []string) error {
	if len(dirs) == 0 {
		dirs = []string{"."}
	}
	var b strings.Builder
	b.WriteString("| | comment lines | over 80 columns | over 100 | words | that of, those of | of which, whose " +
		"| contractions |\n|---|---|---|---|---|---|---|---|\n")
	for _, dir := range dirs {
		r, err := read(dir)
		if err != nil {
			return err
		}
		name, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		f := r.figures
		share := func(n int) float64 { return 100 * float64(n) / float64(max(f.lines, 1)) }
		per := func(n int) float64 { return 1000 * float64(n) / float64(max(f.words, 1)) }
		fmt.Fprintf(&b, "| %s | %d | %.1f %% | %.1f %% | %d | %.1f | %.1f | %.1f |\n", filepath.Base(name),
			f.lines, share(f.over80), share(f.over100), f.words, per(f.thatOf), per(f.which), per(f.contractions))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
