package codegen_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// programHead is the start of programs that use a client on SQLite.
const programHead = `package main

import (
	"context"
	"database/sql"
	"log"
	"net/url"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	_ "modernc.org/sqlite"

	ent "github.com/credent-go/credent/codegen/testdata/PACKAGE"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/device"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
	IMPORT
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func equal(got, want any) {
	if got != want {
		log.Fatalf("got %v, want %v", got, want)
	}
}

func reveal(s interface{ Reveal() (string, error) }) string {
	text, err := s.Reveal()
	check(err)
	return text
}

func main() {
	ctx := context.Background()
	db, err := sql.Open("sqlite", "file:FILE?_pragma=foreign_keys(1)")
	check(err)
	ring, err := keyring.New(keyring.GenerateKey())
	check(err)
	drv, err := encrypted.NewDriver(entsql.OpenDB(dialect.SQLite, db), encrypted.Config{
		Keyring: ring, Columns: ent.EncryptedColumns(),
	})
	check(err)
	client := ent.NewClient(ent.Driver(drv))
	check(client.Schema.Create(ctx))
	home := &url.URL{Scheme: "https", Host: "example.com"}
	seen := time.Date(2000, 1, 2, 3, 4, 5, 6, time.UTC)
`

// leanProgram stores and finds every kind of field in testdata/lean.
const leanProgram = programHead + `
	one := client.Device.Create().SetOwner("ada").SetToken(encrypted.New("token")).
		SetCertificate(encrypted.NewValue([]byte{0xff, 0})).SetSeen(encrypted.NewValue(seen)).
		SetHomes(encrypted.NewValue(map[string]*url.URL{"a": home})).SetScopes(encrypted.NewValue([]string{"read"}))
	stored := one.SaveX(ctx)
	if _, err := one.Save(ctx); !ent.IsConstraintError(err) {
		log.Fatalf("the same token again: %v", err)
	}
	client.Device.UpdateOne(stored).SetRemoved(seen).ExecX(ctx)
	one.ExecX(ctx) // the condition of the unique index
	equal(client.Device.Query().Where(device.TokenIs("ada", encrypted.New("token"))).CountX(ctx), 2)
	equal(client.Device.Query().Where(device.SeenIs(encrypted.NewValue(seen.In(time.FixedZone("", 3600))))).CountX(ctx), 2)
	group := client.Group.Create().AddDevices().SaveX(ctx)
	client.Membership.Create().SetDevice(stored).SetGroup(group).SetOwner("ada").SetToken(encrypted.New("member")).ExecX(ctx)
	equal(reveal(client.Membership.Query().OnlyX(ctx).Token), "member")
	for _, d := range client.Device.Query().AllX(ctx) {
		equal(reveal(d.Token), "token")
		certificate, err := d.Certificate.Reveal()
		check(err)
		equal(string(certificate), "\xff\x00")
		at, err := d.Seen.Reveal()
		check(err)
		equal(at, seen)
		homes, err := d.Homes.Reveal()
		check(err)
		equal(homes["a"].String(), home.String())
		scopes, err := d.Scopes.Reveal()
		check(err)
		equal(scopes[0], "read")
	}
	var bits int
	check(db.QueryRow("SELECT 8 * length(token_index) FROM devices").Scan(&bits))
	equal(bits, 160)
	check(encrypted.Check(ctx, db, ring, ent.EncryptedColumns()...))
}
`

// TestRuntimeWithoutSchema generates a client that needs nothing from its
// schema and so doesn't link it: mixins, an edge schema, and every kind of
// field and index. A program uses it.
func TestRuntimeWithoutSchema(t *testing.T) {
	target, name := generateClient(t, "./testdata/lean")
	packages := dependencies(t, target)
	if !slices.Contains(packages, "github.com/credent-go/credent/encrypted") {
		t.Errorf("the list lacks package encrypted: %v", packages)
	}
	if slices.Contains(packages, testdataPath+"lean") {
		t.Errorf("the client links its schema: %v", packages)
	}
	runClient(t, target, name, leanProgram, "")
}

