package graph

import (
	"context"
	"crypto/rand"

	"entgo.io/contrib/entgql"
	"github.com/google/uuid"

	"example.com/graphql/ent"
	"example.com/graphql/ent/integration"
	"github.com/credent-go/credent/encrypted"
)

type (
	queryResolver       struct{ *Resolver }
	mutationResolver    struct{ *Resolver }
	integrationResolver struct{ *Resolver }
)

// Query implements ResolverRoot.
func (r *Resolver) Query() QueryResolver { return &queryResolver{r} }

// Mutation implements ResolverRoot.
func (r *Resolver) Mutation() MutationResolver { return &mutationResolver{r} }

// Integration implements ResolverRoot.
func (r *Resolver) Integration() IntegrationResolver { return &integrationResolver{r} }

// Node finds an account or an integration by its ID.
func (r *queryResolver) Node(ctx context.Context, id uuid.UUID) (ent.Noder, error) {
	return r.Client.Noder(ctx, id, ent.WithNodeType(r.nodeType))
}

// Nodes finds several.
func (r *queryResolver) Nodes(ctx context.Context, ids []uuid.UUID) ([]ent.Noder, error) {
	return r.Client.Noders(ctx, ids, ent.WithNodeType(r.nodeType))
}

// Accounts returns a page of accounts.
func (r *queryResolver) Accounts(
	ctx context.Context, after *entgql.Cursor[uuid.UUID], first *int, before *entgql.Cursor[uuid.UUID], last *int,
	orderBy *ent.AccountOrder, where *ent.AccountWhereInput,
) (*ent.AccountConnection, error) {
	return r.Client.Account.Query().Paginate(ctx, after, first, before, last,
		ent.WithAccountOrder(orderBy), ent.WithAccountFilter(where.Filter))
}

// Integrations returns a page of integrations.
func (r *queryResolver) Integrations(
	ctx context.Context, after *entgql.Cursor[uuid.UUID], first *int, before *entgql.Cursor[uuid.UUID], last *int,
	orderBy *ent.IntegrationOrder, where *ent.IntegrationWhereInput,
) (*ent.IntegrationConnection, error) {
	return r.Client.Integration.Query().Paginate(ctx, after, first, before, last,
		ent.WithIntegrationOrder(orderBy), ent.WithIntegrationFilter(where.Filter))
}

// APIKeyHint reveals the end of an API key.
func (r *integrationResolver) APIKeyHint(ctx context.Context, obj *ent.Integration) (string, error) {
	key, err := obj.APIKey.Reveal()
	if err != nil {
		return "", err
	}
	if len(key) < 12 {
		return "…", nil
	}
	return "…" + key[len(key)-4:], nil
}

// CreateAccount adds an account.
func (r *mutationResolver) CreateAccount(ctx context.Context, input ent.CreateAccountInput) (*ent.Account, error) {
	return ent.FromContext(ctx).Account.Create().SetInput(input).Save(ctx)
}

// CreateIntegration adds an integration, with a signing key that it generates.
func (r *mutationResolver) CreateIntegration(
	ctx context.Context, input ent.CreateIntegrationInput,
) (*ent.Integration, error) {
	return ent.FromContext(ctx).Integration.Create().
		SetInput(input).
		SetSigningKey(encrypted.New(rand.Text())).
		Save(ctx)
}

// UpdateIntegration changes one.
func (r *mutationResolver) UpdateIntegration(
	ctx context.Context, id uuid.UUID, input ent.UpdateIntegrationInput,
) (*ent.Integration, error) {
	return ent.FromContext(ctx).Integration.UpdateOneID(id).SetInput(input).Save(ctx)
}

// IntegrationByAPIKey finds one by its blind index, or returns nil.
func (r *queryResolver) IntegrationByAPIKey(ctx context.Context, apiKey string) (*ent.Integration, error) {
	found, err := r.Client.Integration.Query().Where(integration.APIKeyIs(encrypted.New(apiKey))).Only(ctx)
	return found, ent.MaskNotFound(err)
}
