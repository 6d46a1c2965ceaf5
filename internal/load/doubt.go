package load

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/tenancy"
)

// doubt is a transaction with an unanswered COMMIT. None of its rows existed
// before, so if one is found now by user and ID, the transaction was committed.
// Otherwise the rows are sent again under the same keys, so none is stored
// twice even if the transaction commits later.
type doubt struct {
	ids     []uuid.UUID // the rows' IDs; nil if there are none
	users   []string    // the rows' users
	settled bool        // committed, and its rows are counted
}

// look finds out whether the transaction was committed. within means that
// another, failed transaction is open.
func (d *doubt) look(ctx context.Context, l *loader, within bool) error {
	if len(d.ids) == 0 {
		return nil
	}
	if within {
		_ = l.tx.Rollback()
		l.tx = nil
	}
	tx, err := l.conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // only reads
	if err := tenancy.SetUser(ctx, tx, l.dialect, l.guard); err != nil {
		return err
	}
	var (
		n      int64
		places []string
		args   []any
	)
	for i, id := range d.ids[:min(len(d.ids), maxLooks)] {
		places = append(places, fmt.Sprintf(`"%s" = $%d AND "%s" = $%d`,
			usercredential.FieldUserID, len(args)+1, usercredential.FieldID, len(args)+2))
		args = append(args, d.users[i], id.String())
	}
	if err := tx.QueryRowContext(ctx, fmt.Sprintf(`SELECT count(*) FROM "%s" WHERE %s`,
		usercredential.Table, strings.Join(places, " OR ")), args...).Scan(&n); err != nil {
		return err
	}
	if n > 0 {
		d.settled = true
		l.sent = int64(len(d.ids))
		l.count(d.ids)
	}
	return nil
}

// maxLooks is the maximum number of rows to look for. One would be enough if
// nobody could have deleted it since.
const maxLooks = 500

// uncertainError is an [ErrUncertain] with its cause.
type uncertainError struct{ error }

func (e *uncertainError) Error() string        { return ErrUncertain.Error() + ": " + e.error.Error() }
func (e *uncertainError) Unwrap() error        { return e.error }
func (e *uncertainError) Is(target error) bool { return target == ErrUncertain }
