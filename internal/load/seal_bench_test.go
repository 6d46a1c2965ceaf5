package load

import (
	"testing"

	"github.com/google/uuid"

	_ "github.com/credent-go/credent/ent/runtime" // schema defaults and validators
	"github.com/credent-go/credent/internal/fieldcrypt"
)

// BenchmarkSeal measures the cost of a row before it is sent.
func BenchmarkSeal(b *testing.B) {
	s, _ := newTestSealer(b)
	row := Row{
		UserAccountID: uuid.New(), UserID: "user-1", CredentialType: "alpaca",
		APIKey:    fieldcrypt.New("PK-24-CHARACTERS-OF-A-KE"),
		SecretKey: fieldcrypt.New("secret-of-40-characters-0123456789012345"),
	}
	for name, seal := range map[string]func() ([]any, error){
		"quick":  func() ([]any, error) { return s.seal(b.Context(), row) },
		"create": func() ([]any, error) { return created(b.Context(), s, row) },
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
