package credent_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents returns the text of every Markdown file by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	pages := make(map[string]string)
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && path != "." || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		pages[filepath.ToSlash(path)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

var (
	fence = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	span  = regexp.MustCompile("`[^`\n]*`")
	link  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// links returns the targets of a page's links.
func links(text string) (targets []string) {
	text = span.ReplaceAllString(fence.ReplaceAllString(text, ""), "")
	for _, match := range link.FindAllStringSubmatch(text, -1) {
		targets = append(targets, match[1])
	}
	return targets
}

// anchors returns GitHub's anchors for a page's headings.
func anchors(text string) (names []string) {
	for _, heading := range headingOf.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		kept := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		names = append(names, strings.ReplaceAll(kept, " ", "-"))
	}
	return names
}

// Every link between documents, or from a document to a file of this
// repository, has an existing target, including its heading.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	pages := documents(t)
	headings := make(map[string][]string)
	for path, text := range pages {
		headings[path] = anchors(text)
	}
	checked := 0
	for path, text := range pages {
		for _, target := range links(text) {
			if strings.Contains(target, "://") {
				continue
			}
			checked++
			file, anchor, _ := strings.Cut(target, "#")
			to := path
			if file != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(path), file))
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %s: %v", path, target, err)
				continue
			}
			if anchor != "" && !slices.Contains(headings[to], anchor) {
				t.Errorf("%s: %s has no heading #%s", path, to, anchor)
			}
		}
	}
	if checked < 150 {
		t.Errorf("only %d links", checked)
	}
}

// Every document is in the index, once per kind of reader, and every decision
// is in the index of decisions.
func TestDocsIndex(t *testing.T) {
	t.Parallel()
	pages := documents(t)
	index := make(map[string][]string)
	for _, dir := range []string{"docs/", "docs/adr/"} {
		index[dir] = links(pages[dir+"README.md"])
	}
	for path := range pages {
		dir, name := filepath.Split(path)
		if named, ok := index[dir]; ok && name != "README.md" && !slices.Contains(named, name) {
			t.Errorf("%s is not in %sREADME.md", path, dir)
		}
	}
	sections := strings.Split(pages["docs/README.md"], "\n## ")
	if len(sections) != 6 {
		t.Errorf("%d kinds of readers", len(sections)-1)
	}
	for _, section := range sections {
		targets := links(section)
		slices.Sort(targets)
		for i, target := range targets {
			if i > 0 && target == targets[i-1] {
				title, _, _ := strings.Cut(section, "\n")
				t.Errorf("%s: %s is named twice", title, target)
			}
		}
	}
}

// Every decision has a number, a status, a date and the same sections.
func TestDecisions(t *testing.T) {
	t.Parallel()
	title := regexp.MustCompile(`^# (\d+)\. .+\n\n(Accepted|Superseded by \[.+\)), \d{4}-\d{2}-\d{2}\.`)
	for path, text := range documents(t) {
		name, ok := strings.CutPrefix(path, "docs/adr/")
		if !ok || name == "README.md" {
			continue
		}
		match := title.FindStringSubmatch(text)
		if match == nil {
			t.Errorf("%s: no title with a number, or no status with a date", path)
			continue
		}
		if !strings.HasPrefix(name, strings.Repeat("0", 4-len(match[1]))+match[1]+"-") {
			t.Errorf("%s is numbered %s", path, match[1])
		}
		for _, section := range []string{"Context", "Decision", "What was measured", "Consequences"} {
			if !strings.Contains(text, "\n## "+section+"\n") {
				t.Errorf("%s: no section %q", path, section)
			}
		}
	}
}

// Every test named in a document exists.
func TestDocsNameTests(t *testing.T) {
	t.Parallel()
	tests := testNames(t)
	total := 0
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`")
	for path, text := range documents(t) {
		for _, match := range named.FindAllStringSubmatch(text, -1) {
			total++
			if !tests[match[1]] {
				t.Errorf("%s: %s does not exist", path, match[1])
			}
		}
	}
	if total < 200 {
		t.Errorf("the documents name %d tests", total)
	}
}

// Every identifier of a public package named in a document exists, except in
// the changelog and the decisions, which are also about the past.
func TestDocsNameIdentifiers(t *testing.T) {
	t.Parallel()
	directories := map[string]string{
		"credent": ".", "encrypted": "encrypted", "rotate": "rotate", "migrate": "migrate", "codegen": "codegen",
		"credenttest": "credenttest", "kms": "kms", "otelcredent": "otelcredent", "pgserver": "internal/pgserver",
		"usercredential": "ent/usercredential",
	}
	names := make(map[string]map[string]bool)
	for pkg, dir := range directories {
		names[pkg] = exported(t, dir)
	}
	reference := regexp.MustCompile(`\b([a-z]+)\.([A-Z]\w*)`)
	total := 0
	for path, text := range documents(t) {
		if path == "CHANGELOG.md" || strings.HasPrefix(path, "docs/adr/") {
			continue
		}
		for _, match := range reference.FindAllStringSubmatch(text, -1) {
			if known := names[match[1]]; known != nil {
				total++
				if !known[match[2]] {
					t.Errorf("%s: %s does not exist", path, match[0])
				}
			}
		}
	}
	if total < 200 {
		t.Errorf("the documents name %d identifiers", total)
	}
}

// exported returns the exported names of a directory's package.
func exported(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					names[d.Name.Name] = true
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						names[s.Name.Name] = true
					case *ast.ValueSpec:
						for _, name := range s.Names {
							names[name.Name] = true
						}
					}
				}
			}
		}
	}
	return names
}

// Every guarantee says how to turn it on and how to notice when it doesn't
// hold, and names a test.
func TestGuaranteesAreWhole(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| protection |") {
			continue
		}
		rows++
		if len(cells) != 5 {
			t.Errorf("%d cells: %s", len(cells), line)
			continue
		}
		for _, cell := range cells {
			if strings.Trim(cell, " |") == "" {
				t.Errorf("an empty cell: %s", line)
			}
		}
		if !strings.Contains(cells[4], "`Test") {
			t.Errorf("no test: %s", line)
		}
	}
	if rows < 20 {
		t.Errorf("%d guarantees", rows)
	}
}
