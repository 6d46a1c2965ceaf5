package tenancy_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/principal"
	"github.com/credent-go/credent/internal/tenancy"
)

func newGuarded(t *testing.T) (*recorder, dialect.Driver) {
	t.Helper()
	guard, err := tenancy.NewGuard(dialect.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{name: dialect.Postgres, fail: map[string]error{}, rows: 1}
	return r, tenancy.NewDriver(full{r}, guard)
}

// short returns calls without the SQL that checks the role.
func short(calls []string) []string {
	for i, call := range calls {
		if from, to := strings.Index(call, ", coalesce("), strings.LastIndex(call, ")"); from > 0 && to > from {
			calls[i] = call[:from] + ", role" + call[to+1:]
		}
	}
	return calls
}

// With a guard, each statement runs as a user, "" for none, and the role is
// checked in the round trip that sets the user.
func TestGuardedCalls(t *testing.T) {
	t.Parallel()
	const (
		u1   = `SELECT credent_set_user($1)::text, role ["u1"]`
		none = `SELECT credent_set_user($1)::text, role [""]`
	)
	r, drv := newGuarded(t)
	ctx := principal.WithUser(t.Context(), "u1")
	exec := func(ctx context.Context) error { return drv.Exec(ctx, stmt, []any{}, nil) }
	for name, test := range map[string]struct {
		ctx  context.Context
		want []string
	}{
		"user":    {ctx, []string{"begin", u1, "close rows", stmt, "commit"}},
		"no user": {t.Context(), []string{"begin", none, "close rows", stmt, "commit"}},
	} {
		if err := exec(test.ctx); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(test.want, short(r.take())); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, err := drv.(raw2).QueryContext(t.Context(), stmt); !errors.Is(err, tenancy.ErrNeedsTx) { //nolint:rowserrcheck,sqlclosecheck // there are none
		t.Errorf("QueryContext: %v", err)
	}
	// If the role is refused, nothing runs, and the transaction ends.
	r.found = "owner\tuser_accounts\tapp\tada\town\ter"
	var rows entsql.Rows
	_, txErr := drv.Tx(ctx)
	_, execErr := drv.(raw2).ExecContext(t.Context(), stmt)
	for i, err := range []error{exec(ctx), exec(t.Context()), drv.Query(ctx, stmt, []any{}, &rows), txErr, execErr} {
		var detail *tenancy.RowSecurityError
		if !errors.Is(err, tenancy.ErrRowSecurity) || errors.Is(err, tenancy.ErrUnsupported) ||
			!errors.As(err, &detail) ||
			detail.Role != "app" || detail.Login != "ada" || detail.Table != "user_accounts" {
			t.Errorf("%d: %v", i, err)
		}
	}
	for _, call := range r.take() {
		if call == stmt || call == "commit" {
			t.Errorf("%s was called", call)
		}
	}
	// An unreadable answer counts as a refusal.
	for _, found := range []string{"owner", "new\tuser_accounts\tapp\tada\towner", "\tuser_accounts\tapp\tada\towner"} {
		r.found = found
		if err := exec(ctx); err == nil {
			t.Errorf("%q: no error", found)
		}
	}
	r.found, r.fail[stmt] = "", nil
	for _, where := range []string{"rows", "close rows"} {
		r.fail = map[string]error{where: sql.ErrConnDone}
		if err := exec(ctx); !errors.Is(err, sql.ErrConnDone) {
			t.Errorf("%s failed: %v", where, err)
		}
	}
	r.fail, r.rows = nil, 0
	if err := exec(ctx); err == nil {
		t.Error("no answer: no error")
	}
}

func TestGuardOfOtherDatabases(t *testing.T) {
	t.Parallel()
	for _, name := range []string{dialect.SQLite, dialect.MySQL} {
		if _, err := tenancy.NewGuard(name); !errors.Is(err, tenancy.ErrRowSecurity) ||
			!errors.Is(err, tenancy.ErrUnsupported) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
