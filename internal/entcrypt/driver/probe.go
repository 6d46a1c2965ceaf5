package driver

import (
	"context"
	"errors"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/entcrypt/hint"
	"github.com/credent-go/credent/internal/entcrypt/record"
)

var errAsked = errors.New("credent: the driver answered a hint, and ran no query")

// answer fills in the context's Client, if there is one. It reads the
// database's states if they are due.
func (c conn) answer(ctx context.Context) (bool, error) {
	asked := hint.Asked(ctx)
	if asked == nil {
		return false, nil
	}
	policy, err := c.live.policy(ctx, c.Conn)
	if err == nil {
		_, lacks := c.live.recorder(policy).(record.Refusing)
		*asked = hint.Client{Policy: policy, Next: c.Next, SQLite: c.Dialect == dialect.SQLite, LacksTrail: lacks}
	}
	return true, err
}
