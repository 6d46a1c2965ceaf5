package load

import (
	"testing"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"github.com/credent-go/credent/ent"
	_ "github.com/credent-go/credent/ent/runtime" // the schema's defaults and validators
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/hooks"
)

// BenchmarkSeal is what a row costs before it is sent.
func BenchmarkSeal(b *testing.B) {
	ring, err := fieldcrypt.NewKeyring(fieldcrypt.GenerateKey())
	if err != nil {
		b.Fatal(err)
	}
	s := newSealer(dialect.Postgres, Sealing{Keyring: ring, NewClient: func(drv dialect.Driver) *ent.Client {
		client := ent.NewClient(ent.Driver(fieldcrypt.NewDriver(drv, fieldcrypt.DriverConfig{Keyring: ring})))
		hooks.Install(client, hooks.Config{})
		return client
	}})
	row := Row{
		UserAccountID: uuid.New(), UserID: "user-1", CredentialType: "alpaca",
		APIKey: fieldcrypt.New("PK-24-CHARACTERS-OF-A-KE"), SecretKey: fieldcrypt.New("secret-of-40-characters-0123456789012345"),
	}
	for name, seal := range map[string]func() ([]any, error){
		"quick":  func() ([]any, error) { return s.seal(b.Context(), row) },
		"create": func() ([]any, error) { return s.slow(b.Context(), row) },
	} {
		b.Run("by="+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := seal(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
