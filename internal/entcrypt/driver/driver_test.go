package driver_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/entcrypt/statement"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/states"
)

func TestDriverSeals(t *testing.T) {
	useDefault(t) // the driver's keyring is enough
	r := ring(t, keyA)
	id := uuid.New()
	var (
		never *time.Time
		local = time.Date(2024, 7, 1, 12, 0, 0, 0, time.FixedZone("New York", -4*3600))
		none  *uuid.UUID
	)
	args := []any{
		pending(t, wide, wideColumn, "pending"), sql.Named("n", pending(t, wide, wideColumn, "named")),
		pending(t, wide, wideColumn, ""),
		local, &local, never, sql.Named("t", local), 7, "text", []byte("bytes"), nil,
		sql.NullString{},
		sql.NullTime{Time: local, Valid: true},
		sql.Null[time.Time]{V: local, Valid: true},
		sql.NullTime{},
		id, &id, none, json.RawMessage(`{"a":"b"}`),
		[]string{"a"},
		true, 1.5,
	}
	before := slices.Clone(args)

	rec := new(recorder)
	for place, on := range within(t, newDriver(t, rec, driver.Config{Keyring: r})) {
		for _, door := range doors(t.Context()) {
			t.Run(place+"/"+door.name, func(t *testing.T) {
				calls := len(rec.calls)
				if err := door.call(on, insertOf(len(args)), args); err != nil {
					t.Fatal(err)
				}
				if got := rec.calls[calls:]; !slices.Equal(got, []string{door.name}) {
					t.Errorf("the wrapped driver was called by %s", got)
				}
				for i, want := range []string{"pending", "named", ""} {
					value := rec.args[i]
					if named, ok := value.(sql.NamedArg); ok {
						value = named.Value
					}
					token, ok := value.(string)
					if !ok {
						t.Errorf("argument %d is a %T", i, value)
					} else if got, err := r.Decrypt(token); err != nil || got != want {
						t.Errorf("argument %d: got %q, %v, want %q", i, got, err, want)
					}
				}
				for i, want := range []any{
					local.UTC(), local.UTC(), nil, sql.Named("t", local.UTC()), 7, "text", []byte("bytes"), nil,
					sql.NullString{},
					sql.NullTime{Time: local.UTC(), Valid: true},
					sql.Null[time.Time]{V: local.UTC(), Valid: true},
					sql.NullTime{},
					id.String(),
					id.String(),
					nil, json.RawMessage(`{"a":"b"}`),
					[]string{"a"},
					true, 1.5,
				} {
					if !reflect.DeepEqual(rec.args[i+3], want) {
						t.Errorf("argument %d: got %v, want %v", i+3, rec.args[i+3], want)
					}
				}
				for i := range args {
					if fmt.Sprintf("%T %p", args[i], args[i]) != fmt.Sprintf("%T %p", before[i], before[i]) {
						t.Errorf("argument %d of the caller's slice was changed to a %T", i, args[i])
					}
				}
			})
		}
	}
}

func TestDriverPassesOn(t *testing.T) {
	t.Parallel()
	rec := new(recorder)
	drv := newDriver(t, rec, driver.Config{Keyring: ring(t, keyA)})
	args := []any{1, "a", nil}
	if err := drv.Exec(t.Context(), insert, args, nil); err != nil {
		t.Fatal(err)
	}
	if &rec.args[0] != &args[0] {
		t.Error("arguments without secrets were copied")
	}
	for _, args := range []any{[]any{}, nil, "no slice"} {
		if err := drv.Exec(t.Context(), insert, args, nil); err != nil {
			t.Errorf("arguments %v: %v", args, err)
		}
	}
	var result sql.Result
	rec.changed = 3
	if err := drv.Exec(t.Context(), insert, args, &result); err != nil {
		t.Fatal(err)
	}
	if n, err := result.RowsAffected(); err != nil || n != 3 {
		t.Errorf("got %d rows, %v", n, err)
	}
	if err := drv.Query(t.Context(), insert, "no slice", &entsql.Rows{}); err == nil {
		t.Error("a query with arguments of another type is accepted")
	}
	if err := drv.Query(t.Context(), insert, args, new(int)); err == nil {
		t.Error("a query into another type is accepted")
	}
	if got := drv.Dialect(); got != dialect.Postgres {
		t.Errorf("dialect: got %q", got)
	}
	tx, err := drv.Tx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tx.Commit(), tx.Rollback(), drv.Close()); err != nil {
		t.Error(err)
	}
	if got := rec.calls[len(rec.calls)-3:]; !slices.Equal(got, []string{"Commit", "Rollback", "Close"}) {
		t.Errorf("got %v", got)
	}

	rec.err = errors.New("down")
	for _, door := range doors(t.Context()) {
		if err := door.call(drv, insert, args); !errors.Is(err, rec.err) {
			t.Errorf("%s: got %v, want the wrapped driver's error", door.name, err)
		}
	}
	if _, err := drv.Tx(t.Context()); !errors.Is(err, rec.err) {
		t.Errorf("Tx: got %v, want the wrapped driver's error", err)
	}
}

