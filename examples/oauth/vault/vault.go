// Package vault keeps what a service needs to act for its users at other
// services: refresh tokens, webhook secrets, client certificates. It is what
// the rest of the service uses.
package vault

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"example.com/oauth/ent"
	"example.com/oauth/ent/integration"
	"example.com/oauth/migrations"
	"example.com/oauth/webhook"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
)

// Vault is safe for concurrent use.
type Vault struct{ Client *ent.Client }

// Open brings a database to the schema, makes sure that the keyring opens what
// is in it, and returns the vault. The dialect is dialect.Postgres or
// dialect.SQLite.
func Open(ctx context.Context, db *sql.DB, d string, ring *keyring.Keyring) (*Vault, error) {
	directory := map[string]string{dialect.Postgres: "postgres", dialect.SQLite: "sqlite"}[d]
	files, err := migrations.Files(directory)
	if err != nil {
		return nil, err
	}
	columns := ent.EncryptedColumns()
	if err := migrate.Apply(ctx, db, migrate.Config{Dir: files, Keyring: ring, Columns: columns}); err != nil {
		return nil, err
	}
	// A wrong key is found here, not at the first request.
	if err := encrypted.Check(ctx, db, ring, columns...); err != nil {
		return nil, err
	}
	drv, err := encrypted.NewDriver(entsql.OpenDB(d, db), encrypted.Config{Keyring: ring, Columns: columns})
	if err != nil {
		return nil, err
	}
	return &Vault{ent.NewClient(ent.Driver(drv))}, nil
}

// ErrTaken means that another user has connected the same account.
var ErrTaken = errors.New("vault: connected to another user")

// Connect stores a user's refresh token with a provider, instead of an earlier
// one.
func (v *Vault) Connect(ctx context.Context, userID, provider, refreshToken string) error {
	err := v.Client.Integration.Create().
		SetUserID(userID).
		SetProvider(provider).
		SetRefreshToken(encrypted.New(refreshToken)).
		OnConflictColumns(integration.FieldUserID, integration.FieldProvider).
		Update(func(u *ent.IntegrationUpsert) { u.UpdateRefreshToken() }).
		Exec(ctx)
	if ent.IsConstraintError(err) {
		return ErrTaken
	}
	return err
}

// User returns who has connected the account of a refresh token, or "". It is
// one query of an index.
func (v *Vault) User(ctx context.Context, refreshToken string) (string, error) {
	found, err := v.Client.Integration.Query().
		Where(integration.RefreshTokenIs(encrypted.New(refreshToken))).
		Only(ctx)
	if ent.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return found.UserID, nil
}

// Subscribe stores where the provider sends events.
func (v *Vault) Subscribe(ctx context.Context, userID, provider string, config webhook.Config) error {
	i, err := v.find(ctx, userID, provider)
	if err != nil {
		return err
	}
	return i.Update().SetWebhook(encrypted.NewValue(config)).Exec(ctx)
}

// ErrNoWebhook means that the user has no webhook with the provider.
var ErrNoWebhook = errors.New("vault: no webhook")

// Webhook returns where the provider sends events.
func (v *Vault) Webhook(ctx context.Context, userID, provider string) (webhook.Config, error) {
	i, err := v.find(ctx, userID, provider)
	if err != nil {
		return webhook.Config{}, err
	}
	if i.Webhook.IsZero() {
		return webhook.Config{}, ErrNoWebhook
	}
	return i.Webhook.Reveal()
}

// Grant stores an access token.
func (v *Vault) Grant(
	ctx context.Context, userID, provider, accessToken string, expires time.Time, scopes ...string,
) error {
	i, err := v.find(ctx, userID, provider)
	if err != nil {
		return err
	}
	return v.Client.Grant.Create().
		SetIntegration(i).
		SetAccessToken(encrypted.New(accessToken)).
		SetExpiresAt(encrypted.NewValue(expires)).
		SetScopes(encrypted.NewValue(scopes)).
		Exec(ctx)
}

// AccessToken returns one of the access tokens that are good at a time. When
// they expire is encrypted, so no query finds it.
func (v *Vault) AccessToken(ctx context.Context, userID, provider string, at time.Time) (string, error) {
	i, err := v.find(ctx, userID, provider)
	if err != nil {
		return "", err
	}
	grants, err := i.QueryGrants().All(ctx)
	if err != nil {
		return "", err
	}
	for _, g := range grants {
		expires, err := g.ExpiresAt.Reveal()
		if err != nil {
			return "", err
		}
		if expires.After(at) {
			return g.AccessToken.Reveal()
		}
	}
	return "", fmt.Errorf("vault: no access token of %s is good at %s", provider, at.UTC().Format(time.RFC3339))
}

func (v *Vault) find(ctx context.Context, userID, provider string) (*ent.Integration, error) {
	return v.Client.Integration.Query().
		Where(integration.UserID(userID), integration.Provider(provider)).
		Only(ctx)
}
