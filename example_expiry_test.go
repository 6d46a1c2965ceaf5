package credent_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
)

// newest returns the credential to use: of the usable ones the newest.
func newest(ctx context.Context, client *ent.Client, userID, kind string) (*ent.UserCredential, error) {
	return client.UserCredential.Query().
		Where(usercredential.UserID(userID), usercredential.CredentialType(kind), credent.Usable()).
		Order(usercredential.ByCreatedAt(entsql.OrderDesc()), usercredential.ByID()).
		First(ctx)
}

// replace stores the successor of a credential. Both are valid then.
func replace(
	ctx context.Context, client *ent.Client, id uuid.UUID, apiKey, secretKey credent.Secret, expires time.Time,
) (*ent.UserCredential, error) {
	old, err := client.UserCredential.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return client.UserCredential.Create().
		SetUserAccountID(old.UserAccountID).
		SetUserID(old.UserID).
		SetCredentialType(old.CredentialType).
		SetAPIKey(apiKey).
		SetSecretKey(secretKey).
		SetExpiresAt(expires).
		Save(credent.WithReplaces(ctx, old.ID))
}

// A key is replaced, with two valid ones for a time.
func ExampleWithReplaces() {
	ctx := context.Background()
	client, _ := open(credent.Config{Keyring: newKeyring()})
	defer closeClient(client)
	old := store(client)

	successor, err := replace(ctx, client, old.ID, credent.NewSecret("PK-NEW"), credent.NewSecret("new"),
		time.Now().AddDate(1, 0, 0))
	if err != nil {
		log.Fatal(err)
	}
	usable := client.UserCredential.Query().Where(credent.Usable())
	fmt.Println("usable:", usable.CountX(ctx))

	used, err := newest(ctx, client, "user-1", "alpaca")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the new one is used:", used.ID == successor.ID)

	// When no service uses the old one any more:
	client.UserCredential.UpdateOneID(old.ID).SetIsActive(false).ExecX(ctx)
	fmt.Println("usable:", usable.CountX(ctx))
	// Output:
	// usable: 2
	// the new one is used: true
	// usable: 1
}

func ExampleExpiringWithin() {
	ctx := context.Background()
	client, _ := open(credent.Config{Keyring: newKeyring()})
	defer closeClient(client)
	client.UserCredential.UpdateOne(store(client)).SetExpiresAt(time.Now().AddDate(0, 0, 20)).ExecX(ctx)

	soon := client.UserCredential.Query().Where(credent.ExpiringWithin(30 * 24 * time.Hour)).AllX(ctx)
	fmt.Println("within 30 days:", len(soon))

	expired := client.UserCredential.Query().Where(credent.ExpiringWithin(0)).AllX(ctx)
	fmt.Println("expired:", len(expired))
	// Output:
	// within 30 days: 1
	// expired: 0
}

func ExampleExpiring() {
	ctx := context.Background()
	cfg := credent.Config{
		ExpiringWithin: 14 * 24 * time.Hour,
		OnExpiring: func(ctx context.Context, c credent.Expiring) {
			slog.WarnContext(ctx, "credential expires", "row", c.Row, "type", c.CredentialType, "left", c.Left)
		},
	}
	cfg.Keyring = newKeyring()
	cfg.OnExpiring = func(_ context.Context, c credent.Expiring) {
		fmt.Println(c.CredentialType, "expires in days:", int(c.Left.Hours()/24))
	}
	client, _ := open(cfg)
	defer closeClient(client)
	client.UserCredential.UpdateOne(store(client)).SetExpiresAt(time.Now().AddDate(0, 0, 10).Add(time.Hour)).ExecX(ctx)

	client.UserCredential.Query().AllX(ctx)
	client.UserCredential.Query().OnlyX(ctx) // not again within the hour
	// Output: alpaca expires in days: 10
}

// TestExpiryGuide checks that the Go code in docs/expiry.md is in the examples
// above, which run.
func TestExpiryGuide(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/expiry.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := os.ReadFile("example_expiry_test.go")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(page), "```go\n")
	if len(parts) != 5 {
		t.Errorf("%d snippets", len(parts)-1)
	}
	known := unindented(string(examples))
	for _, part := range parts[1:] {
		snippet, _, _ := strings.Cut(part, "```")
		if !strings.Contains(known, unindented(snippet)) {
			t.Errorf("no example has\n%s", snippet)
		}
	}
}

func unindented(code string) string {
	var b strings.Builder
	for line := range strings.Lines(code) {
		b.WriteString(strings.TrimLeft(line, "\t"))
	}
	return b.String()
}