// TestDriverFailsClosed checks that a secret that can't be encrypted doesn't
// reach the database.
func TestDriverFailsClosed(t *testing.T) {
	useDefault(t)
	arg := pending(t, narrow, narrowColumn, "text")
	secret := fieldcrypt.New("text")
	pointer := &secret
	long := fieldcrypt.New(strings.Repeat("x", 304))
	value := fieldcrypt.NewValue(hook{URL: "u"})
	var absent *fieldcrypt.Secret
	unstamped, err := wide.Value(secret)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		ring *keyring.Ring
		arg  any
		want error
	}{
		"pending without a key": {nil, arg, keyring.ErrNoKey},
		"named without a key":   {nil, sql.Named("n", arg), keyring.ErrNoKey},
		"zero keyring":          {new(keyring.Ring), arg, keyring.ErrNoKey},
		"bare secret":           {ring(t, keyA), secret, stamp.ErrNoLocation},
		"pointer":               {ring(t, keyA), pointer, stamp.ErrNoLocation},
		"pointer to a pointer":  {ring(t, keyA), &pointer, stamp.ErrNoLocation},
		"named":                 {ring(t, keyA), sql.Named("n", secret), stamp.ErrNoLocation},
		"absent":                {ring(t, keyA), fieldcrypt.Secret{}, stamp.ErrNoLocation},
		"nil":                   {ring(t, keyA), absent, stamp.ErrNoLocation},
		"Null": {
			ring(t, keyA),
			sql.Null[fieldcrypt.Secret]{V: secret, Valid: true},
			stamp.ErrNoLocation,
		},
		"value":              {ring(t, keyA), value, stamp.ErrNoLocation},
		"pointer to a value": {ring(t, keyA), &value, stamp.ErrNoLocation},
		"Null of a value": {
			ring(t, keyA),
			sql.Null[fieldcrypt.Value[hook]]{V: value, Valid: true},
			stamp.ErrNoLocation,
		},
		"stored":               {ring(t, keyA), scanned(t, "gAAAA"), stamp.ErrNoLocation},
		"of a builder's field": {ring(t, keyA), unstamped, stamp.ErrNoLocation},
		"too long":             {ring(t, keyA), stamp.At(long, wideColumn, nil), column.ErrTooLong},
		"too long, narrow": {
			ring(t, keyA), stamp.At(fieldcrypt.New(strings.Repeat("x", 16)), narrowColumn, nil),
			column.ErrTooLong,
		},
		"not text": {ring(t, keyA), stamp.At(fieldcrypt.New("\xff"), wideColumn, nil), column.ErrNotText},
		"redaction marker": {
			ring(t, keyA), stamp.At(fieldcrypt.New(fieldcrypt.Redacted), wideColumn, nil),
			fieldcrypt.ErrRedacted,
		},
		"no secret": {ring(t, keyA), stamp.At("text", wideColumn, nil), fieldcrypt.ErrValue},
		"unreadable": {
			ring(t, keyA), stamp.At(scanned(t, "PKA1B2C3D4"), wideColumn, nil),
			fieldcrypt.ErrNoOpener,
		},
		"without its digest": {ring(t, keyA), stamp.At(secret, chestPIN, nil), blindindex.ErrBlindIndex},
		"digest alone":       {ring(t, keyA), stamp.DigestOf(secret, chestPIN, nil), blindindex.ErrBlindIndex},
		"digest of no index": {ring(t, keyA), stamp.DigestOf(secret, wideColumn, nil), blindindex.ErrBlindIndex},
		"no tenant":          {ring(t, keyA), stamp.At(secret, heldSecret, nil), seal.ErrNoTenant},
	} {
		rec := new(recorder)
		for place, on := range within(t, newDriver(t, rec, driver.Config{Keyring: test.ring})) {
			rec.calls = nil
			for _, door := range doors(t.Context()) {
				err := door.call(on, insertOf(3), []any{1, test.arg, 2})
				var detail *fieldcrypt.Error
				if !errors.Is(err, test.want) || !errors.As(err, &detail) {
					t.Errorf("%s, %s, %s: got %v, want %v", name, place, door.name, err, test.want)
				}
				if errors.Is(test.want, stamp.ErrNoLocation) && name != "of a builder's field" &&
					name != "pointer to a pointer" && !strings.Contains(err.Error(), "encrypted.At(") {
					t.Errorf("%s, %s, %s: the error doesn't say what to do: %v", name, place, door.name, err)
				}
			}
			if len(rec.calls) > 0 {
				t.Errorf("%s, %s: the wrapped driver was called by %v", name, place, rec.calls)
			}
		}
	}
}

