package encrypted_test

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	_ "modernc.org/sqlite" // the database driver

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/keyring"
)

// vaultRows makes a table with rows that have, from the first to the last,
// tokens under the given keys; "" stands for NULL.
func vaultRows(t *testing.T, keys ...string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+t.TempDir()+"/check.db")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE "vault" ("serial" integer PRIMARY KEY, "a ""secret""" text)`); err != nil {
		t.Fatal(err)
	}
	for i, key := range keys {
		var token any
		switch {
		case key == "damaged":
			token = "gAAAA"
		case key == "plaintext":
			token = "CANARY"
		case key != "":
			if token, err = ringOf(t, key).Encrypt(fmt.Sprint("CANARY", i)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := db.ExecContext(t.Context(), `INSERT INTO "vault" VALUES ($1, $2)`, i, token); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

func ringOf(t *testing.T, keys ...string) *keyring.Keyring {
	t.Helper()
	ring, err := keyring.New(keys[0], keys[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// withCanary makes the table of canaries, and stores one of the column under a
// key; "" for none.
func withCanary(t *testing.T, db *sql.DB, key string, of encrypted.Column) {
	t.Helper()
	for _, stmt := range encrypted.CanaryTable(dialect.SQLite) {
		if _, err := db.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	if key == "" {
		return
	}
	// Of an empty table of the same name.
	empty := vaultRows(t)
	for _, stmt := range encrypted.CanaryTable(dialect.SQLite) {
		if _, err := empty.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	if err := encrypted.KeepCanary(t.Context(), empty, ringOf(t, key), of); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO credent_canary VALUES ($1, $2, $3)", of.TableName(), of.Name,
		canaryOf(t, empty)); err != nil {
		t.Fatal(err)
	}
}

// canaryOf returns the one canary of a database, or "".
func canaryOf(t *testing.T, db *sql.DB) (token string) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), "SELECT coalesce(max(token), '') FROM credent_canary").
		Scan(&token); err != nil {
		t.Fatal(err)
	}
	return token
}

var secretColumn = encrypted.Column{Table: "vault", Name: `a "secret"`, Size: 500, ID: "serial"}

func TestCheck(t *testing.T) {
	t.Parallel()
	key, other := keyring.GenerateKey(), keyring.GenerateKey()
	repeat := func(n int, key string) []string {
		return strings.Split(strings.Repeat(key+",", n)[:n*(len(key)+1)-1], ",")
	}
	unknown, corrupt, unseen := encrypted.ErrUnknownKey, encrypted.ErrCorrupt, encrypted.ErrNotChecked
	// What is to come of it without a canary, under one of this key, one of an
	// earlier key, and one of another key.
	for name, test := range map[string]struct {
		keys                          []string
		none, right, earlier, another error
	}{
		"empty":                      {nil, unseen, nil, nil, unknown},
		"NULLs":                      {repeat(3, ""), unseen, nil, nil, unknown},
		"its key":                    {repeat(3, key), nil, nil, nil, unknown},
		"another key":                {repeat(3, other), unknown, unknown, unknown, unknown},
		"one of many damaged":        {append(repeat(3, key), "damaged"), nil, nil, nil, unknown},
		"all damaged":                {repeat(2, "damaged"), corrupt, corrupt, corrupt, corrupt},
		"earlier ones under another": {append(repeat(9, other), key), nil, nil, nil, unknown},
		"the last ten under another": {
			append(repeat(9, key), repeat(10, other)...), unknown, unknown,
			unknown, unknown,
		},
		"NULLs do not count": {append(repeat(1, other), repeat(20, "")...), unknown, unknown, unknown, unknown},
		"far behind NULLs":   {append(repeat(1, key), repeat(200, "")...), unseen, nil, nil, unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			previous := keyring.GenerateKey()
			for canary, want := range map[string]error{
				"": test.none, key: test.right, previous: test.earlier,
				keyring.GenerateKey(): test.another,
			} {
				db := vaultRows(t, test.keys...)
				check := func() error {
					return encrypted.Check(t.Context(), db, ringOf(t, key, previous), secretColumn)
				}
				if canary == "" {
					if err := check(); !errors.Is(err, want) {
						t.Errorf("without the table: got %v, want %v", err, want)
					}
				}
				withCanary(t, db, canary, secretColumn)
				err := check()
				if !errors.Is(err, want) || errors.Is(err, unseen) != errors.Is(want, unseen) {
					t.Errorf("got %v, want %v", err, want)
				}
				if err != nil && (!strings.Contains(err.Error(), `encrypted: check vault.a "secret": `) || strings.Contains(err.Error(), "CANARY") || strings.Contains(err.Error(), "gAAAA")) {
					t.Errorf("it says: %v", err)
				}
			}
		})
	}
}

// Check takes no column and no key from anywhere but its caller.
func TestCheckOfWhat(t *testing.T) {
	key := keyring.GenerateKey()
	db := vaultRows(t, key)
	t.Setenv("ENCRYPTION_KEY", key)
	if err := encrypted.Check(t.Context(), db, nil, secretColumn); !errors.Is(err, encrypted.ErrNoKey) ||
		!strings.Contains(err.Error(), "the client's keyring") {
		t.Errorf("no keyring: got %v", err)
	}
	if err := encrypted.Check(t.Context(), db, ringOf(t, key)); !errors.Is(err, encrypted.ErrNoColumn) {
		t.Errorf("no columns: got %v", err)
	}
	for name, of := range map[string]encrypted.Column{
		"column": {Table: "vault", Name: "none"}, "table": {Table: "none", Name: "a"},
		"index": {Table: "vault", Name: secretColumn.Name, Index: "none"},
	} {
		withCanary(t, db, "", of)
		if err := encrypted.Check(t.Context(), db, ringOf(t, key), of); !errors.Is(err, encrypted.ErrNotChecked) ||
			!strings.Contains(err.Error(), "there is no ") {
			t.Errorf("a %s that isn't there: got %v", name, err)
		}
		if err := encrypted.KeepCanary(t.Context(), db, ringOf(t, key), of); !errors.Is(err, encrypted.ErrNotChecked) {
			t.Errorf("the canary of a %s that isn't there: got %v", name, err)
		}
	}
	// One column that doesn't open is the answer, whatever else isn't known.
	wrong := ringOf(t, keyring.GenerateKey())
	err := encrypted.Check(t.Context(), db, wrong, encrypted.Column{Table: "none", Name: "a"}, secretColumn)
	if !errors.Is(err, encrypted.ErrUnknownKey) || errors.Is(err, encrypted.ErrNotChecked) {
		t.Errorf("a missing table and a wrong key: got %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := encrypted.Check(t.Context(), db, ringOf(t, key), secretColumn); !errors.Is(err, encrypted.ErrNotChecked) {
		t.Errorf("a database that is closed: got %v", err)
	}
}

func TestKeepCanary(t *testing.T) {
	t.Parallel()
	key, other := keyring.GenerateKey(), keyring.GenerateKey()
	for name, test := range map[string]struct {
		keys []string
		want error
	}{
		"empty":                   {nil, nil},
		"its key":                 {[]string{key}, nil},
		"another key":             {[]string{other, other}, encrypted.ErrUnknownKey},
		"another key, and its":    {[]string{other, key, other}, nil},
		"another, far behind":     {append([]string{other}, make([]string, 300)...), encrypted.ErrUnknownKey},
		"another, among damaged":  {[]string{other, "damaged"}, encrypted.ErrCorrupt},
		"plaintext":               {[]string{"plaintext"}, nil},
		"plaintext and its key":   {[]string{"plaintext", key}, nil},
		"plaintext, another key":  {[]string{"plaintext", other}, encrypted.ErrUnknownKey},
		"plaintext among its key": {[]string{key, "plaintext", key}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := vaultRows(t, test.keys...)
			if err := encrypted.KeepCanary(t.Context(), db, ringOf(t, key), secretColumn); !errors.Is(err,
				encrypted.ErrNoCanaryTable) || !strings.Contains(err.Error(), "encrypted.CanaryTable") {
				t.Errorf("without the table: got %v", err)
			}
			withCanary(t, db, "", secretColumn)
			for range 2 {
				before := canaryOf(t, db)
				if err := encrypted.KeepCanary(t.Context(), db, ringOf(t, key),
					secretColumn); !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
				if after := canaryOf(t, db); (after == "") != (test.want != nil) || before != "" && after != before {
					t.Errorf("the canary was %q and is %q", before, after)
				}
			}
			if test.want != nil {
				return
			}
			// Another key changes nothing, whether it is the only one or not.
			before := canaryOf(t, db)
			if err := encrypted.KeepCanary(t.Context(), db, ringOf(t, keyring.GenerateKey()),
				secretColumn); !errors.Is(err, encrypted.ErrUnknownKey) {
				t.Errorf("another key: got %v", err)
			}
			if err := encrypted.KeepCanary(t.Context(), db, ringOf(t, keyring.GenerateKey(), key),
				secretColumn); err != nil {
				t.Errorf("a new primary key: got %v", err)
			}
			if after := canaryOf(t, db); after != before {
				t.Error("the canary was replaced")
			}
			// A canary is no secret of any column.
			if _, err := ringOf(t, key).Decrypt(before); !errors.Is(err, encrypted.ErrUnknownKey) {
				t.Errorf("the keyring opens the canary as a secret: %v", err)
			}
		})
	}
	if encrypted.CanaryTable(dialect.MySQL) != nil {
		t.Error("there is a table for MySQL")
	}
}

// Bound secrets are opened in their rows.
func TestCheckBound(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+t.TempDir()+"/bound.db")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE "vault" ("id" integer PRIMARY KEY, "owner" integer, "secret" text)`); err != nil {
		t.Fatal(err)
	}
	column := encrypted.Column{Table: "vault", Name: "secret", Size: 500, Tenant: "owner", Bound: true}
	ring := ringOf(t, keyring.GenerateKey())
	of7, err := encrypted.BoundKeyring(ring, column, "7")
	if err != nil {
		t.Fatal(err)
	}
	token, err := of7.Encrypt("CANARY")
	if err != nil {
		t.Fatal(err)
	}
	for owner, want := range map[int]error{7: nil, 8: encrypted.ErrWrongLocation} {
		if _, err := db.ExecContext(t.Context(), `INSERT OR REPLACE INTO "vault" VALUES (1, $1, $2)`, owner, token); err != nil {
			t.Fatal(err)
		}
		if err := encrypted.Check(t.Context(), db, ring, column); !errors.Is(err, want) {
			t.Errorf("of %d: got %v, want %v", owner, err, want)
		}
	}
}

