//go:build cgo

// Package mattn runs tests with SQLite's driver for cgo. It is here because
// this module may have dependencies that services shouldn't get.
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