func TestDriverWithoutContextMethods(t *testing.T) {
	t.Parallel()
	rec := new(recorder)
	drv := newDriver(t, bare{rec}, driver.Config{Keyring: ring(t, keyA)})
	for _, door := range doors(t.Context())[2:] {
		if err := door.call(drv, insert, nil); err == nil || !strings.Contains(err.Error(), "has no "+door.name) {
			t.Errorf("%s: got %v", door.name, err)
		}
	}
	_, err := drv.(interface {
		BeginTx(context.Context, *sql.TxOptions) (dialect.Tx, error)
	}).BeginTx(t.Context(), nil)
	if err == nil || len(rec.calls) > 0 {
		t.Errorf("BeginTx: got %v, and the calls %v", err, rec.calls)
	}
}

// mySQL is a recorder of another dialect.
type mySQL struct{ recorder }

func (*mySQL) Dialect() string { return dialect.MySQL }

// sqlite is a recorder of another dialect.
type sqlite struct{ recorder }

func (*sqlite) Dialect() string { return dialect.SQLite }

func TestDialects(t *testing.T) {
	t.Parallel()
	drv, err := driver.New(new(mySQL), driver.Config{Keyring: ring(t, keyA)})
	if drv != nil || !errors.Is(err, driver.ErrDialect) || !strings.Contains(err.Error(), "mysql") {
		t.Errorf("got %v, %v", drv, err)
	}
	for _, next := range []dialect.Driver{new(recorder), new(sqlite)} {
		if drv, err := driver.New(next, driver.Config{Keyring: ring(t, keyA)}); err != nil ||
			drv.Dialect() != next.Dialect() {
			t.Errorf("%s: %v", next.Dialect(), err)
		}
	}
}

// A statement with more arguments than the database accepts never reaches it.
func TestTooManyArgs(t *testing.T) {
	t.Parallel()
	pg, lite := new(recorder), new(sqlite)
	for _, test := range []struct {
		next  dialect.Driver
		rec   *recorder
		limit int
	}{{pg, pg, 65_535}, {lite, &lite.recorder, 32_766}} {
		for place, on := range within(t, newDriver(t, test.next, driver.Config{Keyring: ring(t, keyA)})) {
			for _, door := range doors(t.Context()) {
				test.rec.calls = nil
				if err := door.call(on, insert, make([]any, test.limit)); err != nil ||
					!slices.Equal(test.rec.calls, []string{door.name}) {
					t.Errorf("%s, %s, %s: %v after %v", test.next.Dialect(), place, door.name, err, test.rec.calls)
				}
				test.rec.calls = nil
				err := door.call(on, insert, make([]any, test.limit+1))
				if !errors.Is(err, statement.ErrTooManyArgs) ||
					!strings.Contains(err.Error(), fmt.Sprint(test.limit)) || len(test.rec.calls) > 0 {
					t.Errorf("%s, %s, %s: %v after %v", test.next.Dialect(), place, door.name, err, test.rec.calls)
				}
			}
		}
	}
}

