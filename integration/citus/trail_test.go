package citus

import (
	"context"
	"errors"
	"maps"
	"testing"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

// TestTrail has an audit trail on the coordinator and shards on the workers: an
// entry is committed with its shards' changes or not at all, and the trail
// verifies.
func TestTrail(t *testing.T) {
	testdb.NeedCitus(t)
	t.Parallel()
	ctx, c := t.Context(), newCluster(t, migrate.Citus)
	trail, err := audit.Open(ctx, c.Pool(t), dialect.Postgres, audit.Config{Keyring: c.Ring})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			_ = trail.Close(context.WithoutCancel(ctx))
		}
	}()
	client, err := credent.NewClient(c.Pool(t), dialect.Postgres, credent.Config{Keyring: c.Ring, Trail: trail})
	if err != nil {
		t.Fatal(err)
	}
	a := client.UserAccount.Create().SetUserID("a").SetAccountName("A").SaveX(ctx)
	b := client.UserAccount.Create().SetUserID("b").SetAccountName("B").SaveX(ctx)
	create := func(client *ent.Client, account *ent.UserAccount) *ent.UserCredentialCreate {
		return client.UserCredential.Create().SetAccount(account).SetUserID(account.UserID).
			SetCredentialType("alpaca").SetAPIKey(credent.NewSecret("k")).SetSecretKey(credent.NewSecret("s"))
	}
	rows := client.UserCredential.CreateBulk(create(client, a), create(client, b)).SaveX(ctx) // on two shards
	update := func() *ent.UserCredentialUpdateOne {
		return client.UserCredential.UpdateOne(rows[0]).SetAPIKey(credent.NewSecret("new"))
	}
	if err := update().Exec(ctx); !errors.Is(err, credent.ErrLayout) {
		t.Errorf("an update of unknown shards: %v", err)
	}
	update().Where(usercredential.UserID("a")).ExecX(ctx)
	tx, err := client.Tx(ctx)
	if err != nil {
		t.Fatal(err)
	}
	create(tx.Client(), a).ExecX(ctx)
	create(tx.Client(), b).ExecX(ctx)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	for _, row := range client.UserCredential.Query().AllX(ctx) {
		if _, err := row.APIKey.Reveal(); err != nil {
			t.Error(err)
		}
	}
	client.UserCredential.DeleteOne(rows[1]).Where(usercredential.UserID("b")).ExecX(ctx)

	newKey := keyring.GenerateKey()
	ring, err := keyring.New(newKey, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	report, err := rotate.Run(rotate.WithTrail(ctx, trail), c.DB, ring, rotate.Config{})
	if err != nil || report.Rewritten() != 1 {
		t.Errorf("rotate: %+v, %v", report, err)
	}
	if err := trail.Close(ctx); err != nil {
		t.Fatal(err)
	}
	closed = true

	got := make(map[audit.Action]int64)
	if err := audit.List(ctx, c.DB, dialect.Postgres, audit.Filter{}, func(e audit.Stored) error {
		got[e.Action] += e.Rows
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := map[audit.Action]int64{
		audit.ActionCreate: 4, audit.ActionUpdate: 1, audit.ActionReveal: 2, audit.ActionDelete: 1,
		audit.ActionRotate: 2,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	verified, err := audit.Verify(ctx, c.DB, dialect.Postgres, ring, audit.VerifyOptions{})
	if err != nil || verified.Err() != nil || verified.Verified != verified.Entries {
		t.Errorf("verify: %+v, %v", verified, err)
	}
	c.Exec(t, "ALTER TABLE credent_audit DISABLE TRIGGER USER")
	c.Exec(t, "UPDATE credent_audit SET actor = 'someone' WHERE action = 'delete'")
	if verified, err = audit.Verify(ctx, c.DB, dialect.Postgres, ring, audit.VerifyOptions{}); err != nil ||
		verified.Err() == nil {
		t.Errorf("verify a changed entry: %+v, %v", verified, err)
	}
}
