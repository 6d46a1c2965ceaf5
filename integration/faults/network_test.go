//go:build linux

package faults

import (
	"bytes"
	"slices"
	"time"

	"github.com/credent-go/credent/internal/pgserver"
)

// startServer starts a server for the scenario, with a database.
func startServer(tr *trial, opts ...pgserver.Option) (server *pgserver.Server, databaseURL string) {
	tr.Helper()
	opts = append([]pgserver.Option{pgserver.Private(), pgserver.WithSetting("synchronous_commit", "on")}, opts...)
	server, err := pgserver.Start(tr.ctx, opts...)
	tr.must(err)
	tr.Cleanup(func() {
		if err := server.Stop(); err != nil {
			tr.Error(err)
		}
	})
	databaseURL, _, err = server.CreateDatabase(tr.ctx, "")
	tr.must(err)
	return server, databaseURL
}

// network cuts, halves and delays data between a service and its server.
func network(tr *trial) {
	_, databaseURL := startServer(tr)
	w := newWorld(tr, databaseURL)
	p := newProxy(tr, databaseURL)
	w.service(4, "pgx", p.url(databaseURL))
	w.service(4, "pq", p.url(databaseURL))
	rounds := tr.pick(2, 15)
	w.start()
	for range rounds {
		w.await(10)
		p.cut()
		w.await(10)
		p.halve()
		w.await(10)
		p.slow(15 * time.Millisecond)
		w.await(2)
		p.slow(0)
	}
	w.pause()
	w.check()
	tr.notef("%d times each: all connections cut, cut in the middle of an answer, each piece delayed by 15 ms; %s",
		rounds, w.pauses())
	w.close()
}

// blackhole swallows data between a service or commands and their server.
// Operations end at their deadline, and commands at the first signal.
func blackhole(tr *trial) {
	_, databaseURL := startServer(tr)
	w := newWorld(tr, databaseURL)
	p := newProxy(tr, databaseURL)
	w.service(4, "pgx", p.url(databaseURL))
	w.service(4, "pq", p.url(databaseURL))
	rounds := tr.pick(1, 5)
	for range rounds {
		w.start()
		w.await(10)
		p.swallow()
		w.awaitDeadline()
		p.resume()
		w.await(5)
		w.pause()
		w.check()
	}
	vault := newVault(w, 20, 5)
	commands := [][]string{{"rotate"}, {"verify"}, {"doctor"}, {"credential", "export", "--reveal"}}
	for _, args := range commands[:tr.pick(2, len(commands))] {
		vault.terminate(p, args)
	}
	vault.check()
	tr.notef("%d times for all operations, and once for each of %d commands, which got one SIGTERM; %s", rounds,
		tr.pick(2, len(commands)), w.pauses())
	w.close()
}

// awaitDeadline waits until each writer has an error, at its operation's
// deadline at the latest.
func (w *world) awaitDeadline() {
	w.Helper()
	for _, r := range w.writers {
		r.lastErr.Store(nil)
	}
	eventually(stuckAfter, func() bool {
		return !slices.ContainsFunc(w.writers, func(r *writer) bool { return r.lastErr.Load() == nil })
	})
	for _, r := range w.writers {
		if r.lastErr.Load() == nil {
			w.found(&w.stuck, "an operation over %s with a deadline of %s does not return within %s", r.driver,
				operationLimit, stuckAfter)
		}
	}
}

// terminate runs a command, swallows its connection halfway, and sends it one
// SIGTERM, which must end it.
func (v *vault) terminate(p *proxy, args []string) {
	v.Helper()
	cmd := v.command(p.url(v.url), args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	reached := make(chan struct{})
	p.before(12, func() {
		p.swallow()
		close(reached)
	})
	v.must(cmd.Start())
	ended := waitFor(cmd)
	defer p.resume()
	select {
	case <-reached:
	case err := <-ended:
		v.Fatalf("%v ended before its connection was swallowed: %v\n%s", args, err, said.String())
	}
	v.must(cmd.Process.Signal(terminated))
	select {
	case err := <-ended:
		if v.operations.Add(1); err == nil {
			v.found(&v.wrong, "%v says that it is done, and heard nothing of its server", args)
		}
	case <-time.After(stuckAfter):
		v.found(&v.stuck, "%v has not ended %s after a SIGTERM", args, stuckAfter)
		_ = killed(cmd, ended) // reports the kill
	}
}
