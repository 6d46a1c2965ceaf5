// Command words checks the form of the repository's comments and documents:
// comments wrap at 80 columns, code and documents at 120, and some phrases that
// read badly are banned, also in the texts of programs. "make lint" runs it.
//
//	go run ./internal/words                 check the repository
//	go run ./internal/words -figures DIR…   print figures about Go comments
//
// Raw strings, linter directives and the output of examples can't be wrapped,
// so they may be wider.
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

// check prints the repository's faults.
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

// result collects the findings of a walk through a directory.
type result struct {
	faults  []string
	figures figures
}

// read checks the Go files and documents below a directory. It skips generated
// code and test data.
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
