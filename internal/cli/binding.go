package cli

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
)

// The environment says which columns' tokens are bound, as the services'
// options do.
const (
	envBound   = "CREDENT_BOUND"
	envUnbound = "CREDENT_ALLOW_UNBOUND"
)

// columnsFromEnv returns the names of columns in a variable, separated by
// commas.
func columnsFromEnv(name string) ([]string, error) {
	var names []string
	for part := range strings.SplitSeq(os.Getenv(name), ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		known, err := column.Find(part)
		if err == nil {
			err = known.CheckTenant()
		}
		if err != nil {
			return nil, messagef("%s: %s", name, trimPackage(err.Error()))
		}
		names = append(names, part)
	}
	return names, nil
}

// bindingFromEnv returns the options of a client that say which columns' tokens
// are bound.
func bindingFromEnv() ([]credent.Option, error) {
	bound, err := columnsFromEnv(envBound)
	if err != nil {
		return nil, err
	}
	unbound, err := columnsFromEnv(envUnbound)
	if err != nil {
		return nil, err
	}
	return []credent.Option{credent.Bound(bound...), credent.AllowUnbound(unbound...)}, nil
}

// mustBeBound returns a function that reports whether every token of a column
// must be bound: the schema or the environment says so, and no window is open.
func mustBeBound() (func(credent.EncryptedColumn) bool, error) {
	bound, err := columnsFromEnv(envBound)
	if err != nil {
		return nil, err
	}
	unbound, err := columnsFromEnv(envUnbound)
	if err != nil {
		return nil, err
	}
	return func(c credent.EncryptedColumn) bool {
		return (c.Bound || slices.Contains(bound, c.String())) && !slices.Contains(unbound, c.String())
	}, nil
}

// checkMovable refuses to move an account whose tokens are bound to its user,
// if the environment does not say that they are: they would be left behind, and
// open no more. Without a key that cannot be told.
func (db *database) checkMovable(ctx context.Context, user string) error {
	bound, err := columnsFromEnv(envBound)
	if err != nil {
		return err
	}
	unbound, err := columnsFromEnv(envUnbound)
	if err != nil {
		return err
	}
	ring, err := credent.KeyringFromEnv()
	if err != nil {
		return nil //nolint:nilerr // tokens that are not bound are moved without a key
	}
	for _, table := range encryptedTables() {
		rest := table
		rest.columns = nil
		for _, c := range table.columns {
			if c.Tenant != "" && !c.Bound && !slices.Contains(bound, c.String()) && !slices.Contains(unbound, c.String()) {
				rest.columns = append(rest.columns, c)
			}
		}
		if len(rest.columns) == 0 {
			continue
		}
		var (
			refused error
			locate  seal.Locator
		)
		_, _, err := page(ctx, db, len(rest.columns)+1, func(_ any, values []sql.NullString) {
			place := seal.Place{Tenant: values[len(rest.columns)]}
			for i, c := range rest.columns {
				place.Column = c
				if _, isBound, openErr := locate.KeyAt(ring, place, values[i].String); openErr == nil && isBound && refused == nil {
					refused = messagef("the secrets in %s are bound to the user; set %s=%[1]s, as the services have it, so that they are encrypted anew", c, envBound)
				}
			}
		}, fmt.Sprintf(`SELECT id, %s FROM "%s" WHERE "%s" = $1`, strings.Join(rest.selected(), ", "), table.name, rest.columns[0].Tenant), user)
		if err = cmp.Or(refused, err); err != nil {
			return err
		}
	}
	return nil
}
