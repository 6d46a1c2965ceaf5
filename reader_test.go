package credent_test

import (
	"errors"
	"strings"
	"testing"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	dbopen "github.com/credent-go/credent/open"
	"github.com/credent-go/credent/open/sqlite"
)

// A standby that is given twice, or that can't be one, is refused before
// anything is done. No error quotes its URL.
func TestWithReader(t *testing.T) {
	t.Parallel()
	client, url := open(credent.Config{Keyring: newKeyring()})
	closeClient(client)
	db, d, err := credent.OpenDB(url, credent.WithDriver(sqlite.Driver()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	given := credent.Config{Keyring: newKeyring(), Reader: entsql.OpenDB(d, db)}
	for name, test := range map[string]struct {
		cfg    credent.Config
		reader string
		want   error
	}{
		"standby":     {credent.Config{Keyring: newKeyring()}, url, nil},
		"given twice": {given, url, credent.ErrConfig},
		"another dialect": {
			credent.Config{Keyring: newKeyring()},
			"postgres://u:hidden@127.0.0.1:1/d",
			credent.ErrConfig,
		},
		"no URL": {credent.Config{Keyring: newKeyring()}, "hidden", dbopen.ErrURL},
		"empty":  {credent.Config{Keyring: newKeyring()}, "", dbopen.ErrURL},
	} {
		c, err := credent.Open(t.Context(), url, test.cfg, credent.WithDriver(sqlite.Driver()),
			credent.WithReader(test.reader))
		if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) ||
			err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		if err == nil {
			closeClient(c)
		}
	}
	if _, _, err := credent.OpenDB(url, credent.WithDriver(sqlite.Driver()), credent.WithReader(url)); !errors.Is(err,
		credent.ErrConfig) {
		t.Errorf("OpenDB: got %v", err)
	}
}
