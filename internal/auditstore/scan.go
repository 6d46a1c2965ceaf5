package auditstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/auditrow"
)

// moment scans the column at.
type moment int64

// Scan implements sql.Scanner.
func (m *moment) Scan(value any) error {
	switch v := value.(type) {
	case time.Time:
		*m = moment(v.UnixMicro())
		return nil
	case []byte:
		return m.Scan(string(v))
	case string:
		at, err := time.Parse(layout, v)
		if err != nil {
			return errors.New("a time is malformed")
		}
		*m = moment(at.UnixMicro())
		return nil
	}
	return fmt.Errorf("a time is a %T", value)
}

// number scans an integer.
type number int64

// Scan implements sql.Scanner.
func (n *number) Scan(value any) error {
	v, ok := value.(int64)
	if !ok {
		return fmt.Errorf("a number is a %T", value)
	}
	*n = number(v)
	return nil
}

// digest scans a hash or a MAC. A value of the wrong length becomes zero, which
// matches nothing.
type digest struct{ to *auditrow.Digest }

// Scan implements sql.Scanner.
func (d digest) Scan(value any) error {
	*d.to = auditrow.Digest{}
	if v, ok := value.([]byte); ok && len(v) == len(d.to) {
		copy(d.to[:], v)
	}
	return nil
}

// lenient scans a value and records a failure in the row, so that one bad row
// doesn't stop the others from being read.
type lenient struct {
	row  *auditrow.Row
	name string
	to   interface{ Scan(value any) error }
}

// Scan implements sql.Scanner.
func (l lenient) Scan(value any) error {
	if l.to.Scan(value) == nil {
		return nil
	}
	if l.row.Malformed != "" {
		l.row.Malformed += ", "
	}
	text, isText := value.(string)
	if raw, ok := value.([]byte); ok {
		text, isText = string(raw), true
	}
	if !isText {
		text = fmt.Sprint(value)
	}
	const size = 100
	l.row.Malformed += fmt.Sprintf("%s %q", l.name, auditrow.Clean(text, size))
	return nil
}

// scan reads a row with the given [columns].
func scan(rows interface{ Scan(dest ...any) error }) (*auditrow.Row, error) {
	var (
		r          auditrow.Row
		at         moment
		seq, n     number
		id, writer uuid.UUID
	)
	of := func(name string, to interface{ Scan(value any) error }) lenient { return lenient{&r, name, to} }
	err := rows.Scan(of("at", &at), of("id", &id), of("writer", &writer), of("seq", &seq), digest{&r.Prev},
		of("row_count", &n), &r.Action, &r.Actor, &r.Tenant, &r.Table, &r.Column, &r.Row, &r.KeyID, &r.Outcome,
		&r.Request, &r.Note, &r.Signer, digest{&r.MAC}, &r.Place)
	r.At, r.ID, r.Writer, r.Seq, r.Rows = int64(at), id, writer, int64(seq), int64(n)
	return &r, err
}
