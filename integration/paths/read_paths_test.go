package paths

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

// readPath is one way to read secrets.
type readPath struct {
	name   string
	covers string // the methods it calls, as TestReadPathsAreComplete names them
	read   func(ctx context.Context, r *reader) error
	// secrets is the number of secrets it reads.
	secrets int
	// rowless means that the result has no primary key, so errors can't name
	// the row.
	rowless bool
	// nameless means that the result doesn't say which column a secret is from.
	nameless bool
	// plain means that database/sql returns the rows, so the secrets have no
	// keyring.
	plain bool
	// postgres means that SQLite has no such statement.
	postgres bool
}

// reader is a path's input: a client, and an account with seeded rows.
type reader struct {
	env     *testdb.Env
	client  *ent.Client
	account *ent.UserAccount
	rows    []*ent.UserCredential
	seen    []seen
}

// seen is a secret that was read, with its expected value.
type seen struct {
	secret           credent.Secret
	want, column, id string
}

// sees records a secret with its row and column.
func (r *reader) sees(row int, column string, s credent.Secret) {
	want := map[string]string{"api_key": "api", "secret_key": "secret"}[column] + fmt.Sprint(row)
	r.seen = append(r.seen, seen{s, want, column, r.rows[row].ID.String()})
}

// columnOf has the encrypted columns by name.
var columnOf = map[string]encrypted.Column{
	"api_key": usercredential.APIKeyColumn, "secret_key": usercredential.SecretKeyColumn,
}

// nodes records the secrets of whole rows.
func (r *reader) nodes(nodes ...*ent.UserCredential) error {
	for _, node := range nodes {
		row, err := r.rowOf(node.ID)
		if err != nil {
			return err
		}
		r.sees(row, "api_key", node.APIKey)
		r.sees(row, "secret_key", node.SecretKey)
	}
	return nil
}

func (r *reader) rowOf(id uuid.UUID) (int, error) {
	for i, row := range r.rows {
		if row.ID == id {
			return i, nil
		}
	}
	return 0, fmt.Errorf("there is no row %v", id)
}

// query returns a query for the first row.
func (r *reader) query() *ent.UserCredentialQuery {
	return r.client.UserCredential.Query().Where(usercredential.ID(r.rows[0].ID))
}

// ordered returns a query for all rows, in creation order.
func (r *reader) ordered() *ent.UserCredentialQuery {
	return r.client.UserCredential.Query().Where(usercredential.UserID("u1")).Order(usercredential.ByCreatedAt(),
		usercredential.ByID())
}

func readPaths() []readPath {
	paths := append(nodePaths(), edgePaths()...)
	return append(append(paths, scanPaths()...), returnPaths()...)
}

