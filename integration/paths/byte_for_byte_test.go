package paths

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/integration/record"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

// Statements of Credent's own, exactly.
const (
	ownLookup     = `SELECT CAST("user_id" AS TEXT) FROM "user_credentials" WHERE "id" = $1 FOR NO KEY UPDATE`
	ownLookupLite = `SELECT CAST("user_id" AS TEXT) FROM "user_credentials" WHERE "id" = ?`
	ownClaim      = `UPDATE "user_credentials" SET "api_key_index" = $1 WHERE "api_key_index" = $2`
	ownSavepoint  = "SAVEPOINT credent_statement"
	ownRelease    = "RELEASE SAVEPOINT credent_statement"
	ownRollback   = "ROLLBACK TO SAVEPOINT credent_statement"
	ownReadKey    = `SELECT "tenant", "wrapped" FROM "credent_tenant_keys" WHERE "tenant" IN ($1)`
	ownLockKeys   = `UPDATE "credent_tenant_keys" SET "tenant" = "tenant" WHERE "tenant" = ''`
	ownMakeKey    = `INSERT INTO "credent_tenant_keys" ("tenant", "wrapped") VALUES ($1, $2) ON CONFLICT DO NOTHING`
)

// own are all of them, and how many arguments each has.
var own = map[string]int{
	ownLookup: 1, ownLookupLite: 1, ownClaim: 2, ownSavepoint: 0, ownRelease: 0, ownRollback: 0, ownReadKey: 1,
	ownMakeKey: 2, ownLockKeys: 0,
}

// byteSettings are the clients of the compared statements.
var byteSettings = map[string]struct {
	opts   []testopt.Option
	scoped bool // its keys depend on the tenant
}{
	"plain":       {},
	"bound":       {opts: []testopt.Option{testopt.WithBinding(credent.Require)}, scoped: true},
	"tenant keys": {opts: []testopt.Option{testopt.WithTenantKeys(credent.Write)}, scoped: true},
}

// TestByteForByte has what arrives at the database's driver, for every write
// path: the text that ent gave to Credent's driver, byte for byte, with as many
// arguments. Statements of Credent's own are there only where they are due.
func TestByteForByte(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		for name, in := range byteSettings {
			for _, inTx := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, in a transaction %t", name, inTx), func(t *testing.T) {
					var above, below record.Log
					env.Client = recorded(t, env, &above, &below, append(in.opts, testopt.WithKeyring(env.Ring))...)
					// Credent's driver asks once what the table's key is.
					_, seeded := env.Seed(t)
					env.Client.UserCredential.UpdateOneID(seeded[0].ID).SetAPIKey(credent.NewSecret("first")).
						ExecX(t.Context())
					total := tally{}
					for _, path := range writePaths() {
						t.Run(path.name, func(t *testing.T) {
							account, rows := env.Seed(t)
							above.Take()
							below.Take()
							w := &writer{
								env: env, client: env.Client, account: account, rows: rows,
								want: make(map[uuid.UUID]testdb.Pair),
							}
							err := path.run(t, w, inTx)
							c := comparison{above: above.Take(), below: below.Take(), scoped: in.scoped}
							c.absent = in.scoped && path.name == "UpdateOne, no such row"
							c.compare(t)
							if err == nil && path.refused == nil && c.counted.unsent > 0 {
								t.Errorf("%d statements didn't arrive", c.counted.unsent)
							}
							total.add(c.counted)
						})
					}
					total.check(t, in.scoped, inTx)
					if (total.keys > 0) != (name == "tenant keys") {
						t.Errorf("%d statements about tenants' keys", total.keys)
					}
				})
			}
		}
	})
}

// recorded returns a client with its statements recorded above and below
// Credent's driver.
func recorded(t *testing.T, env *testdb.Env, above, below *record.Log, opts ...testopt.Option) *ent.Client {
	t.Helper()
	driverName, dsn := env.Source(t)
	db, err := record.Open(driverName, dsn, below)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { testdb.CloseAll(t, db) })
	recorder := testopt.Wrap(func(drv dialect.Driver) dialect.Driver { return record.Driver(drv, above) })
	client, err := testopt.FromDriver(entsql.OpenDB(env.Dialect(), db), append(opts[:len(opts):len(opts)], recorder),
		ent.Log(func(...any) {}))
	if err != nil {
		t.Fatal(err)
	}
	client.UserAccount.Query().ExistX(t.Context()) // the first statement reads the states
	above.Take()
	below.Take()
	return client
}

// comparison goes through what ent gave, and wants it below, with what is due
// before and after it.
type comparison struct {
	above, below []*record.Statement
	scoped       bool
	absent       bool // the row to update isn't there: its tenant's lookup says so
	counted      tally
}

// tally counts statements of both kinds.
type tally struct{ ents, unsent, lookups, savepoints, keys int }

func (c *tally) add(other tally) {
	c.ents += other.ents
	c.unsent += other.unsent
	c.lookups += other.lookups
	c.savepoints += other.savepoints
	c.keys += other.keys
}

