package hint

import (
	"context"

	"entgo.io/ent/dialect"

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

// clientKey is the key of a *Client in a context, which the driver fills in
// instead of running the query.
type clientKey struct{}

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

// Asked returns what the driver is to fill in, or nil.
func Asked(ctx context.Context) *Client {
	asked, _ := ctx.Value(clientKey{}).(*Client)
	return asked
}
