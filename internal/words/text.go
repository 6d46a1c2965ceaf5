package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Widths in columns. A tab counts as 4.
const (
	commentWidth  = 80
	codeWidth     = 120
	documentWidth = 120
)

var (
	// phrases are banned: they send the reader back to look for a noun.
	phrases = regexp.MustCompile(`(?i)\b(that of|those of|of which)\b`)

	codeSpan  = regexp.MustCompile("`[^`]*`")
	directive = regexp.MustCompile(`^//(?:[a-z]+:|nolint|line |export )`)
	trailing  = regexp.MustCompile(`\s+//nolint\S*(\s.*)?$`) // a linter directive, which can't be wrapped
	generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)
	madeBy    = regexp.MustCompile("(?m)^(?:<!-- made by |Made by `make )") // a generated document
	footnote  = regexp.MustCompile(`^\[[^\]]+\]: `)
)

// source checks a Go file.
func (r *result) source(name string, data []byte) error {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, data, parser.ParseComments)
	if err != nil {
		return err
	}
	if generated.Match(data) {
		return nil
	}
	lines := strings.Split(string(data), "\n")
	comment := make([]bool, len(lines)+1) // marks the lines with only a comment
	exempt := make([]bool, len(lines)+1)
	for _, group := range file.Comments {
		r.comments(set, group, lines, comment, exempt)
	}
	if !strings.HasSuffix(name, "_test.go") && path.Dir(name) != "internal/words" { // words names the phrases
		r.texts(set, file)
	}
	raw := rawStrings(set, file, len(lines)+1)
	for i, line := range lines {
		n := i + 1
		w := width(trailing.ReplaceAllString(line, ""))
		switch {
		case comment[n]:
			r.figures.line(w)
			if w > commentWidth && !exempt[n] && !unbreakable(line) {
				r.faults = append(r.faults, fmt.Sprintf("%s:%d: a comment of %d columns; wrap it at %d",
					name, n, w, commentWidth))
			}
		case w > codeWidth && !raw[n]:
			r.faults = append(r.faults, fmt.Sprintf("%s:%d: code of %d columns; wrap it at %d",
				name, n, w, codeWidth))
		}
	}
	return nil
}

// comments checks the words of a comment group and marks its lines.
func (r *result) comments(set *token.FileSet, group *ast.CommentGroup, lines []string, comment, exempt []bool) {
	var text strings.Builder
	output := false
	for _, c := range group.List {
		first, last := set.Position(c.Pos()).Line, set.Position(c.End()).Line
		output = output || strings.HasPrefix(c.Text, "// Output:") || strings.HasPrefix(c.Text, "// Unordered output:")
		for n := first; n <= last; n++ {
			alone := n > first || strings.HasPrefix(strings.TrimSpace(lines[n-1]), "/")
			comment[n] = comment[n] || alone
			// An example's output can't be wrapped.
			exempt[n] = exempt[n] || output || directive.MatchString(c.Text)
		}
		if output || directive.MatchString(c.Text) {
			continue
		}
		body := strings.TrimPrefix(strings.TrimPrefix(c.Text, "//"), "/*")
		if !strings.HasPrefix(body, "\t") { // code in a comment
			text.WriteString(body + "\n")
		}
	}
	r.words(set.Position(group.Pos()).String(), text.String())
}

// texts checks the program's strings, with concatenations as one text.
func (r *result) texts(set *token.FileSet, file *ast.File) {
	ast.Inspect(file, func(node ast.Node) bool {
		expr, ok := node.(ast.Expr)
		if !ok {
			return true
		}
		switch e := expr.(type) {
		case *ast.BasicLit:
		case *ast.BinaryExpr:
			if e.Op != token.ADD {
				return true
			}
		default:
			return true
		}
		if text, ok := textOf(expr); ok {
			r.phrases(set.Position(expr.Pos()).String(), text)
			return false
		}
		return true
	})
}

// textOf returns the text of a string, or of a concatenation that contains one,
// with a word instead of each other operand.
func textOf(expr ast.Expr) (text string, ok bool) {
	switch e := expr.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return text, true
		}
	case *ast.BinaryExpr:
		left, isLeft := textOf(e.X)
		right, isRight := textOf(e.Y)
		return left + right, e.Op == token.ADD && (isLeft || isRight)
	case *ast.ParenExpr:
		return textOf(e.X)
	}
	return " x ", false
}

// rawStrings returns the lines that begin or end inside a raw string, where a
// line break would change the value.
func rawStrings(set *token.FileSet, file *ast.File, lines int) []bool {
	raw := make([]bool, lines+1)
	ast.Inspect(file, func(node ast.Node) bool {
		if lit, ok := node.(*ast.BasicLit); ok && lit.Kind == token.STRING && lit.Value[0] == '`' {
			for n := set.Position(lit.Pos()).Line; n <= set.Position(lit.End()).Line; n++ {
				raw[n] = true
			}
		}
		return true
	})
	return raw
}

// document checks a Markdown file. Tables, code blocks, link targets and
// generated documents aren't wrapped, and code isn't prose.
func (r *result) document(name string, data []byte) error {
	var paragraph strings.Builder
	begin := 0
	flush := func() {
		if paragraph.Len() > 0 {
			prose := codeSpan.ReplaceAllString(paragraph.String(), "``")
			r.phrases(fmt.Sprintf("%s:%d", name, begin), prose)
			paragraph.Reset()
		}
	}
	fenced, made := false, madeBy.Match(data)
	for i, line := range strings.Split(string(data), "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "```"):
			flush()
			fenced = !fenced
			continue
		case fenced:
			continue
		case trimmed == "":
			flush()
			continue
		case strings.HasPrefix(trimmed, "|"):
			flush()
		}
		if paragraph.Len() == 0 {
			begin = i + 1
		}
		paragraph.WriteString(line + "\n")
		if w := width(line); w > documentWidth && !made && !strings.HasPrefix(trimmed, "|") &&
			!footnote.MatchString(line) && !unbreakable(line) {
			r.faults = append(r.faults, fmt.Sprintf("%s:%d: a line of %d columns; wrap it at %d",
				name, i+1, w, documentWidth))
		}
	}
	flush()
	return nil
}

// words counts a comment's words and looks for banned phrases.
func (r *result) words(place, text string) {
	r.figures.count(text)
	r.phrases(place, codeSpan.ReplaceAllString(text, "``"))
}

func (r *result) phrases(place, text string) {
	for _, phrase := range phrases.FindAllString(strings.Join(strings.Fields(text), " "), -1) {
		r.faults = append(r.faults, fmt.Sprintf("%s: %q; repeat the noun", place, strings.ToLower(phrase)))
	}
}

func width(line string) int {
	return utf8.RuneCountInString(line) + 3*strings.Count(line, "\t")
}

// unbreakable reports whether a line is too long because of a single word, such
// as a URL.
func unbreakable(line string) bool {
	words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "//"))
	for _, word := range words {
		if strings.Contains(word, "://") {
			return true
		}
	}
	return len(words) == 1
}
