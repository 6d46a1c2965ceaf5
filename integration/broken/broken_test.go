// Package broken_test breaks the database connection at each statement that a
// run sends, one run after another.
package broken_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/canary"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/indextrigger"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// members has everything a run looks at: tenants with keys, and a unique blind
// index.
var members = column.Column{
	Table: "members", Name: "secret", Size: 500, Type: "string", ID: "id", Tenant: "org", Index: "secret_index",
}

var _ = column.Register(column.Binding{
	Column: members,
	Digest: func() any { return blindindex.Field{Config: blindindex.Config{Unique: true}} },
})

const (
	memberRows = 12
	batch      = 5
)

func secret(id int) string { return fmt.Sprint("secret ", id) }

// world is a database with the table, which can be reset to the state before a
// run.
type world struct {
	admin     *sql.DB
	on        dialect.ExecQuerier // the same
	old, next *keyring.Keyring    // next also opens the old one's tokens
	only      *keyring.Keyring    // the next one's primary key
	restore   string
}

// changed are the tables that runs write to.
var changed = []string{"members", "credent_tenant_keys", "credent_canary"}

func newWorld(t *testing.T, url string) *world {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	keys := [2]string{keyring.GenerateKey(), keyring.GenerateKey()}
	w := &world{
		admin: db, on: entsql.Conn{ExecQuerier: db}, old: newRing(t, keys[0]), next: newRing(t, keys[1], keys[0]),
		only: newRing(t, keys[1]),
	}
	for _, statement := range slices.Concat([]string{
		"CREATE TABLE members (id int PRIMARY KEY, org varchar(20) NOT NULL, secret varchar(500), " +
			"secret_index bytea UNIQUE) WITH (autovacuum_enabled = off)",
		"CREATE TABLE credent_tenant_keys (tenant varchar(255) PRIMARY KEY, wrapped varchar(500), " +
			"created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, destroyed_at timestamp)",
	}, encrypted.ProgressTable(dialect.Postgres), encrypted.CanaryTable(dialect.Postgres),
		encrypted.StatesTable(dialect.Postgres),
		indextrigger.Statements(dialect.Postgres, indextrigger.Column{
			Table: members.Table, Token: members.Name, Index: members.Index,
		})) {
		w.exec(t, statement)
	}
	for _, protection := range []string{"binding", "tenant-keys"} {
		w.exec(t, "INSERT INTO credent_states VALUES ('members.secret', $1, 'write')", protection)
	}
	return w
}

