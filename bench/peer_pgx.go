package main

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/keyring"
)

// pgxPeer is hand-written pgx code with Credent's tokens. It shows the distance
// between an ORM and the driver.
type pgxPeer struct {
	pool    *pgxpool.Pool
	ring    *keyring.Keyring
	account account
}

type pgxCredential struct {
	ID, UserAccountID      uuid.UUID
	UserID, CredentialType string
	APIKey, SecretKey      string
	IsActive               bool
	ExpiresAt              *time.Time
	CreatedAt, UpdatedAt   time.Time
}

var pgxColumns = []string{
	"id", "user_account_id", "user_id", "credential_type", "api_key", "secret_key", "is_active",
	"created_at", "updated_at", "api_key_index",
}

const (
	pgxInsert = `INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, api_key, secret_key, is_active,
		created_at, updated_at, api_key_index) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
	pgxSelect = `SELECT id, user_account_id, user_id, credential_type, api_key, secret_key, is_active, expires_at, created_at,
		updated_at FROM user_credentials WHERE `
)

func openPGX(ctx context.Context, databaseURL string, a account) (peer, error) {
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		return nil, err
	}
	cfg, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = 4
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &pgxPeer{pool, ring, a}, nil
}

func (p *pgxPeer) row(i int, kind string) ([]any, error) {
	apiKey, secretKey := keySizes.of(i)
	apiToken, err := p.ring.Encrypt(apiKey)
	if err != nil {
		return nil, err
	}
	secretToken, err := p.ring.Encrypt(secretKey)
	if err != nil {
		return nil, err
	}
	index, err := digests.Primary((*engine.Ring)(p.ring), apiKeyColumn(), apiKey)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	return []any{
		[16]byte(uuid.New()), [16]byte(p.account.id), p.account.userID, kind, apiToken, secretToken, true,
		now, now, index,
	}, nil
}

func (p *pgxPeer) insert(ctx context.Context, n int, kind string) error {
	for i := range n {
		args, err := p.row(i, kind)
		if err != nil {
			return err
		}
		if _, err := p.pool.Exec(ctx, pgxInsert, args...); err != nil {
			return err
		}
	}
	return nil
}

func (p *pgxPeer) bulk(ctx context.Context, n int, kind string) error {
	for i := 0; i < n; i += bulkSize {
		source := pgx.CopyFromSlice(min(bulkSize, n-i), func(j int) ([]any, error) { return p.row(i+j, kind) })
		if _, err := p.pool.CopyFrom(ctx, pgx.Identifier{"user_credentials"}, pgxColumns, source); err != nil {
			return err
		}
	}
	return nil
}

func (p *pgxPeer) query(ctx context.Context, where string, arg any) ([]*pgxCredential, error) {
	rows, err := p.pool.Query(ctx, pgxSelect+where, arg)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*pgxCredential, error) {
		var c pgxCredential
		var apiToken, secretToken string
		err := row.Scan(&c.ID, &c.UserAccountID, &c.UserID, &c.CredentialType, &apiToken, &secretToken, &c.IsActive,
			&c.ExpiresAt, &c.CreatedAt, &c.UpdatedAt)
		if err != nil {
			return nil, err
		}
		if c.APIKey, err = p.ring.Decrypt(apiToken); err != nil {
			return nil, err
		}
		if c.SecretKey, err = p.ring.Decrypt(secretToken); err != nil {
			return nil, err
		}
		return &c, keySizes.check(c.APIKey, c.SecretKey)
	})
}

func (p *pgxPeer) read(ctx context.Context) (int, error) {
	rows, err := p.query(ctx, "credential_type = $1", typeStored)
	return len(rows), err
}

func (p *pgxPeer) list(ctx context.Context) (int, error) { return p.read(ctx) }

func (p *pgxPeer) point(ctx context.Context, ids []uuid.UUID) error {
	for _, id := range ids {
		rows, err := p.query(ctx, "id = $1", [16]byte(id))
		if err != nil {
			return err
		}
		if len(rows) != 1 {
			return pgx.ErrNoRows
		}
	}
	return nil
}

func (p *pgxPeer) close() error {
	p.pool.Close()
	return nil
}
