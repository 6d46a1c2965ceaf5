// Package dberror reads errors of any database driver, without linking one.
package dberror

import (
	"errors"
	"reflect"
	"strings"
)

// Answer is a Postgres server's error. Missing parts are empty. An error of a
// Citus node is converted to a single server's: with the fault's SQLSTATE, and
// with names without shard numbers.
type Answer struct {
	State                                     string // SQLSTATE
	Message, Detail, Where, Table, Constraint string
}

// stated is implemented by server errors of pgx and lib/pq.
type stated interface {
	error
	SQLState() string
}

// Of returns the server's answer in an error.
func Of(err error) (Answer, bool) {
	var e stated
	if !errors.As(err, &e) {
		return Answer{}, false
	}
	a := Answer{State: e.SQLState(), Message: e.Error()}
	v := reflect.Indirect(reflect.ValueOf(e))
	if v.Kind() != reflect.Struct {
		return a, true
	}
	for _, part := range []struct {
		to    *string
		names []string // field names of pgx and lib/pq
	}{
		{&a.Message, []string{"Message"}},
		{&a.Detail, []string{"Detail"}},
		{&a.Where, []string{"Where"}},
		{&a.Table, []string{"TableName", "Table"}},
		{&a.Constraint, []string{"ConstraintName", "Constraint"}},
	} {
		for _, name := range part.names {
			if field := v.FieldByName(name); field.IsValid() && field.Kind() == reflect.String {
				*part.to = field.String()
				break
			}
		}
	}
	a.ofNode()
	return a, true
}

// State returns the SQLSTATE of an error, or "" if it isn't a server's.
func State(err error) string {
	a, _ := Of(err)
	return a.State
}

// Primary result codes of SQLite.
const (
	SQLiteBusy       = 5
	SQLiteLocked     = 6
	SQLiteReadOnly   = 8
	SQLiteCorrupt    = 11
	SQLiteFull       = 13
	SQLiteCantOpen   = 14
	SQLiteConstraint = 19
	SQLiteNotADB     = 26
)

// SQLite returns the primary result code of a SQLite error, or 0 for other
// errors. It supports modernc's driver, and drivers with a struct
// sqlite3.Error, like mattn's.
func SQLite(err error) int {
	const primary = 0xff // the other bits distinguish cases of one kind
	var coded interface{ Code() int }
	if errors.As(err, &coded) {
		return coded.Code() & primary
	}
	for ; err != nil; err = errors.Unwrap(err) {
		v := reflect.Indirect(reflect.ValueOf(err))
		if v.Kind() != reflect.Struct || !strings.HasSuffix(v.Type().String(), "sqlite3.Error") {
			continue
		}
		if code := v.FieldByName("Code"); code.IsValid() && code.CanInt() {
			return int(code.Int()) & primary
		}
	}
	return 0
}

// PID returns the server process ID that a driver's connection got when it
// connected, or 0 if the driver doesn't expose it.
func PID(conn any) (pid int) {
	defer func() {
		if recover() != nil { // the driver's methods have other types
			pid = 0
		}
	}()
	v := reflect.ValueOf(conn)
	if get := v.MethodByName("Conn"); get.IsValid() { // *stdlib.Conn of pgx
		inner := get.Call(nil)[0].MethodByName("PgConn").Call(nil)[0]
		return int(inner.MethodByName("PID").Call(nil)[0].Uint())
	}
	if v = reflect.Indirect(v); v.Kind() == reflect.Struct && v.Type().PkgPath() == "github.com/lib/pq" {
		return int(v.FieldByName("pid").Int())
	}
	return 0
}