// Secrets under the keys of their tenants are opened with these; secrets of a
// tenant with a destroyed key say nothing about the keyring.
func TestCheckTenantKeys(t *testing.T) {
	t.Parallel()
	column := encrypted.Column{Table: "vault", Name: "secret", Size: 500, Tenant: "owner"}
	ring := ringOf(t, keyring.GenerateKey())
	data, err := fernet.ParseKey(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := tenantkey.Wrap((*engine.Ring)(ring), "7", data)
	if err != nil {
		t.Fatal(err)
	}
	token, err := engine.Of(data).Encrypt("CANARY")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		tenant string
		key    any
		want   error
	}{
		"its key":      {"7", wrapped, nil},
		"destroyed":    {"7", nil, encrypted.ErrNotChecked},
		"another's":    {"8", wrapped, encrypted.ErrUnknownKey},
		"without keys": {"", nil, encrypted.ErrUnknownKey},
	} {
		db, err := sql.Open("sqlite", "file:"+t.TempDir()+"/tenants.db")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		exec := func(query string, args ...any) {
			if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
				t.Fatal(err)
			}
		}
		exec(`CREATE TABLE "vault" ("id" integer PRIMARY KEY, "owner" integer, "secret" text)`)
		exec(`INSERT INTO "vault" VALUES (1, 7, $1)`, token)
		if test.tenant != "" {
			exec("CREATE TABLE credent_tenant_keys (tenant text PRIMARY KEY, wrapped text)")
			exec("INSERT INTO credent_tenant_keys VALUES ($1, $2)", test.tenant, test.key)
		}
		if err := encrypted.Check(t.Context(), db, ring, column); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}