// nodePaths read whole rows.
func nodePaths() []readPath {
	one := func(name, covers string, get func(context.Context, *reader) (*ent.UserCredential, error)) readPath {
		return readPath{name: name, covers: covers, secrets: 2, read: func(ctx context.Context, r *reader) error {
			node, err := get(ctx, r)
			if err != nil {
				return err
			}
			return r.nodes(node)
		}}
	}
	many := func(name, covers string, n int, get func(context.Context, *reader) ([]*ent.UserCredential,
		error),
	) readPath {
		return readPath{name: name, covers: covers, secrets: 2 * n, read: func(ctx context.Context, r *reader) error {
			nodes, err := get(ctx, r)
			if err != nil {
				return err
			}
			return r.nodes(nodes...)
		}}
	}
	locked := func(name, covers string, lock func(*ent.UserCredentialQuery) *ent.UserCredentialQuery) readPath {
		p := one(name, covers, func(ctx context.Context, r *reader) (*ent.UserCredential,
			error,
		) {
			return lock(r.query()).Only(ctx)
		})
		p.postgres = true
		return p
	}
	return []readPath{
		one("Get", "UserCredentialClient.Get", func(ctx context.Context, r *reader) (*ent.UserCredential, error) {
			return r.client.UserCredential.Get(ctx, r.rows[0].ID)
		}),
		one("GetX", "UserCredentialClient.GetX", func(ctx context.Context, r *reader) (*ent.UserCredential, error) {
			return r.client.UserCredential.GetX(ctx, r.rows[0].ID), nil
		}),
		one("Only", "UserCredentialClient.Query UserCredentialQuery.Only UserCredentialQuery.Where",
			func(ctx context.Context, r *reader) (*ent.UserCredential, error) {
				return r.query().Only(ctx)
			}),
		one("OnlyX", "UserCredentialQuery.OnlyX", func(ctx context.Context, r *reader) (*ent.UserCredential, error) {
			return r.query().OnlyX(ctx), nil
		}),
		one("First", "UserCredentialQuery.First", func(ctx context.Context, r *reader) (*ent.UserCredential,
			error,
		) {
			return r.query().First(ctx)
		}),
		one("FirstX", "UserCredentialQuery.FirstX", func(ctx context.Context, r *reader) (*ent.UserCredential, error) {
			return r.query().FirstX(ctx), nil
		}),
		many("All", "UserCredentialQuery.All", 3, func(ctx context.Context, r *reader) ([]*ent.UserCredential, error) {
			return r.client.UserCredential.Query().All(ctx)
		}),
		many("AllX, distinct", "UserCredentialQuery.AllX UserCredentialQuery.Unique", 3,
			func(ctx context.Context, r *reader) ([]*ent.UserCredential, error) {
				return r.client.UserCredential.Query().Unique(true).AllX(ctx), nil
			}),
		many("a page", "UserCredentialQuery.Limit UserCredentialQuery.Offset UserCredentialQuery.Order", 1,
			func(ctx context.Context, r *reader) ([]*ent.UserCredential, error) {
				return r.ordered().Offset(1).Limit(1).All(ctx)
			}),
		many("a clone", "UserCredentialQuery.Clone", 4,
			func(ctx context.Context, r *reader) ([]*ent.UserCredential, error) {
				query := r.client.UserCredential.Query()
				clone, err := query.Clone().Where(usercredential.ID(r.rows[1].ID)).All(ctx)
				if err != nil {
					return nil, err
				}
				all, err := query.All(ctx)
				return append(clone, all...), err
			}),
		locked("FOR UPDATE", "UserCredentialQuery.ForUpdate",
			func(q *ent.UserCredentialQuery) *ent.UserCredentialQuery { return q.ForUpdate() }),
		locked("FOR SHARE", "UserCredentialQuery.ForShare",
			func(q *ent.UserCredentialQuery) *ent.UserCredentialQuery { return q.ForShare() }),
		one("an interceptor", "UserCredentialClient.Intercept",
			func(ctx context.Context, r *reader) (node *ent.UserCredential, err error) {
				// Use a copy of the client, which the other paths don't share.
				client := r.client.Debug()
				client.UserCredential.Intercept(ent.InterceptFunc(func(next ent.Querier) ent.Querier {
					return ent.QuerierFunc(func(ctx context.Context, q ent.Query) (ent.Value, error) {
						value, err := next.Query(ctx, q)
						if nodes, ok := value.([]*ent.UserCredential); ok && len(nodes) == 1 {
							node = nodes[0]
						}
						return value, err
					})
				}))
				_, err = client.UserCredential.Query().Where(usercredential.ID(r.rows[0].ID)).All(ctx)
				if err == nil && node == nil {
					err = errors.New("the interceptor saw nothing")
				}
				return node, err
			}),
	}
}

