package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// referenceWidth is the maximum line length of docs/cli.md.
const referenceWidth = 120

const generatedNote = "<!-- made by make generate, from the command itself: do not edit -->"

// WriteReference writes docs/cli.md: every command with its flags, their
// defaults and an example, taken from the command's own help.
func WriteReference(w io.Writer) error {
	root := new(app).root()
	var b strings.Builder
	b.WriteString("# The command credent\n\n" + generatedNote + "\n\n")
	fmt.Fprintf(&b, "```\n%s\n```\n\n", root.Long)
	b.WriteString("Results go to standard output, notes and errors to standard error. Each command's `--help` says " +
		"the same as\nthis page.\n\n")
	fmt.Fprintf(&b, "```sh\n%s\n```\n\n", unindent(root.Example))
	b.WriteString("| command | what it does |\n|---|---|\n")
	actions(root, func(cmd *cobra.Command) {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", cmd.CommandPath(), anchor(cmd), cmd.Short)
	})
	for _, group := range root.Commands() {
		if group.HasSubCommands() {
			fmt.Fprintf(&b, "\n## %s\n\n%s\n", group.CommandPath(), prose(group))
		}
		actions(group, func(cmd *cobra.Command) { section(&b, cmd) })
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// actions calls f with cmd and the commands below it, except groups.
func actions(cmd *cobra.Command, f func(*cobra.Command)) {
	if !cmd.HasSubCommands() && cmd.IsAvailableCommand() {
		f(cmd)
	}
	for _, sub := range cmd.Commands() {
		actions(sub, f)
	}
}

func section(b *strings.Builder, cmd *cobra.Command) {
	level := "##"
	if cmd.Parent().HasParent() {
		level = "###"
	}
	fmt.Fprintf(b, "\n%s %s\n\n%s\n\n```sh\n%s\n```\n", level, cmd.CommandPath(), prose(cmd), cmd.UseLine())
	rows := 0
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		if rows++; rows == 1 {
			b.WriteString("\n| flag | default | meaning |\n|---|---|---|\n")
		}
		name, usage := pflag.UnquoteUsage(f)
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", strings.TrimSpace("--"+f.Name+" "+name), defaultOf(f), cell(usage))
	})
	if cmd.HasExample() {
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", unindent(cmd.Example))
	}
}

// prose returns a command's long help, or else its short help, as Markdown.
// Indented paragraphs are examples and tables.
func prose(cmd *cobra.Command) string {
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	paragraphs := strings.Split(strings.TrimSpace(text), "\n\n")
	for i, paragraph := range paragraphs {
		if strings.HasPrefix(paragraph, "  ") {
			paragraphs[i] = "```\n" + unindent(paragraph) + "\n```"
		} else {
			paragraphs[i] = wrap(paragraph)
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

// wrap rewraps a paragraph.
func wrap(paragraph string) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(paragraph) {
		n := utf8.RuneCountInString(word)
		switch {
		case column == 0:
		case column+1+n > referenceWidth:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}

func defaultOf(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "false", "[]", "0", "0s":
		return ""
	}
	return "`" + f.DefValue + "`"
}

func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}

func unindent(example string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.Trim(example, "\n")) {
		b.WriteString(strings.TrimPrefix(line, "  "))
	}
	return b.String()
}

// anchor returns GitHub's anchor for a command's heading.
func anchor(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }
