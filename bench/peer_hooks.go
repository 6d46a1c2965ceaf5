package main

import (
	"context"
	"fmt"
	"sync"

	"entgo.io/ent"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/bench/internal/plain"
	"github.com/credent-go/credent/bench/internal/plain/hook"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/keyring"
)

// openHooks opens a client in the way that ent's documentation shows for
// encrypted fields: a hook encrypts a mutation's values, and an interceptor
// decrypts a query's results. The fields are strings with Credent's tokens.
func openHooks(opts []credent.Option) opener {
	return func(_ context.Context, databaseURL string, a account) (peer, error) {
		ring, err := keyring.New(keyring.GenerateKey())
		if err != nil {
			return nil, err
		}
		db, dialect, err := openPool(databaseURL, "", opts)
		if err != nil {
			return nil, err
		}
		client := plain.NewClient(plain.Driver(entsql.OpenDB(dialect, db)))
		h := fieldHooks{ring}
		client.UserCredential.Use(h.encrypt)
		client.UserCredential.Intercept(ent.InterceptFunc(h.decrypt))
		return &plainPeer{client, a, keySizes}, nil
	}
}

// apiKeyColumn is Credent's column. Peers with the same cryptography compute
// its digests.
var apiKeyColumn = sync.OnceValue(func() encrypted.Column {
	for _, c := range encrypted.Columns() {
		if c.Index != "" {
			return c
		}
	}
	panic("no column has a blind index")
})

// digests computes the digests of peers that maintain a blind index themselves.
var digests blindindex.Digester

type fieldHooks struct{ ring *keyring.Keyring }

func (h fieldHooks) encrypt(next ent.Mutator) ent.Mutator {
	return hook.UserCredentialFunc(func(ctx context.Context, m *plain.UserCredentialMutation) (ent.Value, error) {
		if apiKey, ok := m.APIKey(); ok {
			index, err := digests.Primary((*engine.Ring)(h.ring), apiKeyColumn(), apiKey)
			if err != nil {
				return nil, err
			}
			m.SetAPIKeyIndex(index)
			token, err := h.ring.Encrypt(apiKey)
			if err != nil {
				return nil, err
			}
			m.SetAPIKey(token)
		}
		if secretKey, ok := m.SecretKey(); ok {
			token, err := h.ring.Encrypt(secretKey)
			if err != nil {
				return nil, err
			}
			m.SetSecretKey(token)
		}
		value, err := next.Mutate(ctx, m)
		if err != nil {
			return nil, err
		}
		// The saved entity contains the tokens.
		if row, ok := value.(*plain.UserCredential); ok {
			return row, h.open(row)
		}
		return value, nil
	})
}

func (h fieldHooks) decrypt(next ent.Querier) ent.Querier {
	return ent.QuerierFunc(func(ctx context.Context, q ent.Query) (ent.Value, error) {
		value, err := next.Query(ctx, q)
		if err != nil {
			return nil, err
		}
		rows, ok := value.([]*plain.UserCredential)
		if !ok {
			return nil, fmt.Errorf("a query returned %T", value)
		}
		for _, row := range rows {
			if err := h.open(row); err != nil {
				return nil, err
			}
		}
		return rows, nil
	})
}

func (h fieldHooks) open(row *plain.UserCredential) (err error) {
	if row.APIKey, err = h.ring.Decrypt(row.APIKey); err != nil {
		return err
	}
	row.SecretKey, err = h.ring.Decrypt(row.SecretKey)
	return err
}