// edgePaths follow edges from one row to others.
func edgePaths() []readPath {
	return []readPath{
		{name: "WithCredentials", secrets: 6, read: func(ctx context.Context, r *reader) error {
			account, err := r.client.UserAccount.Query().Where(useraccount.ID(r.account.ID)).WithCredentials().Only(ctx)
			if err != nil {
				return err
			}
			return r.nodes(account.Edges.Credentials...)
		}},
		{name: "WithCredentials of some", secrets: 2, read: func(ctx context.Context, r *reader) error {
			account, err := r.client.UserAccount.Query().Where(useraccount.ID(r.account.ID)).
				WithCredentials(func(q *ent.UserCredentialQuery) { q.Where(usercredential.ID(r.rows[2].ID)) }).Only(ctx)
			if err != nil {
				return err
			}
			return r.nodes(account.Edges.Credentials...)
		}},
		{
			name: "WithAccount and back", covers: "UserCredentialQuery.WithAccount UserCredentialEdges.AccountOrErr",
			secrets: 8, read: func(ctx context.Context, r *reader) error {
				node, err := r.query().WithAccount(func(q *ent.UserAccountQuery) { q.WithCredentials() }).Only(ctx)
				if err != nil {
					return err
				}
				account, err := node.Edges.AccountOrErr()
				if err != nil {
					return err
				}
				return r.nodes(append(account.Edges.Credentials, node)...)
			},
		},
		{name: "QueryCredentials of a row", secrets: 6, read: func(ctx context.Context, r *reader) error {
			nodes, err := r.client.UserAccount.GetX(ctx, r.account.ID).QueryCredentials().All(ctx)
			return errors.Join(err, r.nodes(nodes...))
		}},
		{
			name: "QueryAccount and back", covers: "UserCredentialQuery.QueryAccount", secrets: 6,
			read: func(ctx context.Context, r *reader) error {
				nodes, err := r.query().QueryAccount().QueryCredentials().All(ctx)
				return errors.Join(err, r.nodes(nodes...))
			},
		},
		{name: "QueryAccount of a row and of the client", covers: "UserCredential.QueryAccount " +
			"UserCredentialClient.QueryAccount", secrets: 12, read: func(ctx context.Context, r *reader) error {
			node, err := r.query().Only(ctx)
			if err != nil {
				return err
			}
			nodes, err := node.QueryAccount().QueryCredentials().All(ctx)
			more, moreErr := r.client.UserCredential.QueryAccount(node).QueryCredentials().All(ctx)
			return errors.Join(err, moreErr, r.nodes(append(nodes, more...)...))
		}},
	}
}