// New refuses states of a column that isn't encrypted, or has no tenant but
// needs one.
func TestConfigOfNoColumn(t *testing.T) {
	t.Parallel()
	none := []column.Column{{Table: "vault", Name: "width"}}
	noTenant := []column.Column{wideColumn}
	for name, test := range map[string]struct {
		cfg driver.Config
		of  column.Column
	}{
		"encryption": {driver.Config{States: states.New(states.Encryption, states.Off, none...)}, none[0]},
		"binding":    {driver.Config{States: binding(states.Require, none...)}, none[0]},
		"tenant keys": {
			driver.Config{States: states.New(states.TenantKeys, states.Accept, none...)},
			none[0],
		},
		"binding, no tenant": {driver.Config{States: binding(states.Accept, noTenant...)}, noTenant[0]},
		"tenant keys, no tenant": {
			driver.Config{States: states.New(states.TenantKeys, states.Write, noTenant...)},
			noTenant[0],
		},
	} {
		drv, err := driver.New(new(recorder), test.cfg)
		if drv != nil || !errors.Is(err, column.ErrNoColumn) || !strings.Contains(err.Error(), test.of.String()) {
			t.Errorf("%s: got %v", name, err)
		}
		if _, _, err := driver.NewSealer(test.cfg); !errors.Is(err, column.ErrNoColumn) {
			t.Errorf("%s: a sealer: got %v", name, err)
		}
	}
	newDriver(t, new(recorder), driver.Config{States: slices.Concat(
		states.New(states.Encryption, states.Write, noTenant...), binding(states.Require, rentedKey),
		binding(states.Require, rentedKey.InSchema("billing")),
	)})
}

// Secrets may be hidden in an argument, in a list for instance. Database
// drivers would send the redaction marker, or fail with an unclear error.
func TestHiddenSecrets(t *testing.T) {
	t.Parallel()
	secret := fieldcrypt.New("secret")
	pointer := &secret
	value := fieldcrypt.NewValue([]byte("secret"))
	type record struct{ fieldcrypt.Secret }
	type settings struct {
		Name string
		Keys map[string]any
	}
	type node struct {
		Next  *node
		Value any
	}
	for _, arg := range []any{
		[]fieldcrypt.Secret{secret},
		[]*fieldcrypt.Secret{pointer},
		[1]fieldcrypt.Secret{secret},
		[][]fieldcrypt.Secret{{secret}},
		[]fieldcrypt.Value[[]byte]{value},
		map[string]fieldcrypt.Secret{"k": secret},
		map[string]any{"k": []any{map[string]any{"deep": secret}}},
		map[*fieldcrypt.Value[[]byte]]string{&value: "k"},
		[]any{7, secret},
		&pointer,
		record{secret},
		&record{secret},
		[]record{{secret}},
		settings{Keys: map[string]any{"k": &value}},
		&settings{Keys: map[string]any{"k": secret}},
		struct{ secret fieldcrypt.Secret }{secret},
		&node{Next: &node{Value: secret}},
		[]sql.Null[fieldcrypt.Secret]{{V: secret, Valid: true}},
		sql.Named("n", []fieldcrypt.Secret{secret}),
	} {
		rec := new(recorder)
		drv := newDriver(t, rec, driver.Config{Keyring: ring(t, keyA)})
		for _, door := range doors(t.Context()) {
			var detail *fieldcrypt.Error
			if err := door.call(drv, insert, []any{arg}); !errors.Is(err, stamp.ErrNoLocation) ||
				!errors.As(err, &detail) {
				t.Errorf("%T by %s: got %v, want ErrNoLocation", arg, door.name, err)
			}
		}
		if len(rec.calls) > 0 {
			t.Errorf("%T reached the database", arg)
		}
	}
	loop := &node{Value: 7}
	loop.Next = loop
	for _, arg := range []any{
		[]fieldcrypt.Secret(nil),
		map[string]any{"k": 7},
		settings{},
		&settings{Keys: map[string]any{"k": "text"}}, loop,
		[]any{7, nil, "text"},
		(*settings)(nil),
		[0]fieldcrypt.Secret{},
		struct{ time.Time }{},
	} {
		if err := newDriver(t, new(recorder), driver.Config{}).Exec(t.Context(), insert, []any{arg}, nil); err != nil {
			t.Errorf("%T: %v", arg, err)
		}
	}
}

