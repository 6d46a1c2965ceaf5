// Command words holds the repository's comments and documents to their form:
// comments wrap at 80 columns, code and documents at 120, and some phrases that
// read badly are not used, in what programs say neither. "make lint" runs it.
//
//	go run ./internal/words                 check the repository
//	go run ./internal/words -update         count anew in longlines.txt
//	go run ./internal/words -figures DIR…   print figures about Go comments
//
// Much code is older than the check and longer than 120 columns. File
// longlines.txt counts these lines for each folder: a folder may have fewer,
// and the check fails if it has more. The counts are meant to fall.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// allowedFile has how many lines of code may be too long, for each folder.
const allowedFile = "internal/words/longlines.txt"

func main() {
	log.SetFlags(0)
	log.SetPrefix("words: ")
	figures := flag.Bool("figures", false, "print figures about the comments of the Go code in the folders named")
	update := flag.Bool("update", false, "write the present counts of long lines of code to "+allowedFile)
	flag.Parse()
	var err error
	switch {
	case *figures:
		err = printFigures(os.Stdout, flag.Args())
	default:
		err = check(os.Stdout, *update)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// check prints what is wrong in the repository, or writes the counts anew.
func check(w io.Writer, update bool) error {
	r, err := read(".")
	if err != nil {
		return err
	}
	if update {
		return os.WriteFile(allowedFile, counts(r.long), 0o644) //nolint:gosec // readable like all sources
	}
	text, err := os.ReadFile(allowedFile)
	if err != nil {
		return err
	}
	allowed, err := parseAllowed(string(text))
	if err != nil {
		return err
	}
	found := slices.Concat(r.faults, tooMany(allowed, r.long))
	if len(found) == 0 {
		return nil
	}
	if _, err := io.WriteString(w, strings.Join(found, "\n")+"\n"); err != nil {
		return err
	}
	return fmt.Errorf("%d faults", len(found))
}

// result is what a walk through a folder found.
type result struct {
	faults  []string
	long    map[string][]string // long lines of code, by folder
	figures figures
}

// read looks at the Go files and documents below a folder. It leaves out
// generated code and test data.
func read(root string) (*result, error) {
	r := &result{long: make(map[string][]string)}
	files := os.DirFS(root)
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != "." && (name == "testdata" || name == "bin" || name == "vendor" ||
				strings.HasPrefix(name, ".")) {
				return fs.SkipDir
			}
			return nil
		}
		var look func(path string, data []byte) error
		switch filepath.Ext(name) {
		case ".go":
			look = r.source
		case ".md":
			look = r.document
		default:
			return nil
		}
		data, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		return look(path, data)
	})
	return r, err
}

// parseAllowed reads lines such as "12 internal/cli".
func parseAllowed(text string) (map[string]int, error) {
	allowed := make(map[string]int)
	for line := range strings.Lines(text) {
		var n int
		var dir string
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%d %s", &n, &dir); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", allowedFile, line, err)
		}
		allowed[dir] = n
	}
	return allowed, nil
}

// tooMany returns the long lines of folders that have more than they may.
func tooMany(allowed map[string]int, long map[string][]string) (faults []string) {
	for _, dir := range slices.Sorted(maps.Keys(long)) {
		if n := len(long[dir]); n > allowed[dir] {
			faults = append(faults, long[dir]...)
			faults = append(faults, fmt.Sprintf("%s: %d lines of code over %d columns, and %s allows %d",
				dir, n, codeWidth, allowedFile, allowed[dir]))
		}
	}
	return faults
}

// counts returns the text of allowedFile for the present long lines.
func counts(long map[string][]string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Lines of code over %d columns, by folder; \"go run ./internal/words -update\" writes\n",
		codeWidth)
	b.WriteString("# this file. Wrap a folder's lines and lower its count; don't raise one.\n")
	for _, dir := range slices.Sorted(maps.Keys(long)) {
		fmt.Fprintf(&b, "%d %s\n", len(long[dir]), dir)
	}
	return b.Bytes()
}