// scanPaths scan columns into the caller's types.
func scanPaths() []readPath {
	return []readPath{
		{name: "Select, some fields", covers: "UserCredentialQuery.Select", secrets: 1, read: func(ctx context.Context,
			r *reader,
		) error {
			node, err := r.query().Select(usercredential.FieldID, usercredential.FieldAPIKey).Only(ctx)
			if err != nil {
				return err
			}
			if !node.SecretKey.IsZero() {
				return errors.New("read a secret that was not selected")
			}
			r.sees(0, "api_key", node.APIKey)
			return nil
		}},
		{
			name: "Select, Scan into secrets", covers: "UserCredentialSelect.Scan", secrets: 3, rowless: true,
			read: func(ctx context.Context, r *reader) error {
				var secrets []*credent.Secret
				err := r.ordered().Select(usercredential.FieldSecretKey).Scan(ctx, &secrets)
				for i, s := range secrets {
					r.sees(i, "secret_key", *s)
				}
				return err
			},
		},
		{
			name: "Select, ScanX into structs", covers: "UserCredentialSelect.ScanX", secrets: 6,
			read: func(ctx context.Context, r *reader) error {
				var found []struct {
					ID        uuid.UUID       `sql:"id"`
					APIKey    credent.Secret  `sql:"api_key"`
					SecretKey *credent.Secret `sql:"secret_key"`
				}
				r.ordered().Select("id", "api_key", "secret_key").ScanX(ctx, &found)
				for i, f := range found {
					r.sees(i, "api_key", f.APIKey)
					r.sees(i, "secret_key", *f.SecretKey)
				}
				return nil
			},
		},
		{name: "Select, Scan into sql.Null", secrets: 3, rowless: true, read: func(ctx context.Context,
			r *reader,
		) error {
			var found []struct {
				APIKey sql.Null[credent.Secret] `sql:"api_key"`
			}
			err := r.ordered().Select("api_key").Scan(ctx, &found)
			for i, f := range found {
				r.sees(i, "api_key", f.APIKey.V)
			}
			return err
		}},
		{
			name: "Select, Modify", covers: "UserCredentialSelect.Modify UserCredentialQuery.Modify", secrets: 3,
			nameless: true, read: func(ctx context.Context, r *reader) error {
				var found []struct {
					ID  uuid.UUID      `sql:"id"`
					Key credent.Secret `sql:"k"`
				}
				err := r.ordered().Modify(func(s *entsql.Selector) { s.Select(s.C("id")) }).
					Modify(func(s *entsql.Selector) { s.AppendSelectAs(s.C("api_key"), "k") }).Scan(ctx, &found)
				for i, f := range found {
					r.sees(i, "api_key", f.Key)
				}
				return err
			},
		},
		{name: "a join from the accounts", secrets: 3, rowless: true, read: func(ctx context.Context, r *reader) error {
			var found []struct {
				Type      string         `sql:"credential_type"`
				SecretKey credent.Secret `sql:"secret_key"`
			}
			err := r.client.UserAccount.Query().Modify(func(s *entsql.Selector) {
				c := entsql.Table(usercredential.Table)
				s.Join(c).On(s.C(useraccount.FieldID), c.C(usercredential.FieldUserAccountID)).
					Select(c.C("credential_type"), c.C("secret_key")).OrderBy(c.C("created_at"), c.C("id"))
			}).Scan(ctx, &found)
			for i, f := range found {
				r.sees(i, "secret_key", f.SecretKey)
			}
			return err
		}},
		{name: "GroupBy", covers: "UserCredentialQuery.GroupBy UserCredentialGroupBy.Aggregate " +
			"UserCredentialGroupBy.Scan", secrets: 1, rowless: true, read: func(ctx context.Context, r *reader) error {
			var found []struct {
				APIKey credent.Secret `sql:"api_key"`
				Count  int            `sql:"count"`
			}
			err := r.query().GroupBy("api_key").Aggregate(ent.Count()).Scan(ctx, &found)
			for _, f := range found {
				r.sees(0, "api_key", f.APIKey)
			}
			return err
		}},
		{
			name: "GroupBy, ScanX", covers: "UserCredentialGroupBy.ScanX", secrets: 1, rowless: true,
			read: func(ctx context.Context, r *reader) error {
				var found []*credent.Secret
				r.query().GroupBy("secret_key").ScanX(ctx, &found)
				for _, f := range found {
					r.sees(0, "secret_key", *f)
				}
				return nil
			},
		},
		{
			name: "Aggregate", covers: "UserCredentialQuery.Aggregate UserCredentialSelect.Aggregate", secrets: 2,
			rowless: true, nameless: true, read: func(ctx context.Context, r *reader) error {
				var found []struct {
					Max credent.Secret `sql:"max"`
					Min credent.Secret `sql:"min"`
				}
				err := r.query().Aggregate(ent.Max("api_key")).Aggregate(ent.Min("secret_key")).Scan(ctx, &found)
				for _, f := range found {
					r.sees(0, "api_key", f.Max)
					r.sees(0, "secret_key", f.Min)
				}
				return err
			},
		},
		{
			name: "QueryContext", covers: strings.ReplaceAll(doorsQuery, "Tx.QueryContext", "") +
				" UserCredentialSelect.QueryContext",
			secrets: 22, rowless: true, plain: true, read: readByDoors,
		},
	}
}

// readByDoors reads by QueryContext of every type that has it.
func readByDoors(ctx context.Context, r *reader) error {
	all := doors(&writer{env: r.env, client: r.client, rows: r.rows})
	all = append(all, door{"UserCredentialSelect", r.client.UserCredential.Query().Select()})
	for _, d := range all {
		var a, b credent.Secret
		err := func() (err error) {
			rows, err := d.QueryContext(ctx, r.env.Placeholders("SELECT api_key, secret_key FROM user_credentials "+
				"WHERE id = $1"), r.rows[0].ID)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, rows.Close()) }()
			if !rows.Next() {
				return errors.Join(errors.New("no row"), rows.Err())
			}
			return errors.Join(rows.Scan(&a, &b), rows.Err())
		}()
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		r.sees(0, "api_key", a)
		r.sees(0, "secret_key", b)
	}
	return nil
}

