package cleared

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/integration/sequence/ent"
	"github.com/credent-go/credent/integration/sequence/ent/card"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/internal/testdb/bare"
	"github.com/credent-go/credent/rotate"
)

// keyTable is credent_tenant_keys, which other schemas create in their
// migration.
const keyTable = `CREATE TABLE credent_tenant_keys (tenant varchar(255) NOT NULL PRIMARY KEY, wrapped varchar(500),
	created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, destroyed_at timestamp)`

// forEachTenant runs a test over the drivers, with a client that has keys for
// the tenants o1 and o2.
func forEachTenant(t *testing.T, test func(t *testing.T, db *database)) {
	t.Helper()
	for _, driverName := range bare.SQLDrivers {
		for name, bound := range map[string][]encrypted.Column{"": nil, ", bound": {card.PinColumn, card.EmailColumn}} {
			t.Run(driverName+name, func(t *testing.T) {
				t.Parallel()
				given := append(states.New(states.Binding, encrypted.Require, bound...), tenantKeys(encrypted.Write)...)
				db := open(t, driverName, given)
				if _, err := db.Exec(keyTable); err != nil {
					t.Fatal(err)
				}
				test(t, db)
			})
		}
	}
}

// tenantKeys sets the columns' tenant-keys state.
func tenantKeys(s encrypted.State) []encrypted.ColumnStates {
	return states.New(states.TenantKeys, s, card.PinColumn, card.EmailColumn)
}

// create returns a row's builder.
func (db *database) create(c *ent.Client, title, owner, pin string) *ent.CardCreate {
	return c.Card.Create().SetName(title).SetOwnerID(owner).SetPin(encrypted.New(pin))
}

// digest returns a row's digest in the blind index.
func (db *database) digest(t *testing.T, id int) []byte {
	t.Helper()
	var digest []byte
	if err := db.QueryRow(fmt.Sprint("SELECT pin_index FROM cards WHERE id = ", id)).Scan(&digest); err != nil {
		t.Fatal(err)
	}
	return digest
}

// guess tries all four-digit PINs against a digest with the keyring alone.
func (db *database) guess(t *testing.T, digest []byte) (found string) {
	t.Helper()
	var digests blindindex.Digester
	for i := range 10_000 {
		pin := fmt.Sprintf("%04d", i)
		all, err := digests.All((*engine.Ring)(db.ring), card.PinColumn, pin)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(all, func(d []byte) bool { return slices.Equal(d, digest) }) {
			return pin
		}
	}
	return ""
}

