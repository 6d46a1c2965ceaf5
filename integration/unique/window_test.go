package unique

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql/sqlgraph"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

func only(columns ...encrypted.Column) rotate.Config { return rotate.Config{In: columns, Batch: 7} }

// guard creates the triggers of the column's migrations.
func (db *database) guard(t *testing.T, columns ...encrypted.Column) {
	t.Helper()
	for _, s := range encrypted.IndexTriggers(db.dialect, columns...) {
		db.exec(t, s)
	}
}

// TestCheckUnique lists the rows that a unique index would refuse: in plaintext
// and under all keys, if they match its condition and are equal in its other
// columns. While there are any, nothing is encrypted or indexed.
func TestCheckUnique(t *testing.T) {
	t.Parallel()
	forEachSeats(t, func(t *testing.T, db *database) {
		ctx := t.Context()
		first, second := keyring.GenerateKey(), keyring.GenerateKey()
		ring := newKeyring(t, second, first)
		old, err := newKeyring(t, first).Encrypt("canary")
		if err != nil {
			t.Fatal(err)
		}
		current, err := ring.Encrypt("canary")
		if err != nil {
			t.Fatal(err)
		}
		db.guard(t, code, email)
		for i, row := range []string{
			"1, 'canary', NULL", "1, '" + old + "', NULL", "1, '" + current + "', NULL",
			"1, 'canary', '2026-01-02 03:04:05'",
			"2, 'canary', NULL", "2, 'other', NULL", "1, 'other', NULL", "1, NULL, NULL", "1, NULL, NULL",
			"1, 'gAAAA-damaged', NULL", "3, 'other', NULL", "3, 'other', NULL", "4, '', NULL", "4, '', NULL",
		} {
			db.exec(t, fmt.Sprintf("INSERT INTO seats (id, org, code, deleted_at) VALUES (%d, %s)", i+1, row))
		}
		db.insert(t, 1, "canary")
		want := []rotate.Duplicate{
			{Table: "seats", Column: "code", Rows: []string{"1", "2", "3"}},
			{Table: "seats", Column: "code", Rows: []string{"11", "12"}},
			{Table: "seats", Column: "code", Rows: []string{"13", "14"}},
		}
		for name, run := range map[string]func() error{
			"CheckUnique": func() error { return rotate.CheckUnique(ctx, db.DB, ring, only(code, email)) },
			"named": func() error {
				return rotate.CheckUnique(ctx, db.DB, ring, rotate.Config{Columns: []string{"seats.code"}})
			},
			"Encrypt": func() error {
				_, err := rotate.Encrypt(ctx, db.DB, ring, only(code, email))
				return err
			},
			"FillIndexes": func() error {
				_, err := rotate.FillIndexes(ctx, db.DB, ring, only(code, email))
				return err
			},
		} {
			err := run()
			var found *rotate.DuplicatesError
			if !errors.Is(err, rotate.ErrDuplicates) || !errors.As(err, &found) {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(want, found.Duplicates); diff != "" || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
			}
		}
		var n int
		if err := db.QueryRowContext(ctx, "SELECT count(*) FROM seats WHERE code_index IS NOT NULL OR code = "+
			"'canary' AND id = 2").Scan(&n); err != nil || n > 0 {
			t.Errorf("%d rows were written, %v", n, err)
		}
		db.exec(t, "DELETE FROM seats WHERE id IN (2, 3, 10, 11, 13)")
		if err := rotate.CheckUnique(ctx, db.DB, ring, only(code, email)); err != nil {
			t.Error(err)
		}
		for range 2 {
			if _, err := rotate.FillIndexes(ctx, db.DB, ring, only(code, email)); err != nil {
				t.Error(err)
			}
		}
		if _, err := rotate.Encrypt(ctx, db.DB, ring, only(code, email)); err != nil {
			t.Error(err)
		}
		if got, err := count(ctx, db.client(t, ring), "seats", codeIs("canary")); got != 3 || err != nil {
			t.Errorf("found %d, %v", got, err)
		}
	})
}

// TestFillNeedsTriggers refuses to fill in digests without triggers: another
// program's change of the plaintext would leave its old digest.
func TestFillNeedsTriggers(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *database) {
		ctx, ring := t.Context(), newKeyring(t, keyring.GenerateKey())
		db.insert(t, 1, "before")
		_, err := rotate.FillIndexes(ctx, db.DB, ring, only(email))
		var schema *rotate.SchemaError
		if !errors.As(err, &schema) || schema.Column.Name != "email" ||
			!strings.Contains(schema.SQL, "CREATE TRIGGER") {
			t.Fatalf("without triggers: %v", err)
		}
		db.guard(t, email)
		if _, err := rotate.FillIndexes(ctx, db.DB, ring, only(email)); err != nil {
			t.Fatal(err)
		}
		client := db.windowClient(t, ring, false)
		db.exec(t, "UPDATE members SET email = 'after' WHERE id = 1")
		for plaintext, want := range map[string]int{"before": 0, "after": 1} {
			if n, err := count(ctx, client, "members", emailIs(plaintext)); n != want || err != nil {
				t.Errorf("%s: found %d, %v", plaintext, n, err)
			}
		}
	})
}

