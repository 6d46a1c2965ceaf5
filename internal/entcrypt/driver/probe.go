package driver

import (
	"context"
	"errors"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/entcrypt/record"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
)

// Client is what a client's driver knows of it.
type Client struct {
	Policy *seal.Policy
	Next   dialect.ExecQuerier // of its statements, below the driver
	SQLite bool
	// LacksTrail says that the database requires a trail.
	LacksTrail bool
}

// clientKey is the key of a *Client in a context, which the driver fills in in
// place of running the query.
type clientKey struct{}

var errAsked = errors.New("credent: the driver was asked, and ran no query")

// ClientOf asks a client's driver, whatever is between the two: query runs any
// query of the client. It reports false for a client without the driver,
// after the query has run, with its error.
func ClientOf(ctx context.Context, query func(ctx context.Context) error) (client Client, ok bool, err error) {
	err = query(context.WithValue(ctx, clientKey{}, &client))
	if client.Policy != nil {
		return client, true, nil
	}
	return client, false, err
}

// answer fills in the context's Client. It reads the database's states, if that
// is due.
func (c conn) answer(ctx context.Context) (bool, error) {
	asked, ok := ctx.Value(clientKey{}).(*Client)
	if !ok {
		return false, nil
	}
	policy, err := c.live.policy(ctx, c.Conn)
	if err == nil {
		_, lacks := c.live.recorder(policy).(record.Refusing)
		*asked = Client{Policy: policy, Next: c.Next, SQLite: c.Dialect == dialect.SQLite, LacksTrail: lacks}
	}
	return true, err
}
