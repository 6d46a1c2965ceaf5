package cli

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"strings"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/encrypted"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/keyring"
)

// states returns the states stored in the database.
func (db *database) states(ctx context.Context) (states.Table, error) {
	stored, _, err := states.Read(ctx, entsql.Conn{ExecQuerier: db.DB}, db.dialect)
	return states.TableOf(stored, encrypted.Columns()), err
}

// checkMovable refuses to move an account if its tokens are bound to its user
// and the database's states don't say so: those tokens would not be
// re-encrypted, and could no longer be opened. It needs a key to find out.
func (db *database) checkMovable(ctx context.Context, user string) error {
	known, err := db.states(ctx)
	if err != nil {
		return err
	}
	ring, err := keyring.FromEnv()
	if err != nil {
		return nil //nolint:nilerr // without a key, unbound tokens can be moved
	}
	for _, table := range encryptedTables() {
		rest := table
		rest.columns = nil
		for _, c := range table.columns {
			if c.Tenant != "" && known.Of(&c).Binding < states.Accept {
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
		_, _, err := page(ctx, db, 0, len(rest.columns)+1, func(_ any, values []sql.NullString) {
			place := seal.Place{Tenant: values[len(rest.columns)]}
			for i, c := range rest.columns {
				place.Column = c
				if o, openErr := locate.OpenAt((*engine.Ring)(ring), place, values[i].String); openErr == nil &&
					o.Bound && refused == nil {
					refused = messagef("the secrets in %s are bound to the user; run `credent state set %[1]s "+
						"binding STATE --in-use` with the state that the services have, so that they are encrypted "+
						"anew", c)
				}
			}
		}, fmt.Sprintf(`SELECT id, %s FROM "%s" WHERE "%s" = $1`, strings.Join(rest.selected(), ", "), table.name, rest.columns[0].Tenant), user)
		if err = cmp.Or(refused, err); err != nil {
			return err
		}
	}
	return nil
}
