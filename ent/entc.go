//go:build ignore

// Command entc generates package ent from ent/schema. It holds the code
// generation options; run it with go generate.
package main

import (
	"log"

	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"

	"github.com/credent-go/credent/codegen"
)

func main() {
	err := entc.Generate("./schema", &gen.Config{
		Features: []gen.Feature{
			gen.FeatureUpsert,
			gen.FeatureModifier,
			gen.FeatureExecQuery,
			gen.FeatureLock,
			gen.FeatureVersionedMigration,
			gen.FeatureIntercept,
		},
	}, entc.Extensions(codegen.Extension{Picture: "../docs/schema.md"}))
	if err != nil {
		log.Fatalf("generating package ent: %v", err)
	}
}
