//go:build ignore

// Command entc generates the client; run it with go generate.
package main

import (
	"log"

	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"

	"github.com/credent-go/credent/codegen"
)

func main() {
	err := entc.Generate("./schema", &gen.Config{}, entc.Extensions(codegen.Extension{}))
	if err != nil {
		log.Fatalf("generating the client: %v", err)
	}
}
