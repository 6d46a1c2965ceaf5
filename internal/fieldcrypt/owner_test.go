package fieldcrypt_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// The table "rented" has the secrets key and pin, both bound here, and the tenant user_id.
func TestOwners(t *testing.T) {
	t.Parallel()
	s := fieldcrypt.New("text")
	for name, test := range map[string]struct {
		query string
		args  []any
		now   string   // whose the row is, if the statement asks
		want  []string // whose each secret among the arguments is, pin: for a pin; nil if the statement is refused
		asks  bool
	}{
		"insert":            {`INSERT INTO "rented" ("id", "key", "user_id", "pin") VALUES ($1, $2, $3, $4)`, []any{1, s, "a", s}, "", []string{"a", "pin:a"}, false},
		"insert many":       {`INSERT INTO rented (key, user_id) VALUES ($1, $2), ($3, $4)`, []any{s, "a", s, "b"}, "", []string{"a", "b"}, false},
		"insert shared":     {`INSERT INTO rented (key, user_id) VALUES ($1, $2), ($3, $2)`, []any{s, "a", s}, "", []string{"a", "a"}, false},
		"insert NULL":       {`INSERT INTO rented (key, pin, user_id) VALUES ($1, NULL, $2)`, []any{s, "a"}, "", []string{"a"}, false},
		"insert absent":     {`INSERT INTO rented (key, pin, user_id) VALUES ($1, $2, $3)`, []any{s, fieldcrypt.Secret{}, "a"}, "", []string{"a"}, false},
		"no tenant":         {`INSERT INTO rented (key) VALUES ($1)`, []any{s}, "", nil, false},
		"tenant NULL":       {`INSERT INTO rented (key, user_id) VALUES ($1, $2)`, []any{s, nil}, "", nil, false},
		"tenant literal":    {`INSERT INTO rented (key, user_id) VALUES ($1, 'a')`, []any{s}, "", nil, false},
		"tenant expression": {`INSERT INTO rented (key, user_id) VALUES ($1, lower($2))`, []any{s, "a"}, "", nil, false},
		"copied":            {`INSERT INTO rented (key, user_id) SELECT key, $1 FROM rented`, []any{"a"}, "", nil, false},
		"token":             {`INSERT INTO rented (key, user_id) VALUES ($1, $2)`, []any{"gAAAAA", "a"}, "", nil, false},
		"token literal":     {`INSERT INTO rented (key, user_id) VALUES ('gAAAAA', $1)`, []any{"a"}, "", nil, false},
		"no secret":         {`INSERT INTO rented (id, user_id) VALUES ($1, $2)`, []any{1, "a"}, "", []string{}, false},

		"nothing":             {`INSERT INTO rented (key, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, []any{s, "a"}, "", []string{"a"}, false},
		"new values":          {`INSERT INTO rented (key, user_id, pin) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET key = excluded.key, user_id = excluded.user_id, pin = excluded.pin`, []any{s, "a", s}, "", []string{"a", "pin:a"}, false},
		"of many":             {`INSERT INTO rented (key, user_id, pin) VALUES ($1, $2, $3), ($4, $5, $6) ON CONFLICT (id) DO UPDATE SET key = excluded.key, user_id = excluded.user_id, pin = excluded.pin`, []any{s, "a", s, s, "b", s}, "", []string{"a", "pin:a", "b", "pin:b"}, false},
		"ignore":              {`INSERT INTO rented (key, user_id) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET key = rented.key, user_id = rented.user_id`, []any{s, "a"}, "", []string{"a"}, false},
		"half moved":          {`INSERT INTO rented (key, user_id) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET key = excluded.key, user_id = excluded.user_id`, []any{s, "a"}, "", nil, false},
		"moved only":          {`INSERT INTO rented (id, user_id) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id`, []any{1, "a"}, "", nil, false},
		"another's perhaps":   {`INSERT INTO rented (key, user_id) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET key = excluded.key`, []any{s, "a"}, "", nil, false},
		"argument":            {`INSERT INTO rented (key, user_id) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET key = $3`, []any{s, "a", s}, "", nil, false},
		"tenant in target":    {`INSERT INTO rented (key, user_id) VALUES ($1, $2) ON CONFLICT (user_id, kind) DO UPDATE SET key = excluded.key`, []any{s, "a"}, "", []string{"a"}, false},
		"argument, target":    {`INSERT INTO rented (key, user_id) VALUES ($1, $2) ON CONFLICT ("user_id") DO UPDATE SET key = $3`, []any{s, "a", s}, "", []string{"a", "a"}, false},
		"expression target":   {`INSERT INTO rented (key, user_id) VALUES ($1, $2) ON CONFLICT (lower(user_id)) DO UPDATE SET key = excluded.key`, []any{s, "a"}, "", nil, false},
		"tenant is argument":  {`INSERT INTO rented (key, user_id) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET user_id = $3, key = excluded.key, pin = $4`, []any{s, "a", "a", s}, "", []string{"a", "pin:a"}, false},
		"tenant is another":   {`INSERT INTO rented (key, user_id) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET user_id = $3, key = excluded.key, pin = $4`, []any{s, "a", "b", s}, "", nil, false},
		"tenant is something": {`INSERT INTO rented (key, user_id) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET user_id = lower($2), key = excluded.key, pin = NULL`, []any{s, "a"}, "", nil, false},
		"excluded pin":        {`INSERT INTO rented (key, user_id, pin) VALUES ($1, $2, $3) ON CONFLICT (user_id) DO UPDATE SET key = excluded.pin`, []any{s, "a", s}, "", nil, false},

		"update":           {`UPDATE "rented" SET "key" = $1 WHERE "id" = $2`, []any{s, 1}, "a", []string{"a"}, true},
		"update both":      {`UPDATE rented SET key = $1, pin = $2 WHERE id = $3`, []any{s, s, 1}, "a", []string{"a", "pin:a"}, true},
		"of no secret":     {`UPDATE rented SET kind = $1 WHERE id = $2`, []any{"x", 1}, "a", []string{}, false},
		"of many rows":     {`UPDATE rented SET kind = $1`, []any{"x"}, "a", []string{}, false},
		"to NULL":          {`UPDATE rented SET pin = NULL WHERE user_id = $1`, []any{"a"}, "a", []string{}, false},
		"swap":             {`UPDATE rented SET key = pin, pin = key WHERE id = $1`, []any{1}, "a", nil, true},
		"from":             {`UPDATE rented SET key = o.key FROM rented AS o WHERE rented.id = $1`, []any{1}, "a", nil, false},
		"a token":          {`UPDATE rented SET key = $1 WHERE id = $2`, []any{"gAAAAA", 1}, "a", nil, true},
		"move":             {`UPDATE rented SET user_id = $1 WHERE id = $2`, []any{"b", 1}, "a", nil, true},
		"move of many":     {`UPDATE rented SET user_id = $1 WHERE user_id = $2`, []any{"b", "a"}, "a", nil, false},
		"move to nobody":   {`UPDATE rented SET user_id = lower(user_id) WHERE id = $1`, []any{1}, "a", nil, false},
		"no move":          {`UPDATE rented SET user_id = $1, key = $2 WHERE id = $3`, []any{"a", s, 1}, "a", []string{"a"}, true},
		"move with all":    {`UPDATE rented SET user_id = $1, key = $2, pin = $3 WHERE id = $4`, []any{"b", s, s, 1}, "a", []string{"b", "pin:b"}, false},
		"move with half":   {`UPDATE rented SET user_id = $1, key = $2 WHERE id = $3`, []any{"b", s, 1}, "a", nil, true},
		"list":             {`UPDATE rented SET (key, user_id) = ($1, $2) WHERE id = $3`, []any{"x", "b", 1}, "a", nil, false},
		"other table":      {`UPDATE "vault" SET "wide" = $1 WHERE "id" = $2`, []any{s, 1}, "a", []string{""}, false},
		"delete":           {`DELETE FROM rented WHERE user_id = $1`, []any{"a"}, "a", []string{}, false},
		"not plain, alone": {`UPDATE rented SET kind = E'\'' WHERE id = $1`, []any{1}, "a", nil, false},
	} {
		r := ring(t, keyA)
		cfg := fieldcrypt.DriverConfig{Keyring: r, Bound: []fieldcrypt.ColumnInfo{rentedKey, rentedPIN}}
		for where, tx := range map[string]bool{"": false, " in a transaction": true} {
			name := name + where
			rec := &recorder{result: &fakeRows{columns: []string{"user_id"}, rows: [][]any{{test.now}}}}
			drv := fieldcrypt.NewDriver(rec, cfg)
			exec := drv.Exec
			if tx {
				begun, err := drv.Tx(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				exec = begun.Exec
			}
			err := exec(t.Context(), test.query, test.args, nil)
			asks := []string{"Tx", "Query", "Exec", "Commit"}
			if tx {
				asks = []string{"Tx", "Query", "Exec"}
			}
			if test.want == nil {
				if !errors.Is(err, fieldcrypt.ErrContext) || !strings.Contains(err.Error(), "user_id") || slices.Contains(rec.calls, "Exec") {
					t.Errorf("%s: got %v after %v, want ErrContext", name, err, rec.calls)
				}
				if test.asks != slices.Contains(rec.calls, "Query") || test.asks && !tx && !slices.Contains(rec.calls, "Rollback") {
					t.Errorf("%s: %v", name, rec.calls)
				}
				continue
			}
			if err != nil || test.asks != slices.Contains(rec.calls, "Query") || test.asks && !slices.Equal(rec.calls, asks) {
				t.Errorf("%s: %v after %v", name, err, rec.calls)
				continue
			}
			n := 0
			for i, arg := range rec.executed {
				if secret, ok := test.args[i].(fieldcrypt.Secret); !ok || secret.IsZero() {
					continue
				}
				of := r
				if tenant, isPIN := strings.CutPrefix(test.want[n], "pin:"); isPIN {
					of = bound(t, r, rentedPIN, tenant)
				} else if tenant != "" {
					of = bound(t, r, rentedKey, tenant)
				}
				if _, err := of.Decrypt(arg.(string)); err != nil {
					t.Errorf("%s: argument %d is not of %q: %v", name, i, test.want[n], err)
				}
				n++
			}
			if n != len(test.want) {
				t.Errorf("%s: %d secrets, want %d", name, n, len(test.want))
			}
		}
	}
}

// An update of a row that is not there finds none, whatever is inserted meanwhile; RETURNING needs a transaction.
func TestOwnerLookups(t *testing.T) {
	t.Parallel()
	cfg := fieldcrypt.DriverConfig{Keyring: ring(t, keyA), Bound: []fieldcrypt.ColumnInfo{rentedKey}}
	rec := &recorder{result: &fakeRows{columns: []string{"user_id"}}}
	drv := fieldcrypt.NewDriver(rec, cfg)
	const update = `UPDATE "rented" SET "key" = $1 WHERE "id" = $2`
	args := []any{fieldcrypt.New("text"), 1}
	if err := drv.Exec(t.Context(), update, args, nil); err != nil || rec.executed[1] != nil || args[1] != 1 {
		t.Errorf("no row: %v, with the id %v", err, rec.executed[1])
	}
	rec.calls = nil
	if err := drv.Query(t.Context(), update+` RETURNING "id"`, args, nil); !errors.Is(err, fieldcrypt.ErrContext) ||
		!strings.Contains(err.Error(), "transaction") || len(rec.calls) > 0 {
		t.Errorf("RETURNING outside of a transaction: %v after %v", err, rec.calls)
	}
	down := errors.New("the server is down")
	rec.err = down
	if err := drv.Exec(t.Context(), update, args, nil); !errors.Is(err, down) || slices.Contains(rec.calls, "Exec") {
		t.Errorf("got %v after %v", err, rec.calls)
	}
}