func newRing(t *testing.T, keys ...string) *keyring.Keyring {
	t.Helper()
	ring, err := keyring.New(keys[0], keys[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func (w *world) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	if _, err := w.admin.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// fill stores the rows, with their secrets converted by stored.
func (w *world) fill(t *testing.T, stored func(plaintext string) string) {
	t.Helper()
	for id := range memberRows {
		w.exec(t, "INSERT INTO members VALUES ($1, $2, $3)", id, [...]string{"a", "b"}[id%2], stored(secret(id)))
	}
}

// save makes the current rows the starting point of each run. It runs the
// statements before and after restoring them.
func (w *world) save(t *testing.T, first, last string) {
	t.Helper()
	statements := []string{first, "DELETE FROM credent_progress"}
	for _, name := range changed {
		w.exec(t, "CREATE TABLE saved_"+name+" AS TABLE "+name)
		statements = append(statements, "DELETE FROM "+name, "INSERT INTO "+name+" TABLE saved_"+name)
	}
	w.restore = strings.Join(append(statements, last), "; ")
}

// check compares the rows with the result of a run under the next keyring, and
// checks that they need no other key.
func (w *world) check(t *testing.T, encrypted bool) error {
	t.Helper()
	ring := (*engine.Ring)(w.only)
	keys, err := tenantkey.Read(t.Context(), w.on, ring, []string{"a", "b"})
	if err != nil {
		return err
	}
	rows, err := w.admin.QueryContext(t.Context(), "SELECT id, org, secret, secret_index FROM members ORDER BY id")
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	var (
		locate  seal.Locator
		digests blindindex.Digester
		n       int
	)
	for ; rows.Next(); n++ {
		var (
			id     int
			stored string
			digest []byte
			place  = seal.Place{Column: members}
		)
		if err := rows.Scan(&id, &place.Tenant, &stored, &digest); err != nil {
			return err
		}
		if id != n {
			return fmt.Errorf("got row %d, want %d", id, n)
		}
		key := keys[place.Tenant.String]
		if key.Err != nil {
			return key.Err
		}
		if !encrypted {
			if stored != secret(id) {
				return fmt.Errorf("row %d has another plaintext", id)
			}
			continue
		}
		if key.Data == nil {
			return fmt.Errorf("tenant %s has no key", place.Tenant.String)
		}
		own := engine.Of(key.Data)
		o, err := locate.OpenAt(own, place, stored)
		if err != nil {
			return fmt.Errorf("row %d: %w", id, err)
		}
		want, err := digests.Primary(own, members, o.Plaintext)
		if err != nil {
			return err
		}
		if o.Plaintext != secret(id) || !o.Bound || !slices.Equal(digest, want) {
			return fmt.Errorf("row %d: %+v, digest %x, want %x", id, o, digest, want)
		}
	}
	if n != memberRows {
		return fmt.Errorf("got %d rows", n)
	}
	return rows.Err()
}

// canary checks that the column has a canary under the next primary key.
func (w *world) canary(t *testing.T) error {
	t.Helper()
	states, err := canary.States(t.Context(), canary.DB{On: w.on}, (*engine.Ring)(w.only), members)
	if err == nil && !states[0].Primary {
		err = fmt.Errorf("the canary: %+v", states[0])
	}
	return err
}

// rewriting is a call of a function that rewrites rows.
type rewriting func(context.Context, *sql.DB, *keyring.Keyring, rotate.Config) (*rotate.Report, error)

// operations promise to continue after an outage. Each has a setup, the call,
// and a check of its full result. Encrypt begins with CheckUnique.
var operations = []struct {
	name    string
	prepare func(t *testing.T, w *world)
	run     func(t *testing.T, w *world, db *sql.DB, cfg rotate.Config) error
}{
	{
		"Run",
		func(t *testing.T, w *world) {
			t.Helper()
			w.fill(t, func(plaintext string) string {
				token, err := w.old.Encrypt(plaintext)
				if err != nil {
					t.Fatal(err)
				}
				return token
			})
			old := (*engine.Ring)(w.old)
			if err := errors.Join(canary.Keep(t.Context(), canary.DB{On: w.on}, old, members),
				tenantkey.Make(t.Context(), w.on, old, "a")); err != nil {
				t.Fatal(err)
			}
			w.save(t, "", "")
		},
		func(t *testing.T, w *world, db *sql.DB, cfg rotate.Config) error {
			t.Helper()
			err := w.rewrite(t, rotate.Run, db, cfg, "Canaries:1")
			return errors.Join(err, w.check(t, true), w.canary(t))
		},
	},
	{
		"Encrypt",
		func(t *testing.T, w *world) {
			t.Helper()
			w.fill(t, func(plaintext string) string { return plaintext })
			w.save(t, "ALTER TABLE members DROP CONSTRAINT IF EXISTS members_secret_encrypted",
				"ALTER TABLE members ADD CONSTRAINT members_secret_encrypted CHECK (secret LIKE 'gAAAA%') NOT VALID")
		},
		func(t *testing.T, w *world, db *sql.DB, cfg rotate.Config) error {
			t.Helper()
			err := w.rewrite(t, rotate.Encrypt, db, cfg, "Validated:[members_secret_encrypted]")
			return errors.Join(err, w.check(t, true), w.canary(t))
		},
	},
	{
		"DecryptToPlaintext",
		func(t *testing.T, w *world) {
			t.Helper()
			w.encrypt(t)
			w.save(t, "", "")
		},
		func(t *testing.T, w *world, db *sql.DB, cfg rotate.Config) error {
			t.Helper()
			err := w.rewrite(t, rotate.DecryptToPlaintext, db, cfg, "")
			return errors.Join(err, w.check(t, false))
		},
	},
	{
		"FillIndexes",
		func(t *testing.T, w *world) {
			t.Helper()
			w.encrypt(t)
			w.exec(t, "UPDATE members SET secret_index = NULL")
			w.save(t, "", "")
		},
		func(t *testing.T, w *world, db *sql.DB, cfg rotate.Config) error {
			t.Helper()
			err := w.rewrite(t, rotate.FillIndexes, db, cfg, fmt.Sprint("Indexed:", memberRows))
			return errors.Join(err, w.check(t, true))
		},
	},
	{
		"VerifyWith",
		func(t *testing.T, w *world) {
			t.Helper()
			w.encrypt(t)
			w.save(t, "", "")
		},
		func(t *testing.T, w *world, db *sql.DB, cfg rotate.Config) error {
			t.Helper()
			counts, err := rotate.VerifyWith(t.Context(), db, w.only, cfg)
			if err == nil {
				err = counts.Err()
			}
			if err != nil {
				return err
			}
			if c := counts[0]; c.Rows != memberRows || c.Tenant != memberRows || c.Bound != memberRows ||
				c.Index.Tenant != memberRows || !c.Canary.Primary || counts[1].Primary != 2 {
				return fmt.Errorf("counted %+v", counts)
			}
			return nil
		},
	},
}

// encrypt stores the rows encrypted under the next keyring's only key.
func (w *world) encrypt(t *testing.T) {
	t.Helper()
	w.fill(t, func(plaintext string) string { return plaintext })
	if _, err := rotate.Encrypt(t.Context(), w.admin, w.only, rotate.Config{}); err != nil {
		t.Fatal(err)
	}
}

// rewrite checks that the report counts each row once and matches want.
func (w *world) rewrite(t *testing.T, run rewriting, db *sql.DB, cfg rotate.Config, want string) error {
	t.Helper()
	report, err := run(t.Context(), db, w.next, cfg)
	if err != nil {
		return err
	}
	of := report.Tables[0]
	if of.Rewritten != memberRows || of.Skipped != 0 || !strings.Contains(fmt.Sprintf("%+v", of), want) {
		return fmt.Errorf("want %s: %+v", want, of)
	}
	return nil
}

// apart is the most points that a run passes between two breaks.
const apart = 10

// saveAlong saves positions once a second, and stops if that fails.
const saveAlong = "rotate.(*pass).saveAlong"

// TestGoesOn runs each operation once to learn where it sends statements. It
// then runs it until a connection has broken at every point that earlier
// operations don't reach, several of them per run.
func TestGoesOn(t *testing.T) {
	t.Parallel()
	server := pgserver.ForTest(t, pgserver.Shared())
	seen := make(map[point]bool)
	for _, operation := range operations {
		url, drop, err := server.CreateDatabase(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = drop() })
		w := newWorld(t, url)
		operation.prepare(t, w)
		breaker, db := newBreaker(t, url)
		run := func(t *testing.T, at ...point) error {
			t.Helper()
			w.exec(t, w.restore)
			breaker.set(at...)
			return operation.run(t, w, db, rotate.Config{Batch: batch, Workers: 1, RetryFor: time.Minute})
		}
		if err := run(t); err != nil {
			t.Fatalf("%s: %v", operation.name, err)
		}
		left, _ := breaker.result()
		left = slices.DeleteFunc(left, func(p point) bool {
			return seen[p] || strings.Contains(p.from, saveAlong)
		})
		for _, p := range left {
			seen[p] = true
		}
		if len(left) == 0 {
			t.Errorf("%s: it reached no point of its own", operation.name)
		}
		t.Run(operation.name, func(t *testing.T) {
			t.Parallel()
			for len(left) > 0 {
				var some []point
				for i := 0; i < len(left); i += min(apart, 1+len(left)/4) {
					some = append(some, left[i])
				}
				err := run(t, some...)
				_, broken := breaker.result()
				if len(broken) == 0 {
					t.Fatalf("it reached none of %q, %v", some, err)
				}
				if err != nil {
					t.Errorf("after %q: %v", broken[len(broken)-1], err)
				}
				left = slices.DeleteFunc(left, func(p point) bool { return slices.Contains(broken, p) })
			}
		})
	}
}
