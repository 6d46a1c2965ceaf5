package partitions

import (
	"testing"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

// onCitus returns the layout of a cluster, if a test cluster is available.
func onCitus() []layout {
	if !testdb.HasCitus() {
		return nil
	}
	return []layout{{name: migrate.Citus, database: distributed}}
}

func distributed(t *testing.T) string {
	t.Helper()
	url, _ := testdb.NewCitus(t)
	db, _, err := testopt.OpenDB(url)
	if err != nil {
		t.Fatal(err)
	}
	defer testdb.CloseAll(t, db)
	if err := migrate.Apply(t.Context(), db, migrate.Config{Layout: migrate.Citus}); err != nil {
		t.Fatal(err)
	}
	return url
}
