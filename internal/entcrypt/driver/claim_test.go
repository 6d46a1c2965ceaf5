package driver_test

import (
	"errors"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/states"
)

// TestClaimWithRows stores secrets with statements that return rows, like ent's
// if the database makes the primary key. A secret that is unique under one key
// is unique under the other, even if the rows aren't read to the end.
func TestClaimWithRows(t *testing.T) {
	t.Parallel()
	db, next := openDB(t, "CREATE TABLE letter (id INTEGER PRIMARY KEY, stamp TEXT, stamp_index BLOB UNIQUE)")
	on := func(keys ...string) contextDriver {
		return newDriver(t, next, driver.Config{Keyring: ring(t, keys[0], keys[1:]...)}).(contextDriver)
	}
	statement := func(raw bool, stamps []string) (query string, args []any) {
		query = "INSERT INTO `letter` (`stamp`, `stamp_index`) VALUES (?, ?)" + strings.Repeat(", (?, ?)",
			len(stamps)-1) + " RETURNING `id`"
		for _, text := range stamps {
			secret := fieldcrypt.New(text)
			if raw {
				args = append(args, stamp.At(secret, letterStamp, nil), stamp.DigestOf(secret, letterStamp, nil))
				continue
			}
			value, err := letter.Value(secret)
			if err != nil {
				t.Fatal(err)
			}
			arg, digest := stamped(t, "letter", "stamp", value, nil)
			args = append(args, arg, digest)
		}
		return query, args
	}
	insert := func(drv dialect.ExecQuerier, read bool, stamps ...string) error {
		query, args := statement(false, stamps)
		rows := new(entsql.Rows)
		if err := drv.Query(t.Context(), query, args, rows); err != nil {
			return err
		}
		if read {
			ids := 0
			for rows.Next() {
				ids++
			}
			if err := rows.Err(); err != nil {
				return err
			}
			if ids != len(stamps) {
				t.Errorf("%d rows were returned, want %d", ids, len(stamps))
			}
		}
		return rows.Close()
	}
	raw := func(drv contextDriver, read bool, stamps ...string) error {
		query, args := statement(true, stamps)
		rows, err := drv.QueryContext(t.Context(), query, args...)
		if err != nil {
			return err
		}
		for read && rows.Next() {
		}
		return errors.Join(rows.Err(), rows.Close()) //nolint:sqlclosecheck // its error counts
	}
	exec := func(drv contextDriver, read bool, stamps ...string) error {
		query, args := statement(read, stamps)
		return drv.Exec(t.Context(), strings.TrimSuffix(query, " RETURNING `id`"), args, nil)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	must(insert(on(keyA), true, "a"))
	must(insert(on(keyB), true, "b"))
	must(insert(on(keyA, keyB), true, "c", "d"))
	must(insert(on(keyB, keyA), false, "e"))
	tx, err := on(keyB, keyA).Tx(t.Context())
	must(err)
	must(insert(tx, true, "f"))
	must(tx.Commit())
	must(raw(on(keyA, keyB), true, "g", "h"))
	must(raw(on(keyA, keyB), false, "i"))
	must(exec(on(keyB, keyA), true, "j"))
	must(exec(on(keyB, keyA), false, "k"))
	for _, text := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"} {
		for _, keys := range [][]string{{keyA, keyB}, {keyB, keyA}} {
			for name, again := range map[string]func(contextDriver, bool, ...string) error{
				"Query": func(drv contextDriver, read bool,
					stamps ...string,
				) error {
					return insert(drv, read, stamps...)
				},
				"QueryContext": raw, "Exec": exec,
			} {
				for _, read := range []bool{true, false} {
					if err := again(on(keys...), read, "new", text); err == nil ||
						!strings.Contains(err.Error(), "UNIQUE constraint") {
						t.Errorf("%s again by %s: %v", text, name, err)
					}
				}
			}
		}
	}
	if n := len(stored(t, db, "SELECT id FROM letter")); n != 11 {
		t.Errorf("%d rows, want 11", n)
	}
	// Each index ends with the digest under the primary key.
	for text, key := range map[string]string{
		"a": keyA, "b": keyB, "c": keyA, "e": keyB, "f": keyB, "g": keyA,
		"i": keyA, "j": keyB, "k": keyB,
	} {
		want, err := new(blindindex.Digester).Primary(ring(t, key), letterStamp, text)
		if n := len(stored(t, db, "SELECT id FROM letter WHERE stamp_index = ?", want)); err != nil || n != 1 {
			t.Errorf("%s: %d rows have the digest, %v", text, n, err)
		}
	}
}

// A sealer seals like a driver, but refuses if that takes several statements.
func TestSealer(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA, keyB)
	sealer, _, err := driver.NewSealer(driver.Config{Keyring: r, States: binding(states.Require, rentedKey)})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		of  field.TypeValueScanner[fieldcrypt.Secret]
		key *keyring.Ring
	}{{wide, r}, {rented, bound(t, r, rentedKey, "b")}, {held, bound(t, r, heldSecret, "b")}, {chest, r}} {
		token, digest, err := sealer.Seal(test.of, fieldcrypt.New("text"), "b")
		if err != nil {
			t.Error(err)
			continue
		}
		if text, err := test.key.Decrypt(token); err != nil || text != "text" {
			t.Errorf("got %q, %v", text, err)
		}
		if (digest != nil) != (test.of == field.TypeValueScanner[fieldcrypt.Secret](chest)) {
			t.Errorf("got the digest %x", digest)
		}
	}
	want, err := new(blindindex.Digester).Primary(r, chestPIN, "text")
	if err != nil {
		t.Fatal(err)
	}
	if _, digest, err := sealer.Seal(chest, fieldcrypt.New("text"), ""); err != nil || string(digest) != string(want) {
		t.Errorf("got %x, %v, want %x", digest, err, want)
	}
	if _, _, err := sealer.Seal(letter, fieldcrypt.New("text"), ""); !errors.Is(err, blindindex.ErrBlindIndex) {
		t.Errorf("a unique index and two keys: %v", err)
	}
	if _, _, err := sealer.Seal(wide, fieldcrypt.Secret{}, ""); err == nil {
		t.Error("an absent secret is sealed")
	}
	if _, _, err := sealer.Seal(narrow, fieldcrypt.New(strings.Repeat("x", 16)), ""); !errors.Is(err,
		column.ErrTooLong) {
		t.Errorf("too long: %v", err)
	}
	if err := sealer.Sealer.Prepare(t.Context(), nil, dialect.SQLite, []string{"b"}); err != nil {
		t.Errorf("without tenants' keys there is nothing to prepare: %v", err)
	}
}
