//go:build linux

package faults

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// serverProcesses returns the server's processes, its parent first.
func (w *world) serverProcesses() []int {
	w.Helper()
	var parent int
	w.value(&parent, `SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int`)
	pids := []int{parent}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	w.must(err)
	for _, path := range stats {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// The fields after the name, which may contain anything: state, and
		// parent.
		fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			w.must(err)
			pids = append(pids, pid)
		}
	}
	return pids
}

func signalAll(pids []int, s syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, s) // it may have ended already
	}
}

// frozenServer stops every process of a server, as a swapping or migrating
// machine does, and continues it after the operations' deadline.
func frozenServer(tr *trial) {
	_, databaseURL := startServer(tr)
	w := newWorld(tr, databaseURL)
	w.service(4, "pgx", databaseURL)
	w.service(4, "pq", databaseURL)
	rounds := tr.pick(1, 6)
	for range rounds {
		w.start()
		w.await(10)
		pids := w.serverProcesses()
		signalAll(pids, syscall.SIGSTOP)
		w.awaitDeadline()
		signalAll(pids, syscall.SIGCONT)
		w.await(10)
		w.pause()
		w.check()
	}
	tr.notef("%d times, past the deadline of %s; %s", rounds, operationLimit, w.pauses())
	w.close()
}

// frozenCommands stops commands halfway, lets the application change rows
// meanwhile, and continues them.
func frozenCommands(tr *trial) {
	_, databaseURL := startServer(tr)
	w := newWorld(tr, databaseURL)
	v := newVault(w, 40, 10)
	p := newProxy(tr, databaseURL)
	w.service(3, "pgx", databaseURL)
	rounds := tr.pick(2, 12)
	w.start()
	for i := range rounds {
		args := [][]string{{"rotate", "--batch", "20"}, {"verify"}, {"credential", "export", "--reveal"}}[i%3]
		if args[0] == "rotate" {
			v.newKey()
		}
		v.freeze(p, args, 10+i%8)
	}
	w.pause()
	v.finish("rotate")
	v.check()
	w.check()
	tr.notef("%d commands, each for as long as 30 operations take", rounds)
	w.close()
}

// freeze runs a command and stops it before its nth message to the server while
// the application works.
func (v *vault) freeze(p *proxy, args []string, n int) {
	v.Helper()
	cmd := v.command(p.url(v.url), args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	reached := make(chan struct{})
	p.before(n, func() {
		_ = cmd.Process.Signal(syscall.SIGSTOP)
		close(reached)
	})
	v.must(cmd.Start())
	ended := waitFor(cmd)
	select {
	case <-reached:
	case err := <-ended:
		v.Fatalf("%v ended before it was stopped: %v\n%s", args, err, said.String())
	}
	v.await(30)
	if err := cmd.Process.Signal(syscall.SIGCONT); !errors.Is(err, os.ErrProcessDone) { // its last message was held up
		v.must(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			v.found(&v.wrong, "%v after it was stopped: %v: %s", args, err, said.String())
			return
		}
		v.operations.Add(1)
	case <-time.After(recoverLimit):
		v.found(&v.stuck, "%v does not end within %s", args, recoverLimit)
		_ = killed(cmd, ended) // reports the kill
	}
	if rows := bytes.Count(out.Bytes(), []byte("\n")) - 1; args[0] == "credential" && rows != len(v.rows) {
		v.found(&v.wrong, "an export that was stopped has %d rows, want %d", rows, len(v.rows))
	}
}
