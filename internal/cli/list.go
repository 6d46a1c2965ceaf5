package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/spf13/cobra"
)

// listFlags hold which part of a list to print, and in which format.
type listFlags struct {
	limit  int
	after  string
	asJSON bool
}

func (f *listFlags) add(cmd *cobra.Command, after string) {
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	cmd.Flags().IntVar(&f.limit, "limit", 0, "print `N` at most, and how to go on; 0 means all")
	cmd.Flags().StringVar(&f.after, "after", "", "begin after the one with "+after)
}

func (f *listFlags) check() error {
	if f.limit < 0 {
		return usageError("--limit is negative")
	}
	return nil
}

// listing prints rows page by page in constant memory: as a JSON array, or as a
// table with columns as wide as the widest cell so far.
type listing struct {
	*app
	listFlags
	head []string

	printed int
	widths  []int
	page    [][]string   // the table's current page
	text    bytes.Buffer // the page or array element being formatted
}

// add prints a row, or keeps it until its page ends.
func (l *listing) add(cells []string, doc any) error {
	if l.printed++; !l.asJSON {
		l.page = append(l.page, cells)
		return nil
	}
	before := ",\n  "
	if l.printed == 1 {
		before = "[\n  "
	}
	l.text.WriteString(before)
	enc := json.NewEncoder(&l.text)
	enc.SetIndent("  ", "  ")
	enc.SetEscapeHTML(false)
	err := enc.Encode(doc)
	l.text.Truncate(l.text.Len() - 1) // the newline comes after the comma
	return err
}

// endPage prints a page's rows.
func (l *listing) endPage() error {
	if l.widths == nil && len(l.page) > 0 {
		l.widths = make([]int, len(l.head))
		l.page = append([][]string{l.head}, l.page...)
	}
	for _, cells := range l.page {
		for i, cell := range cells {
			l.widths[i] = max(l.widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, cells := range l.page {
		last := len(cells) - 1 // no padding after it
		for i, cell := range cells[:last] {
			fmt.Fprintf(&l.text, "%-*s  ", l.widths[i], cell)
		}
		l.text.WriteString(cells[last] + "\n")
	}
	l.page = l.page[:0]
	_, err := l.text.WriteTo(l.out)
	return err
}

// end ends the list. If it is empty, end prints none to standard error.
func (l *listing) end(none string) error {
	if err := l.endPage(); err != nil {
		return err
	}
	switch {
	case l.asJSON && l.printed == 0:
		l.printf("[]\n")
	case l.asJSON:
		l.printf("\n]\n")
	case l.printed == 0:
		l.notef("credent: %s\n", none)
	}
	return nil
}

// list prints the rows that read returns: up to n rows after a given one, or
// the first rows for nil. row formats a row, and place returns its value for
// --after.
func list[T any](
	ctx context.Context, l *listing, read func(last *T, n int) ([]T, error),
	row func(T) (cells []string, doc any), place func(T) string, none string,
) error {
	var last *T
	for {
		n := pageSize
		if l.limit > 0 {
			n = min(n, l.limit-l.printed+1) // one extra row tells whether there are more
		}
		rows, err := read(last, n)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		end := len(rows) < n
		more := l.limit > 0 && l.printed+len(rows) > l.limit
		if more {
			rows = rows[:l.limit-l.printed]
		}
		for _, one := range rows {
			cells, doc := row(one)
			if err := l.add(cells, doc); err != nil {
				return err
			}
		}
		if err := l.endPage(); err != nil {
			return err
		}
		if len(rows) > 0 {
			last = &rows[len(rows)-1]
		}
		if more {
			l.notef("credent: there are more; go on with --after %s\n", shellWord(place(*last)))
		}
		if end || more {
			return l.end(none)
		}
	}
}

var plainWord = regexp.MustCompile(`^[a-zA-Z0-9_.:@/+-]+$`)

// shellWord quotes a text for a shell if necessary. Control characters become
// escapes, as bash, ksh and zsh read them.
func shellWord(s string) string {
	switch {
	case plainWord.MatchString(s):
		return s
	case printable(s) != s && s != "":
		quoted := strconv.Quote(s)
		return "$'" + strings.ReplaceAll(quoted[1:len(quoted)-1], "'", `\'`) + "'"
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// after returns the condition for the rows after a given one in the order of
// columns.
func after(s *entsql.Selector, columns []string, values []any) *entsql.Predicate {
	names := make([]string, len(columns))
	for i, name := range columns {
		names[i] = s.C(name)
	}
	if len(names) == 1 {
		return entsql.GT(names[0], values[0])
	}
	return entsql.CompositeGT(names, values...)
}
