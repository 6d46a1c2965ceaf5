package cli

import (
	"context"
	"errors"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/canary"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
)

// withCanaries makes a migration maintain the canaries, if the environment has
// a key.
func withCanaries(cfg *migrate.Config) error {
	ring, err := keyring.FromEnv()
	switch {
	case errors.Is(err, credent.ErrNoKey):
		return nil
	case err != nil:
		return err
	}
	cfg.Keyring, cfg.Columns = ring, ent.EncryptedColumns()
	return nil
}

// noteCanaries warns after a migration without a key if there are no canaries.
func (a *app) noteCanaries(ctx context.Context, db *database, keyless bool) {
	if !keyless {
		return
	}
	on, err := canary.Of(ctx, db.DB)
	if err != nil {
		return
	}
	for _, c := range ent.EncryptedColumns() {
		if token, err := on.Read(ctx, c); err == nil && token == "" {
			a.printf("no canary is stored without ENCRYPTION_KEY; services check their key with it: run this again " +
				"with the key\n")
			return
		}
	}
}

// checkKey refuses a keyring that doesn't open the existing canaries: nobody
// else could read what is written under it. Services check it when they start.
func (db *database) checkKey(ctx context.Context, ring *keyring.Keyring) error {
	columns := ent.EncryptedColumns()
	return db.try(ctx, func(ctx context.Context) error {
		on, err := canary.Of(ctx, db.DB)
		if err != nil {
			return err
		}
		states, err := canary.States(ctx, on, (*engine.Ring)(ring), columns...)
		for i, state := range states {
			if state.Err != nil {
				return columns[i].Wrap("nothing was done: open the canary of", state.Err)
			}
		}
		return err
	})
}

// addCanaries opens each column's canary.
func (r *report) addCanaries(ctx context.Context, db *database, ring *keyring.Keyring) {
	const name = "canary"
	columns := ent.EncryptedColumns()
	on, err := canary.Of(ctx, db.DB)
	if err != nil {
		r.add(name, err, "")
		return
	}
	states, err := canary.States(ctx, on, (*engine.Ring)(ring), columns...)
	if err != nil {
		r.add(name, err, "")
		return
	}
	opened, missing := 0, ""
	for i, state := range states {
		switch {
		case state.Err != nil:
			r.add(name, columns[i].Wrap("open the canary of", state.Err), "")
			return
		case state.Missing != "":
			missing = columns[i].String() + ": " + state.Missing + "; `credent migrate apply` stores it"
		default:
			opened++
		}
	}
	if missing != "" {
		r.skip(name, missing)
		return
	}
	r.add(name, nil, count(opened, "column")+" checked")
}