// TestDigestsOfTenants stores PINs on every path under the tenants' keys.
// Lookups find each in its tenant's rows, and the keyring alone can't guess any
// from its digest.
func TestDigestsOfTenants(t *testing.T) {
	t.Parallel()
	forEachTenant(t, func(t *testing.T, db *database) {
		ctx, c := t.Context(), db.client
		ids := map[string]int{
			"create": db.create(c, "create", "o1", "0001").SaveX(ctx).ID,
			"bulk":   c.Card.CreateBulk(db.create(c, "bulk", "o1", "0002")).SaveX(ctx)[0].ID,
			"other":  db.create(c, "other", "o2", "0001").SaveX(ctx).ID,
		}
		ids["update"] = db.create(c, "update", "o1", "9999").SaveX(ctx).ID
		c.Card.UpdateOneID(ids["update"]).SetPin(encrypted.New("0003")).ExecX(ctx)
		ids["update by a condition"] = db.create(c, "condition", "o1", "9999").SaveX(ctx).ID
		c.Card.Update().Where(card.PinIs("o1", encrypted.New("9999"))).SetPin(encrypted.New("0004")).ExecX(ctx)
		ids["upsert"] = db.create(c, "upsert", "o1", "9999").SaveX(ctx).ID
		full := func(title, pin string) *ent.CardCreate { // all secrets, since the upsert may change the tenant
			return db.create(c, title, "o1", pin).SetEmail(encrypted.New("e@example.com"))
		}
		full("upsert", "0005").OnConflictColumns(card.FieldName).UpdateNewValues().ExecX(ctx)
		ids["upsert, setter"] = db.create(c, "setter", "o1", "9999").SaveX(ctx).ID
		full("setter", "9998").OnConflictColumns(card.FieldName).Update(func(u *ent.CardUpsert) {
			u.UpdateOwnerID().SetPin(encrypted.New("0006")).UpdateEmail()
		}).ExecX(ctx)
		ids["modify"] = db.create(c, "modify", "o1", "9999").SaveX(ctx).ID
		c.Card.UpdateOneID(ids["modify"]).Modify(func(u *entsql.UpdateBuilder) {
			u.Set("pin", encrypted.At(encrypted.New("0007"), card.PinColumn, nil)).
				Set("pin_index", encrypted.DigestOf(encrypted.New("0007"), card.PinColumn, nil))
		}).ExecX(ctx)
		ids["SQL"] = db.create(c, "SQL", "o1", "9999").SaveX(ctx).ID
		query := `UPDATE cards SET pin = $1, pin_index = $2 WHERE id = $3`
		if db.dialect == dialect.SQLite {
			query = `UPDATE cards SET pin = ?, pin_index = ? WHERE id = ?`
		}
		raw := func(tenant any) error {
			pin := encrypted.New("0008")
			_, err := c.ExecContext(ctx, query, encrypted.At(pin, card.PinColumn, "o1"),
				encrypted.DigestOf(pin, card.PinColumn, tenant), ids["SQL"])
			return err
		}
		if err := raw(nil); !errors.Is(err, encrypted.ErrNoTenant) {
			t.Errorf("a digest without a tenant: %v", err)
		}
		if err := raw("o2"); !errors.Is(err, encrypted.ErrBlindIndex) {
			t.Errorf("a digest of another tenant's: %v", err)
		}
		if err := raw("o1"); err != nil {
			t.Fatal(err)
		}
		for name, id := range ids {
			row := c.Card.GetX(ctx, id)
			pin, err := row.Pin.Reveal()
			if err != nil {
				t.Fatal(err)
			}
			got := c.Card.Query().Where(card.PinIs(row.OwnerID, encrypted.New(pin))).IDsX(ctx)
			if !slices.Equal(got, []int{id}) {
				t.Errorf("%s: found %v, want %d", name, got, id)
			}
			if pin := db.guess(t, db.digest(t, id)); pin != "" {
				t.Errorf("%s: the keyring guesses the PIN", name)
			}
		}
		// In a compound condition, a lookup stays in its tenant's rows.
		one := card.PinIs("o1", encrypted.New("0001"))
		if got := c.Card.Query().Where(card.Or(one, card.Name("other"))).CountX(ctx); got != 2 {
			t.Errorf("or: %d rows, want 2", got)
		}
		if got := c.Card.Query().Where(card.Not(one)).CountX(ctx); got != len(ids)-1 {
			t.Errorf("not: %d rows, want %d", got, len(ids)-1)
		}
		if got := c.Card.Query().Where(card.PinIs("nobody", encrypted.New("0001"))).CountX(ctx); got != 0 {
			t.Errorf("for an unknown tenant: %d rows", got)
		}
		_, err := c.Card.Query().Where(encrypted.Lookup(card.PinColumn, encrypted.New("0001"))).Count(ctx)
		if !errors.Is(err, encrypted.ErrNoTenant) {
			t.Errorf("a lookup without a tenant: %v", err)
		}
		counts, err := rotate.Verify(ctx, db.DB, db.ring, card.PinColumn)
		if err != nil || counts.Err() != nil || counts[0].Index.Tenant != int64(len(ids)) {
			t.Errorf("verify counts %+v, %v", counts[0].Index, err)
		}
		if err := encrypted.Check(ctx, db.DB, db.ring, card.PinColumn); err != nil {
			t.Error(err)
		}
	})
}

