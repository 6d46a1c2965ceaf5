package client_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	_ "modernc.org/sqlite" // the database driver

	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/clientconfig"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
)

// database returns an SQLite database with the tables, and its keyring.
func database(t *testing.T) (*sql.DB, *keyring.Keyring) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+t.TempDir()+"/client.db?_pragma=foreign_keys(1)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	if err := migrate.Apply(t.Context(), db, migrate.Config{}); err != nil {
		t.Fatal(err)
	}
	return db, ring
}

// create creates a credential without a user_id, which the hooks fill in.
func create(t *testing.T, c *ent.Client, account *ent.UserAccount, apiKey string) (*ent.UserCredential, error) {
	t.Helper()
	return c.UserCredential.Create().SetAccount(account).SetCredentialType("alpaca").
		SetAPIKey(encrypted.New(apiKey)).SetSecretKey(encrypted.New("s")).Save(t.Context())
}

// TestHooksCannotBeForgotten builds clients around a driver in every way: each
// has the hooks, and a client without the audit log that its driver requires is
// refused.
func TestHooksCannotBeForgotten(t *testing.T) {
	t.Parallel()
	db, ring := database(t)
	drv := entsql.OpenDB(dialect.SQLite, db)
	var log bytes.Buffer
	audited := client.Config{Keyring: ring, Audit: slog.New(slog.NewTextHandler(&log, nil))}
	must := func(c *ent.Client, err error) *ent.Client {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	wrap := func(cfg client.Config) dialect.Driver {
		t.Helper()
		wrapped, err := client.WrapDriver(drv, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return wrapped
	}
	own, err := encrypted.NewDriver(drv, encrypted.Config{Keyring: ring, Columns: ent.EncryptedColumns()})
	if err != nil {
		t.Fatal(err)
	}
	var inside dialect.Driver
	kept := audited
	kept.Wrap = func(d dialect.Driver) dialect.Driver {
		inside = d
		return dialect.Debug(d, func(...any) {})
	}
	first := must(client.New(db, dialect.SQLite, client.Config{Keyring: ring}))
	account := first.UserAccount.Create().SetUserID("u-1").SetAccountName("Ada").SaveX(t.Context())
	for name, test := range map[string]struct {
		client *ent.Client
		audits bool
		want   error
	}{
		"New":          {first, false, nil},
		"New, audited": {must(client.New(db, dialect.SQLite, audited)), true, nil},
		"FromDriver": {
			must(client.FromDriver(drv, audited, ent.Log(func(...any) {}), ent.Debug())),
			true, nil,
		},
		"Wrap":          {must(client.FromDriver(drv, kept)), true, nil},
		"ent.NewClient": {ent.NewClient(ent.Driver(wrap(client.Config{Keyring: ring}))), false, nil},
		"ent.NewClient, Debug": {ent.NewClient(ent.Driver(wrap(client.Config{Keyring: ring})), ent.Debug(),
			ent.Log(func(...any) {})), false, nil},
		"ent.NewClient, encrypted": {ent.NewClient(ent.Driver(own)), false, nil},
		"ent.NewClient, audited":   {ent.NewClient(ent.Driver(wrap(audited))), false, client.ErrNoHooks},
		"ent.NewClient, taken":     {ent.NewClient(ent.Driver(inside)), false, client.ErrNoHooks},
		"ent.NewClient, taken, cached": {
			ent.NewClient(ent.Driver(dialect.Debug(inside, func(...any) {}))), false,
			client.ErrNoHooks,
		},
		"ent.NewClient, formats": {
			ent.NewClient(ent.Driver(wrap(client.Config{Keyring: ring, Formats: []client.Format{{Type: "polygon"}}}))),
			false, client.ErrNoHooks,
		},
	} {
		log.Reset()
		created, err := create(t, test.client, account, name)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
			continue
		}
		if audited := strings.Contains(log.String(), "credential"); test.want == nil && (created.UserID != "u-1" ||
			audited != test.audits) {
			t.Errorf("%s: user_id %q, audited %v", name, created.UserID, audited)
		}
		bulk := test.client.UserCredential.CreateBulk(
			test.client.UserCredential.Create().SetAccount(account).SetCredentialType("a").
				SetAPIKey(encrypted.New("1")).SetSecretKey(encrypted.New("s")),
			test.client.UserCredential.Create().SetAccount(account).SetCredentialType("a").
				SetAPIKey(encrypted.New("2")).SetSecretKey(encrypted.New("s")),
		)
		if err := bulk.Exec(t.Context()); !errors.Is(err, test.want) {
			t.Errorf("%s: bulk: got %v, want %v", name, err, test.want)
		}
		// If no secret is written, only the context shows whether the hooks
		// ran.
		if err := test.client.UserAccount.UpdateOne(account).SetAccountName(name).
			Exec(t.Context()); !errors.Is(err, test.want) {
			t.Errorf("%s: update: got %v, want %v", name, err, test.want)
		}
		if _, err := test.client.UserCredential.Delete().Where(usercredential.CredentialType("none")).
			Exec(t.Context()); !errors.Is(err, test.want) {
			t.Errorf("%s: delete: got %v, want %v", name, err, test.want)
		}
		tx, err := test.client.Tx(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := create(t, tx.Client(), account, name); !errors.Is(err, test.want) {
			t.Errorf("%s: in a transaction: got %v, want %v", name, err, test.want)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		// Reads need no hooks.
		if _, err := test.client.UserCredential.Query().All(t.Context()); err != nil {
			t.Errorf("%s: query: %v", name, err)
		}
	}
}

// TestConfig checks that each constructor refuses every contradictory
// configuration, and accepts the zero one.
func TestConfig(t *testing.T) {
	t.Parallel()
	db, ring := database(t)
	for name, test := range map[string]struct {
		cfg  client.Config
		want error
	}{
		"zero": {client.Config{}, nil},
		"empty": {client.Config{
			States: []encrypted.ColumnStates{}, RowSecurityTables: []string{},
			Formats: []client.Format{},
		}, nil},
		"keyring":        {client.Config{Keyring: ring}, nil},
		"Migrate":        {client.Config{Migrate: true}, client.ErrConfig},
		"tables alone":   {client.Config{RowSecurityTables: []string{"t"}}, client.ErrConfig},
		"warnings alone": {client.Config{FormatWarnings: slog.New(slog.DiscardHandler)}, client.ErrConfig},
		"Reader":         {client.Config{Reader: entsql.OpenDB(dialect.SQLite, db)}, nil},
		"OnReaderError": {client.Config{
			Reader:        entsql.OpenDB(dialect.SQLite, db),
			OnReaderError: func(context.Context, error) {},
		}, nil},
		"OnReaderError alone":    {client.Config{OnReaderError: func(context.Context, error) {}}, client.ErrConfig},
		"Reader elsewhere":       {client.Config{Reader: entsql.OpenDB(dialect.Postgres, db)}, client.ErrConfig},
		"row security on SQLite": {client.Config{RequireRowSecurity: true}, client.ErrUnsupported},
		"negative state":         {client.Config{Encryption: -1}, encrypted.ErrInvalidStates},
		"unknown state":          {client.Config{TenantKeys: 7}, encrypted.ErrInvalidStates},
		"bound plaintext": {
			client.Config{Encryption: encrypted.Accept, Binding: encrypted.Accept},
			encrypted.ErrInvalidStates,
		},
		"a state twice": {
			client.Config{
				Binding: encrypted.Write,
				States:  []encrypted.ColumnStates{{Column: usercredential.APIKeyColumn, Binding: encrypted.Off}},
			},
			encrypted.ErrInvalidStates,
		},
		"the same state twice": {
			client.Config{
				Binding: encrypted.Write,
				States:  []encrypted.ColumnStates{{Column: usercredential.APIKeyColumn, Binding: encrypted.Write}},
			}, nil,
		},
		"no such column": {
			client.Config{States: []encrypted.ColumnStates{{
				Column:  encrypted.Column{Table: "t", Name: "none"},
				Binding: encrypted.Write,
			}}},
			encrypted.ErrNoColumn,
		},
	} {
		_, errNew := client.New(db, dialect.SQLite, test.cfg)
		_, errFrom := client.FromDriver(entsql.OpenDB(dialect.SQLite, db), test.cfg)
		_, errWrap := client.WrapDriver(entsql.OpenDB(dialect.SQLite, db), test.cfg)
		for of, err := range map[string]error{"New": errNew, "FromDriver": errFrom, "WrapDriver": errWrap} {
			if !errors.Is(err, test.want) {
				t.Errorf("%s, %s: got %v, want %v", name, of, err, test.want)
			}
		}
	}
	if _, err := client.New(db, dialect.MySQL, client.Config{}); !errors.Is(err, encrypted.ErrDialect) {
		t.Errorf("MySQL: got %v", err)
	}
}

// TestConfigConverts checks that the internal configuration has the same
// fields.
func TestConfigConverts(t *testing.T) {
	t.Parallel()
	if !reflect.TypeFor[client.Config]().ConvertibleTo(reflect.TypeFor[clientconfig.Config]()) {
		t.Error("client.Config doesn't convert to the internal one")
	}
}

// TestLinksNoDriver checks package client's imports.
func TestLinksNoDriver(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 50 {
		t.Fatalf("only %d packages", len(deps))
	}
	for _, path := range deps {
		for _, unwanted := range []string{
			"pgx/v5/stdlib", "lib/pq", "modernc.org", "mattn", "spf13",
			"credent/migrate",
		} {
			if strings.Contains(path, unwanted) {
				t.Errorf("it links %s", path)
			}
		}
	}
}
