package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

// store is a migrated database, on Postgres or SQLite, with two accounts.
type store struct {
	*ent.Client
	url  string
	opts []testopt.Option
	u1   *ent.UserAccount
	u2   *ent.UserAccount
}

// forEachStore runs a test on Postgres over both drivers, and on SQLite.
func forEachStore(t *testing.T, test func(t *testing.T, s *store)) {
	t.Helper()
	forEachDriverAndSQLite := map[string][]testopt.Option{"sqlite": nil}
	for name, opts := range testdb.Drivers {
		forEachDriverAndSQLite[name] = opts
	}
	for name, opts := range forEachDriverAndSQLite {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &store{}
			if name == "sqlite" {
				s.url = "sqlite:" + filepath.Join(t.TempDir(), "test.db")
				opts = append(opts, testopt.WithMigrations())
			} else {
				s.url = testdb.NewDatabase(t, testdb.Template(t))
			}
			ring, err := keyring.New(keyring.GenerateKey())
			if err != nil {
				t.Fatal(err)
			}
			s.opts = append(slices.Clone(opts), testopt.WithKeyring(ring))
			s.Client = testdb.Open(t, s.url, s.opts...)
			s.u1, s.u2 = s.account(t, "u1"), s.account(t, "u2")
			test(t, s)
		})
	}
}

// with returns another client of the same database, with more options.
func (s *store) with(t *testing.T, opts ...testopt.Option) *ent.Client {
	t.Helper()
	return testdb.Open(t, s.url, append(slices.Clone(s.opts), opts...)...)
}

func (s *store) account(t *testing.T, user string) *ent.UserAccount {
	t.Helper()
	return s.UserAccount.Create().SetUserID(user).SetAccountName("name of " + user).SaveX(t.Context())
}

// credentialOf creates an account's credential, with the name as its type.
func (s *store) credentialOf(t *testing.T, account *ent.UserAccount, name string) *ent.UserCredential {
	t.Helper()
	return testdb.NewCredential(s.Client, account.ID).SetCredentialType(name).SaveX(t.Context())
}

// names returns the names of an account's remaining credentials.
func (s *store) names(t *testing.T, account *ent.UserAccount) []string {
	t.Helper()
	list := account.QueryCredentials().Order(usercredential.ByCredentialType()).AllX(t.Context())
	names := []string{}
	for _, c := range list {
		names = append(names, c.CredentialType)
	}
	return names
}

func TestUserIDIsTheAccounts(t *testing.T) {
	t.Parallel()
	forEachStore(t, func(t *testing.T, s *store) {
		ctx := t.Context()
		created := testdb.NewCredential(s.Client, s.u1.ID).SaveX(ctx)
		viaEdge := s.UserCredential.Create().SetAccount(s.u2).SetCredentialType("alpaca").
			SetAPIKey(credent.NewSecret("k")).SetSecretKey(credent.NewSecret("s")).SaveX(ctx)
		bulk := s.UserCredential.CreateBulk(testdb.NewCredential(s.Client, s.u1.ID),
			testdb.NewCredential(s.Client, s.u2.ID), testdb.NewCredential(s.Client, s.u1.ID).SetUserID("u1")).SaveX(ctx)
		accounts := []*ent.UserAccount{s.u2, s.u1}
		mapped := s.UserCredential.MapCreateBulk(accounts, func(c *ent.UserCredentialCreate, i int) {
			c.SetAccount(accounts[i]).SetCredentialType("alpaca").SetAPIKey(credent.NewSecret("k")).
				SetSecretKey(credent.NewSecret("s"))
		}).SaveX(ctx)
		want := []string{"u1", "u2", "u1", "u2", "u1", "u2", "u1"}
		for i, c := range append(append([]*ent.UserCredential{created, viaEdge}, bulk...), mapped...) {
			stored := s.UserCredential.GetX(ctx, c.ID)
			if c.UserID != want[i] || stored.UserID != want[i] {
				t.Errorf("credential %d: %s, stored %s, want %s", i, c.UserID, stored.UserID, want[i])
			}
			if owner := stored.QueryAccount().OnlyX(ctx); owner.UserID != want[i] {
				t.Errorf("credential %d: account of %s", i, owner.UserID)
			}
		}

		if moved := created.Update().SetAccount(s.u2).SaveX(ctx); moved.UserID != "u2" {
			t.Errorf("after the move, it belongs to %s", moved.UserID)
		}
		if moved := s.UserCredential.UpdateOneID(created.ID).SetUserAccountID(s.u1.ID).
			SaveX(ctx); moved.UserID != "u1" {
			t.Errorf("after the move back, it belongs to %s", moved.UserID)
		}
		if n := s.UserCredential.Update().Where(usercredential.UserID("u1")).SetAccount(s.u2).SaveX(ctx); n != 4 {
			t.Errorf("moved %d", n)
		}
		if n := s.UserCredential.Query().Where(usercredential.UserID("u2")).CountX(ctx); n != 7 {
			t.Errorf("u2 has %d credentials", n)
		}
		s.u2.Update().SetUserID("renamed").ExecX(ctx)
		if n := s.UserCredential.Query().Where(usercredential.UserID("renamed")).CountX(ctx); n != 7 {
			t.Errorf("after the rename, u2 has %d credentials", n)
		}
	})
}

