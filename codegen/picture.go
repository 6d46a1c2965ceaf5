package codegen

import (
	"fmt"
	"os"
	"strings"

	"entgo.io/ent/entc/gen"
)

// PictureBegin and PictureEnd are the lines around the picture in a file.
const (
	PictureBegin = "<!-- schema: made by go generate -->"
	PictureEnd   = "<!-- schema: end -->"
)

// draw returns the tables of a graph as a Mermaid entity relationship diagram.
func draw(g *gen.Graph) string {
	var b strings.Builder
	b.WriteString("erDiagram\n")
	for _, node := range g.Nodes {
		fmt.Fprintf(&b, "  %s {\n", node.Table())
		fmt.Fprintf(&b, "    %s %s PK\n", mermaidType(columnType(node.ID)), node.ID.StorageKey())
		for _, f := range node.Fields {
			fmt.Fprintf(&b, "    %s %s%s\n", mermaidType(columnType(f)), f.StorageKey(), notes(f))
		}
		b.WriteString("  }\n")
	}
	for _, node := range g.Nodes {
		for _, e := range node.Edges {
			if !e.IsInverse() {
				fmt.Fprintf(&b, "  %s %s %s : %s\n", node.Table(), cardinality(e), e.Type.Table(), e.Name)
			}
		}
	}
	return b.String()
}

// mermaidType returns a type without the characters that a diagram doesn't
// allow.
func mermaidType(t string) string { return strings.NewReplacer(" ", "_", ",", "_").Replace(t) }

func notes(f *gen.Field) string {
	var keys, words []string
	if f.IsEdgeField() {
		keys = append(keys, "FK")
	}
	if f.Unique {
		keys = append(keys, "UK")
	}
	if IsEncrypted(f) {
		words = append(words, "encrypted")
	}
	if f.Optional {
		words = append(words, "may be NULL")
	}
	text := ""
	if len(keys) > 0 {
		text = " " + strings.Join(keys, ",")
	}
	if len(words) > 0 {
		text += fmt.Sprintf(" %q", strings.Join(words, ", "))
	}
	return text
}

func cardinality(e *gen.Edge) string {
	one, required := "|o", e.Ref != nil && !e.Ref.Optional
	if required {
		one = "||"
	}
	switch e.Rel.Type {
	case gen.O2O:
		return one + "--o|"
	case gen.M2M:
		return "}o--o{"
	case gen.M2O:
		return "}o--o|"
	default:
		return one + "--o{"
	}
}

// writePicture replaces the picture in a file. It fails if a marker line is
// missing.
func writePicture(path, picture string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("draw the schema: %w", err)
	}
	before, rest, ok := strings.Cut(string(data), PictureBegin)
	_, after, ok2 := strings.Cut(rest, PictureEnd)
	if !ok || !ok2 {
		return fmt.Errorf("draw the schema: %s lacks the line %q or %q", path, PictureBegin, PictureEnd)
	}
	text := before + PictureBegin + "\n```mermaid\n" + picture + "```\n" + PictureEnd + after
	if text == string(data) {
		return nil
	}
	return os.WriteFile(path, []byte(text), 0o644) //nolint:gosec // a document, world-readable like the others
}
