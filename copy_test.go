package credent_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/sqlite"
)

// TestCopyOnSQLite tests Copy without COPY and row-level security. The
// integration tests cover Postgres.
func TestCopyOnSQLite(t *testing.T) {
	t.Parallel()
	db, dialect, err := credent.OpenDB("sqlite:"+t.TempDir()+"/c.db", credent.WithDriver(sqlite.Driver()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := migrate.Apply(t.Context(), db, migrate.Config{}); err != nil {
		t.Fatal(err)
	}
	ring := credent.Config{Keyring: newKeyring()}
	client, err := credent.NewClient(db, dialect, ring)
	if err != nil {
		t.Fatal(err)
	}
	account := client.UserAccount.Create().SetUserID("u1").SetAccountName("Ada").SaveX(t.Context())
	rows := make([]credent.CopyRow, 1234)
	for i := range rows {
		rows[i] = credent.CopyRow{
			ID: uuid.New(), UserAccountID: account.ID, CredentialType: "alpaca",
			APIKey: credent.NewSecret(strings.Repeat("k", i%303)), SecretKey: credent.NewSecret("s"),
		}
	}
	run := func(rows []credent.CopyRow) (int64, error) {
		seq := func(yield func(credent.CopyRow, error) bool) {
			for _, row := range rows {
				if !yield(row, nil) {
					return
				}
			}
		}
		return credent.Copy(t.Context(), db, seq, credent.CopyConfig{}, ring)
	}
	if n, err := run(rows); n != 1234 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
	stored := client.UserCredential.Query().AllX(t.Context())
	if len(stored) != 1234 {
		t.Fatalf("got %d rows", len(stored))
	}
	for _, c := range stored {
		i := slices.IndexFunc(rows, func(r credent.CopyRow) bool { return r.ID == c.ID })
		if i < 0 || !c.APIKey.Equal(rows[i].APIKey) || c.UserID != "u1" || c.CreatedAt.IsZero() {
			t.Fatalf("row %d: got %v", i, c)
		}
	}

	again := slices.Clone(rows[:700])
	for i := range again {
		again[i].ID = uuid.New()
	}
	again[600].ID = rows[0].ID
	var of *credent.CopyError
	if n, err := run(again); n != 0 || !ent.IsConstraintError(err) || !errors.As(err, &of) || of.Row != 601 {
		t.Errorf("the same key: got %d, %v", n, err)
	}
	seq := func(yield func(credent.CopyRow, error) bool) { yield(again[0], nil) }
	ctx := credent.WithUser(t.Context(), "u1")
	if _, err := credent.Copy(ctx, db, seq, credent.CopyConfig{}, ring); !errors.Is(err, credent.ErrUnsupported) {
		t.Errorf("for a user: got %v", err)
	}
	if n := client.UserCredential.Query().CountX(t.Context()); n != 1234 {
		t.Errorf("got %d rows after refusals", n)
	}
}

// TestCopyUncertain loses the answer to a successful COMMIT.
func TestCopyUncertain(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/c.db"
	db, dialect, err := credent.OpenDB("sqlite:"+path, credent.WithDriver(sqlite.Driver()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := migrate.Apply(t.Context(), db, migrate.Config{}); err != nil {
		t.Fatal(err)
	}
	ring := credent.Config{Keyring: newKeyring()}
	client, err := credent.NewClient(db, dialect, ring)
	if err != nil {
		t.Fatal(err)
	}
	client.UserAccount.Create().SetUserID("u1").SetAccountName("Ada").SaveX(t.Context())
	rows := func(yield func(credent.CopyRow, error) bool) {
		for range 12 {
			row := credent.CopyRow{
				UserID: "u1", CredentialType: "alpaca", APIKey: credent.NewSecret("k"),
				SecretKey: credent.NewSecret("s"),
			}
			if !yield(row, nil) {
				return
			}
		}
	}
	for name, test := range map[string]struct {
		cfg          credent.CopyConfig
		lose         int // number of the COMMIT with a lost answer
		says, stored int
		want         error
	}{
		"batches":      {credent.CopyConfig{Batch: 5, RetryFor: -1}, 2, 5, 10, credent.ErrUncertain},
		"with a look":  {credent.CopyConfig{Batch: 5}, 2, 12, 12, nil},
		"the last one": {credent.CopyConfig{Batch: 5}, 3, 12, 12, nil},
		"atomic":       {credent.CopyConfig{Batch: 5, Atomic: true}, 1, 0, 12, credent.ErrUncertain},
	} {
		lossy := sql.OpenDB(&lossyConnector{driver: db.Driver(), name: path, lose: test.lose})
		before := client.UserCredential.Query().CountX(t.Context())
		n, err := credent.Copy(t.Context(), lossy, rows, test.cfg, ring)
		got := client.UserCredential.Query().CountX(t.Context()) - before
		if n != int64(test.says) || got != test.stored || !errors.Is(err, test.want) ||
			err != nil && !errors.Is(err, errLost) {
			t.Errorf("%s: stored %d, says %d, %v", name, got, n, err)
		}
		if err := lossy.Close(); err != nil {
			t.Error(err)
		}
	}
}

var errLost = errors.New("the connection broke")

// lossyConnector connects to SQLite and loses the answer to one COMMIT, given
// by its number from 1.
type lossyConnector struct {
	driver driver.Driver
	name   string
	lose   int
}

func (c *lossyConnector) Driver() driver.Driver { return c.driver }

func (c *lossyConnector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.name)
	return lossyConn{conn, c}, err
}

type lossyConn struct {
	driver.Conn
	of *lossyConnector
}

func (c lossyConn) Begin() (driver.Tx, error) {
	tx, err := c.Conn.Begin() //nolint:staticcheck // SA1019: database/sql calls it if there is no BeginTx
	return lossyTx{tx, c.of}, err
}

type lossyTx struct {
	driver.Tx
	of *lossyConnector
}

func (t lossyTx) Commit() error {
	err := t.Tx.Commit()
	if t.of.lose--; err == nil && t.of.lose == 0 {
		return errLost
	}
	return err
}