// TestWindow takes many rows of plaintext through the window, beside a client
// that looks up and writes, and another program that writes plaintext. Lookups
// miss no row, no duplicate is accepted, and no row is lost.
func TestWindow(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *database) {
		ctx, ring := t.Context(), newKeyring(t, keyring.GenerateKey())
		const rows = 1500
		for from := 0; from < rows; from += 100 {
			var values []string
			for i := range 100 {
				values = append(values, fmt.Sprintf("(%d, 'old %d')", from+i, from+i))
			}
			db.exec(t, "INSERT INTO members (id, email) VALUES "+strings.Join(values, ", "))
		}
		db.guard(t, email)
		client := db.windowClient(t, ring, true)
		if _, err := count(ctx, client, "members", emailIs("old 7")); !errors.Is(err, encrypted.ErrIndexNotFilled) {
			t.Fatalf("before the index is filled in: %v", err)
		}
		if err := create(ctx, client, 9000, "old 7"); !errors.Is(err, encrypted.ErrIndexNotFilled) {
			t.Fatalf("before the index is filled in: %v", err)
		}
		if _, err := rotate.FillIndexes(ctx, db.DB, ring, only(email)); err != nil {
			t.Fatal(err)
		}
		db.SetMaxOpenConns(6)
		var all sync.WaitGroup
		retry := func(what string, f func() error) error {
			for range 50 {
				err := f()
				if err == nil || sqlgraph.IsConstraintError(err) || !isRace(err) {
					return err
				}
			}
			return fmt.Errorf("%s: never succeeded", what)
		}
		all.Go(func() { // the other program
			for i := range 40 {
				if err := retry("insert",
					func() error { return storePlain(ctx, db, 10_000+i, fmt.Sprint("theirs ", i)) }); err != nil {
					t.Errorf("the other program's insert: %v", err)
				}
				if err := retry("look up theirs", func() error {
					n, err := count(ctx, client, "members", emailIs(fmt.Sprint("theirs ", i)))
					if err == nil && n != 1 {
						t.Errorf("the other program's %d: found %d", i, n)
					}
					return err
				}); err != nil {
					t.Errorf("the other program's row: %v", err)
				}
			}
		})
		all.Go(func() { // a client
			for i := range 40 {
				if err := retry("create",
					func() error { return create(ctx, client, 20_000+i, fmt.Sprint("ours ", i)) }); err != nil {
					t.Errorf("the client's create: %v", err)
				}
				if err := retry("duplicate",
					func() error {
						return create(ctx, client, 30_000+i,
							fmt.Sprint("old ", i*37))
					}); !sqlgraph.IsConstraintError(err) {
					t.Errorf("a duplicate of old %d: %v", i*37, err)
				}
				if err := retry("look up", func() error {
					n, err := count(ctx, client, "members", emailIs(fmt.Sprint("old ", i*31)))
					if err == nil && n != 1 {
						t.Errorf("old %d: found %d", i*31, n)
					}
					return err
				}); err != nil {
					t.Errorf("an old row: %v", err)
				}
			}
		})
		if report, err := rotate.Encrypt(ctx, db.DB, ring, only(email)); err != nil {
			t.Errorf("%v: %+v", err, report)
		}
		all.Wait()
		if _, err := rotate.Encrypt(ctx, db.DB, ring, only(email)); err != nil {
			t.Error(err)
		}
		counts, err := rotate.Verify(ctx, db.DB, ring, email)
		if err != nil {
			t.Fatal(err)
		}
		if c := counts[0]; c.Primary != rows+80 || c.Index.Primary != rows+80 {
			t.Errorf("got %+v, %+v", c, c.Index)
		}
		if err := rotate.CheckUnique(ctx, db.DB, ring, only(email)); err != nil {
			t.Error(err)
		}
	})
}

// storePlain stores plaintext, like a program without encryption.
func storePlain(ctx context.Context, db *database, id int, plaintext string) error {
	query := "INSERT INTO members (id, email) VALUES ($1, $2)"
	if db.dialect == dialect.SQLite {
		query = "INSERT INTO members (id, email) VALUES (?, ?)"
	}
	_, err := db.ExecContext(ctx, query, id, plaintext)
	return err
}
