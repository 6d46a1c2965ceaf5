package wire

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"
)

// idle asks whether a server process has been waiting for its client for some
// time.
const idle = `SELECT state LIKE 'idle%' AND state_change < clock_timestamp() - $2::float8 * interval '1 second'
	FROM pg_catalog.pg_stat_activity WHERE pid = $1 AND state IS NOT NULL`

// Probe returns a function that asks over a new connection about the server
// process with the given ID, which is 0 if unknown.
func Probe(connector driver.Connector, pid int, silence, within time.Duration) func() error {
	if within <= 0 {
		within = DefaultConnect
	}
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		db := sql.OpenDB(connector)
		defer func() { _ = db.Close() }()
		var waits bool
		err := db.QueryRowContext(ctx, idle, pid, silence.Seconds()/2).Scan(&waits)
		switch {
		case errors.Is(err, sql.ErrNoRows): // a pooler is in between
			return nil
		case err != nil:
			return errors.Join(errors.New("no second connection can be made"), bare(err))
		case waits:
			return errors.New("its process waits for the client: what one side sent has not arrived")
		}
		return nil
	}
}
