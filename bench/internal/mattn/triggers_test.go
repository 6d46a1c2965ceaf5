//go:build cgo

// Package mattn runs tests with the cgo driver for SQLite. It is in this module
// because services shouldn't get its dependencies.
package mattn

import (
	"database/sql"
	"testing"

	_ "github.com/mattn/go-sqlite3" // the database driver

	"github.com/credent-go/credent/internal/indextrigger/indextriggertest"
)

func TestIndexTriggers(t *testing.T) {
	t.Parallel()
	indextriggertest.SQLite(t, func(t *testing.T) *sql.DB {
		t.Helper()
		db, err := sql.Open("sqlite3", ":memory:")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	})
}