// check wants each kind of statement where it is due, so that the comparison
// is of something.
func (c tally) check(t *testing.T, scoped, inTx bool) {
	t.Helper()
	if c.ents < 100 || c.unsent == 0 {
		t.Errorf("%d statements arrived, %d did not", c.ents, c.unsent)
	}
	if (c.lookups > 0) != scoped || (c.savepoints > 0) != inTx {
		t.Errorf("%d lookups, %d savepoints", c.lookups, c.savepoints)
	}
}

// next takes the next statement below if it is the wanted text.
func (c *comparison) next(text string) bool {
	if len(c.below) == 0 || c.below[0].Text != text {
		return false
	}
	c.below = c.below[1:]
	return true
}

func (c *comparison) compare(t *testing.T) {
	t.Helper()
	for _, s := range c.below {
		if n, is := own[s.Text]; is && n != len(s.Args) {
			t.Errorf("%d arguments of %s", len(s.Args), s.Text)
		}
	}
	for _, given := range c.above {
		lookups, raw := c.due(given)
		for range lookups {
			if !c.next(ownLookup) && !c.next(ownLookupLite) {
				if given.Err == nil {
					t.Errorf("no tenant was looked up for %s", given.Text)
				}
				break
			}
			c.counted.lookups++
		}
		for c.next(ownLockKeys) || c.next(ownReadKey) || c.next(ownMakeKey) {
			c.counted.keys++
		}
		saved := raw && given.InTx && c.next(ownSavepoint)
		if raw && given.InTx && !saved && given.Err == nil {
			t.Errorf("no savepoint before %s", given.Text)
		}
		if len(c.below) == 0 || c.below[0].Text != given.Text {
			c.counted.unsent++
			if given.Err == nil && !c.absent {
				t.Errorf("what was given:   %s\nwhat arrived next: %s", given.Text, c.rest())
			}
			continue
		}
		c.counted.ents++
		if got, want := len(c.below[0].Args), len(given.Args); got != want {
			t.Errorf("%d arguments arrived, %d were given: %s", got, want, given.Text)
		}
		arrived := c.below[0]
		c.below = c.below[1:]
		if saved {
			c.counted.savepoints++
			if released := c.next(ownRelease); !released && !c.next(ownRollback) && arrived.Err == nil {
				t.Errorf("the savepoint is left after %s", given.Text)
			}
		}
	}
	if len(c.below) > 0 {
		t.Errorf("arrived, and nobody gave it: %s", c.rest())
	}
}

func (c *comparison) rest() string {
	var texts []string
	for _, s := range c.below {
		texts = append(texts, s.Text)
	}
	return strings.Join(texts, "\n")
}

// due returns how many rows' tenants have to be looked up for a statement, and
// whether it is the caller's SQL that stores secrets.
func (c *comparison) due(given *record.Statement) (lookups int, raw bool) {
	var ids []string
	for _, arg := range given.Args {
		if named, ok := arg.(sql.NamedArg); ok {
			arg = named.Value
		}
		var id any
		switch arg := arg.(type) {
		case *column.Arg:
			raw = raw || arg.Raw && !arg.Pinned
			if !arg.Owned || arg.Raw { // what the caller says is checked
				id = arg.ID
			}
		case *column.Guard:
			id = arg.ID
		}
		if id != nil && c.scoped && !slices.Contains(ids, fmt.Sprint(id)) {
			ids = append(ids, fmt.Sprint(id))
		}
	}
	return len(ids), raw
}

// TestByteForByteOfTenantKeys has the statements about a tenant's key: a
// transaction reads it before its first secret, and makes it if there is none.
// A client with a wrapped driver has such a transaction for each statement.
func TestByteForByteOfTenantKeys(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		for _, inTx := range []bool{false, true} {
			user := fmt.Sprint("in a transaction ", inTx)
			account := env.Account(t, user)
			for _, there := range []bool{false, true} {
				var above, below record.Log
				client := recorded(t, env, &above, &below, testopt.WithKeyring(env.Ring),
					testopt.WithTenantKeys(credent.Write))
				for _, known := range []bool{false, true} {
					create := client.UserCredential.Create()
					var tx *ent.Tx
					if inTx {
						tx = testdb.Must(client.Tx(t.Context()))
						create = tx.UserCredential.Create()
					}
					above.Take()
					below.Take()
					err := create.SetUserAccountID(account.ID).SetUserID(user).SetCredentialType("alpaca").
						SetAPIKey(credent.NewSecret("k")).SetSecretKey(credent.NewSecret("s")).Exec(t.Context())
					if tx != nil {
						err = errors.Join(err, tx.Commit())
					}
					if err != nil {
						t.Fatal(err)
					}
					var got, want []string
					for _, s := range below.Take() {
						got = append(got, s.Text)
					}
					for _, s := range above.Take() {
						if strings.HasPrefix(s.Text, "INSERT") {
							if env.IsSQLite() {
								want = append(want, ownLockKeys)
							}
							want = append(want, ownReadKey)
							if !known && !there {
								want = append(want, ownMakeKey, ownReadKey)
							}
						}
						want = append(want, s.Text)
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s, there %t, known %t (-want +got):\n%s", user, there, known, diff)
					}
				}
			}
		}
	})
}
