package codegen_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/codegen"
	"github.com/credent-go/credent/encrypted"
)

// generate runs the extension on a schema, without the templates of ent. Tests
// cannot be parallel: loading a schema writes a program into the current
// folder.
func generate(t *testing.T, schema, picture string) (*gen.Graph, error) {
	t.Helper()
	t.Setenv(encrypted.ExtensionEnv, "1") // as the extension's options do
	graph, err := entc.LoadGraph(schema, &gen.Config{Target: t.TempDir(), Package: "example.com/app/ent"})
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

// TestOneFileAtATime: ent formats files on as many cores as Go has at that
// moment.
func TestOneFileAtATime(t *testing.T) {
	before := runtime.GOMAXPROCS(4)
	defer runtime.GOMAXPROCS(before)
	during := 0
	next := gen.GenerateFunc(func(*gen.Graph) error { during = runtime.GOMAXPROCS(0); return nil })
	if err := (codegen.Extension{}).Hooks()[0](next).
		Generate(&gen.Graph{Config: &gen.Config{Target: t.TempDir()}}); err != nil {
		t.Fatal(err)
	}
	if after := runtime.GOMAXPROCS(0); during != 1 || after != 4 {
		t.Errorf("%d cores while ent writes, %d after it; want 1 and 4", during, after)
	}
}

// indexHint is what the messages about uniqueness and indexes offer.
const indexHint = "What can be unique, indexed and searched is a blind index"

func TestRefusals(t *testing.T) {
	for schema, wants := range map[string][]string{
		"plain": {
			"Session.refresh_token is named like a secret and is not encrypted", "Session.private_key",
			"Session.client_secret", "Session.password_hash", "encrypted.Plain",
		},
		"byhand": {
			"Session.api_key is encrypted; declare it with encrypted.String",
			"Session.certificate is encrypted; declare",
		},
		"refused": {
			"Session.a is encrypted and cannot be Unique: no two tokens are equal, not even of the same plaintext. " +
				indexHint, `add encrypted.BlindIndex("a") to the schema's Mixin, with its method Unique`,
			"Session.a is encrypted and cannot be in an index: ", "Session.b is encrypted and cannot be in an index: ",
			"Session.c is encrypted and cannot be in an index: ", "Session.d is encrypted and cannot be an " +
				"OrderField: ",
			"Session.e is encrypted and cannot have a Default", "Session.f is encrypted and cannot have a Default",
			"Session.g is encrypted and cannot be Nillable: Optional is enough",
			"Session.h is encrypted and cannot be in an index: ",
			"EncryptedType cannot be an entity: ",
		},
		"tenant": {
			"Session.a is bound and has no tenant to be bound to: add Tenant(\"user_id\")", `Session.b has the tenant "none", which is no field of`,
			"Session.c has the tenant flag, which is of type bool: use a field of text",
			"Session.d has the tenant maybe, which is optional",
			"Session.e has the tenant a, which is encrypted", "Session.c has the tenant flag, and b the tenant none: " +
				"the fields of an entity",
		},
		"index": {
			`Session: encrypted.BlindIndex("missing"): the schema has no encrypted field of that name`,
			`Session: encrypted.BlindIndex("title"): the schema has no encrypted field`,
			"Session.scopes is JSON and cannot have a blind index",
			"Session.lone has a blind index with AcrossTenants and no Tenant: remove AcrossTenants",
			`Session.shared has a unique blind index, and equal secrets of two tenants have different digests: make it unique for each ` +
				`tenant with Unique("owner"), or for all with AcrossTenants()`,
		},
		"misnamed": {
			`Person.a has WasNamed("public.people.a"): write COLUMN or TABLE.COLUMN`, `Person.b has WasNamed("old."): write COLUMN or`,
			`Person.c has WasNamed("people.c"): that is its present name`, `Person.d has WasNamed("people.old_d"): it is there twice`,
			`Person.e was named "people.g", which is the column of Person.g now`, `Person.g was named "people.e", which is the column of Person.e now`,
			"Give one of them a third name, rotate", `Person.h and Person.i were both named "people.oldest"`,
			`Person.j has WasNamed(""): write`, `Person.k has WasNamed("a,b"): write`,
			`were both named "letters.sign"`, `In a mixin of several entities write WasNamed("COLUMN")`,
			`Bill.signature was named "letters.signature", which is the column of Letter.signature now`,
			`Note.text has encrypted.TableWasNamed("notes"): that is its present name`,
		},
		"ownindex": {
			`Own: the unique index of token_index is not as its blind index declares it`, `encrypted.BlindIndex("token").Unique("other_field")` +
				`.Where("removed IS NULL")`,
			`Changed: the unique index of token_index is not as its blind index declares it`, `.Where("title = 'a'")`,
		},
		"compositekey": {"Membership.invitation is encrypted and needs a primary key of one column"},
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
			for _, bad := range []string{"Session.title", "PK-IN-THE-SOURCE"} {
				if strings.Contains(err.Error(), bad) {
					t.Errorf("%s is in: %v", bad, err)
				}
			}
			faults, ok := err.(interface{ Unwrap() []error })
			if !ok || schema == "refused" && len(faults.Unwrap()) != 10 {
				t.Errorf("%d faults: %v", len(faults.Unwrap()), err)
			}
		})
	}
}

