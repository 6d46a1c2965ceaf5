package migrate_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

// Diff requires both columns in a credential's foreign key, whatever ent knows
// about it: it writes such a key for an empty directory, and corrects a key of
// user_account_id alone.
func TestDiffAccountKey(t *testing.T) {
	t.Parallel()
	const (
		from = "(`user_id`, `user_account_id`) REFERENCES `user_accounts` (`user_id`, `id`) ON UPDATE CASCADE"
		key  = "CONSTRAINT `user_credentials_user_id_user_account_id_fkey` FOREIGN KEY " + from + " ON DELETE CASCADE"
	)
	dir := t.TempDir()
	diff := func(name string) (text string) {
		t.Helper()
		db, _, err := testopt.OpenDB("sqlite::memory:")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		if _, err := migrate.Diff(t.Context(), db, dir, name); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*_"+name+".sql"))
		if err != nil || len(files) != 1 {
			return ""
		}
		content, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	first := diff("first")
	if !strings.Contains(first, key) {
		t.Fatalf("the key is not in\n%s", first)
	}
	if again := diff("again"); again != "" {
		t.Errorf("a second diff wrote\n%s", again)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_first.sql"))
	if err != nil {
		t.Fatal(err)
	}
	single := strings.Replace(first, from, "(`user_account_id`) REFERENCES `user_accounts` (`id`)", 1)
	if err := os.WriteFile(files[0], []byte(single), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := migrate.Hash(dir); err != nil {
		t.Fatal(err)
	}
	if mended := diff("mended"); !strings.Contains(mended, key) {
		t.Errorf("the key of one column is left, by\n%s", mended)
	}
}
