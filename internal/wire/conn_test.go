package wire

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// Some drivers read in the background while they set up a connection, so the
// limit must apply to a read already waiting.
func TestLimitOfAWaitingRead(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	var group Group
	t.Cleanup(group.Close)
	conn, err := group.Dial(context.Background(), "tcp", listener.Addr().String(), Limits{}, KeepAlive{})
	if err != nil {
		t.Fatal(err)
	}
	reading, read := make(chan struct{}), make(chan error, 1)
	go func() {
		close(reading)
		_, err := conn.Read(make([]byte, 1))
		read <- err
	}()
	<-reading
	gone := errors.New("gone")
	conn.LimitSilence(time.Millisecond, func() error { return gone })
	select {
	case err = <-read:
	case <-time.After(time.Minute):
		t.Fatal("the read is still waiting")
	}
	if !errors.Is(err, ErrSilent) || !errors.Is(err, gone) {
		t.Errorf("the read ended with %v, want %v with the probe's reason", err, ErrSilent)
	}
}
