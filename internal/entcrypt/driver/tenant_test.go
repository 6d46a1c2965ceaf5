package driver_test

import (
	"database/sql"
	"errors"
	"slices"
	"testing"

	"entgo.io/ent"
	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/states"
)

var tenantTables = slices.Concat(vaultTables, []string{
	"CREATE TABLE credent_tenant_keys (tenant TEXT PRIMARY KEY, wrapped TEXT, created_at TEXT, destroyed_at TEXT)",
})

// readKeys reads all rows of the table rented, and reveals their keys after the
// last row.
func readKeys(t *testing.T, on dialect.ExecQuerier) (texts []string, errs []error, err error) {
	t.Helper()
	ctx := ent.NewQueryContext(t.Context(), &ent.QueryContext{Type: "Rented"})
	rows := new(entsql.Rows)
	if err := on.Query(ctx, "SELECT id, key, user_id FROM rented ORDER BY id", []any{}, rows); err != nil {
		return nil, nil, err
	}
	var secrets []fieldcrypt.Secret
	for rows.Next() {
		target := rented.ScanValue()
		if err := rows.Scan(new(sql.NullInt64), target, new(sql.NullString)); err != nil {
			return nil, nil, errors.Join(err, rows.Close())
		}
		secret, err := rented.FromValue(target)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, secret)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, nil, err
	}
	for _, secret := range secrets {
		text, err := secret.Reveal()
		texts, errs = append(texts, text), append(errs, err)
	}
	return texts, errs, nil
}

// Tenants' keys are made, read and destroyed over the statement's connection,
// in a pool of one.
func TestTenantKeys(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	db, next := openDB(t, tenantTables...)
	on := func(cfg driver.Config) dialect.Driver {
		cfg.Keyring = r
		return newDriver(t, next, cfg)
	}
	insert := func(on dialect.ExecQuerier, tenant, text string) error {
		t.Helper()
		value, err := rented.Value(fieldcrypt.New(text))
		if err != nil {
			t.Fatal(err)
		}
		arg, _ := stamped(t, "rented", "key", value, tenant)
		return on.Exec(t.Context(), "INSERT INTO rented (key, user_id) VALUES (?, ?)", []any{arg, tenant}, nil)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(insert(on(driver.Config{}), "a", "bare"))
	must(insert(on(driver.Config{States: tenantKeys(states.Write)}), "a", "one"))
	writer := on(driver.Config{States: tenantKeys(states.Write)})
	tx, err := writer.Tx(t.Context())
	must(err)
	must(insert(tx, "b", "two"))
	must(tx.Commit())
	must(writer.Exec(t.Context(), "INSERT INTO rented (key, user_id) VALUES (?, 'a')",
		[]any{stamp.At(fieldcrypt.New("raw"), rentedKey, "a")}, nil))
	must(insert(on(driver.Config{States: tenantKeys(states.Accept)}), "b", "under the keyring"))
	if got := stored(t, db, "SELECT tenant FROM credent_tenant_keys ORDER BY tenant"); !slices.Equal(got,
		[]string{"a", "b"}) {
		t.Errorf("keys of %v were made", got)
	}
	want := []string{"bare", "one", "two", "raw", "under the keyring"}
	under := []bool{true, false, false, false, true}
	for i, token := range stored(t, db, "SELECT key FROM rented ORDER BY id") {
		if _, err := r.Decrypt(token); (err == nil) != under[i] {
			t.Errorf("%s: opened by the keyring: %v", want[i], err)
		}
	}
	for _, cfg := range []driver.Config{
		{States: tenantKeys(states.Write)},
		{States: tenantKeys(states.Accept)},
		{States: tenantKeys(states.Write), VerifyOnRead: true},
	} {
		if got, errs, err := readKeys(t, on(cfg)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%+v: got %q, %v, %v", cfg, got, errs, err)
		}
	}
	if _, errs, err := readKeys(t, on(driver.Config{})); err != nil || errs[0] != nil || errs[1] == nil {
		t.Errorf("without tenants' keys: %v, %v", errs, err)
	}

	if _, err := db.ExecContext(t.Context(),
		"UPDATE credent_tenant_keys SET wrapped = NULL WHERE tenant = 'a'"); err != nil {
		t.Fatal(err)
	}
	got, errs, err := readKeys(t, on(driver.Config{States: tenantKeys(states.Write)}))
	must(err)
	for i, text := range want {
		shredded := i < 2 || i == 3
		if errors.Is(errs[i], tenantkey.ErrShredded) != shredded || !shredded && got[i] != text {
			t.Errorf("%s: got %q, %v", text, got[i], errs[i])
		}
	}
	if _, _, err := readKeys(t,
		on(driver.Config{States: tenantKeys(states.Write), VerifyOnRead: true})); !errors.Is(err,
		tenantkey.ErrShredded) {
		t.Errorf("strict: %v", err)
	}
	for _, cfg := range []driver.Config{{States: tenantKeys(states.Write)}, {States: tenantKeys(states.Accept)}} {
		if err := insert(on(cfg), "a", "three"); !errors.Is(err, tenantkey.ErrShredded) {
			t.Errorf("%+v: a destroyed key encrypts: %v", cfg, err)
		}
		if err := on(cfg).Exec(t.Context(), "INSERT INTO rented (key) VALUES (?)",
			[]any{stamp.At(fieldcrypt.New("x"), rentedKey, nil)}, nil); !errors.Is(err, seal.ErrNoTenant) {
			t.Errorf("%+v: no tenant: %v", cfg, err)
		}
	}
}

// Rolling back a transaction removes the key that it made.
func TestTenantKeyRolledBack(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	db, next := openDB(t, tenantTables...)
	drv := newDriver(t, next, driver.Config{Keyring: r, States: tenantKeys(states.Write)})
	store := func(on dialect.ExecQuerier) {
		t.Helper()
		if err := on.Exec(t.Context(), "INSERT INTO rented (key, user_id) VALUES (?, 'a')",
			[]any{stamp.At(fieldcrypt.New("text"), rentedKey, "a")}, nil); err != nil {
			t.Fatal(err)
		}
	}
	tx, err := drv.Tx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	store(tx)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	store(drv)
	if n := len(stored(t, db, "SELECT tenant FROM credent_tenant_keys")); n != 1 {
		t.Errorf("%d keys", n)
	}
	if got, errs, err := readKeys(t,
		newDriver(t, next, driver.Config{Keyring: r, States: tenantKeys(states.Write)})); err != nil ||
		!slices.Equal(got, []string{"text"}) {
		t.Errorf("got %q, %v, %v", got, errs, err)
	}
}
