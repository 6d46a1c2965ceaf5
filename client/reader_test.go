package client_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
)

// lagging is a client with a primary and a standby that never replays. The only
// account is named after the server that returns it.
type lagging struct {
	*ent.Client
	primary, standby *sql.DB
	ring             *keyring.Keyring
	account          *ent.UserAccount
	told             []error
}

// newLagging returns a client with two databases, each with an account and a
// credential.
func newLagging(t *testing.T, cfg client.Config, fallsBack bool) *lagging {
	t.Helper()
	l := &lagging{}
	l.primary, l.ring = database(t)
	l.standby, _ = database(t)
	cfg.Keyring = l.ring
	first, err := client.New(l.primary, dialect.SQLite, cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.account = first.UserAccount.Create().SetUserID("u-1").SetAccountName("primary").SaveX(t.Context())
	if _, err := create(t, first, l.account, "PK1"); err != nil {
		t.Fatal(err)
	}
	replicate(t, l.primary, l.standby)
	if _, err := l.standby.ExecContext(t.Context(), "UPDATE user_accounts SET account_name = 'standby'"); err != nil {
		t.Fatal(err)
	}
	cfg.Reader = entsql.OpenDB(dialect.SQLite, l.standby)
	if fallsBack {
		cfg.OnReaderError = func(_ context.Context, err error) { l.told = append(l.told, err) }
	}
	if l.Client, err = client.New(l.primary, dialect.SQLite, cfg); err != nil {
		t.Fatal(err)
	}
	return l
}

// replicate copies the rows of each table.
func replicate(t *testing.T, from, to *sql.DB) {
	t.Helper()
	var file string
	err := from.QueryRowContext(t.Context(), "SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&file)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := to.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(t.Context(), "ATTACH ? AS other", file); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"user_accounts", "user_credentials", "credent_tenant_keys", "credent_states"} {
		if _, err := conn.ExecContext(t.Context(), "INSERT INTO "+table+" SELECT * FROM other."+table); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.ExecContext(t.Context(), "DETACH other"); err != nil {
		t.Fatal(err)
	}
}

// answers returns which server answers a query with the given context.
func (l *lagging) answers(ctx context.Context, t *testing.T) string {
	t.Helper()
	account, err := l.UserAccount.Query().Only(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return account.AccountName
}

func (l *lagging) want(ctx context.Context, t *testing.T, when, want string) {
	t.Helper()
	if got := l.answers(ctx, t); got != want {
		t.Errorf("%s: the %s answers, want the %s", when, got, want)
	}
}

// Queries go to the primary by default, and every kind of query goes to the
// standby if the context asks for it.
func TestReader(t *testing.T) {
	t.Parallel()
	l := newLagging(t, client.Config{}, false)
	request := client.WithRequest(t.Context())
	for name, test := range map[string]struct {
		ctx  context.Context
		want string
	}{
		"no request":              {t.Context(), "primary"},
		"raw SQL that reads":      {client.WithReadOnlySQL(t.Context()), "primary"},
		"request":                 {request, "standby"},
		"derived":                 {client.WithActor(request, "ada"), "standby"},
		"request of a request":    {client.WithRequest(request), "standby"},
		"primary":                 {client.WithPrimary(request), "primary"},
		"stale":                   {client.WithStaleReads(t.Context()), "standby"},
		"stale, then primary":     {client.WithPrimary(client.WithStaleReads(request)), "primary"},
		"primary, then stale":     {client.WithStaleReads(client.WithPrimary(request)), "standby"},
		"primary, then request":   {client.WithRequest(client.WithPrimary(t.Context())), "primary"},
		"request, without cancel": {context.WithoutCancel(request), "standby"},
	} {
		l.want(test.ctx, t, name, test.want)
	}

	if _, err := l.standby.ExecContext(t.Context(), "DELETE FROM user_credentials"); err != nil {
		t.Fatal(err)
	}
	accounts, credentials, account := l.UserAccount, l.UserCredential, l.UserAccount.Query().OnlyX(t.Context())
	for name, n := range map[string]func(ctx context.Context) (int, error){
		"All": func(ctx context.Context) (int, error) {
			found, err := credentials.Query().All(ctx)
			return len(found), err
		},
		"IDs": func(ctx context.Context) (int, error) {
			found, err := credentials.Query().IDs(ctx)
			return len(found), err
		},
		"Count": credentials.Query().Count,
		"Exist": func(ctx context.Context) (int, error) {
			there, err := credentials.Query().Exist(ctx)
			return map[bool]int{true: 1}[there], err
		},
		"Strings": func(ctx context.Context) (int, error) {
			found, err := credentials.Query().Select(usercredential.FieldUserID).Strings(ctx)
			return len(found), err
		},
		"Aggregate": func(ctx context.Context) (int,
			error,
		) {
			return credentials.Query().Aggregate(ent.Count()).Int(ctx)
		},
		"GroupBy": func(ctx context.Context) (int, error) {
			found, err := credentials.Query().GroupBy(usercredential.FieldUserID).Strings(ctx)
			return len(found), err
		},
		"edge": account.QueryCredentials().Count,
		"WithCredentials": func(ctx context.Context) (int, error) {
			account, err := accounts.Query().WithCredentials().Only(ctx)
			if err != nil {
				return 0, err
			}
			return len(account.Edges.Credentials), nil
		},
		"HasCredentials": accounts.Query().Where(useraccount.HasCredentials()).Count,
		"blind index": func(ctx context.Context) (int, error) {
			return credentials.Query().Where(usercredential.APIKeyIs(encrypted.New("PK1"))).Count(ctx)
		},
		"QueryContext": func(ctx context.Context) (n int, err error) {
			rows, err := l.QueryContext(client.WithReadOnlySQL(ctx), "SELECT id FROM user_credentials")
			if err != nil {
				return 0, err
			}
			defer func() { _ = rows.Close() }()
			for rows.Next() {
				n++
			}
			return n, rows.Err()
		},
	} {
		for ctx, want := range map[context.Context]int{t.Context(): 1, request: 0} {
			if got, err := n(ctx); got != want || err != nil {
				t.Errorf("%s: got %d, %v, want %d", name, got, err, want)
			}
		}
	}
	l.want(request, t, "after all that", "standby")
}

// A possible write sends the rest of its request to the primary, but not other
// requests. A write outside any request sends all of them there.
func TestReaderSeesOwnWrites(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	inTx := func(opts *sql.TxOptions, end func(*ent.Tx) error) func(context.Context, *lagging) error {
		return func(ctx context.Context, l *lagging) error {
			tx, err := l.BeginTx(ctx, opts)
			if err != nil {
				return err
			}
			if _, err := tx.UserAccount.Query().Count(ctx); err != nil {
				return err
			}
			return end(tx)
		}
	}
	add := func(l *lagging) *ent.UserCredentialCreate {
		return l.UserCredential.Create().SetAccount(l.account).SetCredentialType("a").
			SetAPIKey(encrypted.New("k")).SetSecretKey(encrypted.New("s"))
	}
	for name, write := range map[string]func(ctx context.Context, l *lagging) error{
		"Create": func(ctx context.Context, l *lagging) error { return add(l).Exec(ctx) },
		"CreateBulk": func(ctx context.Context, l *lagging) error {
			return l.UserCredential.CreateBulk(add(l), add(l)).Exec(ctx)
		},
		"Update": func(ctx context.Context, l *lagging) error {
			return l.UserCredential.Update().SetIsActive(false).Exec(ctx)
		},
		"UpdateOne": func(ctx context.Context, l *lagging) error {
			return l.UserAccount.UpdateOne(l.account).SetIsActive(false).Exec(ctx)
		},
		"Delete": func(ctx context.Context, l *lagging) error {
			_, err := l.UserCredential.Delete().Exec(ctx)
			return err
		},
		"no row": func(ctx context.Context, l *lagging) error {
			_, err := l.UserCredential.Delete().Where(usercredential.UserID("none")).Exec(ctx)
			return err
		},
		"refused": func(ctx context.Context, l *lagging) error {
			if err := l.UserAccount.Create().SetUserID("u-1").SetAccountName("again").
				Exec(ctx); !ent.IsConstraintError(err) {
				return errors.Join(failed, err)
			}
			return nil
		},
		"ExecContext": func(ctx context.Context, l *lagging) error {
			_, err := l.ExecContext(ctx, "UPDATE user_accounts SET is_active = true")
			return err
		},
		"QueryContext": func(ctx context.Context, l *lagging) error {
			rows, err := l.QueryContext(ctx, "UPDATE user_accounts SET is_active = true RETURNING id")
			if err != nil {
				return err
			}
			defer func() { _ = rows.Close() }()
			for rows.Next() { // SQLite's driver executes the write here
			}
			return rows.Err()
		},
		"Commit":   inTx(nil, (*ent.Tx).Commit),
		"Rollback": inTx(nil, (*ent.Tx).Rollback),
		"in a transaction": func(ctx context.Context, l *lagging) error {
			tx, err := l.Tx(ctx)
			if err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, "UPDATE user_accounts SET is_active = true")
			return errors.Join(err, tx.Commit())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLagging(t, client.Config{}, false)
			own, other := client.WithRequest(t.Context()), client.WithRequest(t.Context())
			if err := write(client.WithActor(own, "ada"), l); err != nil {
				t.Fatal(err)
			}
			l.want(own, t, "the request that wrote", "primary")
			l.want(client.WithRequest(own), t, "a request of it", "primary")
			l.want(context.WithoutCancel(own), t, "without cancel", "primary")
			l.want(client.WithStaleReads(own), t, "if it may be stale", "standby")
			l.want(other, t, "another request", "standby")

			if err := write(t.Context(), l); err != nil && name != "refused" {
				t.Fatal(err)
			}
			l.want(other, t, "after a write of nobody's", "primary")
			l.want(client.WithRequest(t.Context()), t, "a later request", "standby")
		})
	}
}

// A transaction without a request counts for all requests once it is committed.
// A statement in it that has a request counts for that one at once.
func TestReaderAfterTransactions(t *testing.T) {
	t.Parallel()
	l := newLagging(t, client.Config{}, false)
	tx, err := l.Tx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	meanwhile, claims := client.WithRequest(t.Context()), client.WithRequest(t.Context())
	l.want(meanwhile, t, "before the commit", "standby")
	if _, err := tx.ExecContext(claims, "UPDATE user_accounts SET is_active = true WHERE false"); err != nil {
		t.Fatal(err)
	}
	l.want(claims, t, "the statement's", "primary")
	l.want(meanwhile, t, "another's, before the commit", "standby")
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	l.want(meanwhile, t, "after the commit", "primary")
}

// Hooks of mutations read from the primary, whatever the context allows.
func TestHooksReadThePrimary(t *testing.T) {
	t.Parallel()
	l := newLagging(t, client.Config{}, false)
	var saw []string
	l.UserCredential.Use(func(next ent.Mutator) ent.Mutator {
		return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
			saw = append(saw, l.answers(ctx, t))
			return next.Mutate(ctx, m)
		})
	})
	if _, err := l.standby.ExecContext(t.Context(), "PRAGMA foreign_keys = 0; DELETE FROM user_accounts"); err != nil {
		t.Fatal(err)
	}
	for _, ctx := range []context.Context{
		client.WithRequest(t.Context()), client.WithStaleReads(t.Context()),
		client.WithStaleReads(client.WithRequest(t.Context())),
	} {
		// Without a user_id, which a hook reads from the account.
		err := l.UserCredential.Create().SetUserAccountID(l.account.ID).SetCredentialType("a").
			SetAPIKey(encrypted.New("k")).SetSecretKey(encrypted.New("s")).Exec(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.UserCredential.Update().SetIsActive(false).Exec(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if want := slices.Repeat([]string{"primary"}, 6); !slices.Equal(saw, want) {
		t.Errorf("hooks read the %v", saw)
	}
}

// A lookup that finds rows without a digest stores the digest on the primary.
func TestReaderFillsNoDigests(t *testing.T) {
	t.Parallel()
	l := newLagging(t, client.Config{}, true)
	for _, db := range []*sql.DB{l.primary, l.standby} {
		if _, err := db.ExecContext(t.Context(), "UPDATE user_credentials SET api_key_index = NULL"); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		ctx := client.WithRequest(t.Context())
		n, err := l.UserCredential.Query().Where(usercredential.APIKeyIs(encrypted.New("PK1"))).Count(ctx)
		if n != 1 || err != nil || len(l.told) > 0 {
			t.Errorf("found %d, %v; told %v", n, err, l.told)
		}
	}
	for db, want := range map[*sql.DB]int{l.primary: 0, l.standby: 1} {
		var n int
		err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM user_credentials WHERE api_key_index IS NULL").
			Scan(&n)
		if n != want || err != nil {
			t.Errorf("%d rows without a digest, %v, want %d", n, err, want)
		}
	}
}

// A tenant's key missing on the standby is read from the primary, in every
// state.
func TestReaderLacksTenantKey(t *testing.T) {
	t.Parallel()
	for _, state := range []encrypted.State{encrypted.Accept, encrypted.Write, encrypted.Require} {
		for _, verify := range []bool{false, true} {
			t.Run(state.String()+map[bool]string{true: " verified"}[verify], func(t *testing.T) {
				t.Parallel()
				l := newLagging(t, client.Config{TenantKeys: encrypted.Write}, false)
				if _, err := l.standby.ExecContext(t.Context(), "DELETE FROM credent_tenant_keys"); err != nil {
					t.Fatal(err)
				}
				c, err := client.New(l.primary, dialect.SQLite, client.Config{
					Keyring: l.ring, TenantKeys: state, VerifyOnRead: verify,
					Reader: entsql.OpenDB(dialect.SQLite, l.standby),
				})
				if err != nil {
					t.Fatal(err)
				}
				ctx := client.WithRequest(t.Context())
				account, err := c.UserAccount.Query().WithCredentials().Only(ctx)
				if err != nil || account.AccountName != "standby" {
					t.Fatalf("got %v, %v", account, err)
				}
				if text, err := account.Edges.Credentials[0].APIKey.Reveal(); text != "PK1" || err != nil {
					t.Errorf("it reveals %d bytes, %v", len(text), err)
				}
			})
		}
	}
}

// Tenants' keys read from the standby don't affect the primary: a destroyed key
// stays destroyed, and writes use the primary's key.
func TestReaderKeepsKeysApart(t *testing.T) {
	t.Parallel()
	l := newLagging(t, client.Config{TenantKeys: encrypted.Write}, false)
	exec := func(db *sql.DB, query string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	reveal := func(ctx context.Context) error {
		t.Helper()
		_, err := l.UserCredential.Query().Order(usercredential.ByCreatedAt()).FirstX(ctx).APIKey.Reveal()
		return err
	}
	exec(l.primary, "UPDATE credent_tenant_keys SET wrapped = NULL, destroyed_at = '2026-01-01 00:00:00'")
	if err := reveal(t.Context()); !errors.Is(err, encrypted.ErrShredded) {
		t.Fatalf("got %v", err)
	}
	if err := reveal(client.WithRequest(t.Context())); err != nil { // it hasn't replayed the deletion
		t.Errorf("the standby: %v", err)
	}
	if err := reveal(t.Context()); !errors.Is(err, encrypted.ErrShredded) {
		t.Errorf("the primary: got %v", err)
	}
	if _, err := create(t, l.Client, l.account, "PK2"); !errors.Is(err, encrypted.ErrShredded) {
		t.Errorf("storing: got %v", err)
	}
}

// A failing standby causes an error, or the primary answers and OnReaderError
// is called.
func TestReaderFails(t *testing.T) {
	t.Parallel()
	for _, fallsBack := range []bool{false, true} {
		l := newLagging(t, client.Config{}, fallsBack)
		if err := l.standby.Close(); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			account, err := l.UserAccount.Query().Only(client.WithRequest(t.Context()))
			switch {
			case !fallsBack && (!errors.Is(err, client.ErrReader) || account != nil):
				t.Errorf("got %v, %v", account, err)
			case fallsBack && (err != nil || account.AccountName != "primary"):
				t.Errorf("got %v, %v", account, err)
			case fallsBack && (len(l.told) != i+1 || !errors.Is(l.told[i], client.ErrReader)):
				t.Errorf("told %v", l.told)
			}
		}
		ended, cancel := context.WithCancel(client.WithRequest(t.Context()))
		cancel()
		if _, err := l.UserAccount.Query().Only(ended); err == nil || errors.Is(err, client.ErrReader) {
			t.Errorf("ended: got %v", err)
		}
		// Other requests are unaffected.
		l.want(t.Context(), t, "no request", "primary")
		if err := client.Check(client.WithRequest(t.Context()), l.Client); err != nil {
			t.Errorf("Check: %v", err)
		}
	}
}
