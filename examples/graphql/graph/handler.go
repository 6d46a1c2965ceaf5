package graph

import (
	"net/http"

	"entgo.io/contrib/entgql"
	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/99designs/gqlgen/graphql/handler/extension"
	"github.com/99designs/gqlgen/graphql/handler/transport"

	"example.com/graphql/ent"
)

// NewHandler serves the API over HTTP. Each mutation runs in a transaction.
func NewHandler(client *ent.Client) http.Handler {
	server := handler.New(NewExecutableSchema(Config{Resolvers: &Resolver{Client: client}}))
	server.AddTransport(transport.POST{})
	server.Use(extension.Introspection{})
	server.Use(entgql.Transactioner{TxOpener: client})
	return server
}
