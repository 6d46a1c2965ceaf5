package main

import (
	"context"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/fernet/fernet-go"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/bench/internal/fernetgo"
	"github.com/credent-go/credent/bench/internal/fernetgo/usercredential"
	"github.com/credent-go/credent/bench/internal/fernettype"
	"github.com/credent-go/credent/keyring"
)

// fernetPeer is ent with fernet-go in the secrets' Go type.
type fernetPeer struct {
	client  *fernetgo.Client
	account account
}

func openFernet(opts []credent.Option) opener {
	return func(_ context.Context, databaseURL string, a account) (peer, error) {
		keys, err := fernet.DecodeKeys(keyring.GenerateKey())
		if err != nil {
			return nil, err
		}
		if fernettype.Keys == nil { // one ring per process: the type can't hold it elsewhere
			fernettype.Keys = keys
		}
		db, dialect, err := openPool(databaseURL, "", opts)
		if err != nil {
			return nil, err
		}
		return &fernetPeer{fernetgo.NewClient(fernetgo.Driver(entsql.OpenDB(dialect, db))), a}, nil
	}
}

func (p *fernetPeer) create(i int, kind string) *fernetgo.UserCredentialCreate {
	apiKey, secretKey := keySizes.of(i)
	return p.client.UserCredential.Create().
		SetUserAccountID(p.account.id).SetUserID(p.account.userID).SetCredentialType(kind).
		SetAPIKey(fernettype.Secret{Plaintext: apiKey}).SetSecretKey(fernettype.Secret{Plaintext: secretKey}).
		SetAPIKeyIndex(digest())
}

func (p *fernetPeer) insert(ctx context.Context, n int, kind string) error {
	for i := range n {
		if _, err := p.create(i, kind).Save(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *fernetPeer) bulk(ctx context.Context, n int, kind string) error {
	for i := 0; i < n; i += bulkSize {
		builders := make([]*fernetgo.UserCredentialCreate, min(bulkSize, n-i))
		for j := range builders {
			builders[j] = p.create(i+j, kind)
		}
		if _, err := p.client.UserCredential.CreateBulk(builders...).Save(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *fernetPeer) read(ctx context.Context) (int, error) {
	rows, err := p.client.UserCredential.Query().Where(usercredential.CredentialType(typeStored)).All(ctx)
	if err != nil {
		return 0, err
	}
	for _, row := range rows {
		if err := keySizes.check(row.APIKey.Plaintext, row.SecretKey.Plaintext); err != nil {
			return 0, err
		}
	}
	return len(rows), nil
}

func (p *fernetPeer) list(ctx context.Context) (int, error) {
	rows, err := p.client.UserCredential.Query().Where(usercredential.CredentialType(typeStored)).All(ctx)
	return len(rows), err
}

func (p *fernetPeer) point(ctx context.Context, ids []uuid.UUID) error {
	for _, id := range ids {
		row, err := p.client.UserCredential.Get(ctx, id)
		if err != nil {
			return err
		}
		if err := keySizes.check(row.APIKey.Plaintext, row.SecretKey.Plaintext); err != nil {
			return err
		}
	}
	return nil
}

func (p *fernetPeer) close() error { return p.client.Close() }
