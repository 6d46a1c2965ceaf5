package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"
)

// output is standard output. It remembers the first error, so that commands
// don't have to check each write.
type output struct {
	file *os.File
	used bool
	err  error
}

// lost returns an error if part of the output could not be written.
func (o *output) lost() error {
	if o.err == nil {
		return nil
	}
	return messagef("the result could not be written: %v", o.err)
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	if !o.used {
		o.used = true
		if isClosed(o.file) {
			o.err = errors.New("standard output is closed")
		}
	}
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.file.Write(p)
	o.err = err
	return n, err
}

// printf prints part of a result. The output remembers its error.
func (a *app) printf(format string, args ...any) { _, _ = fmt.Fprintf(a.out, format, args...) }

// warnf prints a warning to standard error.
func (a *app) warnf(format string, args ...any) {
	_, _ = fmt.Fprintf(a.note, "credent: "+format+"\n", args...)
}

// printJSON prints an indented document.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// printTable prints rows in aligned columns. The first row is the header.
func (a *app) printTable(rows [][]string) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		// No padding after the last column.
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

// printable returns a text for a terminal. It quotes a text that is empty,
// contains invisible or control characters, or is not UTF-8.
func printable(s string) string {
	hidden := func(r rune) bool { return !unicode.IsPrint(r) }
	if s == "" || s != strings.TrimSpace(s) || !utf8.ValidString(s) || strings.ContainsFunc(s, hidden) {
		return strconv.Quote(s)
	}
	return s
}

// stamp formats a time for people.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// stampOr is stamp for a time that may be nil.
func stampOr(t *time.Time, none string) string {
	if t == nil {
		return none
	}
	return stamp(*t)
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// count returns "1 row", "2 rows".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// notef prints a note for people that isn't part of the result. A write error
// can't be reported.
func (a *app) notef(format string, args ...any) { _, _ = fmt.Fprintf(a.note, format, args...) }