// TestDestroyedDigests keeps digests from before a tenant's key is destroyed.
// The keyring alone then can't guess their plaintexts, unless the schema
// declares lookups across tenants.
func TestDestroyedDigests(t *testing.T) {
	t.Parallel()
	forEachTenant(t, func(t *testing.T, db *database) {
		ctx, c := t.Context(), db.client
		row := db.create(c, "kept", "o1", "4711").SetEmail(encrypted.New("a@example.com")).SaveX(ctx)
		db.create(c, "another's", "o2", "4711").ExecX(ctx)
		kept := db.digest(t, row.ID)
		if _, err := rotate.DestroyTenant(ctx, db.DB, db.ring, "o1", ent.EncryptedColumns()...); err != nil {
			t.Fatal(err)
		}
		if pin := db.guess(t, kept); pin != "" {
			t.Error("the keyring guesses the PIN from the digest")
		}
		if digest := db.digest(t, row.ID); slices.Equal(digest, kept) {
			t.Error("the digest stays in the row")
		}
		fresh := db.open(t, tenantKeys(encrypted.Write))
		if n, err := fresh.Card.Query().Where(card.PinIs("o1", encrypted.New("4711"))).
			Count(ctx); !errors.Is(err, encrypted.ErrShredded) {
			t.Errorf("a lookup: %d, %v", n, err)
		}
		if n := fresh.Card.Query().Where(card.PinIs("o2", encrypted.New("4711"))).CountX(ctx); n != 1 {
			t.Errorf("another tenant's lookup: %d", n)
		}
		if n := fresh.Card.Query().Where(card.EmailIs(encrypted.New("a@example.com"))).CountX(ctx); n != 0 {
			t.Errorf("a lookup across tenants: %d", n)
		}
	})
}

// TestUniqueForTenants stores equal PINs with clients with and without tenants'
// keys. A tenant never has two, and another tenant may have the same one.
func TestUniqueForTenants(t *testing.T) {
	t.Parallel()
	forEachTenant(t, func(t *testing.T, db *database) {
		ctx := t.Context()
		binding := states.New(states.Binding, encrypted.Accept, card.PinColumn, card.EmailColumn)
		clients := map[string]*ent.Client{
			"write":  db.open(t, append(tenantKeys(encrypted.Write), binding...)),
			"accept": db.open(t, append(tenantKeys(encrypted.Accept), binding...)),
		}
		n := 0
		create := func(c *ent.Client, owner, pin string) error {
			n++
			return db.create(c, fmt.Sprint("title", n), owner, pin).Exec(ctx)
		}
		if err := create(clients["write"], "o1", "0000"); err != nil { // creates the key
			t.Fatal(err)
		}
		for first, by := range clients {
			for second, again := range clients {
				pin := fmt.Sprint(first, second)
				if err := create(by, "o1", pin); err != nil {
					t.Fatal(err)
				}
				if err := create(again, "o1", pin); !ent.IsConstraintError(err) {
					t.Errorf("%s, then %s: %v", first, second, err)
				}
				if err := create(again, "o2", pin); err != nil {
					t.Errorf("%s, then %s, another tenant: %v", first, second, err)
				}
				for name, c := range clients {
					if got := c.Card.Query().Where(card.PinIs("o1", encrypted.New(pin))).CountX(ctx); got != 1 {
						t.Errorf("%s, then %s: %s finds %d", first, second, name, got)
					}
				}
			}
		}
		// rotate moves every digest under its tenant's key, and back.
		for _, to := range []encrypted.State{encrypted.Write, encrypted.Accept} {
			cfg := rotate.Config{In: ent.EncryptedColumns(), States: tenantKeys(to)}
			if _, err := rotate.Run(ctx, db.DB, db.ring, cfg); err != nil {
				t.Fatal(err)
			}
			counts, err := rotate.Verify(ctx, db.DB, db.ring, card.PinColumn)
			if err != nil {
				t.Fatal(err)
			}
			if index := counts[0].Index; (index.Tenant == counts[0].Rows) != (to == encrypted.Write) ||
				(index.Primary == counts[0].Rows) !=
					(to == encrypted.Accept) {
				t.Errorf("after rotate: %+v of %d", index, counts[0].Rows)
			}
			if got := clients["write"].Card.Query().Where(card.PinIs("o1", encrypted.New("writewrite"))).
				CountX(ctx); got != 1 {
				t.Errorf("after rotate: found %d", got)
			}
			if to == encrypted.Accept {
				continue
			}
			// A client that requires tenants' keys looks up under them alone.
			required := db.open(t, append(tenantKeys(encrypted.Require), binding...))
			if got := required.Card.Query().Where(card.PinIs("o1", encrypted.New("acceptaccept"))).
				CountX(ctx); got != 1 {
				t.Errorf("require: found %d", got)
			}
			for name, again := range map[string]*ent.Client{"require": required, "write": clients["write"]} {
				if err := create(again, "o1", "acceptwrite"); !ent.IsConstraintError(err) {
					t.Errorf("after rotate, %s: %v", name, err)
				}
			}
			if err := create(required, "o1", "required"); err != nil {
				t.Fatal(err)
			}
			if err := create(clients["write"], "o1", "required"); !ent.IsConstraintError(err) {
				t.Errorf("require, then write: %v", err)
			}
		}
	})
}

