package credent_test

import (
	"context"
	"database/sql"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/sqlite"
	"github.com/credent-go/credent/rotate"
)

// sources calls f with each Go file that services or the command run.
func sources(t *testing.T, f func(path string, file *ast.File)) {
	t.Helper()
	files := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains([]string{"testdata", "bench", "examples", ".git"}, d.Name()) ||
			path == "ent"):
			return filepath.SkipDir
		case d.IsDir(), !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err == nil {
			f(path, file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// internalNames returns a pattern for the names of internal packages at the
// start of an error or of an error that it wraps.
func internalNames(t *testing.T) *regexp.Regexp {
	t.Helper()
	var names []string
	sources(t, func(path string, file *ast.File) {
		if name := file.Name.Name; strings.HasPrefix(path, "internal/") && name != "main" && name != "keyring" &&
			!slices.Contains(names, name) {
			names = append(names, name)
		}
	})
	if len(names) < 15 {
		t.Fatalf("only %d internal packages: %v", len(names), names)
	}
	return regexp.MustCompile(`(?:^|: )(` + strings.Join(names, "|") + `): `)
}

// TestErrorTextsNameNoInternals checks each text in the sources. Users know
// only the packages that they import.
func TestErrorTextsNameNoInternals(t *testing.T) {
	t.Parallel()
	internal := internalNames(t)
	errorCalls := 0
	sources(t, func(path string, file *ast.File) {
		if file.Name.Name == "main" {
			return // this repository's own tools
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if _, is := n.(*ast.ImportSpec); is {
				return false
			}
			if call, is := n.(*ast.CallExpr); is {
				if name, is := call.Fun.(*ast.SelectorExpr); is && (name.Sel.Name == "Errorf" ||
					name.Sel.Name == "New") {
					errorCalls++
				}
			}
			literal, is := n.(*ast.BasicLit)
			if !is || literal.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Error(err)
			}
			if found := internal.FindString(text); found != "" && !strings.Contains(text, "\n") {
				t.Errorf("%s: %q names an internal package: %q", path, text, found)
			}
			return true
		})
	})
	if errorCalls < 300 {
		t.Errorf("only %d errors were read", errorCalls)
	}
}

// publicPrefix matches the start of a public package's errors.
var publicPrefix = regexp.MustCompile(`^(credent|client|open|encrypted|keyring|migrate|rotate|ent): `)

// TestErrorsBeginWithPublicPackage provokes errors of each layer and checks
// their texts.
func TestErrorsBeginWithPublicPackage(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	internal := internalNames(t)
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	open := func(opts ...credent.Option) (*sql.DB, error) {
		db, _, err := credent.OpenDB("sqlite::memory:", append(opts, credent.WithDriver(sqlite.Driver()))...)
		return db, err
	}
	db, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := migrate.Apply(ctx, db, migrate.Config{}); err != nil {
		t.Fatal(err)
	}
	client, err := credent.NewClient(db, dialect.SQLite, credent.Config{Keyring: ring})
	if err != nil {
		t.Fatal(err)
	}
	empty, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = empty.Close() }()
	account := client.UserAccount.Create().SetUserID("user-1").SetAccountName("Main").SaveX(ctx)
	row := client.UserCredential.Create().SetAccount(account).SetUserID("user-1").SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret("PK-MADE-UP")).SetSecretKey(credent.NewSecret("s")).SaveX(ctx)
	other, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := credent.NewClient(db, dialect.SQLite, credent.Config{Keyring: other})
	if err != nil {
		t.Fatal(err)
	}
	second := func(_ any, err error) error { return err }
	for name, err := range map[string]error{
		"a malformed key":     second(keyring.New("short")),
		"no key":              second(keyring.New("")),
		"a lost primary key":  second(ring.Replace(other)),
		"a bad URL":           second(open2("mysql://h")),
		"a long secret":       row.Update().SetAPIKey(credent.NewSecret(strings.Repeat("x", 304))).Exec(ctx),
		"a secret, not UTF-8": row.Update().SetAPIKey(credent.NewSecret("\xff")).Exec(ctx),
		"a missing secret":    row.Update().SetAPIKey(credent.Secret{}).Exec(ctx),
		"another user's": client.UserCredential.Create().SetAccount(account).SetUserID("user-2").
			SetCredentialType("a").SetAPIKey(credent.NewSecret("a")).SetSecretKey(credent.NewSecret("b")).Exec(ctx),
		"a wrong key":        second(wrong.UserCredential.GetX(ctx, row.ID).APIKey.Reveal()),
		"Check, a wrong key": credent.Check(ctx, wrong),
		"encrypted.Check":    encrypted.Check(ctx, db, other, usercredential.APIKeyColumn),
		"no tables":          encrypted.Check(ctx, empty, ring, usercredential.APIKeyColumn),
		"a bare secret": second(client.ExecContext(ctx, "UPDATE user_credentials SET api_key = ?",
			credent.NewSecret("a"))),
		"WithUser on SQLite":    second(client.UserAccount.Query().All(credent.WithUser(ctx, "user-1"))),
		"WithUser, transaction": second(client.Tx(credent.WithUser(ctx, "user-1"))),
		"WithUser, raw query":   second(client.QueryContext(credent.WithUser(ctx, "user-1"), "SELECT 1")), //nolint:rowserrcheck // it fails
		"WithUser, raw SQL":     second(client.ExecContext(credent.WithUser(ctx, "user-1"), "SELECT 1")),
		"another database": second(encrypted.NewDriver(entsql.OpenDB(dialect.MySQL, db),
			encrypted.Config{Keyring: ring})),
		"an unknown column": second(credent.NewClient(db, dialect.SQLite,
			credent.Config{States: []encrypted.ColumnStates{{
				Column:  encrypted.Column{Table: "t", Name: "none"},
				Binding: credent.Write,
			}}})),
		"contradictory states": second(credent.NewClient(db, dialect.SQLite, credent.Config{
			Encryption: credent.Accept,
			Binding:    credent.Accept,
		})),
		"a state given twice": second(credent.NewClient(db, dialect.SQLite, credent.Config{
			Binding: credent.Write,
			States:  []encrypted.ColumnStates{{Column: usercredential.APIKeyColumn, Binding: credent.Off}},
		})),
		"two steps at once": second(rotate.SetState(ctx, db, ring, rotate.StateChange{
			Column: usercredential.APIKeyColumn, Protection: rotate.Binding, To: credent.Require,
		})),
		"pending migrations":    pending(ctx, empty),
		"rotate without tables": second(rotate.Run(ctx, empty, ring, rotate.Config{})),
		"no such tenant":        second(rotate.DestroyTenant(ctx, db, ring, "none")),
		"a failed source": second(keyring.Watch(ctx, func(context.Context) (*keyring.Keyring, error) {
			return nil, errors.New("down")
		}, keyring.WatchConfig{})),
	} {
		switch {
		case err == nil:
			t.Errorf("%s: no error", name)
		case !publicPrefix.MatchString(err.Error()):
			t.Errorf("%s: it doesn't begin with a public package: %v", name, err)
		case internal.MatchString(err.Error()):
			t.Errorf("%s: names an internal package: %v", name, err)
		}
	}
}

func open2(url string) (*sql.DB, error) {
	db, _, err := credent.OpenDB(url, credent.WithDriver(sqlite.Driver()))
	return db, err
}

func pending(ctx context.Context, db *sql.DB) error {
	status, err := migrate.ReadStatus(ctx, db, migrate.Config{})
	if err != nil {
		return err
	}
	return status.Err()
}
