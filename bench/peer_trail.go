package main

import (
	"context"
	"database/sql"
	"errors"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/keyring"
)

// trailPeer is the client with an audit trail, which has a pool of its own.
type trailPeer struct {
	credentPeer
	trail *audit.Trail
	pool  *sql.DB
}

// openTrail opens a client that records its reveals in batches.
func openTrail(ctx context.Context, databaseURL string, a account) (peer, error) {
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		return nil, err
	}
	db, dialect, err := openPool(databaseURL, "", nil)
	if err != nil {
		return nil, err
	}
	pool, _, err := openPool(databaseURL, "", nil)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	trail, err := audit.Open(ctx, pool, dialect, audit.Config{Keyring: ring})
	if err != nil {
		return nil, errors.Join(err, db.Close(), pool.Close())
	}
	client, err := credent.NewClient(db, dialect, credent.Config{Keyring: ring, Trail: trail})
	if err != nil {
		return nil, errors.Join(err, db.Close(), trail.Close(ctx), pool.Close())
	}
	return &trailPeer{credentPeer{client, db, ring, a}, trail, pool}, nil
}

func (p *trailPeer) close() error {
	return errors.Join(p.client.Close(), p.trail.Close(context.Background()), p.pool.Close())
}
