//go:build linux

package faults

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/pgserver"
)

const (
	maxRuns     = 30 // of a command that keeps being stopped
	rowsAtOnce  = 12 // in one transaction
	transactors = 4
)

// deadlocks runs two rotations on rows that an application's transactions lock
// in the opposite order.
func deadlocks(tr *trial) {
	_, databaseURL := startServer(tr, pgserver.WithSetting("deadlock_timeout", "20ms"))
	w := newWorld(tr, databaseURL)
	v := newVault(w, 8, 25)
	want, rounds := tr.pick(1, 12), 0
	var found int
	for found < want {
		if rounds++; rounds > 20+want {
			tr.Fatalf("only %d deadlocks", found)
		}
		v.newKey()
		var done atomic.Int64
		var rotations, application sync.WaitGroup
		ctx, cancel := context.WithCancel(tr.ctx)
		for range 2 {
			rotations.Go(func() { v.untilDone("rotate", "--batch", strconv.Itoa(len(v.rows))) })
		}
		for part := range transactors {
			application.Go(func() { v.transactions(ctx, part, &done) })
		}
		rotations.Wait()
		eventually(recoverLimit, func() bool { return done.Load() >= 3*transactors })
		cancel()
		application.Wait()
		v.finish("rotate")
		v.finish("verify")
		v.check()
		w.value(&found, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
	}
	tr.notef("%d deadlocks in %d rounds of two rotations and %d transactions at a time", found, rounds, transactors)
	w.close()
}

// untilDone repeats a command until it reports that it's done.
func (v *vault) untilDone(args ...string) {
	for range maxRuns {
		if err := v.command(v.url, args...).Run(); err == nil {
			v.operations.Add(1)
			return
		}
		v.failed.Add(1)
	}
	v.found(&v.stuck, "%v is not done after %d runs", args, maxRuns)
}

// transactions changes rows of one part in transactions, from the last to the
// first, until the context ends.
func (v *vault) transactions(ctx context.Context, part int, done *atomic.Int64) {
	db := v.pool("pgx", v.url, applicationName)
	client := v.credentials(db)
	defer func() { _ = client.Close() }()
	random := rand.New(rand.NewPCG(uint64(part), uint64(time.Now().UnixNano())))
	var own []uuid.UUID
	v.mu.Lock()
	for id := range v.rows {
		if int(id[0])%transactors == part {
			own = append(own, id)
		}
	}
	v.mu.Unlock()
	slices.SortFunc(own, func(a, b uuid.UUID) int { return -cmp.Compare(a.String(), b.String()) })
	for ctx.Err() == nil {
		first := random.IntN(max(1, len(own)-rowsAtOnce))
		if err := v.transaction(client, own[first:min(len(own), first+rowsAtOnce)], random.Int()); err != nil {
			if v.failed.Add(1); !isTransient(err) {
				v.found(&v.wrong, "a transaction: %v", err)
			}
			continue
		}
		done.Add(1)
	}
}

// transaction gives rows new secrets. A failed one has changed none.
func (v *vault) transaction(client *ent.Client, ids []uuid.UUID, serial int) error {
	ctx, cancel := context.WithTimeout(v.ctx, recoverLimit)
	defer cancel()
	tx, err := client.Tx(ctx)
	if err != nil {
		return err
	}
	fresh := make(map[uuid.UUID]stored)
	for _, id := range ids {
		v.mu.Lock()
		s := v.rows[id]
		v.mu.Unlock()
		s.apiKey, s.secretKey = fmt.Sprintf("key/%s/%d", s.user, serial), fmt.Sprintf("secret/%s/%d", s.user, serial)
		fresh[id] = s
		if err := tx.UserCredential.UpdateOneID(id).SetAPIKey(credent.NewSecret(s.apiKey)).
			SetSecretKey(credent.NewSecret(s.secretKey)).Exec(ctx); err != nil {
			_ = tx.Rollback() // the database has already rolled back
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, s := range fresh {
		v.rows[id] = s
	}
	v.operations.Add(int64(len(ids)))
	return nil
}
