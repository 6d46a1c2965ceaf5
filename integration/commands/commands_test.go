// Package commands runs the command credent on Postgres with the scripts in
// testdata, which inspect the tables with SQL between runs.
package commands

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/credent-go/credent/internal/cli"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testdb/bare"
	"github.com/credent-go/credent/keyring"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"credent": func() { os.Exit(cli.Main()) },
	})
}

// TestScripts runs each script on its own empty database, $DATABASE_URL, with
// the key $KEY; $OTHER_KEY is another key. "exec $PYTHON $TWIN" runs the Python
// application.
func TestScripts(t *testing.T) {
	t.Parallel()
	server := bare.Server(t)
	twin, err := filepath.Abs("../twin/twin.py")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			url, drop, err := server.CreateDatabase(t.Context(), "")
			if err != nil {
				return err
			}
			env.Defer(func() { _ = drop() })
			key := keyring.GenerateKey()
			for name, value := range map[string]string{
				"DATABASE_URL": url, "ENCRYPTION_KEY": key, "KEY": key, "OTHER_KEY": keyring.GenerateKey(),
				"PYTHON": testdb.Python(), "TWIN": twin, "PYTHONDONTWRITEBYTECODE": "1",
			} {
				env.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"sql": runSQL},
	})
}

// runSQL runs a statement on $DATABASE_URL and prints the rows of its result,
// if any, with a bar between columns: sql STATEMENT.
func runSQL(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sql STATEMENT")
	}
	db, err := sql.Open("pgx", ts.Getenv("DATABASE_URL"))
	ts.Check(err)
	defer func() { _ = db.Close() }()
	ts.Check(printRows(ts, db, args[0]))
}

func printRows(ts *testscript.TestScript, db *sql.DB, query string) (err error) {
	rows, err := db.Query(query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	for rows.Next() {
		values := make([]sql.NullString, len(names))
		var dest []any
		for i := range values {
			dest = append(dest, &values[i])
		}
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		var row []string
		for _, v := range values {
			row = append(row, v.String)
		}
		if _, err := fmt.Fprintln(ts.Stdout(), strings.Join(row, "|")); err != nil {
			return err
		}
	}
	return rows.Err()
}