// A secret that is printed or marshaled on its way to a statement, as by ent's
// sqljson, becomes the redaction marker.
func TestMarkers(t *testing.T) {
	t.Parallel()
	rec := new(recorder)
	drv := newDriver(t, rec, driver.Config{Keyring: ring(t, keyA)})
	inJSON, err := json.Marshal(map[string]any{"name": "x", "key": fieldcrypt.New("secret")})
	if err != nil {
		t.Fatal(err)
	}
	type named string
	marker := fieldcrypt.Redacted
	for _, arg := range []any{
		fieldcrypt.Redacted, `"[REDACTED]"`, []byte(fieldcrypt.Redacted), []byte(`"[REDACTED]"`), sql.Named("n", fieldcrypt.Redacted),
		json.RawMessage(inJSON), json.RawMessage(`["[REDACTED]"]`), sql.Named("n", json.RawMessage(inJSON)),
		&marker, named(marker),
		sql.NullString{String: marker, Valid: true},
		sql.Null[named]{V: named(marker), Valid: true},
	} {
		for _, door := range doors(t.Context()) {
			var detail *fieldcrypt.Error
			if err := door.call(drv, insert, []any{arg}); !errors.Is(err, fieldcrypt.ErrRedacted) ||
				!errors.As(err, &detail) {
				t.Errorf("%T by %s: got %v, want ErrRedacted", arg, door.name, err)
			}
		}
	}
	if len(rec.calls) > 0 {
		t.Errorf("a marker reached the database by %v", rec.calls)
	}
	// Similar texts aren't markers.
	for _, arg := range []any{
		"REDACTED", "[REDACTED] by hand", "", nil, 7, []byte(nil), []byte("[REDACTED] by hand"), json.RawMessage(`{"a":"[REDACTED] by hand"}`),
		(*string)(nil),
		sql.NullString{},
		sql.NullInt64{},
		sql.Null[time.Time]{},
	} {
		if err := drv.Exec(t.Context(), insert, []any{arg}, nil); err != nil {
			t.Errorf("%v: %v", arg, err)
		}
	}
}

// TestManyRows takes long if sealing is slow: ent's bulk insert has tens of
// thousands of arguments.
func TestManyRows(t *testing.T) {
	t.Parallel()
	const rows, columns = 2000, 9
	b := entsql.Dialect("postgres").Insert("vault").Columns("a", "b", "c", "d", "e", "f", "g", "wide", "narrow")
	for range rows {
		b.Values(1, 2, 3, 4, 5, 6, 7, pending(t, wide, wideColumn, "wide"), pending(t, narrow, narrowColumn, "narrow"))
	}
	query, args := b.Query()
	rec := new(recorder)
	if err := newDriver(t, rec, driver.Config{Keyring: ring(t, keyA)}).Exec(t.Context(), query, args, nil); err != nil {
		t.Fatal(err)
	}
	if len(rec.args) != rows*columns {
		t.Fatalf("%d arguments", len(rec.args))
	}
	for i, arg := range rec.args {
		if _, ok := arg.(string); ok != (i%columns >= 7) {
			t.Fatalf("argument %d is a %T", i, arg)
		}
	}
}

// A lookup's argument becomes the digests under all of the client's keys.
func TestLookup(t *testing.T) {
	t.Parallel()
	pg, lite := new(recorder), new(sqlite)
	for _, test := range []struct {
		next dialect.Driver
		rec  *recorder
	}{{pg, pg}, {lite, &lite.recorder}} {
		r := ring(t, keyA, keyB)
		selector := entsql.Dialect(test.next.Dialect()).Select("*").From(entsql.Table("chest"))
		blindindex.Lookup(chestPIN, fieldcrypt.New("text"))(selector)
		query, args := selector.Query()
		if err := newDriver(t, test.next, driver.Config{Keyring: r}).
			Query(t.Context(), query, args, &entsql.Rows{}); err != nil {
			t.Fatal(err)
		}
		all, err := new(blindindex.Digester).All(r, chestPIN, "text")
		if err != nil {
			t.Fatal(err)
		}
		got := test.rec.args[len(test.rec.args)-1].(string)
		if len(all) != 2 || !strings.Contains(got, fmt.Sprintf("%x", all[0])) ||
			!strings.Contains(got, fmt.Sprintf("%x", all[1])) {
			t.Errorf("got %s", got)
		}
		test.rec.calls = nil
		selector = entsql.Dialect(test.next.Dialect()).Select("*").From(entsql.Table("chest"))
		blindindex.Lookup(chestPIN, fieldcrypt.Secret{})(selector)
		query, args = selector.Query()
		err = newDriver(t, test.next, driver.Config{Keyring: r}).Query(t.Context(), query, args, &entsql.Rows{})
		var detail *fieldcrypt.Error
		if !errors.As(err, &detail) || detail.Op != "look up" || len(test.rec.calls) > 0 {
			t.Errorf("absent: %v after %v", err, test.rec.calls)
		}
	}
}
