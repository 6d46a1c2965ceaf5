package main

import (
	"context"
	"database/sql"
	"strings"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
)

// credentPeer is the measured client of this module.
type credentPeer struct {
	client  *ent.Client
	db      *sql.DB
	ring    *keyring.Keyring
	account account
}

// openPool opens a pool as credent.OpenDB does, for all contenders, so that all
// have the same settings.
func openPool(databaseURL, binary string, opts []credent.Option) (*sql.DB, string, error) {
	if binary != "" {
		separator := "?"
		if strings.Contains(databaseURL, "?") {
			separator = "&"
		}
		databaseURL += separator + binaryParameters + "=" + binary
	}
	db, dialect, err := credent.OpenDB(databaseURL, opts...)
	if err != nil {
		return nil, "", err
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	return db, dialect, nil
}

func openCredent(binary string, opts []credent.Option, cfg credent.Config) opener {
	return func(_ context.Context, databaseURL string, a account) (peer, error) {
		ring, err := keyring.New(keyring.GenerateKey())
		if err != nil {
			return nil, err
		}
		cfg := cfg
		cfg.Keyring = ring
		db, dialect, err := openPool(databaseURL, binary, opts)
		if err != nil {
			return nil, err
		}
		client, err := credent.NewClient(db, dialect, cfg)
		if err != nil {
			return nil, err
		}
		return &credentPeer{client, db, ring, a}, nil
	}
}

func (p *credentPeer) create(i int, kind string) *ent.UserCredentialCreate {
	apiKey, secretKey := keySizes.of(i)
	return p.client.UserCredential.Create().
		SetUserAccountID(p.account.id).SetUserID(p.account.userID).SetCredentialType(kind).
		SetAPIKey(credent.NewSecret(apiKey)).SetSecretKey(credent.NewSecret(secretKey))
}

func (p *credentPeer) insert(ctx context.Context, n int, kind string) error {
	for i := range n {
		if _, err := p.create(i, kind).Save(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *credentPeer) bulk(ctx context.Context, n int, kind string) error {
	for i := 0; i < n; i += bulkSize {
		builders := make([]*ent.UserCredentialCreate, min(bulkSize, n-i))
		for j := range builders {
			builders[j] = p.create(i+j, kind)
		}
		if _, err := p.client.UserCredential.CreateBulk(builders...).Save(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *credentPeer) read(ctx context.Context) (int, error) {
	rows, err := p.client.UserCredential.Query().Where(usercredential.CredentialType(typeStored)).All(ctx)
	if err != nil {
		return 0, err
	}
	for _, row := range rows {
		if err := checkRow(row); err != nil {
			return 0, err
		}
	}
	return len(rows), nil
}

// checkRow reveals both secrets.
func checkRow(row *ent.UserCredential) error {
	apiKey, err := row.APIKey.Reveal()
	if err != nil {
		return err
	}
	secretKey, err := row.SecretKey.Reveal()
	if err != nil {
		return err
	}
	return keySizes.check(apiKey, secretKey)
}

func (p *credentPeer) list(ctx context.Context) (int, error) {
	rows, err := p.client.UserCredential.Query().Where(usercredential.CredentialType(typeStored)).All(ctx)
	return len(rows), err
}

func (p *credentPeer) point(ctx context.Context, ids []uuid.UUID) error {
	for _, id := range ids {
		row, err := p.client.UserCredential.Get(ctx, id)
		if err != nil {
			return err
		}
		if err := checkRow(row); err != nil {
			return err
		}
	}
	return nil
}

func (p *credentPeer) close() error { return p.client.Close() }

// copy stores rows with the bulk-loading function.
func (p *credentPeer) copy(ctx context.Context, n int, kind string) error {
	rows := func(yield func(credent.CopyRow, error) bool) {
		for i := range n {
			apiKey, secretKey := keySizes.of(i)
			if !yield(credent.CopyRow{
				UserAccountID: p.account.id, UserID: p.account.userID, CredentialType: kind,
				APIKey: credent.NewSecret(apiKey), SecretKey: credent.NewSecret(secretKey),
			}, nil) {
				return
			}
		}
	}
	_, err := credent.Copy(ctx, p.db, rows, credent.CopyConfig{}, credent.Config{Keyring: p.ring})
	return err
}
