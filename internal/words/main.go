// Command words holds the repository's comments and documents to their form:
// comments wrap at 80 columns, code and documents at 120, and some phrases that
// read badly are not used, in what programs say neither. "make lint" runs it.
//
//	go run ./internal/words                 check the repository
//	go run ./internal/words -figures DIR…   print figures about Go comments
//
// Raw strings, linters' directives and what examples print can't be wrapped,
// and may be wider.
package main

import (
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("words: ")
	figures := flag.Bool("figures", false, "print figures about the comments of the Go code in the folders named")
	flag.Parse()
	var err error
	switch {
	case *figures:
		err = printFigures(os.Stdout, flag.Args())
	default:
		err = check(os.Stdout)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// check prints what is wrong in the repository.
func check(w io.Writer) error {
	r, err := read(".")
	if err != nil || len(r.faults) == 0 {
		return err
	}
	if _, err := io.WriteString(w, strings.Join(r.faults, "\n")+"\n"); err != nil {
		return err
	}
	return fmt.Errorf("%d faults", len(r.faults))
}

// result is what a walk through a folder found.
type result struct {
	faults  []string
	figures figures
}

// read looks at the Go files and documents below a folder. It leaves out
// generated code and test data.
func read(root string) (*result, error) {
	r := new(result)
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
