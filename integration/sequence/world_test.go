package sequence

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/integration/sequence/ent"
	"github.com/credent-go/credent/integration/sequence/ent/note"
	"github.com/credent-go/credent/integration/sequence/ent/predicate"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// world is a database, a client, and the database's expected table.
type world struct {
	*testing.T
	mode
	db      *sql.DB
	dialect string
	ring    *keyring.Keyring
	keys    []string // the primary one first
	client  *ent.Client
	want    table
	log     []string

	locate  seal.Locator
	digests blindindex.Digester
}

func newWorld(t *testing.T, db *sql.DB, d string, m mode) *world {
	t.Helper()
	w := &world{T: t, mode: m, db: db, dialect: d, want: make(table)}
	for range m.keys {
		w.keys = append(w.keys, keyring.GenerateKey())
	}
	w.ring = must(keyring.New(w.keys[0], w.keys[1:]...))
	cfg := encrypted.Config{Keyring: w.ring, Columns: ent.EncryptedColumns()}
	for _, c := range ent.EncryptedColumns() {
		of := encrypted.ColumnStates{Column: c}
		if m.bound {
			of.Binding = encrypted.Require
		}
		if m.tenantKeys {
			of.TenantKeys = encrypted.Write
		}
		cfg.States = append(cfg.States, of)
	}
	w.client = ent.NewClient(ent.Driver(must(encrypted.NewDriver(entsql.OpenDB(d, db), cfg))))
	return w
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// step runs an operation, sometimes in a transaction, or rotates keys.
func (w *world) step(s *source) {
	w.Helper()
	switch s.n(12) {
	case 0:
		w.rotate(s)
	case 1, 2, 3:
		w.transaction(s)
	default:
		w.want, _ = w.do(w.client, w.choose(s, w.want), w.want)
	}
}

// do runs an operation. It returns the table after it, and whether the database
// refused a statement, which ends a transaction.
func (w *world) do(client *ent.Client, op operation, now table) (after table, ended bool) {
	w.Helper()
	after = now.clone()
	want := op.apply(after)
	got := outcome(op.run(w.Context(), client))
	w.log = append(w.log, fmt.Sprintf("%s: %v", op.name, got))
	if !errors.Is(got, want) || !errors.Is(want, got) {
		w.Errorf("%s: got %v, want %v", op.name, got, want)
	}
	if want != nil {
		return now, errors.Is(want, errTaken)
	}
	return after, false
}

// transaction runs some operations in one, and commits or rolls it back.
func (w *world) transaction(s *source) {
	w.Helper()
	tx, err := w.client.Tx(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	w.log = append(w.log, "begin")
	now, ended := w.want, false
	for range 1 + s.n(3) {
		if now, ended = w.do(tx.Client(), w.choose(s, now), now); ended {
			break
		}
	}
	if ended || s.n(3) == 0 {
		w.log = append(w.log, "rollback")
		if err := tx.Rollback(); err != nil {
			w.Fatal(err)
		}
		return
	}
	w.log = append(w.log, "commit")
	if err := tx.Commit(); err != nil {
		w.Fatal(err)
	}
	w.want = now
}

// rotate adds a new primary key. Rows are re-encrypted now or later.
func (w *world) rotate(s *source) {
	w.Helper()
	w.keys = append([]string{keyring.GenerateKey()}, w.keys...)
	w.replaceKeys()
	if len(w.keys) <= 3 && s.n(2) == 0 {
		w.log = append(w.log, "a new primary key")
		return
	}
	w.log = append(w.log, "a new primary key, rotate")
	w.reencrypt()
	counts, err := rotate.Verify(context.Background(), w.db, w.ring, ent.EncryptedColumns()...)
	if err == nil {
		err = counts.Err()
	}
	if err != nil {
		w.Errorf("after a rotation: %v", err)
	}
	w.keys = w.keys[:1]
	w.replaceKeys()
}

func (w *world) replaceKeys() {
	w.Helper()
	if _, err := w.ring.Replace(must(keyring.New(w.keys[0], w.keys[1:]...))); err != nil {
		w.Fatal(err)
	}
}

func (w *world) reencrypt() {
	w.Helper()
	if _, err := rotate.Run(w.Context(), w.db, w.ring, rotate.Config{In: ent.EncryptedColumns()}); err != nil {
		w.Errorf("rotate: %v", err)
	}
}

// stored is a note as stored.
type stored struct {
	title, owner string
	tokens       [3]sql.NullString
	digests      [3][]byte // body has none
}

// check compares the database with the table.
func (w *world) check() {
	w.Helper()
	all := w.read()
	if len(all) != len(w.want) {
		w.Errorf("%d notes, want %d", len(all), len(w.want))
	}
	seen := make(map[string]bool)
	keys := w.ownKeys()
	for _, of := range all {
		want, ok := w.want[of.title]
		if !ok || want.owner != of.owner {
			w.Errorf("%s belongs to %s, want %+v", of.title, of.owner, want)
			continue
		}
		for i, text := range []*string{want.body, want.email, want.code} {
			token := of.tokens[i]
			if token.Valid != (text != nil) {
				w.Errorf("%s: secret %d is present: %v, want %v", of.title, i, token.Valid, text != nil)
			}
			if token.Valid && text != nil {
				if seen[token.String] {
					w.Errorf("%s: secret %d shares its token with another", of.title, i)
				}
				seen[token.String] = true
				w.checkToken(of, i, *text, keys[of.owner])
			}
			w.checkDigest(of, i, text)
		}
	}
	w.checkReads()
	w.checkLookups()
}

var columns = [3]encrypted.Column{note.BodyColumn, note.EmailColumn, note.CodeColumn}

// checkToken opens a token with the key that it should be under.
func (w *world) checkToken(of stored, i int, text string, own tenantkey.Key) {
	w.Helper()
	ring := (*engine.Ring)(w.ring)
	if w.tenantKeys {
		if ring = engine.Of(own.Data); ring == nil {
			w.Errorf("%s: %s has no key: %v", of.title, of.owner, own.Err)
			return
		}
	}
	place := seal.Place{Column: columns[i], Tenant: sql.NullString{String: of.owner, Valid: true}}
	o, err := w.locate.OpenAt(ring, place, of.tokens[i].String)
	if err != nil || o.Plaintext != text || o.Bound != w.bound {
		w.Errorf("%s: secret %d: %v, right %v, bound %v", of.title, i, err, o.Plaintext == text, o.Bound)
	}
}

// checkDigest compares a digest with the secret's digests under each key of the
// keyring.
func (w *world) checkDigest(of stored, i int, text *string) {
	w.Helper()
	digest := of.digests[i]
	if text == nil || i == 0 {
		if digest != nil {
			w.Errorf("%s: a digest without secret %d", of.title, i)
		}
		return
	}
	all, err := w.digests.All((*engine.Ring)(w.ring), columns[i], *text)
	if err != nil {
		w.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(d []byte) bool { return slices.Equal(d, digest) }) {
		w.Errorf("%s: the digest of secret %d is %s", of.title, i, hex.EncodeToString(digest))
	}
}

func (w *world) read() (all []stored) {
	w.Helper()
	rows, err := w.db.QueryContext(w.Context(), "SELECT title, owner_id, body, email, code, email_index, code_index "+
		"FROM notes")
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var s stored
		if err := rows.Scan(&s.title, &s.owner, &s.tokens[0], &s.tokens[1], &s.tokens[2], &s.digests[1],
			&s.digests[2]); err != nil {
			w.Fatal(err)
		}
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		w.Fatal(err)
	}
	return all
}

func (w *world) ownKeys() map[string]tenantkey.Key {
	w.Helper()
	keys, err := tenantkey.Read(w.Context(), entsql.Conn{ExecQuerier: w.db}, (*engine.Ring)(w.ring), owners)
	if err != nil {
		w.Fatal(err)
	}
	return keys
}

// checkReads reveals the secrets that the client reads.
func (w *world) checkReads() {
	w.Helper()
	notes, err := w.client.Note.Query().All(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	for _, n := range notes {
		want := w.want[n.Title]
		code, err := n.Code.Reveal()
		if !n.Body.Equal(secret(want.body)) || !n.Email.Equal(secret(want.email)) || err != nil ||
			n.Code.IsZero() != (want.code == nil) || want.code != nil && string(code) != *want.code {
			w.Errorf("%s reads differently: %v", n.Title, err)
		}
	}
}

// checkLookups looks up every value.
func (w *world) checkLookups() {
	w.Helper()
	for _, email := range emails {
		want := 0
		for _, r := range w.want {
			if r.email != nil && strings.EqualFold(*r.email, email) {
				want++
			}
		}
		w.count(want, note.EmailIs(encrypted.New(email)), "email "+email)
	}
	for _, code := range codes {
		want := 0
		for _, r := range w.want {
			if r.code != nil && *r.code == code {
				want++
			}
		}
		w.count(want, note.CodeIs(encrypted.NewValue([]byte(code))), "code")
	}
}

func (w *world) count(want int, where predicate.Note, what string) {
	w.Helper()
	if got, err := w.client.Note.Query().Where(where).Count(w.Context()); got != want || err != nil {
		w.Errorf("a lookup of %s found %d, want %d: %v", what, got, want, err)
	}
}
