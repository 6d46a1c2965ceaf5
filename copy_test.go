package credent_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/migrate"
)

// TestCopyOnSQLite has Copy where there is no COPY and no row-level security. Integration tests have it on Postgres.
func TestCopyOnSQLite(t *testing.T) {
	t.Parallel()
	db, dialect, err := credent.OpenDB("sqlite:" + t.TempDir() + "/c.db")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := migrate.Apply(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	ring := credent.WithKeyring(newKeyring())
	client := credent.NewClient(db, dialect, ring)
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
