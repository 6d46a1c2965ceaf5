// Command structure draws the packages of field encryption and their imports
// into docs/architecture.md, and checks their sizes. make generate runs it, and
// make verify runs it with -check.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	module = "github.com/credent-go/credent/"
	core   = module + "internal/fieldcrypt"

	// Limits in lines, without tests.
	maxFile, maxPackage, maxCore = 400, 800, 4200

	begin = "<!-- structure: made by make generate -->"
	end   = "<!-- structure: end -->"
)

// drawn lists the packages to draw besides the core's.
var drawn = []string{module + "encrypted", module + "internal/entcrypt/...", module + "internal/sqlarg"}

// pkg is a package as go list describes it.
type pkg struct {
	ImportPath, Dir, Doc string
	GoFiles, Imports     []string

	lines int
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("structure: ")
	path := flag.String("file", "docs/architecture.md", "the document with the picture")
	check := flag.Bool("check", false, "write nothing, and fail if the picture is not the code's")
	flag.Parse()
	if err := run(*path, *check); err != nil {
		log.Fatal(err)
	}
}

func run(path string, check bool) error {
	packages, err := list()
	if err != nil {
		return err
	}
	if err := measure(packages); err != nil {
		return err
	}
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(document), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s lacks the line %q or %q", path, begin, end)
	}
	text := before + begin + "\n```mermaid\n" + draw(packages) + "```\n" + end + after
	switch {
	case text == string(document):
		return nil
	case check:
		return fmt.Errorf("the picture in %s is out of date: run make generate", path)
	}
	return os.WriteFile(path, []byte(text), 0o644) //nolint:gosec // a document, world-readable like the others
}

// list returns the packages, sorted by path.
func list() (packages []*pkg, err error) {
	cmd := exec.Command("go", append([]string{
		"list", "-json=ImportPath,Dir,Doc,GoFiles,Imports",
		core + "/...",
	}, drawn...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(pkg)
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
}

// measure counts lines. It fails if a file, a package or the core has too many,
// or if a package has no package comment.
func measure(packages []*pkg) error {
	total := 0
	for _, p := range packages {
		for _, name := range p.GoFiles {
			source, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				return err
			}
			lines := bytes.Count(source, []byte("\n"))
			if lines > maxFile {
				return fmt.Errorf("%s/%s has %d lines; the limit is %d", p.ImportPath, name, lines, maxFile)
			}
			p.lines += lines
		}
		switch {
		case p.Doc == "":
			return fmt.Errorf("%s has no package comment", p.ImportPath)
		case p.lines > maxPackage && strings.HasPrefix(p.ImportPath, module+"internal/"):
			return fmt.Errorf("%s has %d lines; the limit is %d", p.ImportPath, p.lines, maxPackage)
		}
		if p.isCore() {
			total += p.lines
		}
	}
	if total > maxCore {
		return fmt.Errorf("%s and its subpackages have %d lines; the limit is %d", core, total, maxCore)
	}
	return nil
}

func (p *pkg) isCore() bool { return p.ImportPath == core || strings.HasPrefix(p.ImportPath, core+"/") }

// name is the package's name in the picture.
func (p *pkg) name() string { return p.ImportPath[strings.LastIndexByte(p.ImportPath, '/')+1:] }

// draw returns the packages and their imports as a Mermaid flowchart. It omits
// arrows that others imply.
func draw(packages []*pkg) string {
	known := make(map[string]*pkg)
	for _, p := range packages {
		known[p.ImportPath] = p
	}
	reaches := func(from *pkg, to string, direct bool) bool {
		var walk func(p *pkg, depth int) bool
		walk = func(p *pkg, depth int) bool {
			for _, path := range p.Imports {
				if next := known[path]; next != nil && (path == to && (direct || depth > 0) || walk(next, depth+1)) {
					return true
				}
			}
			return false
		}
		return walk(from, 0)
	}
	var b strings.Builder
	b.WriteString("flowchart TD\n")
	for _, p := range packages {
		fmt.Fprintf(&b, "  %s[\"%s<br/>%d lines\"]\n", p.name(), strings.TrimPrefix(p.ImportPath, module), p.lines)
	}
	for _, p := range packages {
		for _, path := range p.Imports {
			if to := known[path]; to != nil && !reaches(p, path, false) {
				fmt.Fprintf(&b, "  %s --> %s\n", p.name(), to.name())
			}
		}
	}
	return b.String()
}
