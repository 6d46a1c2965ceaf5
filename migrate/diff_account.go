package migrate

import (
	"fmt"

	atlas "ariga.io/atlas/sql/schema"
	"entgo.io/ent/dialect/sql/schema"

	"github.com/credent-go/credent/ent/useraccount"
)

// accountKey is a credential's foreign key, named by ent's edge.
const accountKey = "user_credentials_user_id_user_account_id_fkey"

// addUserToAccountKey gives a credential's foreign key both columns, as in the
// database, so that a credential's user_id is its account's. ent's edges have
// one column.
func addUserToAccountKey(next schema.Differ) schema.Differ {
	return schema.DiffFunc(func(current, desired *atlas.Schema) ([]atlas.Change, error) {
		if err := completeAccountKey(desired); err != nil {
			return nil, err
		}
		return next.Diff(current, desired)
	})
}

func completeAccountKey(s *atlas.Schema) error {
	table, ok := s.Table(useraccount.CredentialsTable)
	if !ok {
		return nil // another generated package
	}
	key, ok := table.ForeignKey(accountKey)
	if !ok || len(key.Columns) != 1 {
		return nil
	}
	from, ok := table.Column(useraccount.FieldUserID)
	to, found := key.RefTable.Column(useraccount.FieldUserID)
	if !ok || !found {
		return fmt.Errorf("the tables of %s have no column for the user", accountKey)
	}
	key.Columns = []*atlas.Column{from, key.Columns[0]}
	key.RefColumns = []*atlas.Column{to, key.RefColumns[0]}
	key.OnUpdate = atlas.Cascade
	from.ForeignKeys = append(from.ForeignKeys, key)
	return nil
}