// stitchedProgram uses what the service calls in testdata/stitched.
const stitchedProgram = programHead + `
	client.Device.Create().SetToken(encrypted.New("token")).SetEmail(encrypted.New("Ada@Example.com")).SetHome(home).
		SetSerial("any").ExecX(ctx)
	d := client.Device.Query().Where(device.EmailIs(encrypted.New("ADA@example.com")), device.TokenIs(encrypted.New("token"))).
		OnlyX(ctx)
	equal(reveal(d.Token), "token")
	equal(reveal(d.Email), "Ada@Example.com")
	equal(d.Name, "nameless")
	equal(d.Serial, "hooked")
	equal(d.Home.String(), home.String())
	client.Sensor.Create().SetCode(encrypted.New("code")).ExecX(ctx)
	equal(reveal(client.Sensor.Query().OnlyX(ctx).Code), "code")
	check(encrypted.Check(ctx, db, ring, ent.EncryptedColumns()...))
	_ = seen
}
`

// scannerLine matches statements of runtime code that set a ValueScanner.
var scannerLine = regexp.MustCompile(`(?m)^\t(\w+\.ValueScanner\.\w+) = `)

// TestRuntimeWithSchema generates a client for a schema that a service needs:
// defaults, validators, hooks, a ValueScanner and a normalizing function. The
// runtime code sets these and nothing else.
func TestRuntimeWithSchema(t *testing.T) {
	target, name := generateClient(t, "./testdata/stitched")
	source, err := os.ReadFile(filepath.Join(target, "runtime", "runtime.go"))
	if err != nil {
		t.Fatal(err)
	}
	var set []string
	for _, found := range scannerLine.FindAllStringSubmatch(string(source), -1) {
		set = append(set, found[1])
	}
	if diff := cmp.Diff([]string{"device.ValueScanner.EmailIndex", "device.ValueScanner.Home"}, set); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, gone := range []string{"deviceDescToken", "deviceDescEmail ", "sensor"} {
		if strings.Contains(string(source), gone) {
			t.Errorf("%s is still in\n%s", gone, source)
		}
	}
	if !slices.Contains(dependencies(t, filepath.Join(target, "runtime")), testdataPath+"stitched") {
		t.Error("the runtime code doesn't link the schema")
	}
	runClient(t, target, name, stitchedProgram, `_ "`+testdataPath+name+`/runtime"`)
}

// TestRuntimeNotImported omits runtime code that a blind index needs, which
// Check reports.
func TestRuntimeNotImported(t *testing.T) {
	target, name := generateClient(t, "./testdata/stitched")
	runClient(t, target, name, programHead+`
	err = encrypted.Check(ctx, db, ring, ent.EncryptedColumns()...)
	if !errors.Is(err, encrypted.ErrNotRegistered) || !strings.Contains(err.Error(), "import the generated package runtime") {
		log.Fatalf("got %v", err)
	}
	_, err = client.Device.Query().Where(device.EmailIs(encrypted.New("x"))).Count(ctx)
	if !errors.Is(err, encrypted.ErrNotRegistered) {
		log.Fatalf("a lookup: got %v", err)
	}
	_, _, _ = equal, reveal, seen
	_ = home
}
`, "\"errors\"\n\t\"strings\"")
}

// dependencies returns the packages that a package links.
func dependencies(t *testing.T, dir string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./"+filepath.ToSlash(dir))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// runClient runs a program that uses a generated client.
func runClient(t *testing.T, target, name, program, imported string) {
	t.Helper()
	dir := filepath.Join(target, "cmd")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	file := filepath.ToSlash(filepath.Join(t.TempDir(), "runtime.db"))
	write(t, filepath.Join(dir, "main.go"), strings.NewReplacer("PACKAGE", name, "IMPORT", imported, "FILE", file).
		Replace(program))
	runProgram(t, dir)
}
