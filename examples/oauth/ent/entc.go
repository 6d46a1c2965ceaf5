//go:build ignore

// Command entc generates package ent from ent/schema.
package main

import (
	"log"

	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"

	"github.com/credent-go/credent/codegen"
)

func main() {
	err := entc.Generate("./schema", &gen.Config{
		Features: []gen.Feature{gen.FeatureUpsert, gen.FeatureModifier, gen.FeatureVersionedMigration},
	}, entc.Extensions(codegen.Extension{}))
	if err != nil {
		log.Fatalf("generating package ent: %v", err)
	}
}
