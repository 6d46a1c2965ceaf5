package open

import (
	"context"
	"net"
	"time"

	"github.com/credent-go/credent/internal/wire"
)

// Dialer makes connections to Postgres that end when the network does. The zero
// value has good limits. Its fields must not change once it is used; its
// methods are safe for concurrent use.
//
// A pool that isn't made by [DB] gets the same limits if its driver dials with
// a Dialer: over pgx
//
//	config.DialFunc = dialer.DialContext
//	config.ConnectTimeout = 10 * time.Second
//
// and over lib/pq with the connector of package open/libpq, since lib/pq itself
// ignores a context's deadline while it waits for the network.
type Dialer struct {
	// ConnectTimeout bounds connecting to one host: finding it, TCP, TLS and
	// the log-in. 0 means 10 seconds, negative no limit. A URL's
	// connect_timeout wins.
	ConnectTimeout time.Duration
	// PeerTimeout ends a connection if its peer acknowledges neither data
	// (TCP_USER_TIMEOUT, on Linux) nor keep-alives for that long: the machine
	// is gone, or the packets are dropped. It doesn't limit statements. 0 means
	// 30 seconds, negative leaves it to the system, which takes up to hours. A
	// URL's keepalives… and tcp_user_timeout win.
	PeerTimeout time.Duration
	// SilenceTimeout is how long the server may be silent before it is asked,
	// over a new connection, whether it is still working. If it can't be
	// reached, or if its process waits for the client, the statement fails with
	// [ErrSilent]. It doesn't limit statements either: an index may take hours.
	// 0 and less mean never; use contexts with deadlines then. Don't use it for
	// connections that wait for notifications.
	SilenceTimeout time.Duration

	group wire.Group
}

// ErrSilent means that the server, or the network, went silent in the middle of
// a statement; see [Dialer.SilenceTimeout]. It isn't known whether the
// statement was carried out.
var ErrSilent = wire.ErrSilent

// DialContext makes a connection; it is pgx's DialFunc. Silence ends the
// connection without asking the server.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d.Dial(ctx, network, address, d.Limits(0), wire.KeepAlive{})
}

// Dial makes a connection for a Postgres driver, with a URL's limits. It is for
// packages of this module.
func (d *Dialer) Dial(
	ctx context.Context, network, address string, limits wire.Limits, alive wire.KeepAlive,
) (*wire.Conn, error) {
	return d.group.Dial(ctx, network, address, limits, alive)
}

// Close ends every connection that the dialer made, and refuses new ones:
// callers that wait for the server get an error at once. Use it in a process
// that must end.
func (d *Dialer) Close() { d.group.Close() }

// Limits returns the limits with defaults filled in, and with a URL's
// connect_timeout if it isn't 0. It is for packages of this module.
func (d *Dialer) Limits(connect time.Duration) wire.Limits {
	l := wire.Limits{Connect: d.ConnectTimeout, Dead: d.PeerTimeout, Silence: d.SilenceTimeout}
	if connect > 0 {
		l.Connect = connect
	}
	return l.WithDefaults()
}
