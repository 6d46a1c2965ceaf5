package credent_test

import (
	"database/sql"
	"errors"
	"io"
	"iter"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

// TestNil gives nil for what must be there. Each is an error that says what is
// nil, at once, and none panics.
func TestNil(t *testing.T) {
	t.Parallel()
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	pool, _, err := credent.OpenDB("sqlite::memory:", lite)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pool.Close() }()
	const on = dialect.SQLite
	var none *entsql.Driver
	second := func(_ any, err error) error { return err }
	ctx := t.Context()
	noRows := iter.Seq2[credent.CopyRow, error](nil)
	for name, test := range map[string]struct {
		call func(db *sql.DB) error
		want string
	}{
		"NewClient": {func(db *sql.DB) error {
			return second(credent.NewClient(db, on, credent.Config{}))
		}, "the pool"},
		"FromDriver": {func(*sql.DB) error {
			return second(client.FromDriver(nil, client.Config{}))
		}, "the driver"},
		"typed nil": {func(*sql.DB) error {
			return second(client.FromDriver(none, client.Config{}))
		}, "the driver"},
		"WrapDriver": {func(*sql.DB) error {
			return second(client.WrapDriver(none, client.Config{}))
		}, "the driver"},
		"NewDriver": {func(*sql.DB) error {
			return second(encrypted.NewDriver(nil, encrypted.Config{}))
		}, "the driver"},
		"Check": {func(*sql.DB) error {
			return client.Check(ctx, nil)
		}, "the client"},
		"ReadStates": {func(*sql.DB) error {
			return client.ReadStates(ctx, nil)
		}, "the client"},
		"encrypted": {func(db *sql.DB) error {
			return encrypted.Check(ctx, db, ring, ent.EncryptedColumns()...)
		}, "the pool"},
		"Apply": {func(db *sql.DB) error {
			return migrate.Apply(ctx, db, migrate.Config{})
		}, "the pool"},
		"Adopt": {func(db *sql.DB) error {
			return second(migrate.Adopt(ctx, db, migrate.Config{}))
		}, "the pool"},
		"migrate.Check": {func(db *sql.DB) error {
			return second(migrate.Check(ctx, db, migrate.Config{}))
		}, "the pool"},
		"ReadStatus": {func(db *sql.DB) error {
			return second(migrate.ReadStatus(ctx, db, migrate.Config{}))
		}, "the pool"},
		"Diff": {func(db *sql.DB) error {
			return second(migrate.Diff(ctx, db, "", "x"))
		}, "the pool"},
		"Lint": {func(db *sql.DB) error {
			return second(migrate.Lint(ctx, db, nil, migrate.LintOptions{}))
		}, "the directory"},
		"Run": {func(db *sql.DB) error {
			return second(rotate.Run(ctx, db, ring, rotate.Config{}))
		}, "the pool"},
		"Encrypt": {func(db *sql.DB) error {
			return second(rotate.Encrypt(ctx, db, ring, rotate.Config{}))
		}, "the pool"},
		"DestroyTenant": {func(db *sql.DB) error {
			return second(rotate.DestroyTenant(ctx, db, ring, ""))
		}, "the pool"},
		"States": {func(db *sql.DB) error {
			return second(rotate.States(ctx, db))
		}, "the pool"},
		"RequiresTrail": {func(db *sql.DB) error {
			return second(rotate.RequiresTrail(ctx, db, on))
		}, "the pool"},
		"SetTrail": {func(db *sql.DB) error {
			return second(rotate.SetTrail(ctx, db, true))
		}, "the pool"},
		"Verifications": {func(db *sql.DB) error {
			return second(rotate.Verifications(ctx, db, 1))
		}, "the pool"},
		"audit.Open": {func(db *sql.DB) error {
			return second(audit.Open(ctx, db, on, audit.Config{Keyring: ring}))
		}, "the pool"},
		"audit.Verify": {func(db *sql.DB) error {
			return second(audit.Verify(ctx, db, on, ring, audit.VerifyOptions{}))
		}, "the pool"},
		"audit.List": {func(db *sql.DB) error {
			return audit.List(ctx, db, on, audit.Filter{}, nil)
		}, "the pool"},
		"Copy": {func(db *sql.DB) error {
			return second(credent.Copy(ctx, db, noRows, credent.CopyConfig{}, credent.Config{}))
		}, "the sequence"},
		"ReadCheckpoint": {func(*sql.DB) error {
			return second(audit.ReadCheckpoints(nil))
		}, "the reader"},
		"Archive": {func(*sql.DB) error {
			return second(audit.Archive(ctx, pool, on, ring, audit.ArchiveOptions{}))
		}, "To"},
		"Archives": {func(*sql.DB) error {
			return second(audit.Verify(ctx, pool, on, ring, audit.VerifyOptions{Archives: []io.Reader{nil}}))
		}, "Archives[0]"},
		"Watch": {func(*sql.DB) error {
			return second(keyring.Watch(ctx, nil, keyring.WatchConfig{}))
		}, "the source"},
		"WithDriver": {func(*sql.DB) error {
			_, _, err := credent.OpenDB("postgres://", credent.WithDriver(nil))
			return err
		}, "Drivers[0]"},
		"CheckRowSecurity": {func(db *sql.DB) error {
			return client.CheckRowSecurity(ctx, db, dialect.Postgres, client.Config{RequireRowSecurity: true})
		}, "the pool"},
	} {
		if err := test.call(nil); err == nil || !strings.Contains(err.Error(), test.want) ||
			!strings.Contains(err.Error(), "nil") {
			t.Errorf("%s: got %v, want that %s is nil", name, err, test.want)
		}
	}
	if _, _, err := credent.OpenDB("postgres://", credent.WithDriver(nil)); !errors.Is(err, credent.ErrURL) {
		t.Error(err)
	}
	for field, cfg := range map[string]credent.Config{
		"Reader": {Keyring: ring, Reader: none},
		"Wrap":   {Keyring: ring, Wrap: func(dialect.Driver) dialect.Driver { return nil }},
	} {
		if _, err := credent.NewClient(pool, on, cfg); !errors.Is(err, credent.ErrConfig) ||
			!strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	for field, cfg := range map[string]audit.Config{
		"Mode": {Keyring: ring, Mode: 9}, "WhenFull": {Keyring: ring, WhenFull: -1},
	} {
		_, err := audit.Open(ctx, pool, on, cfg)
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
