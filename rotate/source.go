package rotate

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/credent-go/credent/internal/expand"
	"github.com/credent-go/credent/internal/plaintype"
)

// source describes where a column's plaintext is, and its type.
type source struct {
	declared string         // the plaintext's SQL type
	kind     plaintype.Kind // the plaintext's kind
	isText   bool           // it can also hold tokens
	// expanded means that the plaintext isn't text, so tokens go to an
	// additional column, [expand.Tokens].
	expanded bool
	// expr is SQL that reads the plaintext of an expanded column as text, in a
	// form independent of the session's settings.
	expr string
}

// stored returns the name of the column with the tokens.
func (t table) stored(i int) string {
	if t.sources[i].expanded {
		return expand.Tokens(t.columns[i].Name)
	}
	return t.columns[i].Name
}

// isWaiting reports whether a row has plaintext in an expanded column, but no
// token yet.
func (r row) isWaiting(i int) bool { return r.plains[i].Valid && !r.values[i].Valid }

// value returns a column's stored value. Plaintext that waits for a token is
// "", which isn't a token.
func (r row) value(i int) sql.NullString {
	if r.isWaiting(i) {
		return sql.NullString{Valid: true}
	}
	return r.values[i]
}

// original is the plaintext or token that a new token is made from.
type original struct {
	text  string
	kind  plaintype.Kind
	apart bool // read from where plaintext is; only a value that opens is a token
}

// original returns the value stored in a column of a row that isn't empty.
func (t table) original(r row, i int, s store) (original, error) {
	if !r.isWaiting(i) {
		return original{text: r.values[i].String, kind: t.sources[i].kind}, nil
	}
	return s.original(t.sources[i], r.plains[i].String)
}

// refuseExpanded returns a [SchemaError] for each column with separate
// plaintext and token columns.
func refuseExpanded(d string, tables []table, reason string, undo bool) error {
	var errs []error
	for _, t := range tables {
		for i, c := range t.columns {
			if t.sources[i].expanded {
				e := &SchemaError{Column: c, Reason: fmt.Sprintf("its plaintext is still there as %s, beside %s: %s",
					t.sources[i].declared, t.stored(i), reason)}
				if undo {
					e.SQL = expand.Script(expand.Undo(d, c))
				}
				errs = append(errs, e)
			}
		}
	}
	return errors.Join(errs...)
}

// checkSource returns a [SchemaError] if the plaintext's type doesn't fit the
// field, or if it isn't text and there is no additional column for tokens.
func checkSource(d string, t table, i int) error {
	s, c := t.sources[i], t.columns[i]
	switch {
	case !plaintype.Takes(c, s.kind):
		return &SchemaError{Column: c, Reason: fmt.Sprintf("it is %s, which no encrypted field of %s can hold: "+
			"change it to a type that fits first, or declare another field", s.declared, typeName(c.Type))}
	case !s.expanded && !s.isText:
		return &SchemaError{
			Column: c, SQL: expand.Script(expand.Columns(d, c)),
			Reason: fmt.Sprintf("it is %s, and tokens are text: they need a column beside it, which migrate.Diff "+
				"adds, and which takes its place when all rows have a token", s.declared),
		}
	}
	return nil
}

func typeName(name string) string {
	if name == "" {
		return "string"
	}
	return name
}

// source describes a column's plaintext, if the table has it.
func (p postgres) source(ctx context.Context, t table, i int) (source, error) {
	c := t.columns[i]
	full, name, _, err := p.columnType(ctx, t.quoted(), c.Name)
	if err != nil {
		return source{}, err
	}
	kind, isText := plaintype.OfPostgres(name)
	if isText {
		return source{declared: full, kind: kind, isText: true}, nil
	}
	s := source{declared: full, kind: kind, expr: "t." + quote(c.Name) + "::text"}
	switch name {
	case "bytea":
		s.expr = "encode(t." + quote(c.Name) + ", 'hex')"
	case "timestamptz":
		s.expr = "to_jsonb(t." + quote(c.Name) + " AT TIME ZONE 'UTC') #>> '{}'"
	case "timestamp", "date":
		s.expr = "to_jsonb(t." + quote(c.Name) + ") #>> '{}'"
	}
	_, name, _, err = p.columnType(ctx, t.quoted(), expand.Tokens(c.Name))
	if errors.Is(err, sql.ErrNoRows) {
		return s, nil
	}
	_, isText = plaintype.OfPostgres(name)
	s.expanded = err == nil && isText
	return s, err
}

// original implements store.
func (postgres) original(s source, text string) (original, error) {
	if s.kind == plaintype.Bytes {
		raw, err := hex.DecodeString(text)
		return original{string(raw), s.kind, true}, err
	}
	return original{text, s.kind, true}, nil
}

// sqliteSource describes a column's plaintext. A value's kind depends on its
// own type and, for text and integers, on the declared type.
func sqliteSource(name, declared string, all map[string]string) source {
	kind, isText := plaintype.OfSQLite(declared)
	if isText {
		return source{declared: declared, kind: kind, isText: true}
	}
	s := source{declared: declared, kind: kind, expr: strings.ReplaceAll("CASE typeof({}) WHEN 'null' THEN NULL "+
		"WHEN 'blob' THEN 'b' || hex({}) WHEN 'real' THEN 'r' || printf('%!.17g', {}) "+
		"WHEN 'integer' THEN 'i' || CAST({} AS TEXT) ELSE 't' || {} END", "{}", quote(name))}
	tokens, ok := all[expand.Tokens(name)]
	_, isText = plaintype.OfSQLite(tokens)
	s.expanded = ok && isText
	return s
}

// original implements store.
func (sqlite) original(s source, tagged string) (original, error) {
	kind, text := tagged[:1], tagged[1:]
	switch {
	case kind == "b":
		raw, err := hex.DecodeString(text)
		return original{string(raw), plaintype.Bytes, true}, err
	case kind == "i" && s.kind == plaintype.Boolean && (text == "0" || text == "1"):
		return original{strconv.FormatBool(text == "1"), plaintype.Boolean, true}, nil
	case kind == "i":
		return original{text, plaintype.Number, true}, nil
	case kind == "r":
		number, err := strconv.ParseFloat(text, 64)
		if err == nil && math.IsInf(number, 0) {
			return original{text, plaintype.Number, true}, nil // not JSON, so it is quarantined
		}
		return original{strconv.FormatFloat(number, 'g', -1, 64), plaintype.Number, true}, err
	case s.kind == plaintype.Bytes, s.kind == plaintype.Boolean, s.kind == plaintype.Number:
		return original{text, plaintype.Text, true}, nil
	}
	return original{text, s.kind, true}, nil
}
