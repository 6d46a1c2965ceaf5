package paths

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

// TestOneDamagedRow has 1,000 rows with one token that doesn't open. The query
// lists them all, the other 999 reveal, and the damaged one's error names it; a
// strict client refuses the query.
func TestOneDamagedRow(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		account := env.Account(t, "u1")
		const n = 1000
		builders := make([]*ent.UserCredentialCreate, n)
		for i := range builders {
			builders[i] = env.Client.UserCredential.Create().SetAccount(account).SetUserID("u1").
				SetCredentialType("alpaca").
				SetAPIKey(credent.NewSecret(fmt.Sprint("api", i))).
				SetSecretKey(credent.NewSecret(fmt.Sprint("secret", i)))
		}
		var nodes []*ent.UserCredential
		for chunk := range slices.Chunk(builders, 100) {
			nodes = append(nodes, env.Client.UserCredential.CreateBulk(chunk...).SaveX(ctx)...)
		}
		plain := make(map[uuid.UUID]string)
		for i, node := range nodes {
			plain[node.ID] = fmt.Sprint("secret", i)
		}
		damaged := nodes[617].ID
		token := []byte(env.Tokens(t)[damaged].SecretKey)
		token[40] ^= 'A' ^ 'B'
		env.Exec(t, env.Placeholders("UPDATE user_credentials SET secret_key = $1 WHERE id = $2"),
			string(token), damaged)

		all, err := env.Client.UserCredential.Query().All(ctx)
		if err != nil || len(all) != n {
			t.Fatalf("%d rows, %v", len(all), err)
		}
		opened := 0
		for _, node := range all {
			if _, err := node.APIKey.Reveal(); err != nil {
				t.Errorf("the api_key of row %v: %v", node.ID, err)
			}
			got, err := node.SecretKey.Reveal()
			if node.ID != damaged {
				if err != nil || got != plain[node.ID] {
					t.Errorf("row %v: revealed %q, %v", node.ID, got, err)
				}
				opened++
				continue
			}
			var detail *credent.Error
			if got != "" || !errors.Is(err, credent.ErrCorrupt) || !errors.As(err, &detail) {
				t.Fatalf("the damaged row: revealed %q, %v", got, err)
			}
			if detail.Table != "user_credentials" || detail.Column != "secret_key" || detail.Row != damaged.String() {
				t.Errorf("the error names %s.%s of row %s", detail.Table, detail.Column, detail.Row)
			}
			if strings.Contains(err.Error(), string(token[:20])) {
				t.Error("the error contains the token")
			}
		}
		if opened != n-1 {
			t.Errorf("%d other rows", opened)
		}

		strict := env.OnPool(testopt.WithKeyring(env.Ring), testopt.VerifyOnRead())
		_, err = strict.UserCredential.Query().All(ctx)
		var detail *credent.Error
		if !errors.Is(err, credent.ErrCorrupt) || !errors.As(err, &detail) || detail.Row != damaged.String() ||
			detail.Column != "secret_key" {
			t.Errorf("a strict query: %v", err)
		}
		if got := strict.UserCredential.Query().Where(usercredential.IDNEQ(damaged)).CountX(ctx); got != n-1 {
			t.Errorf("a strict client counts %d others", got)
		}
		if others, err := strict.UserCredential.Query().Where(usercredential.IDNEQ(damaged)).All(ctx); err != nil ||
			len(others) != n-1 {
			t.Errorf("a strict query of the others: %d, %v", len(others), err)
		}
	})
}
