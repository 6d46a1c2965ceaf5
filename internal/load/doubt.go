package load

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/tenancy"
)

// doubt is about a transaction with an unanswered COMMIT. Its rows were all
// inserted, so none of them was there before: if one is there now, by user and
// id, the transaction was committed. The rows are sent again with the same
// keys, so that none is stored twice even if it is committed later.
type doubt struct {
	ids     []uuid.UUID // of its rows; nil if there is none
	users   []string    // theirs
	settled bool        // it was committed, and its rows are counted
}

// look finds out whether the transaction was committed. within says that
// another one is open, which failed.
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
	defer func() { _ = tx.Rollback() }() // it only reads
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

// maxLooks is how many rows are looked for. One would do, but somebody may have
// deleted it since.
const maxLooks = 500

// uncertainError is an [ErrUncertain] with the reason.
type uncertainError struct{ error }

func (e *uncertainError) Error() string        { return ErrUncertain.Error() + ": " + e.error.Error() }
func (e *uncertainError) Unwrap() error        { return e.error }
func (e *uncertainError) Is(target error) bool { return target == ErrUncertain }
