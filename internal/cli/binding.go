package cli

import (
	"os"
	"slices"
	"strings"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/fieldcrypt"
)

// The environment says which columns' tokens are bound, as the services' options do.
const (
	envBound   = "CREDENT_BOUND"
	envUnbound = "CREDENT_ALLOW_UNBOUND"
)

// columnsFromEnv returns the names of columns in a variable, separated by commas.
func columnsFromEnv(name string) ([]string, error) {
	var names []string
	for column := range strings.SplitSeq(os.Getenv(name), ",") {
		column = strings.TrimSpace(column)
		if column == "" {
			continue
		}
		known, err := fieldcrypt.FindColumn(column)
		if err == nil {
			err = known.CheckTenant()
		}
		if err != nil {
			return nil, messagef("%s: %s", name, trimPackage(err.Error()))
		}
		names = append(names, column)
	}
	return names, nil
}

// bindingFromEnv returns the options of a client that say which columns' tokens are bound.
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

// mustBeBound returns a function that reports whether every token of a column must be bound: the schema or the environment says so, and no window is open.
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
