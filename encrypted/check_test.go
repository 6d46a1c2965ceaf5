package encrypted_test

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // the database driver

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
)

// vaultRows makes a table whose rows, from the first to the last, have tokens under the given keys; "" stands for NULL.
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

func ringOf(t *testing.T, keys ...string) *encrypted.Keyring {
	t.Helper()
	ring, err := encrypted.NewKeyring(keys[0], keys[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestCheck(t *testing.T) {
	key, other := encrypted.GenerateKey(), encrypted.GenerateKey()
	column := encrypted.Column{Table: "vault", Name: `a "secret"`, Size: 500, ID: "serial"}
	repeat := func(n int, key string) []string {
		return strings.Split(strings.Repeat(key+",", n)[:n*(len(key)+1)-1], ",")
	}
	for name, test := range map[string]struct {
		keys []string
		want error
	}{
		"empty":                      {nil, nil},
		"NULLs":                      {repeat(3, ""), nil},
		"its key":                    {repeat(3, key), nil},
		"another key":                {repeat(3, other), encrypted.ErrUnknownKey},
		"one of many damaged":        {append(repeat(3, key), "damaged"), nil},
		"all damaged":                {repeat(2, "damaged"), encrypted.ErrCorrupt},
		"earlier ones under another": {append(repeat(9, other), key), nil},
		"the last ten under another": {append(repeat(9, key), repeat(10, other)...), encrypted.ErrUnknownKey},
		"NULLs do not count":         {append(repeat(1, other), repeat(20, "")...), encrypted.ErrUnknownKey},
	} {
		db := vaultRows(t, test.keys...)
		err := encrypted.Check(t.Context(), db, ringOf(t, key), column)
		if !errors.Is(err, test.want) || err != nil && (!strings.Contains(err.Error(), `check vault.a "secret": `) || strings.Contains(err.Error(), "CANARY")) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}

	db := vaultRows(t, key)
	t.Setenv("ENCRYPTION_KEY", key)
	if err := encrypted.Check(t.Context(), db, nil, column); err != nil {
		t.Errorf("the key in the environment: %v", err)
	}
	t.Setenv("ENCRYPTION_KEY", "")
	if err := encrypted.Check(t.Context(), db, nil, column); !errors.Is(err, encrypted.ErrNoKey) {
		t.Errorf("no key: got %v", err)
	}
	if err := encrypted.Check(t.Context(), db, ringOf(t, key), encrypted.Column{Table: "vault", Name: "none"}); err == nil {
		t.Error("a column that is not there passes")
	}
	// This process has no generated package.
	if err := encrypted.Check(t.Context(), db, ringOf(t, key)); !errors.Is(err, encrypted.ErrNotBound) {
		t.Errorf("no columns: got %v", err)
	}
}

// Bound secrets are opened as those of their rows.
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
	ring := ringOf(t, encrypted.GenerateKey())
	of7, err := encrypted.BoundKeyring(ring, column, "7")
	if err != nil {
		t.Fatal(err)
	}
	token, err := of7.Encrypt("CANARY")
	if err != nil {
		t.Fatal(err)
	}
	for owner, want := range map[int]error{7: nil, 8: encrypted.ErrContext} {
		if _, err := db.ExecContext(t.Context(), `INSERT OR REPLACE INTO "vault" VALUES (1, $1, $2)`, owner, token); err != nil {
			t.Fatal(err)
		}
		if err := encrypted.Check(t.Context(), db, ring, column); !errors.Is(err, want) {
			t.Errorf("of %d: got %v, want %v", owner, err, want)
		}
	}
}

// Secrets under the keys of their tenants are opened with these; those of a tenant whose key was destroyed are no reason to fail.
func TestCheckTenantKeys(t *testing.T) {
	t.Parallel()
	column := encrypted.Column{Table: "vault", Name: "secret", Size: 500, Tenant: "owner"}
	ring := ringOf(t, encrypted.GenerateKey())
	data, err := fernet.ParseKey(encrypted.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := tenantkey.Wrap(ring, "7", data)
	if err != nil {
		t.Fatal(err)
	}
	token, err := keyring.Of(data).Encrypt("CANARY")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		tenant string
		key    any
		want   error
	}{
		"its key":      {"7", wrapped, nil},
		"destroyed":    {"7", nil, nil},
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
