//go:build linux || darwin

package pgserver

import (
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

// process is a running server.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended
	err    error         // of Wait; read it after exited only
}

// startProcess starts a command that ends with this process, as far as the
// system can do that.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		defer dieWithParent(cmd.SysProcAttr)()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	return p, nil
}

// stop asks for Postgres's immediate shutdown, which does not wait for
// connections, and after the timeout kills.
func (p *process) stop(timeout time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGQUIT) // fails only if it has ended
	select {
	case <-p.exited:
	case <-time.After(timeout):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// kill ends the server and its children without a word to anybody, and returns
// when they have ended.
func (p *process) kill() {
	if !killTree(p.cmd.Process.Pid) {
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // fails only if it has ended
	}
	<-p.exited
}
