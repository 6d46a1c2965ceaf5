package codegen_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"

	"github.com/credent-go/credent/internal/codegen"
)

// generate runs the extension on a schema, without the templates of ent. Tests cannot be parallel: loading a schema writes
// a program into the current folder.
func generate(t *testing.T, schema, picture string) (*gen.Graph, error) {
	t.Helper()
	graph, err := entc.LoadGraph(schema, &gen.Config{Target: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	done := gen.GenerateFunc(func(*gen.Graph) error { return nil })
	for _, hook := range (codegen.Extension{Picture: picture}).Hooks() {
		if err := hook(done).Generate(graph); err != nil {
			return nil, err
		}
	}
	return graph, nil
}

func TestRefusals(t *testing.T) {
	for schema, wants := range map[string][]string{
		"plain": {
			"Session.refresh_token is named like a secret and is not encrypted", "Session.private_key",
			"Session.client_secret", "Session.password_hash", "fieldcrypt.Plain",
		},
		"unique":       {"Session.api_key is encrypted and cannot be Unique"},
		"notsensitive": {"Session.api_key is encrypted but not Sensitive"},
		"text":         {"Session.api_key is encrypted and must be a field.Bytes"},
		"index":        {"Session.api_key is encrypted and cannot be in an index"},
	} {
		t.Run(schema, func(t *testing.T) {
			_, err := generate(t, "./testdata/"+schema, "")
			if err == nil {
				t.Fatal("was accepted")
			}
			for _, want := range wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "title") {
				t.Errorf("a field of an innocent name was refused: %v", err)
			}
		})
	}
}

func TestAccepted(t *testing.T) {
	for _, schema := range []string{"exempt", "encrypted"} {
		t.Run(schema, func(t *testing.T) {
			if _, err := generate(t, "./testdata/"+schema, ""); err != nil {
				t.Error(err)
			}
		})
	}
}

// An encrypted column gets its CHECK without being asked.
func TestCheck(t *testing.T) {
	graph, err := generate(t, "./testdata/encrypted", "")
	if err != nil {
		t.Fatal(err)
	}
	checks := graph.Nodes[0].EntSQL().Checks
	if got := checks["sessions_api_key_encrypted"]; len(checks) != 1 || got != "api_key LIKE 'gAAAA%'" {
		t.Errorf("the CHECKs are %v", checks)
	}
}

func TestPicture(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	write(t, page, "before\n"+codegen.PictureBegin+"\nold\n"+codegen.PictureEnd+"\nafter\n")
	if _, err := generate(t, "../../ent/schema", page); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, want := range []string{
		"before\n", "\nafter\n", "```mermaid\nerDiagram\n",
		`varchar(500) api_key "encrypted"`, "uuid id PK", "varchar(255) user_id UK", "uuid user_account_id FK",
		`timestamp expires_at "may be NULL"`, "user_accounts ||--o{ user_credentials : credentials",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "old") {
		t.Error("the old picture is still there")
	}

	write(t, page, "no place for it")
	if _, err := generate(t, "../../ent/schema", page); err == nil || !strings.Contains(err.Error(), codegen.PictureBegin) {
		t.Errorf("a page without the lines: %v", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
