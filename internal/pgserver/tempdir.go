//go:build linux || darwin

package pgserver

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	tempPrefix = "credent-postgres-"
	lockName   = "lock"
	// staleAge is how old an unlocked directory must be to count as abandoned;
	// a younger one may not be locked yet.
	staleAge = 10 * time.Minute
)

// tempDir is one server's directory, accessible only to its owner. Its lock is
// held for this process's lifetime.
type tempDir struct {
	path  string
	owner *syscall.Credential // the user the server runs as; nil for the current one
	lock  *os.File

	inMemory bool
}

// newTempDir creates a directory, in memory if wanted and if there is enough,
// and deletes the directories of killed processes.
func newTempDir(wantMemory bool) (_ *tempDir, err error) {
	d := &tempDir{}
	if d.owner, err = serverOwner(); err != nil {
		return nil, err
	}
	base, err := tempBase(d.owner)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{base, memoryDir} {
		removeStale(dir, time.Now().Add(-staleAge))
	}
	if wantMemory && os.Getenv("TMPDIR") == "" && roomInMemory() && traversable(memoryDir, d.owner) {
		d.path, err = os.MkdirTemp(memoryDir, tempPrefix)
		d.inMemory = err == nil
	}
	if !d.inMemory {
		if d.path, err = os.MkdirTemp(base, tempPrefix); err != nil {
			return nil, fmt.Errorf("make a temporary directory: %w", err)
		}
	}
	defer func() {
		if err != nil {
			_ = d.remove()
		}
	}()
	if d.lock, err = lockFile(filepath.Join(d.path, lockName), os.O_CREATE); err != nil {
		return nil, fmt.Errorf("lock the temporary directory: %w", err)
	}
	if err := d.giveAway(d.path); err != nil {
		return nil, err
	}
	return d, nil
}

// serverOwner returns the user the server runs as; nil for the current one.
func serverOwner() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // see above
	}
	return unprivileged()
}

// unprivileged returns a user for the server, because Postgres refuses to run
// as root.
func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			continue
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			continue
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("no user postgres or nobody on this system, and the server does not run as root")
}

// tempBase returns the directory for temporary files: the environment's, or
// /tmp if the server's user can't access it, such as a TMPDIR in root's home
// directory.
func tempBase(owner *syscall.Credential) (string, error) {
	candidates := []string{os.TempDir(), "/tmp", "/var/tmp"}
	for _, dir := range candidates {
		abs, err := filepath.Abs(dir)
		if err != nil {
			continue
		}
		if resolved, err := filepath.EvalSymlinks(abs); err == nil && traversable(resolved, owner) {
			return resolved, nil
		}
	}
	return "", fmt.Errorf("no directory for temporary files among %q that the server's user can enter", candidates)
}

// traversable reports whether a directory's and its parents' permission bits
// let a user enter it.
func traversable(dir string, u *syscall.Credential) bool {
	if u == nil {
		info, err := os.Stat(dir)
		return err == nil && info.IsDir()
	}
	for {
		info, err := os.Stat(dir)
		if err != nil {
			return false
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return false
		}
		need := fs.FileMode(0o001)
		switch {
		case stat.Uid == u.Uid:
			need = 0o100
		case stat.Gid == u.Gid:
			need = 0o010
		}
		if info.Mode()&need == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

// writeFile writes a file that only the server's user can read.
func (d *tempDir) writeFile(name, content string) error {
	path := filepath.Join(d.path, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return d.giveAway(path)
}

// giveAway makes the server's user the owner of a path.
func (d *tempDir) giveAway(path string) error {
	if d.owner == nil {
		return nil
	}
	if err := os.Lchown(path, int(d.owner.Uid), int(d.owner.Gid)); err != nil {
		return fmt.Errorf("give the temporary directory to the server's user: %w", err)
	}
	return nil
}

// remove deletes the directory and its contents.
func (d *tempDir) remove() error {
	if d.lock != nil {
		defer func() { _ = d.lock.Close() }()
	}
	if err := os.RemoveAll(d.path); err != nil {
		return fmt.Errorf("delete the temporary directory: %w", err)
	}
	return nil
}

// lockFile opens a file and locks it, or fails if another process holds the
// lock. The lock ends with the process, even if it is killed.
func lockFile(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flag, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// removeStale deletes what killed processes left in base, as far as permissions
// allow: directories with an unheld lock created before the given time.
func removeStale(base string, before time.Time) {
	locks, _ := filepath.Glob(filepath.Join(base, tempPrefix+"*", lockName))
	for _, path := range locks {
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() || info.ModTime().After(before) {
			continue
		}
		lock, err := lockFile(path, 0)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(filepath.Dir(path))
		_ = lock.Close()
	}
}