// TestOutlivingDigest has a digest under the keyring beside a token under the
// tenant's key, as an earlier version stored it. verify counts it, and rotate
// moves it.
func TestOutlivingDigest(t *testing.T) {
	t.Parallel()
	forEachTenant(t, func(t *testing.T, db *database) {
		ctx := t.Context()
		row := db.create(db.client, "title", "o1", "4711").SaveX(ctx)
		digest, err := new(blindindex.Digester).Primary((*engine.Ring)(db.ring), card.PinColumn, "4711")
		if err != nil {
			t.Fatal(err)
		}
		query := "UPDATE cards SET pin_index = $1 WHERE id = $2"
		if _, err := db.Exec(query, digest, row.ID); err != nil {
			t.Fatal(err)
		}
		count := func() *rotate.IndexCount {
			counts, err := rotate.Verify(ctx, db.DB, db.ring, card.PinColumn)
			if err != nil {
				t.Fatal(err)
			}
			if behind := errors.Is(counts.Err(), rotate.ErrIndexBehind); behind != (counts[0].Index.Outlives > 0) {
				t.Errorf("verify: %v", counts.Err())
			}
			return counts[0].Index
		}
		if got := count(); got.Outlives != 1 || got.Primary != 1 {
			t.Errorf("before: %+v", got)
		}
		if n := db.client.Card.Query().Where(card.PinIs("o1", encrypted.New("4711"))).CountX(ctx); n != 1 {
			t.Errorf("found %d", n)
		}
		if _, err := rotate.Run(ctx, db.DB, db.ring, rotate.Config{In: ent.EncryptedColumns()}); err != nil {
			t.Fatal(err)
		}
		if got := count(); got.Outlives != 0 || got.Tenant != 1 {
			t.Errorf("after: %+v", got)
		}
	})
}

// TestGapsOfTenants has rows stored without a digest by another program, with
// one PIN in two tenants' rows. A lookup fills in its tenant's row, under the
// tenant's key, and a unique write conflicts with it.
func TestGapsOfTenants(t *testing.T) {
	t.Parallel()
	forEachTenant(t, func(t *testing.T, db *database) {
		ctx, pin := t.Context(), encrypted.New("4711")
		ids := make(map[string]int)
		for _, owner := range []string{"o1", "o2"} {
			ids[owner] = db.create(db.client, owner, owner, "4711").SaveX(ctx).ID
		}
		if _, err := db.Exec("UPDATE cards SET pin_index = NULL"); err != nil {
			t.Fatal(err)
		}
		if err := db.create(db.client, "again", "o1", "4711").Exec(ctx); !ent.IsConstraintError(err) {
			t.Errorf("a duplicate of a row without a digest: %v", err)
		}
		if got := db.client.Card.Query().Where(card.PinIs("o1", pin)).IDsX(ctx); !slices.Equal(got, []int{ids["o1"]}) {
			t.Errorf("found %v, want %d", got, ids["o1"])
		}
		if db.digest(t, ids["o1"]) == nil || db.guess(t, db.digest(t, ids["o1"])) != "" {
			t.Error("the digest is missing, or the keyring guesses the PIN")
		}
		if db.digest(t, ids["o2"]) != nil {
			t.Error("another tenant's row was filled in")
		}
		if got := db.client.Card.Query().Where(card.PinIs("o2", pin)).IDsX(ctx); !slices.Equal(got, []int{ids["o2"]}) {
			t.Errorf("found %v, want %d", got, ids["o2"])
		}
		counts, err := rotate.Verify(ctx, db.DB, db.ring, card.PinColumn)
		if err != nil || counts.Err() != nil || counts[0].Index.Tenant != 2 {
			t.Errorf("verify: %+v, %v, %v", counts[0].Index, counts.Err(), err)
		}
	})
}