// returnPaths read the results of writes. Secrets that were set are the
// caller's own values.
func returnPaths() []readPath {
	return []readPath{
		{
			name: "UpdateOne, Save", covers: "UserCredentialUpdateOne.Save UserCredential.Update", secrets: 2,
			read: func(ctx context.Context, r *reader) error {
				node, err := r.query().Only(ctx)
				if err != nil {
					return err
				}
				if node, err = node.Update().SetIsActive(false).Save(ctx); err != nil {
					return err
				}
				return r.nodes(node)
			},
		},
		{
			name: "UpdateOneID, SaveX", covers: "UserCredentialUpdateOne.SaveX", secrets: 2,
			read: func(ctx context.Context, r *reader) error {
				return r.nodes(r.client.UserCredential.UpdateOneID(r.rows[0].ID).
					SetCredentialType("polygon").SaveX(ctx))
			},
		},
		{
			name: "UpdateOne, Select", covers: "UserCredentialUpdateOne.Select", secrets: 1,
			read: func(ctx context.Context, r *reader) error {
				node, err := r.client.UserCredential.UpdateOneID(r.rows[0].ID).SetIsActive(false).
					Select("id", "api_key").Save(ctx)
				if err != nil {
					return err
				}
				r.sees(0, "api_key", node.APIKey)
				return nil
			},
		},
		{
			name: "OldField of a mutation", covers: "UserCredentialMutation.OldAPIKey UserCredentialMutation.OldField",
			secrets: 2, read: func(ctx context.Context, r *reader) error {
				m := r.client.UserCredential.UpdateOneID(r.rows[0].ID).Mutation()
				apiKey, err := m.OldAPIKey(ctx)
				if err != nil {
					return err
				}
				secretKey, err := m.OldField(ctx, "secret_key")
				if err != nil {
					return err
				}
				r.sees(0, "api_key", apiKey)
				r.sees(0, "secret_key", secretKey.(credent.Secret))
				return nil
			},
		},
	}
}

// readSettings are the clients that paths read with. A client with another
// keyring still reads rows; their secrets don't open.
type readSetting struct {
	name    string
	foreign bool
	options []testopt.Option
	debug   bool
	writes  bool  // the rows as well
	unkept  error // the error of opening a secret without the client
}

var readSettings = []readSetting{
	{name: "client"},
	{name: "debug client", debug: true},
	{name: "strict client", options: []testopt.Option{testopt.VerifyOnRead()}},
	{name: "client of another keyring", foreign: true},
	{name: "bound client", options: []testopt.Option{testopt.WithBinding(credent.Require)}, writes: true},
	{
		name: "client of tenant keys", options: []testopt.Option{testopt.WithTenantKeys(credent.Write)}, writes: true,
		unkept: credent.ErrUnknownKey,
	},
	{
		name: "bound client of tenant keys", options: []testopt.Option{
			testopt.WithBinding(credent.Require),
			testopt.WithTenantKeys(credent.Write),
		},
		writes: true, unkept: credent.ErrUnknownKey,
	},
}

// lacksTenant are the paths with a result that has no user_id, or not the
// column's own name. The error of a secret that needs them says what to select.
var lacksTenant = map[string]bool{
	"Aggregate": true, "GroupBy": true, "GroupBy, ScanX": true, "Select, Modify": true,
	"Select, ScanX into structs": true,
	"Select, Scan into secrets":  true, "Select, Scan into sql.Null": true, "Select, some fields": true,
	"UpdateOne, Select": true, "a join from the accounts": true,
}

// TestReadPaths reads secrets on every path, with clients of two keyrings in
// one process, in and out of transactions.
func TestReadPaths(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		for _, in := range readSettings {
			ring := env.Ring
			if in.foreign {
				ring = testdb.Keyring(t, keyring.GenerateKey())
			}
			client := env.OnPool(append(in.options, testopt.WithKeyring(ring))...)
			if in.debug {
				client = client.Debug()
			}
			if in.writes {
				env.Client = client
			}
			for _, path := range readPaths() {
				if path.postgres && env.IsSQLite() {
					continue
				}
				for _, mode := range []string{"", ", in a transaction"} {
					t.Run(in.name+"/"+path.name+mode, func(t *testing.T) {
						path.try(t, env, client, ring, in, mode != "")
					})
				}
			}
		}
	})
}

