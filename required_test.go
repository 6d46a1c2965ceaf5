package credent_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/open/sqlite"
)

// TestMissingSecret omits a required secret on every path of the client. Each
// fails with a validation error before any SQL.
func TestMissingSecret(t *testing.T) {
	t.Parallel()
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	client, err := credent.Open(t.Context(), "sqlite::memory:", credent.Config{Migrate: true, Keyring: ring},
		credent.WithDriver(sqlite.Driver()))
	if err != nil {
		t.Fatal(err)
	}
	defer closeClient(client)
	account := client.UserAccount.Create().SetUserID("user-1").SetAccountName("Main").SaveX(t.Context())
	var body struct {
		APIKey    credent.Secret `json:"api_key"`
		SecretKey credent.Secret `json:"secret_key"`
	}
	if err := json.Unmarshal([]byte(`{"secret_key": null}`), &body); err != nil {
		t.Fatal(err)
	}
	create := func() *ent.UserCredentialCreate {
		return client.UserCredential.Create().SetAccount(account).SetUserID("user-1").SetCredentialType("alpaca").
			SetSecretKey(credent.NewSecret("made-up-secret"))
	}
	full := func() *ent.UserCredentialCreate { return create().SetAPIKey(credent.NewSecret("PK-MADE-UP")) }
	stored := full().SaveX(t.Context())
	conflict := entsql.ConflictColumns(usercredential.FieldID)
	for name, test := range map[string]struct {
		field string
		save  func(ctx context.Context) error
	}{
		"never set":        {"api_key", create().Exec},
		"absent in a body": {"api_key", create().SetAPIKey(body.APIKey).Exec},
		"null in a body":   {"secret_key", full().SetSecretKey(body.SecretKey).Exec},
		"bulk": {"api_key", client.UserCredential.CreateBulk(full(), create().SetAPIKey(body.APIKey)).
			Exec},
		"bulk, never set": {"api_key", client.UserCredential.CreateBulk(full(), create()).Exec},
		"mapped bulk": {"secret_key", client.UserCredential.MapCreateBulk([]int{1},
			func(b *ent.UserCredentialCreate, _ int) { *b = *full().SetSecretKey(body.SecretKey) }).Exec},
		"upsert": {"api_key", create().SetAPIKey(body.APIKey).OnConflict(conflict).UpdateNewValues().Exec},
		"bulk upsert": {"api_key", client.UserCredential.CreateBulk(create().SetAPIKey(body.APIKey)).
			OnConflict(conflict).UpdateNewValues().Exec},
		"setter of upsert": {"api_key", full().SetID(stored.ID).OnConflict(conflict).SetAPIKey(body.APIKey).Exec},
		"setter in a block": {"secret_key", full().SetID(stored.ID).OnConflict(conflict).
			Update(func(u *ent.UserCredentialUpsert) { u.SetSecretKey(body.SecretKey) }).Exec},
		"update one": {"api_key", stored.Update().SetAPIKey(body.APIKey).Exec},
		"update one by id": {"secret_key", client.UserCredential.UpdateOneID(stored.ID).
			SetSecretKey(body.SecretKey).Exec},
		"update": {"api_key", client.UserCredential.Update().Where(usercredential.ID(stored.ID)).
			SetAPIKey(body.APIKey).Exec},
		"update of no row": {"api_key", client.UserCredential.Update().Where(usercredential.UserID("none")).
			SetAPIKey(body.APIKey).Exec},
	} {
		err := test.save(t.Context())
		var invalid *ent.ValidationError
		if !errors.As(err, &invalid) || !ent.IsValidationError(err) || invalid.Name != test.field {
			t.Errorf("%s: got %v, want a validation error of %s", name, err, test.field)
			continue
		}
		if want := `missing required field "UserCredential.` + test.field + `"`; !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
	if n := client.UserCredential.Query().CountX(t.Context()); n != 1 {
		t.Errorf("%d credentials are stored", n)
	}
	stored = client.UserCredential.GetX(t.Context(), stored.ID)
	if apiKey, err := stored.APIKey.Reveal(); err != nil || apiKey != "PK-MADE-UP" {
		t.Errorf("revealed %q, %v", apiKey, err)
	}
	// An empty text is valid.
	if err := full().SetAPIKey(credent.NewSecret("")).Exec(t.Context()); err != nil {
		t.Error(err)
	}
	if err := stored.Update().SetNillableAPIKey(nil).Exec(t.Context()); err != nil {
		t.Error(err)
	}
}
