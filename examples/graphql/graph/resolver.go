// Package graph is the GraphQL API: ent.graphql, which is generated from the
// entities, and schema.graphql.
package graph

import (
	"context"

	"github.com/google/uuid"

	"example.com/graphql/ent"
	"example.com/graphql/ent/account"
	"example.com/graphql/ent/integration"
)

//go:generate go -C .. tool gqlgen generate

// Resolver answers from the client.
type Resolver struct {
	Client *ent.Client
}

// nodeType returns the table that contains the row with an ID.
func (r *Resolver) nodeType(ctx context.Context, id uuid.UUID) (string, error) {
	isAccount, err := r.Client.Account.Query().Where(account.ID(id)).Exist(ctx)
	if isAccount || err != nil {
		return account.Table, err
	}
	return integration.Table, nil
}
