// Package vaulttest has the tests of package vault that every database must
// pass.
package vaulttest

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	entsql "entgo.io/ent/dialect/sql"
	"example.com/oauth/ent"
	"example.com/oauth/ent/integration"
	"example.com/oauth/vault"
	"example.com/oauth/webhook"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
)

// canary is a part of every plaintext.
const canary = "CANARY"

// Database makes an empty database.
type Database func(t *testing.T) (db *sql.DB, d string)

// Run runs the tests, each on a database of its own.
func Run(t *testing.T, database Database) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *env){
		"vault": testVault, "write paths": testWritePaths, "refusals": testRefusals, "output": testOutput,
		"keys":  testKeys,
		"index": testIndex, "two keys": testTwoKeys, "binding": testBinding,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &env{ring: Keyring(t, keyring.GenerateKey())}
			e.db, e.dialect = database(t)
			e.Vault = e.open(t)
			test(t, e)
		})
	}
}

// testBinding gives a user the tokens of another one, as somebody can who
// writes to the database.
func testBinding(t *testing.T, e *env) {
	ctx := t.Context()
	for _, user := range []string{"a", "b"} {
		must(t, e.Connect(ctx, user, "github", canary+" of "+user))
		must(t, e.Subscribe(ctx, user, "github", webhook.Config{Secret: canary}))
	}
	if _, err := e.Webhook(ctx, "a", "github"); err != nil {
		t.Error(err)
	}
	for _, column := range []string{integration.FieldWebhook, integration.FieldClientCertificate} {
		_, err := e.db.ExecContext(ctx, fmt.Sprintf(
			"UPDATE integrations SET %s = (SELECT webhook FROM integrations WHERE user_id = 'b') WHERE user_id = 'a'",
			column))
		must(t, err)
	}
	a := e.Client.Integration.Query().Where(integration.UserID("a")).OnlyX(ctx)
	if config, err := a.Webhook.Reveal(); !errors.Is(err, encrypted.ErrWrongLocation) || config.Secret != "" {
		t.Errorf("another user's webhook: got %+v, %v, want ErrWrongLocation", config, err)
	}
	if certificate, err := a.ClientCertificate.Reveal(); !errors.Is(err, encrypted.ErrWrongLocation) ||
		certificate != nil {
		t.Errorf("another column's token: got %q, %v, want ErrWrongLocation", certificate, err)
	}
	// A user that the row gets must be given its secrets as well.
	if err := a.Update().SetUserID("c").Exec(ctx); !errors.Is(err, encrypted.ErrWrongLocation) {
		t.Errorf("moved without its secrets: got %v, want ErrWrongLocation", err)
	}
}

// env is a vault and what is below it.
type env struct {
	*vault.Vault
	db      *sql.DB
	dialect string
	ring    *keyring.Keyring
}

