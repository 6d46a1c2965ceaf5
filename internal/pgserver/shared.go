//go:build linux || darwin

package pgserver

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// keeper ends a shared server once nobody has used it for some seconds.
//
//go:embed keeper.sh
var keeper string

const (
	usersName = "users" // a file per process that uses the server, named by its ID
	urlName   = "url"   // the server's URL, while it accepts users

	// sharedIdle is how long a server without users keeps running.
	sharedIdle = 15 * time.Second
)

// Shared makes Start return one server to all of a user's processes that ask
// for it, so that the tests of many packages start Postgres once. The first
// process starts it, and it ends a few seconds after the last process has
// ended. [Server.Stop] leaves it running. Settings are refused, because they
// would apply to every process.
func Shared() Option {
	return func(c *config) error {
		c.shared = true
		return nil
	}
}

// startShared joins the user's running server, or starts one. A lock in the
// temporary directory lets only one process at a time look for it.
func startShared(ctx context.Context, binDir string, idle time.Duration) (_ *Server, err error) {
	settings := []setting{{"max_connections", "2000"}} // enough for many processes on many cores
	owner, err := serverOwner()
	if err != nil {
		return nil, err
	}
	base, err := tempBase(owner)
	if err != nil {
		return nil, err
	}
	pointer := filepath.Join(base, sharedName(binDir, settings))
	lock, err := awaitLock(pointer + ".lock")
	if err != nil {
		return nil, fmt.Errorf("lock the shared server: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if s := joinShared(ctx, pointer); s != nil {
		return s, nil
	}
	c, err := newCluster(ctx, binDir, config{settings: settings}, true)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = c.admin.Close()
			_ = c.stop()
		}
	}()
	if err := c.share(pointer, idle); err != nil {
		return nil, err
	}
	u := c.url()
	return &Server{base: u, admin: c.admin, ours: true}, nil
}

// sharedName returns the name of the file that points to the server. It depends
// on the PID namespace, because processes that can't see each other's IDs, as
// in two containers, need separate servers.
func sharedName(binDir string, settings []setting) string {
	namespace, _ := os.Readlink("/proc/self/ns/pid") // "" if there are no namespaces
	sum := sha256.Sum256([]byte(fmt.Sprint(binDir, settings, namespace, keeper)))
	return fmt.Sprintf("%sshared-%d-%x", tempPrefix, os.Getuid(), sum[:6])
}

// awaitLock opens one of the user's files and waits for its lock.
func awaitLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		err = ownFile(f)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// ownFile fails if another user could have written a file, because its content
// decides where the tests' secrets go.
func ownFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Getuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s belongs to another user, or is open to one: delete it", f.Name())
	}
	return nil
}

// joinShared registers this process with the running server, if there is one.
func joinShared(ctx context.Context, pointer string) *Server {
	f, err := os.OpenFile(pointer, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	if ownFile(f) != nil {
		return nil
	}
	dir, err := os.ReadFile(pointer)
	if err != nil {
		return nil
	}
	// The order matters: the keeper removes the URL first and then looks for
	// users.
	if err := register(string(dir)); err != nil {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(string(dir), urlName))
	if err != nil {
		return nil
	}
	u, err := url.Parse(string(text))
	if err != nil {
		return nil
	}
	admin, err := openAdmin(*u, adminTimeout)
	if err != nil {
		return nil
	}
	if admin.PingContext(ctx) != nil {
		_ = admin.Close()
		return nil
	}
	return &Server{base: *u, admin: admin, ours: true}
}

func register(dir string) error {
	return os.WriteFile(filepath.Join(dir, usersName, strconv.Itoa(os.Getpid())), nil, 0o600)
}

// share lets other processes find the server, and starts the keeper that ends
// it.
func (c *cluster) share(pointer string, idle time.Duration) error {
	if err := os.Mkdir(filepath.Join(c.dir.path, usersName), 0o700); err != nil {
		return fmt.Errorf("make the directory of users: %w", err)
	}
	if err := register(c.dir.path); err != nil {
		return fmt.Errorf("register with the shared server: %w", err)
	}
	u := c.url()
	if err := os.WriteFile(filepath.Join(c.dir.path, urlName), []byte(u.String()), 0o600); err != nil {
		return fmt.Errorf("write the shared server's URL: %w", err)
	}
	// The keeper inherits the directory's lock, so that nobody removes it as
	// stale. It is outside the tests' process group, so ^C doesn't end it.
	cmd := exec.Command("/bin/sh", "-c", keeper, "credent-postgres-keeper",
		strconv.Itoa(c.proc.cmd.Process.Pid), c.dir.path, strconv.Itoa(int(idle.Seconds())))
	cmd.Dir, cmd.Env = "/", []string{"PATH=" + os.Getenv("PATH")}
	cmd.ExtraFiles = []*os.File{c.dir.lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the shared server's keeper: %w", err)
	}
	go func() { _ = cmd.Wait() }()
	if err := os.Remove(pointer); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("replace the shared server: %w", err)
	}
	if err := os.WriteFile(pointer, []byte(c.dir.path), 0o600); err != nil {
		return fmt.Errorf("point to the shared server: %w", err)
	}
	return nil
}
