package sqlrows_test

import (
	"database/sql"
	"errors"
	"runtime"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/credent-go/credent/internal/sqlrows"
)

func source(t *testing.T, query string) *sql.Rows {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

const three = "SELECT 1 AS n, 'a' AS text, x'ff' AS raw UNION ALL SELECT 2, NULL, x'' UNION ALL SELECT 3, 'c', NULL"

func TestThen(t *testing.T) {
	t.Parallel()
	errEnd := errors.New("end")
	for _, test := range []struct {
		name string
		read int // rows
		end  error
	}{
		{"all", 3, nil},
		{"some", 1, nil},
		{"none", 0, nil},
		{"all, and the end fails", 3, errEnd},
		{"none, and the end fails", 0, errEnd},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var counts []int64
			rows, err := sqlrows.Then(source(t, three), nil, func(n int64, err error) error { //nolint:rowserrcheck // checked below
				counts = append(counts, n)
				return errors.Join(err, test.end)
			})
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < test.read; i++ {
				var (
					n    int
					text sql.NullString
					raw  []byte
				)
				if !rows.Next() {
					t.Fatalf("row %d is missing: %v", i, rows.Err())
				}
				if err := rows.Scan(&n, &text, &raw); err != nil || n != i+1 {
					t.Fatalf("row %d: %d, %v", i, n, err)
				}
			}
			if test.read == 3 && rows.Next() {
				t.Error("there is a fourth row")
			}
			if err := errors.Join(rows.Err(), rows.Close()); !errors.Is(err, test.end) { //nolint:sqlclosecheck // its error counts
				t.Errorf("got %v, want %v", err, test.end)
			}
			if len(counts) != 1 || counts[0] != 3 {
				t.Errorf("end was called with %v, want once with 3", counts)
			}
		})
	}
}

// Closed rows leak no goroutine.
func TestThenLeaksNothing(t *testing.T) { //nolint:paralleltest // counts what the process has
	before := runtime.NumGoroutine()
	for range 50 {
		rows, err := sqlrows.Then(source(t, "SELECT 1"), nil, func(_ int64, err error) error { return err }) //nolint:rowserrcheck // checked below
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(rows.Close(), rows.Err()); err != nil { //nolint:sqlclosecheck // its error counts
			t.Fatal(err)
		}
	}
	// Each source has a pool with a goroutine until the test ends.
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before+50; {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		time.Sleep(time.Millisecond)
	}
}
