package load

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/credent-go/credent/ent/usercredential"
)

// TestPlace checks that place finds the row that failed a COPY, and returns -1
// if the error doesn't identify one.
func TestPlace(t *testing.T) {
	t.Parallel()
	s, account := &source{}, uuid.New() // all sent rows
	for i := range 4 {
		s.sent = append(s.sent, numbered{
			Row:    Row{UserAccountID: account, UserID: fmt.Sprintf("u, %d", i)},
			number: int64(i + 10),
		})
		s.ids = append(s.ids, uuid.New())
	}
	id := s.ids[3]
	detail := func(user string, account uuid.UUID) string {
		return fmt.Sprintf("Key (user_id, user_account_id)=(%s, %s) is not …", user, account)
	}
	const table = usercredential.Table
	for name, test := range map[string]struct {
		err  error
		want int
	}{
		"line":            {&pgconn.PgError{Where: "COPY " + table + `, line 2, column api_key: "x"`}, 1},
		"translated line": {&pgconn.PgError{Where: "COPY " + table + ", Zeile 4"}, 3},
		"line after":      {&pgconn.PgError{Where: "COPY " + table + ", line 5"}, -1},
		"line of another": {&pgconn.PgError{Where: "COPY other, line 2"}, -1},
		"no account":      {&pgconn.PgError{Code: "23503", TableName: table, Detail: detail("u, 2", account)}, 2},
		"of a partition": {
			&pgconn.PgError{Code: "23503", TableName: table + "_p07", Detail: detail("u, 2", account)},
			2,
		},
		"unknown account": {&pgconn.PgError{Code: "23503", TableName: table, Detail: detail("u, 2", uuid.New())}, -1},
		"unknown user":    {&pgconn.PgError{Code: "23503", TableName: table, Detail: detail("u, 9", account)}, -1},
		"other table":     {&pgconn.PgError{Code: "23503", TableName: "other", Detail: detail("u, 2", account)}, -1},
		"other state":     {&pgconn.PgError{Code: "23505", TableName: table, Detail: detail("u, 2", account)}, -1},
		"unique, other": {&pgconn.PgError{
			Code: "23505", TableName: "other",
			Detail: fmt.Sprintf("Key (id)=(%s) already …", id),
		}, -1},
		"other constraint": {&pgconn.PgError{
			Code: "23503", TableName: table,
			Detail: fmt.Sprintf("Key (id)=(%s) is not …", id),
		}, -1},
		"no detail":   {&pgconn.PgError{Code: "23503", TableName: table}, -1},
		"no server's": {errors.New("COPY " + table + ", line 2"), -1},
	} {
		if got := s.place(fmt.Errorf("wrapped: %w", test.err)); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}
