//go:build linux

package faults

import (
	"bytes"
	"errors"
	"net/url"
	"strconv"
	"time"

	"github.com/credent-go/credent/internal/pgreplica"
)

// cluster is a primary and its standby. Clients connect to front, which leads
// to the primary, or to seats, two addresses with one server each.
type cluster struct {
	*world
	primary, standby *pgreplica.Server
	database         string
	front            *proxy
	seats            [2]*proxy
	seat             int // the primary's
	vault            *vault

	rotations, wentOn int
}

func newCluster(tr *trial) *cluster {
	tr.Helper()
	c := &cluster{}
	var err error
	c.primary, err = pgreplica.Start(tr.ctx)
	tr.must(err)
	tr.Cleanup(func() {
		if err := errors.Join(c.primary.Stop(), c.standby.Stop()); err != nil {
			tr.Error(err)
		}
	})
	c.standby, err = c.primary.AddStandby(tr.ctx)
	tr.must(err)
	databaseURL, _, err := c.primary.CreateDatabase(tr.ctx, "")
	tr.must(err)
	u, err := url.Parse(databaseURL)
	tr.must(err)
	c.database = u.Path[1:]
	c.world = newWorld(tr, databaseURL)
	c.front = newProxy(tr, databaseURL)
	c.seats = [2]*proxy{newProxy(tr, databaseURL), newProxy(tr, c.standby.URL(c.database))}

	c.service(3, "pgx", c.front.url(databaseURL))
	c.service(3, "pq", c.front.url(databaseURL))
	both, err := url.Parse(databaseURL)
	tr.must(err)
	both.Host = c.seats[0].listener.Addr().String() + "," + c.seats[1].listener.Addr().String()
	c.service(3, "pgx", withParameter(both.String(), "target_session_attrs=read-write"))
	c.service(3, "pq", withParameter(both.String(), "target_session_attrs=read-write"))
	c.vault = newVault(c.world, 20, 10)
	return c
}

// failOver kills the primary and promotes the standby.
func (c *cluster) failOver() {
	c.Helper()
	c.must(c.primary.Kill())
	c.epoch.Add(1) // the next server acknowledges later writes
	c.must(c.standby.Promote(c.ctx))
	c.must(c.standby.Synchronous(c.ctx, 0)) // otherwise it waits for a standby it doesn't have
	c.url = c.standby.URL(c.database)
	c.front.switchTo(hostOf(c.trial, c.url))
	c.seats[c.seat].cut()
	c.seat = 1 - c.seat
}

// recruit replaces the killed server with a new standby.
func (c *cluster) recruit() {
	c.Helper()
	killed := c.primary
	c.primary = c.standby
	var err error
	if c.standby, err = c.primary.AddStandby(c.ctx); err != nil {
		c.standby = killed
		c.Fatal(err)
	}
	c.must(killed.Stop())
	c.seats[1-c.seat].switchTo(hostOf(c.trial, c.standby.URL(c.database)))
}

// rotate begins a rotation that takes seconds, and returns a function that
// waits for its end. If the fail-over ended it, the next run continues.
func (c *cluster) rotate() (end func()) {
	c.Helper()
	var rows int
	c.value(&rows, "SELECT (SELECT count(*) FROM cards) + (SELECT count(*) FROM user_credentials)")
	c.vault.newKey()
	cmd := c.vault.command(c.front.url(c.url), "rotate", "--batch", "20", "--rate", strconv.Itoa(max(100, rows/4)))
	var said bytes.Buffer
	cmd.Stderr = &said
	c.must(cmd.Start())
	ended := waitFor(cmd)
	c.await(3)
	return func() {
		select {
		case err := <-ended:
			if err == nil {
				c.operations.Add(1)
				c.wentOn++
			} else {
				c.failed.Add(1)
			}
		case <-time.After(2 * recoverLimit):
			c.found(&c.stuck, "a rotation does not end after a fail-over")
			_ = killed(cmd, ended) // reports the kill
		}
		c.rotations++
		c.vault.finish("rotate")
		c.vault.finish("verify")
		c.vault.check()
	}
}

// failOverSynchronous kills primaries with commits that wait for the standby:
// every acknowledged write is there. Every other standby is cut off first, so
// that the operations' deadlines end waiting commits.
func failOverSynchronous(tr *trial) {
	c := newCluster(tr)
	rounds := tr.pick(2, 10)
	for i := range rounds {
		c.must(c.primary.Synchronous(c.ctx, 1))
		c.start()
		c.await(tr.pick(20, 60))
		end := func() {}
		if i%2 == 0 {
			end = c.rotate()
		} else {
			c.must(c.standby.StopReceiving(c.ctx))
			c.awaitDeadline()
		}
		c.failOver()
		c.await(20)
		c.pause()
		end()
		c.check()
		c.recruit()
	}
	tr.notef("%d fail-overs, %d during a rotation (%d rotations went on by themselves); %s", rounds, c.rotations,
		c.wentOn, c.pauses())
	c.close()
}

// failOverAsynchronous kills primaries before the standby has received the last
// writes. Postgres loses those writes; everything it still acknowledges and
// holds must open. Each round first stores secrets of tenants with keys that
// get lost.
func failOverAsynchronous(tr *trial) {
	c := newCluster(tr)
	rounds := tr.pick(2, 10)
	for i := range rounds {
		c.start()
		c.await(tr.pick(15, 40))
		c.must(c.standby.WaitFor(c.ctx, c.primary))
		c.must(c.standby.StopReceiving(c.ctx))
		end := func() {}
		if i%2 == 0 {
			end = c.rotate()
		}
		c.await(15)
		c.unsettled.Store(true)
		c.failOver()
		c.await(20)
		c.pause()
		end()
		c.check()
		c.recruit()
	}
	tr.notef("%d fail-overs, %d during a rotation (%d rotations went on by themselves); %s", rounds, c.rotations,
		c.wentOn, c.pauses())
	if tr.undone.Load() == 0 {
		tr.Error("no standby lagged")
	}
	c.close()
}
