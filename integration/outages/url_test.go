//go:build linux || darwin

package outages_test

import (
	"database/sql/driver"
	"net/url"
	"testing"
)

// errBad makes a pool close a connection.
var errBad = driver.ErrBadConn

func asRole(t *testing.T, of, role, password string) string {
	t.Helper()
	u, err := url.Parse(of)
	if err != nil {
		t.Fatal("not a URL") // it has a password
	}
	u.User = url.UserPassword(role, password)
	return u.String()
}
