package main

import (
	"context"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/bench/internal/plain"
	"github.com/credent-go/credent/bench/internal/plain/usercredential"
)

// plainPeer is ent without encryption, or with encryption by hooks.
type plainPeer struct {
	client  *plain.Client
	account account
	values  values
}

func openPlain(v values, opts []credent.Option) opener {
	return func(_ context.Context, databaseURL string, a account) (peer, error) {
		db, dialect, err := openPool(databaseURL, "", opts)
		if err != nil {
			return nil, err
		}
		return &plainPeer{plain.NewClient(plain.Driver(entsql.OpenDB(dialect, db))), a, v}, nil
	}
}

func (p *plainPeer) create(i int, kind string) *plain.UserCredentialCreate {
	apiKey, secretKey := p.values.of(i)
	return p.client.UserCredential.Create().
		SetUserAccountID(p.account.id).SetUserID(p.account.userID).SetCredentialType(kind).
		SetAPIKey(apiKey).SetSecretKey(secretKey).SetAPIKeyIndex(digest())
}

func (p *plainPeer) insert(ctx context.Context, n int, kind string) error {
	for i := range n {
		if _, err := p.create(i, kind).Save(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *plainPeer) bulk(ctx context.Context, n int, kind string) error {
	for i := 0; i < n; i += bulkSize {
		builders := make([]*plain.UserCredentialCreate, min(bulkSize, n-i))
		for j := range builders {
			builders[j] = p.create(i+j, kind)
		}
		if _, err := p.client.UserCredential.CreateBulk(builders...).Save(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *plainPeer) read(ctx context.Context) (int, error) {
	rows, err := p.client.UserCredential.Query().Where(usercredential.CredentialType(typeStored)).All(ctx)
	if err != nil {
		return 0, err
	}
	for _, row := range rows {
		if err := p.values.check(row.APIKey, row.SecretKey); err != nil {
			return 0, err
		}
	}
	return len(rows), nil
}

func (p *plainPeer) list(ctx context.Context) (int, error) {
	rows, err := p.client.UserCredential.Query().Where(usercredential.CredentialType(typeStored)).All(ctx)
	return len(rows), err
}

func (p *plainPeer) point(ctx context.Context, ids []uuid.UUID) error {
	for _, id := range ids {
		row, err := p.client.UserCredential.Get(ctx, id)
		if err != nil {
			return err
		}
		if err := p.values.check(row.APIKey, row.SecretKey); err != nil {
			return err
		}
	}
	return nil
}

func (p *plainPeer) close() error { return p.client.Close() }
