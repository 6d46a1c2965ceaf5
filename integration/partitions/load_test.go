package partitions

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

// Copy stores rows of many users, and looks up their missing user IDs.
func TestCopy(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, w *world) {
		accounts, _ := w.fill(t, 0)
		var rows []credent.CopyRow
		for i := range 30 * users {
			row := credent.CopyRow{
				ID: uuid.New(), UserID: userOf(i % users), CredentialType: "alpaca",
				APIKey:    credent.NewSecret(fmt.Sprint("key ", i)),
				SecretKey: credent.NewSecret(fmt.Sprint("secret ", i)),
			}
			if i%3 == 0 {
				row.UserAccountID, row.UserID = accounts[i%users].ID, ""
			}
			rows = append(rows, row)
		}
		n, err := testopt.Copy(t.Context(), w.DB, testdb.Sequence(rows...), credent.CopyConfig{Batch: 500},
			testopt.WithKeyring(w.Ring))
		if err != nil || n != int64(len(rows)) {
			t.Fatalf("%d rows, %v", n, err)
		}
		tokens := w.Tokens(t)
		for i, row := range rows {
			pair := testdb.Opened(t, w.Ring, tokens)[row.ID]
			if pair.APIKey != fmt.Sprint("key ", i) || pair.SecretKey != fmt.Sprint("secret ", i) {
				t.Fatalf("row %d has another row's secrets", i)
			}
			if i > 20 {
				break
			}
		}
		w.CheckIndex(t, w.Ring)
	})
}

// The commands work on the layout, and print its name.
func TestCommands(t *testing.T) {
	t.Parallel()
	for _, l := range layouts {
		t.Run(string(l.name), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, l, "pgx", nil)
			w.fill(t, 1)
			var csv strings.Builder
			csv.WriteString("user_id,credential_type,api_key,secret_key\n")
			for i := range 100 {
				fmt.Fprintf(&csv, "%s,polygon,imported %d,s %d\n", userOf(i%users), i, i)
			}
			file := filepath.Join(t.TempDir(), "rows.csv")
			if err := os.WriteFile(file, []byte(csv.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, test := range []struct {
				args []string
				want string
			}{
				{[]string{"migrate", "status", "--check"}, "layout: " + string(l.name)},
				{[]string{"migrate", "apply"}, "nothing to apply"},
				{[]string{"migrate", "check"}, ""},
				{[]string{"credential", "import", file}, "imported 100 rows"},
				{[]string{"verify"}, ""},
				{[]string{"rotate"}, ""},
				{[]string{"doctor"}, "in the layout " + string(l.name)},
				{[]string{"credential", "list", "--user", userOf(3)}, "polygon"},
				{[]string{"tenant", "list"}, ""},
			} {
				out, err := w.Command(test.args...).CombinedOutput()
				if err != nil || !strings.Contains(string(out), test.want) {
					t.Errorf("%v: %v: %s", test.args, err, out)
				}
			}
			out, err := w.Command("migrate", "apply", "--layout", "single").CombinedOutput()
			if err == nil || !strings.Contains(string(out), "another layout") {
				t.Errorf("another layout: %v: %s", err, out)
			}
		})
	}
}
