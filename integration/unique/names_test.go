package unique

import (
	"fmt"
	"sync"
	"testing"

	"entgo.io/ent/dialect/sql/sqlgraph"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/keyring"
)

// The column after its and its table's rename.
var (
	renamedScanner = column.NewField("mail", 500)
	_              = encrypted.Register(encrypted.Binding{
		Column: encrypted.Column{
			Client: "renamed", Table: "people", Name: "mail", Size: 500, Type: "string", ID: "id", Index: "mail_index",
			Was: "people.email,members.email",
		},
		Scanner: func() any { return renamedScanner },
		Digest:  func() any { return blindindex.Field{Config: blindindex.Config{Unique: true}} },
	})
)

// TestNames stores equal values concurrently after a rename: each ends up
// stored once, whether an existing row has it under the earlier name, also
// under an earlier key, or no row has it.
func TestNames(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *database) {
		old, primary := keyring.GenerateKey(), keyring.GenerateKey()
		if err := create(t.Context(), db.client(t, newKeyring(t, old)), 1, "stored"); err != nil {
			t.Fatal(err)
		}
		for _, stmt := range []string{
			"ALTER TABLE members RENAME TO people", "ALTER TABLE people RENAME COLUMN email TO mail",
			"ALTER TABLE people RENAME COLUMN email_index TO mail_index",
		} {
			if _, err := db.ExecContext(t.Context(), stmt); err != nil {
				t.Fatal(err)
			}
		}
		for name, ring := range map[string]*keyring.Keyring{
			"one key":  newKeyring(t, old),
			"two keys": newKeyring(t, primary, old),
		} {
			client := db.client(t, ring)
			stored := make(map[string]int)
			var (
				mu   sync.Mutex
				wait sync.WaitGroup
			)
			for i := range 12 {
				plaintext := []string{"stored", name}[i%2]
				wait.Go(func() {
					value, err := renamedScanner.Value(encrypted.New(plaintext))
					if err != nil {
						t.Error(err)
						return
					}
					spec := sqlgraph.NewCreateSpec("people", sqlgraph.NewFieldSpec("id", field.TypeInt))
					spec.ID.Value = len(name)*100 + i
					spec.SetField("mail", field.TypeString, value)
					encrypted.CompleteCreate(nil, "renamed", spec)
					err = sqlgraph.CreateNode(t.Context(), client, spec)
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						stored[plaintext]++
					} else if !sqlgraph.IsConstraintError(err) {
						t.Errorf("%s: %v", name, err)
					}
				})
			}
			wait.Wait()
			if got := fmt.Sprint(stored); got != fmt.Sprint(map[string]int{name: 1}) {
				t.Errorf("%s: stored %s", name, got)
			}
		}
	})
}
