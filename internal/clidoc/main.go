// Command clidoc writes the reference of the command credent to standard
// output; make generate makes docs/cli.md with it.
package main

import (
	"log"
	"os"

	"github.com/credent-go/credent/internal/cli"
)

func main() {
	if err := cli.WriteReference(os.Stdout); err != nil {
		log.Fatal("clidoc: ", err)
	}
}
