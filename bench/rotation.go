package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// The ways to re-encrypt one table, measured per row.
const (
	groupRotate     = "rotate, a row"
	nameRotate      = "credent rotate"
	nameRotateOne   = "credent rotate, one worker"
	nameUpdateOneID = "ent UpdateOneID, row by row"
	nameUpdateAll   = "one SQL UPDATE with constants"
)

// runRotation measures re-encryption against a hand-written alternative, and
// against the bare statement.
func runRotation(ctx context.Context, cfg config, server *pgserver.Server, s series) (err error) {
	g, err := grow(ctx, server, cfg.rotated, make(series))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	r := &rotation{grown: g}
	whole := func(run func() error) func(int) error { return func(int) error { return run() } }
	measures := []measure{
		{
			group: groupRotate, name: nameRotate, n: g.rows,
			run: whole(func() error { return r.rotate(ctx, rotate.Config{}) }),
		},
		{
			group: groupRotate, name: nameRotateOne, n: g.rows,
			run: whole(func() error { return r.rotate(ctx, rotate.Config{Workers: 1}) }),
		},
		{
			group: groupRotate, name: nameUpdateOneID, n: min(g.rows, cfg.updates),
			run: func(n int) error { return r.updateOneByOne(ctx, n) },
		},
		{
			group: groupRotate, name: nameUpdateAll, n: g.rows,
			run: whole(func() error { return r.updateAll(ctx) }),
		},
	}
	for i := range measures {
		measures[i].after = func() error { return r.fresh(ctx) }
	}
	if err := r.fresh(ctx); err != nil {
		return err
	}
	return rounds(cfg.rotateRounds, measures, s)
}

// rotation is a table that is re-encrypted under two keys in turn.
type rotation struct {
	*grown
	turn int
}

// fresh restores the table: no dead rows, nothing left to write, and every
// token under another key than the next measure's first.
func (r *rotation) fresh(ctx context.Context) error {
	_, err := r.db.ExecContext(ctx, "VACUUM FULL ANALYZE user_credentials")
	if err != nil {
		return err
	}
	_, err = r.db.ExecContext(ctx, "CHECKPOINT")
	return err
}

func (r *rotation) rotate(ctx context.Context, cfg rotate.Config) error {
	r.turn++
	ring, err := keyring.New(r.keys[r.turn%2], r.keys[(r.turn+1)%2])
	if err != nil {
		return err
	}
	r.ring = ring
	report, err := rotate.Run(ctx, r.db, ring, cfg)
	if err != nil {
		return err
	}
	if n := report.Rewritten(); n != int64(r.rows) {
		return fmt.Errorf("rewrote %d rows of %d", n, r.rows)
	}
	return nil
}

// updateOneByOne reads rows and stores their secrets again, as a program would
// with ent.
func (r *rotation) updateOneByOne(ctx context.Context, n int) error {
	client, err := credent.NewClient(r.db, "postgres", credent.Config{Keyring: r.ring})
	if err != nil {
		return err
	}
	for i := range n {
		id := r.sample[i%len(r.sample)]
		row, err := client.UserCredential.Get(ctx, id)
		if err != nil {
			return err
		}
		if err := client.UserCredential.UpdateOneID(id).SetAPIKey(row.APIKey).SetSecretKey(row.SecretKey).
			Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// updateAll writes the same number of bytes to all rows in one statement, the
// server's minimum work. It is rolled back; a later vacuum cleans up, and the
// statement costs no more.
func (r *rotation) updateAll(ctx context.Context) error {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	var id uuid.UUID
	var apiKey, secretKey string
	if err := tx.QueryRowContext(ctx, "SELECT id::text, api_key, secret_key FROM user_credentials LIMIT 1").
		Scan(&id, &apiKey, &secretKey); err != nil {
		return err
	}
	result, err := tx.ExecContext(ctx, "UPDATE user_credentials SET api_key = $1, secret_key = $2", apiKey, secretKey)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != int64(r.rows) {
		return errors.Join(err, fmt.Errorf("updated %d rows of %d", n, r.rows))
	}
	return nil
}
