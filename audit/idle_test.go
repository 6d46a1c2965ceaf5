package audit_test

import (
	"database/sql"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/audit"
)

// TestOnCheckpointWhenIdle checks that the head of an idle chain is passed on
// once, within two minutes.
func TestOnCheckpointWhenIdle(t *testing.T) {
	t.Parallel()
	name := "file:" + filepath.Join(t.TempDir(), "idle.db")
	if err := migrated("sqlite", name); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		db, err := sql.Open("sqlite", name)
		do(t, err)
		defer func() { _ = db.Close() }()
		var heads []int64
		trail, err := audit.Open(t.Context(), db, dialect.SQLite, audit.Config{
			Keyring: newRing(t), OnCheckpoint: func(c audit.Checkpoint) { heads = append(heads, c.Seq) },
		})
		do(t, err)
		for range 4 {
			do(t, trail.Add(t.Context(), audit.Entry{Action: audit.ActionUpdate}))
			time.Sleep(35 * time.Second)
		}
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		if len(heads) != 2 || heads[1] != 5 {
			t.Errorf("told %v, want two heads and entry 5 the last", heads)
		}
		do(t, trail.Close(t.Context()))
		if len(heads) != 3 || heads[2] != 6 {
			t.Errorf("told %v, want entry 6 at Close", heads)
		}
	})
}
