// Command credent manages a database of broker credentials with secrets that
// are stored encrypted: keys, migrations, accounts, credentials, and a check of
// all of them. "credent quickstart" shows it at work; "credent --help" lists
// the rest.
package main

import (
	"os"

	"github.com/credent-go/credent/internal/cli"
)

func main() { os.Exit(cli.Main()) }
