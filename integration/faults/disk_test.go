//go:build linux

package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/credent-go/credent/internal/pgserver"
)

// diskPrefix is followed by the process's ID.
const diskPrefix = "credent-disk-"

// disk is a small file system, and a file that fills it.
type disk struct {
	*trial
	path, ballast string
}

// newDisk mounts a file system of 192 MiB for the files of servers started from
// now on.
func newDisk(tr *trial) *disk {
	tr.Helper()
	removeStaleDisks()
	// The server's user can't enter t.TempDir.
	dir, err := os.MkdirTemp("/tmp", fmt.Sprintf("%s%d-", diskPrefix, os.Getpid()))
	tr.must(err)
	const options = "size=192m,mode=1777"
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		sudo := exec.Command("sudo", "-n", "mount", "-t", "tmpfs", "-o", options, "tmpfs", dir)
		if out, failed := sudo.CombinedOutput(); failed != nil {
			_ = os.Remove(dir)
			tr.Fatalf("a full disk needs a small file system, which cannot be mounted here: run as root, or "+
				"allow sudo (mount: %v; sudo: %v: %s)", err, failed, bytes.TrimSpace(out))
		}
	}
	tr.Cleanup(func() {
		if err := removeDisk(dir); err != nil {
			tr.Error(err)
		}
	})
	tr.Setenv("TMPDIR", dir)
	return &disk{tr, dir, filepath.Join(dir, "ballast")}
}

func removeDisk(dir string) error {
	err := syscall.Unmount(dir, syscall.MNT_DETACH)
	if err != nil {
		err = exec.Command("sudo", "-n", "umount", "-l", dir).Run()
	}
	return errors.Join(err, os.Remove(dir))
}

// removeStaleDisks removes the disks of killed test processes.
func removeStaleDisks() {
	left, _ := filepath.Glob("/tmp/" + diskPrefix + "*") // the only error is a malformed pattern
	for _, dir := range left {
		var pid int
		_, err := fmt.Sscanf(filepath.Base(dir), diskPrefix+"%d-", &pid)
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = removeDisk(dir) // another process may do so at the same time
		}
	}
}

// fill leaves no byte free.
func (d *disk) fill() {
	d.Helper()
	f, err := os.OpenFile(d.ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	d.must(err)
	defer func() { _ = f.Close() }()
	piece := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(piece)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		d.Fatalf("fill the disk: %v", err)
	}
}

func (d *disk) free() {
	d.Helper()
	d.must(os.Remove(d.ballast))
}

// start starts a server on the disk, with a log that stays small.
func (d *disk) start() (*pgserver.Server, string) {
	d.Helper()
	return startServer(d.trial, pgserver.WithSetting("min_wal_size", "32MB"),
		pgserver.WithSetting("max_wal_size", "48MB"))
}

// fullCommand is a command for a server on a full disk.
type fullCommand struct {
	name    string
	vault   *vault
	prepare func() (databaseURL string, args []string)
	after   func(args []string, out, said string)
}

// fullCommands returns commands that write. Each has work to do on every run.
func fullCommands(v *vault, server *pgserver.Server) []fullCommand {
	var list []fullCommand
	for _, c := range []victim{v.rotateVictim(), v.importVictim(), migrateVictim(v.trial, server)} {
		list = append(list, fullCommand{c.name, v, c.prepare, c.after})
	}
	return list
}

// diskFull fills the disk before commands begin, beside a service that writes.
// Postgres refuses statements that need space, and keeps running.
func diskFull(tr *trial) {
	d := newDisk(tr)
	server, databaseURL := d.start()
	w := newWorld(tr, databaseURL)
	v := newVault(w, 30, 10)
	w.service(2, "pgx", databaseURL)
	rounds, said := tr.pick(1, 4), make([]string, 3)
	for range rounds {
		for i, c := range fullCommands(v, server) {
			url, args := c.prepare()
			d.fill()
			w.start()
			text, err := v.full(c, url, args, func() { d.free(); d.must(server.Revive(tr.ctx)) })
			if said[i] = text; err == nil {
				v.found(&v.wrong, "%s says that it is done, on a full disk", c.name)
			}
			w.await(5)
			w.pause()
		}
		w.check()
	}
	tr.notef("%d times each beside a service; rotate, import and migrate said: %q", rounds, said)
	w.close()
}

// full runs a command, frees the disk, and lets the next run continue. It
// returns the command's error and the last line it printed.
func (v *vault) full(c fullCommand, url string, args []string, free func()) (last string, err error) {
	v.Helper()
	cmd := command(v.ctx, url, "", nil, args[1:]...)
	cmd.Env = append(cmd.Env, environ(args[0])...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	if free(); err == nil {
		v.operations.Add(1)
	} else {
		v.failed.Add(1)
	}
	c.after(args[1:], out.String(), said.String())
	lines := bytes.Split(bytes.TrimSpace(said.Bytes()), []byte("\n"))
	return string(lines[len(lines)-1]), err
}

// logFull fills the write-ahead log's disk while commands run, which stops the
// server. It restarts when there is space.
func logFull(tr *trial) {
	d := newDisk(tr)
	server, databaseURL := d.start()
	w := newWorld(tr, databaseURL)
	v := newVault(w, 30, 10)
	p := newProxy(tr, databaseURL)
	rounds, said := tr.pick(1, 3), make([]string, 3)
	for range rounds {
		for i, c := range fullCommands(v, server) {
			url, args := c.prepare()
			back := make(chan struct{})
			p.before(15, func() {
				defer close(back)
				d.fill()
				d.stopServer(w)
				d.free()
				if err := server.Revive(tr.ctx); err != nil {
					tr.Error(err)
				}
			})
			said[i], _ = v.full(c, p.url(url), args, func() {
				select {
				case <-back:
				case <-tr.ctx.Done():
					tr.Fatalf("%s ended before the disk was full", c.name)
				}
			})
		}
	}
	tr.notef("%d times each; rotate, import and migrate said: %q", rounds, said)
	w.close()
}

// stopServer writes to the log until the server ends all connections.
func (d *disk) stopServer(w *world) {
	db := w.pool("pgx", w.url, "suite")
	defer func() { _ = db.Close() }()
	for range 100 {
		_, err := db.ExecContext(w.ctx, "SELECT pg_logical_emit_message(false, 'ballast', repeat('x', 1000000))")
		if err != nil && !isRefusal(err) {
			return
		}
	}
	w.Error("the server's log finds room on a full disk")
}

// isRefusal reports whether the server refused a statement and keeps running.
func isRefusal(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "53100"
}
