//go:build ignore

// Command diff writes the next migration file of a directory: the changes it
// lacks from the schema in package ent:
//
//	go run diff.go -dev sqlite::memory: -name add_something sqlite
//	go run diff.go -dev "$EMPTY_POSTGRES_URL" -name add_something postgres
package main

import (
	"context"
	"flag"
	"fmt"
	"log"

	_ "example.com/oauth/ent" // its indexed columns
	entmigrate "example.com/oauth/ent/migrate"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/sqlite"
)

func main() {
	dev := flag.String("dev", "", "an empty database to try the files on")
	name := flag.String("name", "", "what the migration does")
	flag.Parse()
	db, _, err := credent.OpenDB(*dev, credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	written, err := migrate.Diff(context.Background(), db, flag.Arg(0), *name, entmigrate.Tables...)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: wrote a file: %v\n", flag.Arg(0), written)
}
