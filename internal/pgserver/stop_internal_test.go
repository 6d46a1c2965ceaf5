package pgserver

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"syscall"
	"testing"
)

// cut is a connection to a server that has crashed.
type cut struct{ driver.Conn }

func (cut) Close() error { return syscall.EPIPE }

type connector struct{}

func (connector) Connect(context.Context) (driver.Conn, error) { return cut{}, nil }

func (connector) Driver() driver.Driver { return nil }

// Stop succeeds after a crash that broke the pool's connection.
func TestStopBehindACrash(t *testing.T) {
	t.Parallel()
	admin := sql.OpenDB(connector{})
	conn, err := admin.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil { // back to the pool
		t.Fatal(err)
	}
	if err := (&Server{admin: admin}).Stop(); err != nil {
		t.Error(err)
	}
}
