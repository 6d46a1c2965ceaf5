package indextrigger_test

import (
	"database/sql"
	"testing"

	_ "modernc.org/sqlite" // the database driver

	"github.com/credent-go/credent/internal/indextrigger/indextriggertest"
)

func TestSQLite(t *testing.T) {
	t.Parallel()
	indextriggertest.SQLite(t, func(t *testing.T) *sql.DB {
		t.Helper()
		db, err := sql.Open("sqlite", ":memory:")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	})
}
