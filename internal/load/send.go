package load

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/retry"
)

// insertRows is the number of rows in a statement. A row has eleven parameters;
// SQLite allows 32,766 and Postgres 65,535.
const insertRows = 500

// copy sends a batch by COPY on the transaction's connection.
func (l *loader) copy(ctx context.Context, s *source) error {
	var err error
	rawErr := l.conn.Raw(func(conn any) error {
		err = l.copier.Copy(ctx, conn, usercredential.Table, columns, s)
		return nil // a statement's error is no reason to discard the connection
	})
	switch {
	case rawErr != nil:
		return rawErr
	case s.err != nil: // the server reports it too, in its own words
		return s.err
	case err == nil:
		return nil
	}
	if place := s.place(err); place >= 0 && isOfRow(err) {
		return s.failed(place, err)
	}
	return err
}

var (
	// copyLine matches the part of a Postgres error that gives the line of a
	// COPY. It starts with the command, so it isn't translated.
	copyLine = regexp.MustCompile(`COPY ` + usercredential.Table + `, [^ 0-9]+ (\d+)`)
	// copyKey matches the detail of a foreign-key error, which Postgres reports
	// at the end of a COPY: a user_id, which may contain any text, and an
	// account.
	copyKey = regexp.MustCompile(`(?s)\(` + usercredential.FieldUserID + `, ` + usercredential.FieldUserAccountID +
		`\)=\((.*), ([0-9a-f-]{36})\)`)
)

// isOfRow reports whether an error is about a row's content. A full disk, a
// reached limit or a lost connection can also occur at a row without being
// about it.
func isOfRow(err error) bool {
	state := dberror.State(err)
	if state == "" {
		return err != nil && retry.KindOf(err) == retry.Other && !isOfFile(err)
	}
	for _, class := range []string{"22", "23", "42501", "44", "54", "P0"} {
		if strings.HasPrefix(state, class) {
			return true
		}
	}
	return false
}

// isOfFile reports whether an SQLite error is about its file or memory rather
// than a value.
func isOfFile(err error) bool {
	var coded interface {
		error
		Code() int
	}
	if !errors.As(err, &coded) {
		return false
	}
	switch coded.Code() & 0xff {
	case 18, 19, 20: // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH
		return false
	}
	return true
}

// SQLSTATEs for a row that already exists, and for a missing account.
const (
	uniqueViolation     = "23505"
	foreignKeyViolation = "23503"
)

// place returns the index, among the sent rows, of the row that failed a COPY,
// or -1.
func (s *source) place(err error) int {
	e, ok := dberror.Of(err)
	if !ok {
		return -1
	}
	if found := copyLine.FindStringSubmatch(e.Where); found != nil {
		if line, err := strconv.Atoi(found[1]); err == nil && line <= len(s.sent) {
			return line - 1
		}
	}
	found := copyKey.FindStringSubmatch(e.Detail)
	isTable := e.Table == usercredential.Table || strings.HasPrefix(e.Table, usercredential.Table+"_") // a partition
	if found == nil || !isTable || e.State != foreignKeyViolation {
		return -1
	}
	id, err := uuid.Parse(found[2])
	if err != nil {
		return -1
	}
	return slices.IndexFunc(s.sent,
		func(row numbered) bool { return row.UserAccountID == id && row.UserID == found[1] })
}

// insert sends a batch by multi-row INSERTs.
func (l *loader) insert(ctx context.Context, s *source) error {
	for {
		first := len(s.sent)
		var rows [][]any
		for len(rows) < insertRows && s.Next() {
			rows = append(rows, s.values)
		}
		if s.err != nil {
			return s.err
		}
		if len(rows) == 0 {
			return nil
		}
		if err := l.insertMany(ctx, rows); err != nil {
			return l.blame(ctx, s, first, rows, err)
		}
	}
}

// insertMany sends rows in one statement within a savepoint. Without it,
// Postgres would refuse every statement after an error.
func (l *loader) insertMany(ctx context.Context, rows [][]any) error {
	if _, err := l.tx.ExecContext(ctx, "SAVEPOINT credent_copy"); err != nil {
		return err
	}
	args := make([]any, 0, len(rows)*len(columns))
	for _, values := range rows {
		args = append(args, values...)
	}
	if _, err := l.tx.ExecContext(ctx, insertQuery(l.dialect, len(rows)), args...); err != nil {
		return err
	}
	_, err := l.tx.ExecContext(ctx, "RELEASE SAVEPOINT credent_copy")
	return err
}

// blame finds the row that failed a statement: the first one that fails alone.
// The transaction must not be committed afterwards.
func (l *loader) blame(ctx context.Context, s *source, first int, rows [][]any, cause error) error {
	if !isOfRow(cause) {
		return cause
	}
	if _, err := l.tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT credent_copy"); err != nil {
		return cause
	}
	for i, values := range rows {
		if ctx.Err() != nil {
			return cause
		}
		if _, err := l.tx.ExecContext(ctx, insertQuery(l.dialect, 1), values...); isOfRow(err) {
			return s.failed(first+i, err)
		} else if err != nil {
			return err
		}
	}
	return cause
}

func insertQuery(name string, rows int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `INSERT INTO "%s" ("%s") VALUES `, usercredential.Table, strings.Join(columns, `", "`))
	n := 0
	for row := range rows {
		if row > 0 {
			b.WriteString(", ")
		}
		for i := range columns {
			if i == 0 {
				b.WriteString("(")
			} else {
				b.WriteString(", ")
			}
			if n++; name == dialect.Postgres {
				b.WriteString("$" + strconv.Itoa(n))
			} else {
				b.WriteString("?")
			}
		}
		b.WriteString(")")
	}
	return b.String()
}
