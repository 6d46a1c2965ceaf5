// Command clidoc writes the credent command's reference to standard output.
// make generate uses it for docs/cli.md.
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