// What a field can see by itself is refused when the schema is loaded, and
// nothing is written.
func TestRefusedFields(t *testing.T) {
	for schema, want := range map[string]string{
		"unnameable": `field "config": encrypted field: generated code cannot name schema.config; export it`,
		"badwhere":   `field "token_index": blind index of token: Where is the condition of a unique index: add Unique`,
		"structtag": `field "token": encrypted field: it has the struct tag json:"-", as every field that ent must not print, and ` +
			`can have no other: remove StructTag`,
	} {
		target := t.TempDir()
		cfg := &gen.Config{Target: target, Package: "example.com/app/ent"}
		err := entc.Generate("./testdata/"+schema, cfg, entc.Extensions(codegen.Extension{}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", schema, err, want)
		}
		checkEmpty(t, target)
	}
}

// Without the extension the code would not encrypt. It is refused when the
// schema is loaded, also after a generation with the extension.
func TestWithoutExtension(t *testing.T) {
	t.Setenv(encrypted.ExtensionEnv, "") // of earlier tests
	generate := func(target string, extensions ...entc.Extension) error {
		return entc.Generate("./testdata/encrypted", &gen.Config{Target: target, Package: "example.com/app/ent"},
			entc.Extensions(extensions...))
	}
	with := filepath.Join(t.TempDir(), "ent")
	if err := os.Mkdir(with, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"before", "after"} {
		without := t.TempDir()
		err := generate(without)
		for _, want := range []string{`encrypted field: the code is generated without the extension of package codegen`, "codegen.Extension{}"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s a generation with it: got %v, want %q", when, err, want)
			}
		}
		checkEmpty(t, without)
		if when == "before" {
			if err := generate(with, codegen.Extension{}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Snapshot stands for ent's, of package entc/internal.
type Snapshot struct{ generate func() error }

// Restore generates from the snapshot.
func (s *Snapshot) Restore() error { return s.generate() }

// With the feature schema/snapshot ent generates from the snapshot if the
// schema doesn't load, and then loads the schema: with the extension, too.
func TestRestored(t *testing.T) {
	t.Setenv(encrypted.ExtensionEnv, "1") // as the extension's options do
	generate := func() error {
		return codegen.Extension{}.Hooks()[0](gen.GenerateFunc(func(*gen.Graph) error { return nil })).
			Generate(&gen.Graph{Config: &gen.Config{Target: t.TempDir()}})
	}
	for _, test := range []struct {
		generate func() error
		want     string
	}{{(&Snapshot{generate}).Restore, "1"}, {generate, ""}} {
		if err := test.generate(); err != nil {
			t.Fatal(err)
		}
		if got := os.Getenv(encrypted.ExtensionEnv); got != test.want {
			t.Errorf("%s is %q after a generation, want %q", encrypted.ExtensionEnv, got, test.want)
		}
	}
}

// checkEmpty checks that nothing was written.
func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("%s has %v, %v", dir, entries, err)
	}
}

func TestAccepted(t *testing.T) {
	for _, schema := range []string{"exempt", "../../ent/schema"} {
		t.Run(schema, func(t *testing.T) {
			if _, err := generate(t, "./testdata/"+schema, ""); err != nil {
				t.Error(err)
			}
		})
	}
}

// An encrypted column gets size, CHECK and sensitivity without being asked, and
// a name that could be a keyword is quoted.
func TestColumns(t *testing.T) {
	graph, err := generate(t, "./testdata/encrypted", "")
	if err != nil {
		t.Fatal(err)
	}
	session := graph.Nodes[slices.IndexFunc(graph.Nodes, func(n *gen.Type) bool { return n.Name == "Session" })]
	want := map[string]string{
		"sessions_api_key_encrypted": "api_key LIKE 'gAAAA%'", "sessions_key_encrypted": `"key" LIKE 'gAAAA%'`,
		"sessions_user_encrypted": `"user" LIKE 'gAAAA%'`, "sessions_seen_encrypted": `"seen" LIKE 'gAAAA%'`,
		"sessions_scopes_encrypted": `"scopes" LIKE 'gAAAA%'`, "sessions_limits_encrypted": `"limits" LIKE 'gAAAA%'`,
		"sessions_waits_encrypted": `"waits" LIKE 'gAAAA%'`,
	}
	if diff := cmp.Diff(want, session.EntSQL().Checks); diff != "" {
		t.Errorf("CHECKs (-want +got):\n%s", diff)
	}
	wantTypes := map[string][2]string{
		"api_key": {"encrypted.Secret", "varchar(500)"}, "key": {"encrypted.Secret", "varchar(2764)"},
		"certificate": {"encrypted.Value[[]byte]", "varchar(500)"}, "seen": {
			"encrypted.Value[time.Time]",
			"varchar(140)",
		},
		"scopes": {"encrypted.Value[[]string]", "varchar(500)"}, "limits": {
			"encryptedtype.SessionLimits",
			"varchar(500)",
		},
		"waits": {"encryptedtype.SessionWaits", "varchar(500)"},
	}
	for _, f := range session.Fields {
		if got := [2]string{f.Type.String(), f.Column().SchemaType["sqlite3"]}; got != wantTypes[f.Name] {
			t.Errorf("%s: got %q, want %q", f.Name, got, wantTypes[f.Name])
		}
		if !f.Sensitive() || !codegen.IsEncrypted(f) {
			t.Errorf("%s: sensitive %v, encrypted %v", f.Name, f.Sensitive(), codegen.IsEncrypted(f))
		}
	}
	testFiles(t, graph)
}

// testFiles tests that the files which bind fields and name types are written,
// and removed when no field needs them.
func testFiles(t *testing.T, graph *gen.Graph) {
	t.Helper()
	file := func(path ...string) string { return filepath.Join(graph.Target, filepath.Join(path...)) }
	list, types := file("encrypted_fields.go"), file("encryptedtype", "encryptedtype.go")
	session, device := file("session", "encrypted_columns.go"), file("device", "encrypted_columns.go")
	for path, wants := range map[string][]string{
		list: {"package ent\n", "func EncryptedColumns() []encrypted.Column", `encrypted.Columns("example.com/app/ent")`},
		session: {
			"package session\n", "CertificateColumn = encrypted.Register(", `Client: "example.com/app/ent",`, `Entity: "Session",`,
			"Table:  Table,", "Name:   FieldCertificate,", `Type:   "[]byte",`, "Size:   2764,",
			`Type:   "map[string]*schema.Limits",`, "ValueScanner.APIKey", "ID:     FieldID,",
		},
		device: {"package device\n", `Entity: "Device",`, "Name:   FieldAPIKey,", "ValueScanner.APIKey", "ID:     FieldID,"},
		types: {
			"type SessionLimits = encrypted.Value[map[string]*p0.Limits]\n", "type SessionWaits = " +
				"encrypted.Value[[]p1.Duration]\n",
			`p0 "github.com/credent-go/credent/codegen/testdata/encrypted"`, `p1 "time"`,
		},
	} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(data), want) {
				t.Errorf("%q is not in %s:\n%s", want, path, data)
			}
		}
	}

	storage := graph.Storage
	graph.Storage = &gen.Storage{Name: "gremlin"}
	err := codegen.Extension{}.Hooks()[0](gen.GenerateFunc(func(*gen.Graph) error { return nil })).Generate(graph)
	if err == nil || !strings.Contains(err.Error(), "encrypted fields need ent's storage sql") {
		t.Errorf("another storage: got %v", err)
	}
	graph.Storage, graph.Nodes = storage, nil
	for _, hook := range (codegen.Extension{}).Hooks() {
		if err := hook(gen.GenerateFunc(func(*gen.Graph) error { return nil })).Generate(graph); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{list, types} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
}

