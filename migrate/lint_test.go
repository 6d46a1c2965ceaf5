package migrate_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

func TestLintSQLite(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		file string
		want []string
	}{
		"own files":      {"", nil},
		"drop encrypted": {"ALTER TABLE `user_credentials` DROP COLUMN `expires_at`;", []string{"1 DS103 error"}},
		"index encrypted": {
			"CREATE INDEX `k` ON `user_credentials` (`api_key`);", []string{"1 CT104 error"},
		},
		"index":  {"CREATE INDEX `n` ON `user_accounts` (`account_name`);", nil},
		"rename": {"ALTER TABLE `user_accounts` RENAME COLUMN `account_name` TO `label`;", []string{"1 BC102 warning"}},
		"rename as drop": {
			"ALTER TABLE `user_accounts` ADD COLUMN `label` varchar NULL;\nALTER TABLE `user_accounts` DROP COLUMN " +
				"`account_name`;", []string{"2 DS103 error", "2 CT204 error"},
		},
		"rebuilt without the CHECK": {
			"DROP TRIGGER user_accounts_key_update;\n" +
				"CREATE TABLE `new_user_credentials` (`id` uuid NOT NULL, `api_key` varchar NOT NULL, PRIMARY KEY " +
				"(`id`));\nINSERT INTO `new_user_credentials` SELECT `id`, `api_key` FROM `user_credentials`;\nDROP " +
				"TABLE `user_credentials`;\nALTER TABLE `new_user_credentials` RENAME TO `user_credentials`;",
			[]string{"2 DS103 error", "2 CT101 error", "2 CT105 error"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := copyOf(t)
			if tt.file != "" {
				write(t, dir, "20991231000000_next.sql", tt.file)
				if err := migrate.Hash(dir); err != nil {
					t.Fatal(err)
				}
			}
			db, _, err := testopt.OpenDB("sqlite::memory:")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			found, err := migrate.Lint(t.Context(), db, os.DirFS(dir), migrate.LintOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range found {
				got = append(got, fmt.Sprintf("%d %s %s", d.Line, d.Code, d.Severity))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s\n%v", diff, found)
			}
		})
	}
}
