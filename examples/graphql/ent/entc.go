//go:build ignore

// Command entc generates package ent from ent/schema, and the schema of the
// GraphQL API, ent.graphql.
package main

import (
	"log"

	"entgo.io/contrib/entgql"
	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"

	"github.com/credent-go/credent/codegen"
)

func main() {
	graphQL, err := entgql.NewExtension(
		entgql.WithSchemaGenerator(),
		entgql.WithSchemaPath("../ent.graphql"),
		entgql.WithConfigPath("../gqlgen.yml"),
		entgql.WithWhereInputs(true),
		entgql.WithRelaySpec(true),
	)
	if err != nil {
		log.Fatalf("the extension entgql: %v", err)
	}
	if err := entc.Generate("./schema", &gen.Config{}, entc.Extensions(graphQL, codegen.Extension{})); err != nil {
		log.Fatalf("generating package ent: %v", err)
	}
}