// Of encrypted fields nothing is generated that compares: no predicate but of
// NULL, no order, no validator; with no feature.
func TestNothingCompares(t *testing.T) {
	target := filepath.Join(t.TempDir(), "ent")
	if err := os.MkdirAll(target, 0o750); err != nil {
		t.Fatal(err)
	}
	cfg := &gen.Config{Target: target, Package: "example.com/app/ent", Features: gen.AllFeatures}
	if err := entc.Generate("./testdata/encrypted", cfg, entc.Extensions(codegen.Extension{})); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(target, "*", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	encrypted := regexp.MustCompile(`^(By|Where)?(Key|APIKey|Certificate|Seen|Scopes|Limits|Waits)(EQ|NEQ|In|NotIn|G|L|Contains|Has|$|Validator)`)
	seen := 0
	for _, path := range append(files, filepath.Join(target, "entql.go")) {
		if name := filepath.Base(path); name == "session.go" || name == "device.go" || name == "where.go" ||
			name == "entql.go" {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok {
					seen++
					if encrypted.MatchString(f.Name.Name) {
						t.Errorf("%s has the function %s", path, f.Name.Name)
					}
				}
			}
		}
	}
	if seen < 40 {
		t.Errorf("only %d functions were looked at", seen)
	}
}

// What a field says of its tenant, the generated code says to the driver.
func TestTenants(t *testing.T) {
	graph, err := generate(t, "./testdata/bound", "")
	if err != nil {
		t.Fatal(err)
	}
	for entity, want := range map[string][]string{
		"device": {"Name FieldA", "Tenant FieldOrg", "Bound true"},
		"session": {
			"Name FieldA", "Tenant FieldOwnerID", "Bound true", "Name FieldB",
			"Tenant FieldOwnerID", "Name FieldC",
		},
	} {
		data, err := os.ReadFile(filepath.Join(graph.Target, entity, "encrypted_columns.go"))
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, match := range regexp.MustCompile(`(?m)^\t+(Name|Tenant|Bound): +(.*),$`).FindAllStringSubmatch(string(data), -1) {
			lines = append(lines, match[1]+" "+match[2])
		}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Errorf("%s (-want +got):\n%s", entity, diff)
		}
	}
}

// Earlier names reach the generated columns: each name in each table.
func TestEarlierNames(t *testing.T) {
	t.Setenv("NAMES", "table")
	graph, err := generate(t, "./testdata/names", "")
	if err != nil {
		t.Fatal(err)
	}
	for entity, want := range map[string][]string{
		"person": {"people.email,patients.mail,patients.email", "patients.ssn", "patients.scan"},
		"clinic": {"clinics.email"},
	} {
		data, err := os.ReadFile(filepath.Join(graph.Target, entity, "encrypted_columns.go"))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, match := range regexp.MustCompile(`(?m)^\t+Was: +"(.*)",$`).FindAllStringSubmatch(string(data), -1) {
			got = append(got, match[1])
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", entity, diff)
		}
	}
}

func TestPicture(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	write(t, page, "before\n"+codegen.PictureBegin+"\nold\n"+codegen.PictureEnd+"\nafter\n")
	if _, err := generate(t, "../ent/schema", page); err != nil {
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
	if _, err := generate(t, "../ent/schema", page); err == nil ||
		!strings.Contains(err.Error(), codegen.PictureBegin) {
		t.Errorf("a page without the lines: %v", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
