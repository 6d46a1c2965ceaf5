package load

import (
	"context"
	"slices"

	"github.com/google/uuid"
)

// source returns a batch's values row by row, on demand: while the server
// stores some rows, the next ones are encrypted. It implements CopySource.
type source struct {
	*loader
	ctx      context.Context
	batch    []numbered
	accounts *accounts

	next   int
	values []any
	err    error
	sent   []numbered  // by index
	ids    []uuid.UUID // their IDs
	users  []string    // their users
}

// Next advances to the next row that isn't skipped, and reports whether there
// is one.
func (s *source) Next() bool {
	for s.err == nil && s.next < len(s.batch) {
		row := s.batch[s.next]
		s.next++
		values, err := s.seal(&row)
		if err == nil {
			s.values = values
			s.sent = append(s.sent, row)
			s.ids = append(s.ids, uuid.MustParse(values[idPlace].(string))) // a string, as made by sqlarg
			s.users = append(s.users, row.UserID)                           // filled in by now
			return true
		}
		s.err = s.refuse(row.number, err)
	}
	return false
}

// Indexes of the primary key and the account in columns.
const (
	idPlace      = 0
	accountPlace = 5
)

func (s *source) seal(row *numbered) ([]any, error) {
	if err := s.accounts.complete(&row.Row); err != nil {
		return nil, err
	}
	return s.sealer.seal(s.ctx, row.Row)
}

// Values returns the row's values for COPY. UUIDs are passed as bytes: COPY is
// binary, and the driver would have to parse texts again.
func (s *source) Values() ([]any, error) {
	values := slices.Clone(s.values)
	for _, place := range []int{idPlace, accountPlace} {
		id, err := uuid.Parse(values[place].(string))
		if err != nil {
			return nil, err
		}
		values[place] = [16]byte(id)
	}
	return values, nil
}

// Err returns the error of the row that ended the batch.
func (s *source) Err() error { return s.err }

// failed returns the error of the sent row at an index, worded as by its
// Create.
func (s *source) failed(place int, err error) error {
	row := s.sent[place]
	return &Error{Row: row.number, Err: s.sealer.explain(s.ctx, row.Row, err)}
}
