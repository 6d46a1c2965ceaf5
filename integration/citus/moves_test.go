package citus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/retry"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

const (
	movingUsers = 40
	writerCount = 6
	leastWrites = 300
	movedShards = 3
)

// acknowledged are the secrets that the database acknowledged, by row.
type acknowledged struct {
	mu  sync.Mutex
	key map[uuid.UUID]string
}

// TestShardMoves moves shards back and forth between nodes, with and without
// blocking writes, while six writers change secrets and a rotation re-encrypts
// everything. No acknowledged write is lost, and every digest is right.
func TestShardMoves(t *testing.T) {
	testdb.NeedCitus(t)
	t.Parallel()
	ctx := t.Context()
	c := newCluster(t, migrate.Citus)
	var rows []*ent.UserCredential
	for i := range movingUsers {
		rows = append(rows, c.Credential(t, c.Account(t, fmt.Sprint("user ", i)), fmt.Sprint("first ", i), "s"))
	}
	second := keyring.GenerateKey()
	both, err := keyring.New(second, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	after := testdb.Open(t, c.URL, testopt.WithKeyring(both))
	acked := &acknowledged{key: map[uuid.UUID]string{}}
	var written, refused atomic.Int64
	working, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for w := range writerCount {
		wg.Go(func() {
			for i := 0; working.Err() == nil; i++ {
				row := rows[w+writerCount*(i%((movingUsers-w+writerCount-1)/writerCount))] // the writer's own row
				key := fmt.Sprint("writer ", w, " ", i)
				err := after.UserCredential.UpdateOneID(row.ID).Where(usercredential.UserID(row.UserID)).
					SetAPIKey(credent.NewSecret(key)).Exec(ctx)
				switch {
				case err == nil:
					written.Add(1)
					acked.mu.Lock()
					acked.key[row.ID] = key
					acked.mu.Unlock()
				case retry.KindOf(err).IsTransient() || strings.Contains(err.Error(), "shard"):
					refused.Add(1) // so it isn't stored
				default:
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	moves := c.moveShards(t)
	rotations := 0
	for written.Load() < leastWrites || rotations < 2 {
		_, err := rotate.Run(ctx, c.DB, both, rotate.Config{Batch: 20})
		if err != nil && !errors.Is(err, rotate.ErrNotDone) {
			t.Fatalf("rotate: %v", err)
		}
		rotations++
	}
	moved := <-moves
	stop()
	wg.Wait()
	if _, err := rotate.Run(ctx, c.DB, both, rotate.Config{}); err != nil {
		t.Fatal(err)
	}
	only := testdb.Keyring(t, second)
	last := testdb.Open(t, c.URL, testopt.WithKeyring(only))
	lost := 0
	for id, want := range acked.key {
		if got := testdb.Reveal(t, last.UserCredential.GetX(ctx, id).APIKey); got != want {
			lost++
			t.Errorf("row %s has %q, and %q was acknowledged", id, got, want)
		}
		if !testdb.Found(t, last, want)[id] {
			t.Errorf("row %s isn't found by its key", id)
		}
	}
	c.CheckIndex(t, only)
	t.Logf("%d shards moved, %d rotations, %d writes acknowledged, %d refused, %d lost",
		moved, rotations+1, written.Load(), refused.Load(), lost)
}

// moveShards moves shards between the first two workers in the background, and
// sends their number.
func (c *cluster) moveShards(t *testing.T) <-chan int {
	t.Helper()
	done := make(chan int, 1)
	go func() {
		defer close(done)
		moved := 0
		for i := range movedShards {
			mode := []string{"force_logical", "block_writes"}[i%2]
			// Move a shard, with its colocated shards, to the other worker.
			_, err := c.DB.ExecContext(t.Context(), `SELECT citus_move_shard_placement(
  s.shardid, s.nodename, s.nodeport, w.nodename, w.nodeport, $1::citus.shard_transfer_mode)
FROM (SELECT shardid, nodename, nodeport FROM citus_shards
    WHERE table_name = 'user_credentials'::regclass ORDER BY shardid OFFSET $2 LIMIT 1) s,
  LATERAL (SELECT nodename, nodeport FROM pg_dist_node
    WHERE groupid > 0 AND (nodename, nodeport) <> (s.nodename, s.nodeport) ORDER BY nodeid LIMIT 1) w`, mode, 3*i)
			if err != nil {
				t.Errorf("move a shard, %s: %v", mode, err)
				return
			}
			moved++
		}
		done <- moved
	}()
	return done
}
