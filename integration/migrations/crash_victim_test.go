package migrations

import (
	"bufio"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/lib/pq"
	"modernc.org/sqlite"

	"github.com/credent-go/credent/internal/testopt"
)

// crasher numbers a connection's points.
type crasher struct {
	driver.Conn
	pid    int32
	last   string
	before func(pid int32, point string)
}

// point returns a statement's name, or "" if it changes nothing.
func (c *crasher) point(query string, args []driver.NamedValue) string {
	verb, _, _ := strings.Cut(strings.TrimSpace(query), " ")
	switch strings.ToUpper(verb) {
	case "SELECT", "SHOW", "BEGIN", "ROLLBACK", "WITH", "PRAGMA", "":
		return ""
	case "COMMIT":
		return "COMMIT after " + c.last
	}
	c.last = query
	if strings.Contains(query, "atlas_schema_revisions") && len(args) > 10 {
		c.last = fmt.Sprintf("history of %v at %v with %v", args[0].Value, args[3].Value, args[10].Value)
	}
	return c.last
}

// ExecContext implements driver.ExecerContext.
func (c *crasher) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if point := c.point(query, args); point != "" {
		c.before(c.pid, point)
	}
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

// QueryContext implements driver.QueryerContext.
func (c *crasher) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

// CheckNamedValue implements driver.NamedValueChecker.
func (c *crasher) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

type crashConnector struct {
	driver.Connector
	before func(pid int32, point string)
}

// Connect implements driver.Connector.
func (c crashConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if _, ok := c.Driver().(*sqlite.Driver); ok {
		return &crasher{Conn: conn, before: c.before}, nil
	}
	rows, err := conn.(driver.QueryerContext).QueryContext(ctx, "SELECT pg_backend_pid()::text", nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	value := make([]driver.Value, 1)
	if err := errors.Join(rows.Next(value), rows.Close()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	var pid int32
	if _, err := fmt.Sscan(fmt.Sprintf("%s", value[0]), &pid); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &crasher{Conn: conn, pid: pid, before: c.before}, nil
}

// fileConnector connects to an SQLite file.
type fileConnector string

// Connect implements driver.Connector.
func (c fileConnector) Connect(context.Context) (driver.Conn, error) {
	return c.Driver().Open(string(c))
}

// Driver implements driver.Connector.
func (c fileConnector) Driver() driver.Driver { return &sqlite.Driver{} }

// openCrashing returns a pool that calls a function before each point.
func openCrashing(driverName, url string, before func(pid int32, point string)) (*sql.DB, error) {
	var (
		connector driver.Connector
		err       error
	)
	switch driverName {
	case "sqlite":
		connector = fileConnector(url)
	case "pgx":
		connector, err = stdlib.GetDefaultDriver().(driver.DriverContext).OpenConnector(url)
	default:
		connector, err = pq.NewConnector(url)
	}
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(crashConnector{connector, before}), nil
}

// envVictim makes this program migrate and wait to be killed.
const envVictim = "CREDENT_TEST_VICTIM"

// order is a victim's instruction.
type order struct {
	Driver, URL, Dir string
	Points           []string // where it continues
}

// victim migrates, and prints the first point outside its order, where it
// waits. kill runs it.
func victim() int {
	var o order
	if err := json.Unmarshal([]byte(os.Getenv(envVictim)), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	db, err := openCrashing(o.Driver, o.URL, func(_ int32, point string) {
		if !slices.Contains(o.Points, point) {
			_ = json.NewEncoder(os.Stdout).Encode(point)
			time.Sleep(time.Hour) // until it is killed
		}
	})
	if err == nil {
		err = testopt.Apply(context.Background(), db, testopt.WithDir(os.DirFS(o.Dir)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// start runs a victim. It ends with the test.
func start(t *testing.T, o order) (cmd *exec.Cmd, said *bufio.Scanner) {
	t.Helper()
	if os.Getenv(envVictim) != "" {
		t.Fatal("a victim runs tests")
	}
	told, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), envVictim+"="+string(told))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

// kill runs a victim and kills it at the first new point, which it returns, or
// "" if the victim finished.
func kill(t *testing.T, o order) (point string) {
	t.Helper()
	cmd, said := start(t, o)
	if said.Scan() {
		if err := json.Unmarshal(said.Bytes(), &point); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); (err == nil) != (point == "") {
		t.Fatalf("after %q: %v", o.Points, err)
	}
	return point
}