// try reads by the path, and reveals the secrets after the transaction, if any.
func (p readPath) try(t *testing.T, env *testdb.Env, client *ent.Client, ring *keyring.Keyring, in readSetting,
	inTx bool,
) {
	t.Helper()
	account, rows := env.Seed(t)
	r := &reader{env: env, client: client, account: account, rows: rows}
	var end func() error
	if inTx {
		tx, err := client.Tx(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.client, end = tx.Client(), tx.Commit
	}
	var err error
	if panicked := caught(func() { err = p.read(t.Context(), r) }); panicked != nil {
		err = panicked
	}
	if end != nil {
		err = errors.Join(err, end())
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(r.seen) != p.secrets {
		t.Errorf("%d secrets were read, want %d", len(r.seen), p.secrets)
	}
	for _, s := range r.seen {
		if p.plain {
			if _, err := s.secret.Reveal(); !errors.Is(err, credent.ErrNoOpener) {
				t.Errorf("%s, without a keyring: %v", s.column, err)
			}
			s.secret = s.secret.OpenedBy(encrypted.OpenerOf(ring, columnOf[s.column], r.account.UserID))
		}
		got, err := s.secret.Reveal()
		if in.writes && lacksTenant[p.name] {
			if !errors.Is(err, credent.ErrNoTenant) && !errors.Is(err, credent.ErrUnknownKey) ||
				!strings.Contains(err.Error(), "select ") {
				t.Errorf("%s, without the tenant: revealed %q, %v", s.column, got, err)
			}
			continue
		}
		if p.plain && in.unkept != nil {
			if !errors.Is(err, in.unkept) {
				t.Errorf("%s, without the client: revealed %q, %v, want %v", s.column, got, err, in.unkept)
			}
			continue
		}
		if !in.foreign {
			if err != nil || got != s.want {
				t.Errorf("%s: revealed %q, %v, want %q", s.column, got, err, s.want)
			}
			continue
		}
		p.checkForeign(t, s, got, err)
	}
}

// checkForeign checks the error of a secret under another key, with the
// location as far as the result has it.
func (p readPath) checkForeign(t *testing.T, s seen, got string, err error) {
	t.Helper()
	var detail *credent.Error
	if got != "" || !errors.Is(err, credent.ErrUnknownKey) || !errors.As(err, &detail) {
		t.Errorf("revealed %q, %v, want ErrUnknownKey", got, err)
		return
	}
	want := credent.Error{Op: "decrypt", Table: "user_credentials", Column: s.column, Row: s.id, Err: detail.Err}
	if p.nameless {
		want.Table, want.Column = "", ""
	}
	if p.rowless {
		want.Row = ""
	}
	if *detail != want {
		t.Errorf("got error %+v, want %+v", *detail, want)
	}
}

// TestTokensAreNoPlaintext has the reads that return text: it is the stored
// token.
func TestTokensAreNoPlaintext(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		_, rows := env.Seed(t)
		token := env.Tokens(t)[rows[0].ID].APIKey
		query := env.Client.UserCredential.Query().Where(usercredential.ID(rows[0].ID))
		selected := query.Clone().Select("api_key")
		text, err := selected.String(ctx)
		if err != nil || text != token || selected.StringX(ctx) != token {
			t.Errorf("String: not the token, %v", err)
		}
		texts, err := selected.Strings(ctx)
		if err != nil || len(texts) != 1 || texts[0] != token || selected.StringsX(ctx)[0] != token {
			t.Errorf("Strings: not the token, %v", err)
		}
		grouped := query.Clone().GroupBy("api_key")
		if text, err := grouped.String(ctx); err != nil || text != token {
			t.Errorf("GroupBy: not the token, %v", err)
		}
		node := query.Clone().Modify(func(s *entsql.Selector) { s.AppendSelectAs(s.C("api_key"), "copy") }).OnlyX(ctx)
		if value, err := node.Value("copy"); err != nil || fmt.Sprint(value) != token && fmt.Sprintf("%s",
			value) != token {
			t.Errorf("Value: not the token, %v", err)
		}
		for _, read := range []func() error{
			func() error { _, err := selected.Bool(ctx); return err },
			func() error { _, err := selected.Bools(ctx); return err },
			func() error { _, err := selected.Int(ctx); return err },
			func() error { _, err := selected.Ints(ctx); return err },
			func() error { _, err := selected.Float64(ctx); return err },
			func() error { _, err := selected.Float64s(ctx); return err },
		} {
			err := read()
			if err == nil {
				t.Error("a token was read as a number")
			} else if strings.Contains(err.Error(), "api0") {
				t.Errorf("the error contains the plaintext")
			}
		}
	})
}
