package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"

	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/keyring"
)

// gormCredential is the model of user_credentials.
type gormCredential struct {
	ID             uuid.UUID  `gorm:"type:uuid;primaryKey"`
	UserAccountID  uuid.UUID  `gorm:"type:uuid"`
	UserID         string     `gorm:"size:255"`
	CredentialType string     `gorm:"size:50"`
	APIKey         string     `gorm:"column:api_key;serializer:credent"`
	SecretKey      string     `gorm:"column:secret_key;serializer:credent"`
	APIKeyIndex    []byte     `gorm:"column:api_key_index"`
	IsActive       bool       `gorm:"column:is_active"`
	ExpiresAt      *time.Time `gorm:"type:timestamp"`
	CreatedAt      time.Time  `gorm:"type:timestamp"`
	UpdatedAt      time.Time  `gorm:"type:timestamp"`
}

// TableName implements GORM's Tabler.
func (gormCredential) TableName() string { return "user_credentials" }

// serializer encrypts and decrypts fields, with Credent's tokens. GORM
// registers serializers by name for the whole process.
type serializer struct{ ring *keyring.Keyring }

// Scan decrypts.
func (s serializer) Scan(ctx context.Context, field *schema.Field, dst reflect.Value, stored any) error {
	var token string
	switch stored := stored.(type) {
	case string:
		token = stored
	case []byte:
		token = string(stored)
	default:
		return fmt.Errorf("serializer: scan a %T", stored)
	}
	plaintext, err := s.ring.Decrypt(token)
	if err != nil {
		return err
	}
	return field.Set(ctx, dst, plaintext)
}

// Value encrypts.
func (s serializer) Value(_ context.Context, _ *schema.Field, _ reflect.Value, value any) (any, error) {
	plaintext, ok := value.(string)
	if !ok {
		return nil, fmt.Errorf("serializer: value of a %T", value)
	}
	return s.ring.Encrypt(plaintext)
}

// gormPeer is GORM configured for speed: without a transaction around each
// statement. Its driver is pgx, which prepares statements on its own.
type gormPeer struct {
	db      *gorm.DB
	ring    *keyring.Keyring
	account account
}

func openGORM(_ context.Context, databaseURL string, a account) (peer, error) {
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		return nil, err
	}
	schema.RegisterSerializer("credent", serializer{ring})
	pool, _, err := openPool(databaseURL, "", nil)
	if err != nil {
		return nil, err
	}
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{
		SkipDefaultTransaction: true,
		Logger:                 logger.Discard,
		NowFunc:                func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) },
	})
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return &gormPeer{db, ring, a}, nil
}

func (p *gormPeer) row(i int, kind string) (*gormCredential, error) {
	apiKey, secretKey := keySizes.of(i)
	index, err := digests.Primary((*engine.Ring)(p.ring), apiKeyColumn(), apiKey)
	return &gormCredential{
		ID: uuid.New(), UserAccountID: p.account.id, UserID: p.account.userID, CredentialType: kind,
		APIKey: apiKey, SecretKey: secretKey, APIKeyIndex: index, IsActive: true,
	}, err
}

func (p *gormPeer) insert(ctx context.Context, n int, kind string) error {
	for i := range n {
		row, err := p.row(i, kind)
		if err != nil {
			return err
		}
		if err := p.db.WithContext(ctx).Create(row).Error; err != nil {
			return err
		}
	}
	return nil
}

func (p *gormPeer) bulk(ctx context.Context, n int, kind string) error {
	for i := 0; i < n; i += bulkSize {
		rows := make([]*gormCredential, min(bulkSize, n-i))
		for j := range rows {
			var err error
			if rows[j], err = p.row(i+j, kind); err != nil {
				return err
			}
		}
		if err := p.db.WithContext(ctx).Create(rows).Error; err != nil {
			return err
		}
	}
	return nil
}

func (p *gormPeer) read(ctx context.Context) (int, error) {
	var rows []*gormCredential
	if err := p.db.WithContext(ctx).Where("credential_type = ?", typeStored).Find(&rows).Error; err != nil {
		return 0, err
	}
	for _, row := range rows {
		if err := keySizes.check(row.APIKey, row.SecretKey); err != nil {
			return 0, err
		}
	}
	return len(rows), nil
}

func (p *gormPeer) list(ctx context.Context) (int, error) { return p.read(ctx) }

func (p *gormPeer) point(ctx context.Context, ids []uuid.UUID) error {
	for _, id := range ids {
		var row gormCredential
		if err := p.db.WithContext(ctx).Where("id = ?", id).Take(&row).Error; err != nil {
			return err
		}
		if err := keySizes.check(row.APIKey, row.SecretKey); err != nil {
			return err
		}
	}
	return nil
}

func (p *gormPeer) close() error {
	db, err := p.db.DB()
	if err != nil {
		return err
	}
	return db.Close()
}
