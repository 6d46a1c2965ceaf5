package codegen_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"entgo.io/ent/entc/gen"
)

// program is the source of a program that uses the client of testdata/indexed.
const program = `package main

import (
	"context"
	"database/sql"
	"errors"
	"log"
	"strings"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	_ "modernc.org/sqlite"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/predicate"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/session"
)

func main() {
	ctx := context.Background()
	db, err := sql.Open("sqlite", "file:"+strings.TrimSpace("FILE")+"?_pragma=foreign_keys(1)")
	check(err)
	ring, err := keyring.New(keyring.GenerateKey())
	check(err)
	drv, err := encrypted.NewDriver(entsql.OpenDB(dialect.SQLite, db), encrypted.Config{Keyring: ring})
	check(err)
	client := ent.NewClient(ent.Driver(drv))
	check(client.Schema.Create(ctx))
	if err := encrypted.Check(ctx, db, ring, ent.EncryptedColumns()...); !errors.Is(err, encrypted.ErrNotChecked) {
		log.Fatalf("nothing is stored: %v", err)
	}

	born := time.Date(2000, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	create := func(title, token string, year int) *ent.SessionCreate {
		return client.Session.Create().SetTitle(title).SetToken(encrypted.New(token)).SetEmail(encrypted.New("Ada@Example.com")).
			SetCertificate(encrypted.NewValue([]byte{0xff, byte(year)})).SetBorn(encrypted.NewValue(born.AddDate(year, 0, 0)))
	}
	create("a", "token", 0).ExecX(ctx)
	create("b", "token", 1).ExecX(ctx) // another title
	create("a", "other", 2).SetEmail(encrypted.Secret{}).ExecX(ctx)
	refused := func(c *ent.SessionCreate) {
		if err := c.Exec(ctx); !ent.IsConstraintError(err) {
			log.Fatalf("got %v", err)
		}
	}
	refused(create("a", "token", 3))
	refused(create("c", "token", 1)) // born at the same time
	count := func(want int, where predicate.Session) {
		if n := client.Session.Query().Where(where).CountX(ctx); n != want {
			log.Fatalf("found %d, want %d", n, want)
		}
	}
	count(2, session.TokenIs(encrypted.New("token")))
	count(0, session.TokenIs(encrypted.New("Token")))
	count(2, session.EmailIs(encrypted.New("ADA@example.COM")))
	count(1, session.EmailIndexIsNil())
	count(1, session.BornIs(encrypted.NewValue(born.UTC())))
	count(1, session.CertificateIs(encrypted.NewValue([]byte{0xff, 2})))
	client.Session.Update().ClearEmail().ExecX(ctx)
	count(0, session.EmailIs(encrypted.New("Ada@Example.com")))
	var size int
	check(db.QueryRow("SELECT length(token_index) FROM sessions").Scan(&size))
	check(db.QueryRow("SELECT 1 FROM sqlite_master WHERE name = 'session_token'").Scan(new(int)))
	check(db.QueryRow("SELECT count(email_digest) FROM sessions").Scan(new(int)))
	if size != 20 {
		log.Fatalf("a digest of %d bytes", size)
	}
	if n, err := client.Session.Query().Count(ctx); n != 3 || err != nil {
		log.Fatal(n, err)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
`

// TestBlindIndexes generates a client with every kind of blind index, and with
// a mixin that only has an encrypted field, and runs a program that uses it.
func TestBlindIndexes(t *testing.T) {
	target, name := generateClient(t, "./testdata/indexed", gen.FeatureUpsert, gen.FeatureModifier, gen.FeatureEntQL)
	dir := filepath.Join(target, "cmd")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	source := strings.NewReplacer(
		`"github.com/credent-go/credent/codegen/testdata/PACKAGE"`, `ent "github.com/credent-go/credent/codegen/testdata/`+name+`"`,
		"PACKAGE", name, "FILE", filepath.Join(t.TempDir(), "index.db")).Replace(program)
	write(t, filepath.Join(dir, "main.go"), source)
	runProgram(t, dir)
}

// TestSoftDelete tests unique indexes with conditions in a generated client,
// with each driver.
func TestSoftDelete(t *testing.T) {
	target, name := generateClient(t, "./testdata/softdelete", gen.FeatureUpsert, gen.FeatureModifier)
	program := filepath.Join(target, "program")
	copyProgram(t, "testdata/softdelete/program", program, "PACKAGE", name)
	runProgram(t, program, "-dir", t.TempDir(), "-postgres", newPostgres(t))
}
