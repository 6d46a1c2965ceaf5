// Package sequence writes an entity in random sequences of ent calls, keeps a
// table of plaintexts alongside, and compares tokens, digests, binding, lookups
// and uniqueness after each call.
package sequence

import (
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/integration/sequence/ent"
	"github.com/credent-go/credent/internal/testdb/bare"
)

// mode is how the client encrypts.
type mode struct {
	name              string
	bound, tenantKeys bool
	keys              int // number in the keyring
}

var modes = []mode{
	{name: "plain", keys: 1},
	{name: "two keys", keys: 2},
	{name: "bound", bound: true, keys: 1},
	{name: "tenant keys", tenantKeys: true, keys: 1},
	{name: "bound tenant keys, two keys", bound: true, tenantKeys: true, keys: 2},
}

// scoped reports whether tokens depend on the tenant.
func (m mode) scoped() bool { return m.bound || m.tenantKeys }

// keyTable is credent_tenant_keys, which other schemas create in their
// migration.
const keyTable = `CREATE TABLE credent_tenant_keys (tenant varchar(255) NOT NULL PRIMARY KEY, wrapped varchar(500),
	created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, destroyed_at timestamp)`

// open returns an empty database with the tables.
func open(tb testing.TB, name string) (*sql.DB, string) {
	tb.Helper()
	db, d := bare.Empty(tb, name)
	drv := entsql.OpenDB(d, db)
	bare.CreateTables(tb, ent.NewClient(ent.Driver(drv)).Schema.Create)
	for _, stmt := range append(encrypted.IndexTriggers(d, ent.EncryptedColumns()...), keyTable) {
		if _, err := db.Exec(stmt); err != nil {
			tb.Fatal(err)
		}
	}
	for _, owner := range owners {
		if _, err := db.Exec("INSERT INTO owners (id) VALUES ('" + owner + "')"); err != nil {
			tb.Fatal(err)
		}
	}
	return db, d
}

// reset empties the tables that a sequence writes.
func reset(tb testing.TB, db *sql.DB) {
	tb.Helper()
	for _, table := range []string{"notes", "credent_tenant_keys"} {
		if _, err := db.Exec("DELETE FROM " + table); err != nil {
			tb.Fatal(err)
		}
	}
}

// The values of a sequence. There are few, so that they collide often.
var (
	owners = []string{"o1", "o2", "o3"}
	titles = []string{"t1", "t2", "t3", "t4"}
	bodies = []string{"", "body", "x'; --", strings.Repeat("b", 300), `C:\dir "$1"`}
	emails = []string{"Ada@example.com", "ada@EXAMPLE.com", "bob@example.com", ""}
	codes  = []string{"\xff1", "2", "3", ""}
)

// source is a sequence's choices: bytes, followed by zeros.
type source struct{ data []byte }

func (s *source) n(n int) int {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return int(b) % n
}

func (s *source) ended() bool { return len(s.data) == 0 }

func pick[T any](s *source, list []T) T { return list[s.n(len(list))] }

// text returns a text from a list, or nil for an absent secret.
func (s *source) text(list []string) *string {
	if s.n(4) == 0 {
		return nil
	}
	text := pick(s, list)
	return &text
}

// TestSequences runs some sequences on each database and in each mode. The fuzz
// target runs any number.
func TestSequences(t *testing.T) {
	t.Parallel()
	for i, name := range bare.SQLDrivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, d := open(t, name)
			for j, m := range modes {
				for round := range 4 {
					random := rand.New(rand.NewPCG(uint64(i*len(modes)+j), uint64(round)))
					data := make([]byte, 400)
					for k := range data {
						data[k] = byte(random.UintN(256))
					}
					reset(t, db)
					run(t, db, d, m, &source{data})
				}
			}
		})
	}
}

// FuzzSequences runs sequences from the fuzzer.
func FuzzSequences(f *testing.F) {
	f.Add([]byte("\x00\x00 some bytes to begin with, each chooses something"))
	f.Add([]byte("\x02\x04\x05\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"))
	type opened struct {
		db *sql.DB
		d  string
	}
	dbs := make([]opened, len(bare.SQLDrivers))
	for i, name := range bare.SQLDrivers {
		db, d := open(f, name)
		dbs[i] = opened{db, d}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &source{data[:min(len(data), 600)]}
		of, m := pick(s, dbs), pick(s, modes)
		reset(t, of.db)
		run(t, of.db, of.d, m, s)
	})
}

// run runs one sequence.
func run(t *testing.T, db *sql.DB, d string, m mode, s *source) {
	t.Helper()
	w := newWorld(t, db, d, m)
	for !s.ended() {
		w.step(s)
		w.check()
		if t.Failed() {
			t.Fatalf("%s, %s: after\n%s", d, m.name, strings.Join(w.log, "\n"))
		}
	}
}

// row is the expected content of a note.
type row struct {
	owner             string
	body, email, code *string
}

// table is all notes by title.
type table map[string]row

func (t table) clone() table { return maps.Clone(t) }

// taken reports whether another note has a code.
func (t table) taken(title string, code *string) bool {
	for other, r := range t {
		if other != title && code != nil && r.code != nil && *r.code == *code {
			return true
		}
	}
	return false
}

// Outcomes of an operation, besides success.
var (
	errTaken  = errors.New("a unique value is taken")
	errNobody = errors.New("no such note")
)

// outcome classifies an error.
func outcome(err error) error {
	switch {
	case err == nil:
		return nil
	case ent.IsConstraintError(err):
		return errTaken
	case ent.IsNotFound(err):
		return errNobody
	}
	for _, kind := range []error{
		encrypted.ErrManyRows, encrypted.ErrWrongLocation, encrypted.ErrBlindIndex,
		encrypted.ErrNoLocation,
	} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return err
}

func secret(text *string) encrypted.Secret {
	if text == nil {
		return encrypted.Secret{}
	}
	return encrypted.New(*text)
}

func bytesOf(text *string) encrypted.Value[[]byte] {
	if text == nil {
		return encrypted.Value[[]byte]{}
	}
	return encrypted.NewValue([]byte(*text))
}

func show(text *string) string {
	if text == nil {
		return "NULL"
	}
	return fmt.Sprintf("%.12q", *text)
}

func (r row) String() string {
	return fmt.Sprintf("%s body %s email %s code %s", r.owner, show(r.body), show(r.email), show(r.code))
}

// sortedTitles returns the titles of all notes.
func (t table) sortedTitles() []string { return slices.Sorted(maps.Keys(t)) }
