package hint

import (
	"context"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/fieldcrypt/seal"
)

// Client is a driver's knowledge about its client.
type Client struct {
	Policy *seal.Policy
	Next   dialect.ExecQuerier // runs statements below the driver
	SQLite bool
	// LacksTrail says that the database requires a trail and the client has
	// none.
	LacksTrail bool
}

// clientKey is the key of a *Client in a context. The driver fills it in
// instead of running the query.
type clientKey struct{}

// ClientOf asks a client's driver, through any drivers that wrap it. query must
// run a query of the client. If the client lacks the driver, the query runs,
// and ClientOf returns false and the query's error.
func ClientOf(ctx context.Context, query func(ctx context.Context) error) (client Client, ok bool, err error) {
	err = query(context.WithValue(ctx, clientKey{}, &client))
	if client.Policy != nil {
		return client, true, nil
	}
	return client, false, err
}

// Asked returns the Client for the driver to fill in, or nil.
func Asked(ctx context.Context) *Client {
	asked, _ := ctx.Value(clientKey{}).(*Client)
	return asked
}