func TestWrongUserIDIsRefused(t *testing.T) {
	t.Parallel()
	forEachStore(t, func(t *testing.T, s *store) {
		ctx := t.Context()
		c := testdb.NewCredential(s.Client, s.u1.ID).SaveX(ctx)
		for name, err := range map[string]error{
			"create": testdb.NewCredential(s.Client, s.u1.ID).SetUserID("u2").Exec(ctx),
			"bulk": s.UserCredential.CreateBulk(testdb.NewCredential(s.Client, s.u1.ID),
				testdb.NewCredential(s.Client, s.u1.ID).SetUserID("u2"), testdb.NewCredential(s.Client, s.u2.ID)).
				Exec(ctx), "update one": c.Update().SetUserID("u2").Exec(ctx),
			"update":           s.UserCredential.Update().SetUserID("u2").Exec(ctx),
			"move":             c.Update().SetAccount(s.u2).SetUserID("u3").Exec(ctx),
			"create, nobody's": testdb.NewCredential(s.Client, s.u1.ID).SetUserID("nobody").Exec(ctx),
			// The database doesn't distinguish a missing account from another
			// user's.
			"create, no such account": testdb.NewCredential(s.Client, uuid.New()).SetUserID("u1").Exec(ctx),
			"move all, no such account": s.UserCredential.Update().SetUserAccountID(uuid.New()).
				SetUserID("u1").Exec(ctx),
		} {
			if !errors.Is(err, credent.ErrTenantMismatch) || !ent.IsConstraintError(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for name, err := range map[string]error{
			"create": testdb.NewCredential(s.Client, uuid.New()).Exec(ctx),
			"move":   c.Update().SetUserAccountID(uuid.New()).Exec(ctx),
		} {
			if !ent.IsNotFound(err) || errors.Is(err, credent.ErrTenantMismatch) {
				t.Errorf("%s, no such account: %v", name, err)
			}
		}
		if err := testdb.NewCredential(s.Client, s.u1.ID).SetUserID("").Exec(ctx); !ent.IsValidationError(err) {
			t.Errorf("an empty user_id: %v", err)
		}
		if got := s.names(t, s.u1); len(got) != 1 {
			t.Errorf("left: %v", got)
		}
	})
}

// Credentials removed from their account are deleted, and no others.
func TestRemovedCredentialsAreDeleted(t *testing.T) {
	t.Parallel()
	forEachStore(t, func(t *testing.T, s *store) {
		ctx := t.Context()
		for name, test := range map[string]struct {
			remove  func(client *ent.Client, u1 map[string]*ent.UserCredential) error
			want    []string // u1 has a, b and c
			wantErr bool
		}{
			"RemoveCredentials": {func(client *ent.Client, u1 map[string]*ent.UserCredential) error {
				return client.UserAccount.UpdateOne(s.u1).RemoveCredentials(u1["a"], u1["c"]).Exec(ctx)
			}, []string{"b"}, false},
			"RemoveCredentialIDs": {func(client *ent.Client, u1 map[string]*ent.UserCredential) error {
				return client.UserAccount.UpdateOneID(s.u1.ID).RemoveCredentialIDs(u1["b"].ID, uuid.New()).Exec(ctx)
			}, []string{"a", "c"}, false},
			"ClearCredentials": {func(client *ent.Client, _ map[string]*ent.UserCredential) error {
				return client.UserAccount.UpdateOneID(s.u1.ID).ClearCredentials().SetAccountName("x").Exec(ctx)
			}, []string{}, false},
			"another account's": {func(client *ent.Client, u1 map[string]*ent.UserCredential) error {
				return client.UserAccount.UpdateOne(s.u2).RemoveCredentials(u1["a"]).Exec(ctx)
			}, []string{"a", "b", "c"}, false},
			"Update": {func(client *ent.Client, u1 map[string]*ent.UserCredential) error {
				return client.UserAccount.Update().Where(useraccount.UserID("u1")).RemoveCredentials(u1["a"]).Exec(ctx)
			}, []string{"b", "c"}, false},
			// The predicate no longer holds when the credentials are deleted.
			"Update, clear": {func(client *ent.Client, _ map[string]*ent.UserCredential) error {
				return client.UserAccount.Update().Where(useraccount.AccountNameNEQ("kept")).ClearCredentials().
					SetAccountName("kept").Exec(ctx)
			}, []string{}, false},
			"Update, nothing matches": {func(client *ent.Client, _ map[string]*ent.UserCredential) error {
				return client.UserAccount.Update().Where(useraccount.UserID("nobody")).ClearCredentials().Exec(ctx)
			}, []string{"a", "b", "c"}, false},
			"clear and add": {func(client *ent.Client, u1 map[string]*ent.UserCredential) error {
				return client.UserAccount.UpdateOne(s.u1).ClearCredentials().AddCredentials(u1["b"]).Exec(ctx)
			}, []string{"b"}, false},
			"Update, clear and add": {func(client *ent.Client, u1 map[string]*ent.UserCredential) error {
				return client.UserAccount.Update().Where(useraccount.UserID("u1")).ClearCredentials().
					AddCredentials(u1["c"], u1["b"]).Exec(ctx)
			}, []string{"b", "c"}, false},
			"remove and add": {func(client *ent.Client, u1 map[string]*ent.UserCredential) error {
				return client.UserAccount.UpdateOne(s.u1).RemoveCredentials(u1["a"], u1["b"]).
					AddCredentials(u1["b"]).Exec(ctx)
			}, []string{"b", "c"}, false},
			// ent doesn't move them, so nothing is deleted either.
			"clear and add another's": {func(client *ent.Client, u1 map[string]*ent.UserCredential) error {
				return client.UserAccount.UpdateOne(s.u2).ClearCredentials().AddCredentials(u1["a"]).Exec(ctx)
			}, []string{"a", "b", "c"}, true},
			"no such account": {func(client *ent.Client, u1 map[string]*ent.UserCredential) error {
				return client.UserAccount.UpdateOneID(uuid.New()).RemoveCredentials(u1["a"]).Exec(ctx)
			}, []string{"a", "b", "c"}, true},
			"fails": {func(client *ent.Client, u1 map[string]*ent.UserCredential) error {
				return client.UserAccount.UpdateOne(s.u1).RemoveCredentials(u1["a"]).SetUserID("u2").Exec(ctx)
			}, []string{"a", "b", "c"}, true},
		} {
			for _, how := range []string{"alone", "committed", "rolled back"} {
				s.UserCredential.Delete().ExecX(ctx)
				s.UserAccount.Update().SetAccountName("n").ExecX(ctx)
				u1 := map[string]*ent.UserCredential{}
				for _, name := range []string{"a", "b", "c"} {
					u1[name] = s.credentialOf(t, s.u1, name)
				}
				s.credentialOf(t, s.u2, "d")
				want, others := test.want, []string{"d"}
				if name == "Update, clear" {
					others = []string{}
				}
				err := s.run(t, how, func(client *ent.Client) error { return test.remove(client, u1) })
				if how == "rolled back" {
					want, others = []string{"a", "b", "c"}, []string{"d"}
				}
				if (err != nil) != test.wantErr {
					t.Errorf("%s, %s: %v", name, how, err)
				}
				if diff := cmp.Diff(want, s.names(t, s.u1)); diff != "" {
					t.Errorf("%s, %s: %s", name, how, diff)
				}
				if diff := cmp.Diff(others, s.names(t, s.u2)); diff != "" {
					t.Errorf("%s, %s: the other account's: %s", name, how, diff)
				}
			}
		}
	})
}

// run runs f alone, or in a transaction that is rolled back on error.
func (s *store) run(t *testing.T, how string, f func(client *ent.Client) error) error {
	t.Helper()
	if how == "alone" {
		return f(s.Client)
	}
	tx, err := s.Tx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = f(tx.Client())
	if err != nil || how == "rolled back" {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// tokens returns the stored tokens.
func (s *store) tokens(t *testing.T) []string {
	t.Helper()
	return testdb.Lines(t, testdb.OpenDB(t, s.url, s.opts...), "SELECT api_key || secret_key FROM user_credentials "+
		"ORDER BY api_key")
}

func TestSecretOfManyRows(t *testing.T) {
	t.Parallel()
	forEachStore(t, func(t *testing.T, s *store) {
		ctx := t.Context()
		s.credentialOf(t, s.u1, "a")
		s.credentialOf(t, s.u1, "b")
		other := s.credentialOf(t, s.u2, "c")
		before := s.tokens(t)
		for name, update := range map[string]*ent.UserCredentialUpdate{
			"all":        s.UserCredential.Update().SetAPIKey(credent.NewSecret("x")),
			"secret key": s.UserCredential.Update().SetSecretKey(credent.NewSecret("x")),
			"of a user": s.UserCredential.Update().Where(usercredential.UserID("u1")).
				SetAPIKey(credent.NewSecret("x")).SetIsActive(false),
		} {
			err := update.Exec(ctx)
			var fieldErr *credent.Error
			if !errors.Is(err, credent.ErrManyRows) || !errors.As(err, &fieldErr) ||
				fieldErr.Table != "user_credentials" || fieldErr.Column == "" {
				t.Errorf("%s: %v", name, err)
			}
		}
		if diff := cmp.Diff(before, s.tokens(t)); diff != "" {
			t.Error("a refused update wrote")
		}
		if n := s.UserCredential.Query().Where(usercredential.IsActive(false)).CountX(ctx); n != 0 {
			t.Errorf("a refused update changed %d rows", n)
		}
		// Other fields may be set in many rows; a secret in one row, or in
		// none.
		if n := s.UserCredential.Update().SetIsActive(false).SaveX(ctx); n != 3 {
			t.Errorf("updated %d", n)
		}
		if n := s.UserCredential.Update().Where(usercredential.UserID("u2")).SetAPIKey(credent.NewSecret("one")).
			SaveX(ctx); n != 1 {
			t.Errorf("updated %d", n)
		}
		if got := testdb.Reveal(t, s.UserCredential.GetX(ctx, other.ID).APIKey); got != "one" {
			t.Errorf("revealed %q", got)
		}
		if n := s.UserCredential.Update().Where(usercredential.UserID("u9")).SetAPIKey(credent.NewSecret("none")).
			SaveX(ctx); n != 0 {
			t.Errorf("updated %d", n)
		}
		err := s.run(t, "committed", func(client *ent.Client) error {
			return client.UserCredential.Update().SetAPIKey(credent.NewSecret("x")).Exec(ctx)
		})
		if !errors.Is(err, credent.ErrManyRows) {
			t.Errorf("in a transaction: %v", err)
		}
	})
}

// Entities returned by a mutation have the stored times.
func TestReturnedTimesAreTheStoredOnes(t *testing.T) {
	t.Parallel()
	forEachStore(t, func(t *testing.T, s *store) {
		ctx := t.Context()
		at := time.Date(2027, 1, 31, 12, 0, 0, 123456789, time.FixedZone("Tokyo", 9*60*60))
		created := testdb.NewCredential(s.Client, s.u1.ID).SetExpiresAt(at).SetCreatedAt(at).SaveX(ctx)
		updated := created.Update().SetExpiresAt(at.Add(time.Hour)).SetUpdatedAt(at).SaveX(ctx)
		bulk := s.UserCredential.CreateBulk(testdb.NewCredential(s.Client, s.u1.ID).SetExpiresAt(at)).SaveX(ctx)[0]
		account := s.UserAccount.Create().SetUserID("u3").SetAccountName("n").SetCreatedAt(at).SaveX(ctx)
		stored := s.UserCredential.GetX(ctx, created.ID)
		want := at.UTC().Truncate(time.Microsecond)
		for name, pair := range map[string][2]time.Time{
			"created": {*created.ExpiresAt, want}, "created at": {created.CreatedAt, want},
			"updated": {*updated.ExpiresAt, want.Add(time.Hour)}, "updated at": {updated.UpdatedAt, want},
			"bulk": {*bulk.ExpiresAt, want}, "account": {account.CreatedAt, want},
			"stored": {*stored.ExpiresAt, want.Add(time.Hour)}, "stored created at": {stored.CreatedAt, want},
			"stored account": {s.UserAccount.GetX(ctx, account.ID).CreatedAt, want},
		} {
			if !pair[0].Equal(pair[1]) {
				t.Errorf("%s: %v, want %v", name, pair[0], pair[1])
			}
			if _, offset := pair[0].Zone(); offset != 0 {
				t.Errorf("%s: %v is not in UTC", name, pair[0])
			}
		}
		if n := s.UserCredential.Update().SetExpiresAt(at).SaveX(ctx); n != 2 {
			t.Errorf("updated %d", n)
		}
		for _, c := range s.UserCredential.Query().AllX(ctx) {
			if !c.ExpiresAt.Equal(want) {
				t.Errorf("updated to %v", c.ExpiresAt)
			}
		}
	})
}

func TestUsable(t *testing.T) {
	t.Parallel()
	forEachStore(t, func(t *testing.T, s *store) {
		ctx := t.Context()
		now := time.Now()
		want := []string{}
		for _, hours := range []int{-11, -5, 0, 9, 14} {
			zone := time.FixedZone(fmt.Sprintf("UTC%+d", hours), hours*60*60)
			for suffix, expires := range map[string]time.Time{
				"valid":   now.Add(time.Minute),
				"expired": now.Add(-time.Minute),
			} {
				name := zone.String() + " " + suffix
				c := testdb.NewCredential(s.Client, s.u1.ID).SetCredentialType(name).SetExpiresAt(expires.In(zone))
				c.SaveX(ctx)
				testdb.NewCredential(s.Client, s.u1.ID).SetCredentialType(name + " disabled").
					SetExpiresAt(expires.In(zone)).SetIsActive(false).SaveX(ctx)
				if suffix == "valid" {
					want = append(want, name)
				}
			}
		}
		s.credentialOf(t, s.u1, "never")
		testdb.NewCredential(s.Client, s.u1.ID).SetCredentialType("never, disabled").SetIsActive(false).SaveX(ctx)
		want = append(want, "never")
		slices.Sort(want)
		var got []string
		for _, c := range s.UserCredential.Query().Where(credent.Usable()).AllX(ctx) {
			got = append(got, c.CredentialType)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if n := s.UserCredential.Query().Where(usercredential.Not(credent.Usable())).CountX(ctx); n != 22-len(want) {
			t.Errorf("%d credentials aren't usable", n)
		}
		// Combined with other predicates, and from the account.
		if n := s.UserCredential.Query().Where(usercredential.UserID("u2"), credent.Usable()).CountX(ctx); n != 0 {
			t.Errorf("u2 has %d usable credentials", n)
		}
		if n := s.UserAccount.Query().Where(useraccount.HasCredentialsWith(credent.Usable())).CountX(ctx); n != 1 {
			t.Errorf("%d accounts have one", n)
		}
	})
}
