// Package clients tests two clients in one process, each with its own database
// and keyring.
package clients

import (
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	notes "github.com/credent-go/credent/integration/sequence/ent"
	"github.com/credent-go/credent/integration/sequence/ent/note"
	_ "github.com/credent-go/credent/integration/sequence/ent/runtime"
	"github.com/credent-go/credent/internal/testdb/bare"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

func newRing(t *testing.T) *keyring.Keyring {
	t.Helper()
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// openNotes returns a client of a generated package other than credent's.
func openNotes(t *testing.T, ring *keyring.Keyring) (*sql.DB, *notes.Client) {
	t.Helper()
	db, d, err := testopt.OpenDB("sqlite:" + filepath.Join(t.TempDir(), "notes.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	drv, err := encrypted.NewDriver(entsql.OpenDB(d, db), encrypted.Config{
		Keyring: ring,
		Columns: notes.EncryptedColumns(),
	})
	if err != nil {
		t.Fatal(err)
	}
	client := notes.NewClient(notes.Driver(drv))
	bare.CreateTables(t, client.Schema.Create)
	return db, client
}

// Each check looks at its client's columns with its client's keyring, and never
// with the environment's.
func TestCheckOfTwoClients(t *testing.T) {
	t.Setenv("ENCRYPTION_KEY", keyring.GenerateKey())
	ring, noteRing := newRing(t), newRing(t)
	client, err := testopt.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "credent.db"),
		testopt.WithKeyring(ring), testopt.WithMigrations())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if err := credent.Check(t.Context(), client); err != nil {
		t.Errorf("credent: %v", err)
	}
	db, noteClient := openNotes(t, noteRing)
	check := func(ring *keyring.Keyring) error {
		return encrypted.Check(t.Context(), db, ring, notes.EncryptedColumns()...)
	}
	if err := check(noteRing); !errors.Is(err, encrypted.ErrNotChecked) {
		t.Errorf("notes, without rows and canaries: %v", err)
	}
	for _, stmt := range encrypted.CanaryTable(dialect.SQLite) {
		if _, err := db.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	if err := encrypted.KeepCanary(t.Context(), db, noteRing, notes.EncryptedColumns()...); err != nil {
		t.Fatal(err)
	}
	if err := check(noteRing); err != nil {
		t.Errorf("notes: %v", err)
	}
	if err := check(ring); !errors.Is(err, encrypted.ErrUnknownKey) {
		t.Errorf("notes, with credent's keyring: %v", err)
	}
	if err := encrypted.Check(t.Context(), db, noteRing); !errors.Is(err, encrypted.ErrNoColumn) {
		t.Errorf("columns of notes: %v", err)
	}
	if err := encrypted.Check(t.Context(), db, noteRing, ent.EncryptedColumns()...); !errors.Is(err,
		encrypted.ErrNotChecked) {
		t.Errorf("credent's columns in the database of notes: %v", err)
	}

	// Rows of QueryContext open only with the named keyring. The environment
	// has none.
	owner := noteClient.Owner.Create().SetID("o1").SaveX(t.Context())
	noteClient.Note.Create().SetTitle("t").SetOwner(owner).SetBody(encrypted.New("text")).SaveX(t.Context())
	rows, err := noteClient.QueryContext(t.Context(), "SELECT body FROM notes")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var body encrypted.Secret
	if !rows.Next() {
		t.Fatal(rows.Err())
	}
	if err := errors.Join(rows.Scan(&body), rows.Err()); err != nil {
		t.Fatal(err)
	}
	if _, err := body.Reveal(); !errors.Is(err, encrypted.ErrNoOpener) {
		t.Errorf("without an opener: %v", err)
	}
	if text, err := body.OpenedBy(encrypted.OpenerOf(noteRing, note.BodyColumn, "o1")).
		Reveal(); text != "text" || err != nil {
		t.Errorf("with the client's keyring: %q, %v", text, err)
	}
	if _, err := body.OpenedBy(encrypted.OpenerOf(nil, note.BodyColumn, "o1")).
		Reveal(); !errors.Is(err, encrypted.ErrNoKey) {
		t.Errorf("without a keyring: %v", err)
	}
}