func (e *env) open(t *testing.T) *vault.Vault {
	t.Helper()
	v, err := vault.Open(t.Context(), e.db, e.dialect, e.ring)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Keyring returns a keyring of keys.
func Keyring(t *testing.T, primary string, previous ...string) *keyring.Keyring {
	t.Helper()
	ring, err := keyring.New(primary, previous...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// must fails the test if there is an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stored returns what a column holds, "" for NULL, in each row.
func (e *env) stored(t *testing.T, table, column string) (all []string) {
	t.Helper()
	rows, err := e.db.QueryContext(t.Context(), fmt.Sprintf(`SELECT "%s" FROM "%s"`, column, table))
	must(t, err)
	defer func() { must(t, rows.Close()) }()
	for rows.Next() {
		var value sql.NullString
		must(t, rows.Scan(&value))
		all = append(all, value.String)
	}
	must(t, rows.Err())
	return all
}

// allTokens checks that everything that is stored is a token.
func (e *env) allTokens(t *testing.T) {
	t.Helper()
	for _, c := range ent.EncryptedColumns() {
		for _, value := range e.stored(t, c.Table, c.Name) {
			if value != "" && !strings.HasPrefix(value, "gAAAA") {
				t.Errorf("%s holds %q", c, value)
			}
		}
	}
}

func testVault(t *testing.T, e *env) {
	t.Helper()
	ctx := t.Context()
	now := time.Date(2026, 11, 24, 12, 0, 0, 123456789, time.UTC)
	must(t, e.Connect(ctx, "u", "github", "first"))
	if _, err := e.Webhook(ctx, "u", "github"); !errors.Is(err, vault.ErrNoWebhook) {
		t.Errorf("got %v, want ErrNoWebhook", err)
	}
	must(t, e.Subscribe(ctx, "u", "github", webhook.Config{URL: "https://é", Secret: canary, Events: []string{"push"}}))
	must(t, e.Connect(ctx, "u", "github", "second")) // keeps the webhook
	hook, err := e.Webhook(ctx, "u", "github")
	if err != nil || hook.URL != "https://é" || hook.Secret != canary || !slices.Equal(hook.Events, []string{"push"}) {
		t.Errorf("got %+v, %v", hook, err)
	}
	must(t, e.Grant(ctx, "u", "github", "over", now))
	must(t, e.Grant(ctx, "u", "github", "good", now.Add(time.Nanosecond), "repo", "user"))
	if token, err := e.AccessToken(ctx, "u", "github", now); err != nil || token != "good" {
		t.Errorf("got %q, %v", token, err)
	}
	i := e.Client.Integration.Query().WithGrants().OnlyX(ctx)
	if token, err := i.RefreshToken.Reveal(); err != nil || token != "second" || len(i.Edges.Grants) != 2 {
		t.Errorf("got %q, %v", token, err)
	}
	for _, g := range i.Edges.Grants { // loaded with the edge
		if scopes, err := g.Scopes.Reveal(); err != nil ||
			len(scopes) != 0 && !slices.Equal(scopes, []string{"repo", "user"}) {
			t.Errorf("got %q, %v", scopes, err)
		}
	}
	e.allTokens(t)
}

func testWritePaths(t *testing.T, e *env) {
	t.Helper()
	ctx := t.Context()
	create := func(provider, text string) *ent.IntegrationCreate {
		return e.Client.Integration.Create().SetUserID("u").SetProvider(provider).
			SetRefreshToken(encrypted.New(canary + text)).
			SetWebhook(encrypted.NewValue(webhook.Config{Secret: canary + text})).
			SetClientCertificate(encrypted.NewValue([]byte("\xff" + canary + text)))
	}
	expect := func(path, provider, text string) {
		t.Helper()
		i := e.Client.Integration.Query().Where(integration.Provider(provider)).OnlyX(ctx)
		token, err := i.RefreshToken.Reveal()
		hook, err2 := i.Webhook.Reveal()
		certificate, err3 := i.ClientCertificate.Reveal()
		if errors.Join(err, err2, err3) != nil || token != canary+text || hook.Secret != canary+text ||
			string(certificate) != "\xff"+canary+text {
			t.Errorf("%s: got %q, %q, %q, %v", path, token, hook.Secret, certificate, errors.Join(err, err2, err3))
		}
		e.allTokens(t)
	}

	i := create("a", "1").SaveX(ctx)
	expect("create", "a", "1")
	e.Client.Integration.CreateBulk(create("b", "2"), create("c", "3")).ExecX(ctx)
	expect("create bulk", "b", "2")
	expect("create bulk", "c", "3")
	i = i.Update().SetRefreshToken(encrypted.New(canary + "4")).
		SetWebhook(encrypted.NewValue(webhook.Config{Secret: canary + "4"})).
		SetClientCertificate(encrypted.NewValue([]byte("\xff" + canary + "4"))).SaveX(ctx)
	expect("update one", "a", "4")
	create("a", "5").OnConflictColumns(integration.FieldUserID, integration.FieldProvider).
		Update(func(u *ent.IntegrationUpsert) {
			u.SetRefreshToken(encrypted.New(canary + "6")).
				SetWebhook(encrypted.NewValue(webhook.Config{Secret: canary + "6"})).
				SetClientCertificate(encrypted.NewValue([]byte("\xff" + canary + "6")))
		}).ExecX(ctx)
	expect("upsert, setters", "a", "6")
	e.Client.Integration.CreateBulk(create("a", "7"), create("d", "8")).
		OnConflictColumns(integration.FieldUserID, integration.FieldProvider).
		Update(func(u *ent.IntegrationUpsert) { u.UpdateRefreshToken().UpdateWebhook().UpdateClientCertificate() }).
		ExecX(ctx)
	expect("bulk upsert", "a", "7")
	expect("bulk upsert", "d", "8")
	e.Client.Integration.UpdateOneID(i.ID).Modify(func(u *entsql.UpdateBuilder) {
		token := encrypted.New(canary + "9")
		hook, certificate := encrypted.NewValue(webhook.Config{Secret: canary + "9"}), encrypted.NewValue(
			[]byte("\xff"+canary+"9"))
		u.Set(integration.FieldRefreshToken, encrypted.At(token, integration.RefreshTokenColumn, "u")).
			Set(integration.FieldRefreshTokenIndex, encrypted.DigestOf(token, integration.RefreshTokenColumn, nil)).
			Set(integration.FieldWebhook, encrypted.At(hook, integration.WebhookColumn, "u")).
			Set(integration.FieldClientCertificate, encrypted.At(certificate, integration.ClientCertificateColumn, "u"))
	}).ExecX(ctx)
	expect("modify", "a", "9")

	// A value from another row is encrypted again.
	from := e.Client.Integration.Query().Where(integration.Provider("b")).OnlyX(ctx)
	e.Client.Integration.UpdateOne(from).SetRefreshToken(encrypted.New(canary + "10")).ExecX(ctx) // which is unique
	i = e.Client.Integration.UpdateOneID(i.ID).SetRefreshToken(from.RefreshToken).SetWebhook(from.Webhook).
		SetClientCertificate(from.ClientCertificate).SaveX(ctx)
	expect("copy", "a", "2")
	if certificates := e.stored(t, integration.Table, integration.FieldClientCertificate); hasDuplicates(certificates) {
		t.Error("one token is stored twice")
	}

	// Absent is NULL, both ways.
	i = i.Update().ClearWebhook().SetClientCertificate(encrypted.Value[[]byte]{}).SaveX(ctx)
	if n := e.Client.Integration.Query().Where(integration.WebhookIsNil(), integration.ClientCertificateIsNil()).
		CountX(ctx); n != 1 {
		t.Errorf("%d rows have none, want 1", n)
	}
	if i = e.Client.Integration.GetX(ctx, i.ID); !i.Webhook.IsZero() || !i.ClientCertificate.IsZero() {
		t.Error("NULL is not the zero value")
	}
}

func hasDuplicates(values []string) bool {
	slices.Sort(values)
	return len(slices.Compact(values)) < len(values)
}

func testRefusals(t *testing.T, e *env) {
	t.Helper()
	ctx := t.Context()
	must(t, e.Connect(ctx, "u", "github", canary))
	must(t, e.Connect(ctx, "v", "github", canary+" of v"))
	i := e.Client.Integration.Query().FirstX(ctx)
	where := func(column string, value any) error {
		_, err := e.Client.Integration.Query().
			Where(func(s *entsql.Selector) { s.Where(entsql.EQ(s.C(column), value)) }).Count(ctx)
		return err
	}
	set := func(value any) error {
		return i.Update().Modify(func(u *entsql.UpdateBuilder) { u.Set(integration.FieldWebhook, value) }).Exec(ctx)
	}
	hook := encrypted.NewValue(webhook.Config{Secret: strings.Repeat(canary, 300)})
	for name, test := range map[string]struct{ got, want error }{
		"text compared": {where(integration.FieldRefreshToken, encrypted.New(canary)), encrypted.ErrNoLocation},
		"value compared": {
			where(integration.FieldWebhook, encrypted.NewValue(webhook.Config{Secret: canary})),
			encrypted.ErrNoLocation,
		},
		"value set bare": {set(encrypted.NewValue(webhook.Config{Secret: canary})), encrypted.ErrNoLocation},
		"many rows": {
			e.Client.Integration.Update().SetRefreshToken(encrypted.New(canary)).Exec(ctx),
			encrypted.ErrManyRows,
		},
		"too long": {i.Update().SetWebhook(hook).Exec(ctx), encrypted.ErrTooLong},
		"marker":   {i.Update().SetRefreshToken(encrypted.New("[REDACTED]")).Exec(ctx), encrypted.ErrRedacted},
	} {
		if !errors.Is(test.got, test.want) || strings.Contains(test.got.Error(), canary) {
			t.Errorf("%s: got %v, want %v", name, test.got, test.want)
		}
	}
	// The CHECK stops writes that bypass ent.
	if _, err := e.db.ExecContext(ctx, `UPDATE "integrations" SET "webhook" = '{}'`); err == nil {
		t.Error("the database takes plaintext")
	}
	if _, err := e.db.ExecContext(ctx, `UPDATE "integrations" SET "webhook" = NULL`); err != nil {
		t.Errorf("the database does not take NULL: %v", err)
	}
}

func testOutput(t *testing.T, e *env) {
	t.Helper()
	ctx := t.Context()
	var out strings.Builder
	drv, err := encrypted.NewDriver(entsql.OpenDB(e.dialect, e.db), encrypted.Config{Keyring: e.ring})
	must(t, err)
	debug := ent.NewClient(ent.Driver(drv), ent.Debug(),
		ent.Log(func(args ...any) { _, _ = fmt.Fprintln(&out, args...) }))
	hook := encrypted.NewValue(webhook.Config{Secret: canary})
	i := debug.Integration.Create().SetUserID("u").SetProvider("p").SetRefreshToken(encrypted.New(canary)).
		SetWebhook(hook).SaveX(ctx)
	if out.Len() == 0 {
		t.Error("nothing was logged")
	}
	_, _ = fmt.Fprintf(&out, "%v %+v %#v %s %q %x", i, i, i, hook, hook, hook)
	data, err := json.Marshal(map[string]any{"i": i, "h": hook})
	must(t, err)
	out.Write(data)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "i", i, "h", hook)
	if text := out.String(); strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) ||
		!strings.Contains(text, "REDACTED") {
		t.Errorf("it prints %s", text)
	}
}

func testKeys(t *testing.T, e *env) {
	t.Helper()
	ctx := t.Context()
	must(t, e.Connect(ctx, "u", "github", canary))
	other := Keyring(t, keyring.GenerateKey())
	_, err := vault.Open(ctx, e.db, e.dialect, other)
	if !errors.Is(err, encrypted.ErrUnknownKey) || !strings.Contains(err.Error(), "the canary of grants.access_token") {
		t.Errorf("another key: got %v", err)
	}
	drv, err := encrypted.NewDriver(entsql.OpenDB(e.dialect, e.db), encrypted.Config{Keyring: other})
	must(t, err)
	i := ent.NewClient(ent.Driver(drv)).Integration.Query().OnlyX(ctx)
	var detail *encrypted.Error
	if _, err := i.RefreshToken.Reveal(); !errors.As(err, &detail) || detail.Column != "refresh_token" ||
		detail.Row != i.ID.String() {
		t.Errorf("got %v, want column and row in it", err)
	}
}

// testIndex finds accounts by their refresh token, which is unique, also
// between the keys of a rotation.
func testIndex(t *testing.T, e *env) {
	t.Helper()
	ctx := t.Context()
	must(t, e.Connect(ctx, "u", "github", canary))
	must(t, e.Connect(ctx, "v", "github", canary+" of v"))
	must(t, e.Connect(ctx, "u", "github", canary)) // once more
	if err := e.Connect(ctx, "w", "github", canary); !errors.Is(err, vault.ErrTaken) {
		t.Errorf("a second user: got %v, want ErrTaken", err)
	}
	expect := func(v *vault.Vault, token, want string) {
		t.Helper()
		if user, err := v.User(ctx, token); err != nil || user != want {
			t.Errorf("got %q, %v, want %q", user, err, want)
		}
	}
	expect(e.Vault, canary, "u")
	expect(e.Vault, canary+" of w", "")
	must(t, e.Connect(ctx, "v", "github", canary+" of v, the second"))
	expect(e.Vault, canary+" of v", "")
	expect(e.Vault, canary+" of v, the second", "v")
}

// testTwoKeys stores and finds while a key is replaced: what is unique under
// one key is unique under two, in every order of them.
func testTwoKeys(t *testing.T, e *env) {
	t.Helper()
	ctx := t.Context()
	keys := []string{keyring.GenerateKey(), keyring.GenerateKey()}
	client := func(order ...int) *ent.Client {
		ring := Keyring(t, keys[order[0]])
		if len(order) > 1 {
			ring = Keyring(t, keys[order[0]], keys[order[1]])
		}
		drv, err := encrypted.NewDriver(entsql.OpenDB(e.dialect, e.db), encrypted.Config{Keyring: ring})
		must(t, err)
		return ent.NewClient(ent.Driver(drv))
	}
	create := func(c *ent.Client, token string) *ent.IntegrationCreate {
		return c.Integration.Create().SetUserID(token).SetProvider("p").SetRefreshToken(encrypted.New(canary + token))
	}
	orders := []*ent.Client{client(0, 1), client(1, 0)}
	create(client(0), "old").ExecX(ctx)
	create(client(1), "new").ExecX(ctx)
	create(orders[0], "first").ExecX(ctx)
	create(orders[1], "second").ExecX(ctx)
	for i, c := range orders {
		tx, err := c.Tx(ctx)
		must(t, err)
		create(tx.Client(), fmt.Sprint("in a transaction ", i)).ExecX(ctx)
		must(t, tx.Commit())
		c.Integration.CreateBulk(create(c, fmt.Sprint("bulk ", i)), create(c, fmt.Sprint("bulk, too ", i))).ExecX(ctx)
		create(c, fmt.Sprint("upsert ", i)).OnConflictColumns(integration.FieldUserID, integration.FieldProvider).
			UpdateNewValues().ExecX(ctx)
		row := create(c, fmt.Sprint("before ", i)).SaveX(ctx)
		row.Update().SetRefreshToken(encrypted.New(canary + fmt.Sprint("after ", i))).ExecX(ctx)
	}
	all := e.Client.Integration.Query().CountX(ctx)
	for _, token := range []string{
		"old", "new", "first", "second", "in a transaction 0", "in a transaction 1", "bulk 0", "bulk 1",
		"bulk, too 0", "bulk, too 1", "upsert 0", "upsert 1", "after 0", "after 1",
	} {
		for i, c := range orders {
			if n := c.Integration.Query().Where(integration.RefreshTokenIs(encrypted.New(canary + token))).
				CountX(ctx); n != 1 {
				t.Errorf("%s: keyring %d finds %d", token, i, n)
			}
			other := create(c, "another").SetRefreshToken(encrypted.New(canary + token))
			if err := other.Exec(ctx); !ent.IsConstraintError(err) || strings.Contains(err.Error(), canary) {
				t.Errorf("%s: keyring %d stores it again: %v", token, i, err)
			}
			bulk := c.Integration.CreateBulk(create(c, "yet another"), create(c, "another").
				SetRefreshToken(encrypted.New(canary+token)))
			if err := bulk.Exec(ctx); !ent.IsConstraintError(err) {
				t.Errorf("%s: keyring %d stores it again in a bulk: %v", token, i, err)
			}
		}
	}
	if n := e.Client.Integration.Query().CountX(ctx); n != all {
		t.Errorf("%d rows, want %d", n, all)
	}
	// Each under the primary key in the end, and found by it alone.
	for i := range orders {
		if n := client(i).Integration.Query().
			Where(integration.RefreshTokenIs(encrypted.New(canary + fmt.Sprint("after ", i)))).CountX(ctx); n != 1 {
			t.Errorf("the primary key %d finds %d", i, n)
		}
	}
	testRace(t, e, orders, create)
}

// testRace stores the same tokens from both sides at once.
func testRace(t *testing.T, e *env, sides []*ent.Client, create func(*ent.Client, string) *ent.IntegrationCreate) {
	t.Helper()
	const tokens, tries = 20, 4
	var (
		running sync.WaitGroup
		stored  [tokens]atomic.Int32
	)
	for try := range tries {
		running.Go(func() {
			for i := range tokens {
				one := create(sides[try%2], fmt.Sprintf("race %d, %d", i, try)).
					SetRefreshToken(encrypted.New(canary + fmt.Sprint("race ", i)))
				err := one.Exec(t.Context())
				switch {
				case err == nil:
					stored[i].Add(1)
				case !ent.IsConstraintError(err):
					t.Errorf("token %d: %v", i, err)
				}
			}
		})
	}
	running.Wait()
	for i := range stored {
		if n := stored[i].Load(); n != 1 {
			t.Errorf("token %d was stored %d times", i, n)
		}
	}
}
