package load

import (
	"context"
	"slices"

	"github.com/google/uuid"
)

// source gives the values of a batch, row by row, as they are asked for: while
// the server stores some, the next are encrypted. It is a CopySource.
type source struct {
	*loader
	ctx      context.Context
	batch    []numbered
	accounts *accounts

	next   int
	values []any
	err    error
	sent   []numbered  // by their place in what was sent
	ids    []uuid.UUID // of those
	users  []string    // of those
}

// Next goes to the next row that is not left out, and reports whether there is
// one.
func (s *source) Next() bool {
	for s.err == nil && s.next < len(s.batch) {
		row := s.batch[s.next]
		s.next++
		values, err := s.seal(&row)
		if err == nil {
			s.values = values
			s.sent = append(s.sent, row)
			s.ids = append(s.ids, uuid.MustParse(values[idPlace].(string))) // as sqlarg made it of one
			s.users = append(s.users, row.UserID)                           // which is complete now
			return true
		}
		s.err = s.refuse(row.number, err)
	}
	return false
}

// Places of the primary key and of the account in columns.
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

// Values returns the row's values for COPY. UUIDs are bytes: COPY is binary,
// and of a text the driver would make them again.
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

// failed returns the error of a row that was sent, by its place from 0, as its
// Create would.
func (s *source) failed(place int, err error) error {
	row := s.sent[place]
	return &Error{Row: row.number, Err: s.sealer.explain(s.ctx, row.Row, err)}
}
