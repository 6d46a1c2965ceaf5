package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/google/uuid"

	"github.com/credent-go/credent/keyring"
)

// twinPeer is the Python application: a process of twin.py, which handles one
// line of JSON after another.
type twinPeer struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

type twinRequest struct {
	Do   string      `json:"do"`
	N    int         `json:"n,omitempty"`
	Kind string      `json:"kind,omitempty"`
	IDs  []uuid.UUID `json:"ids,omitempty"`
}

// python returns Debian's Python, which has the packages, or the one in PATH.
func python() string {
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		return "/usr/bin/python3"
	}
	return "python3"
}

// sourceDir is the directory of this file.
func sourceDir() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("the source files can't be found")
	}
	return filepath.Dir(file), nil
}

func openTwin(_ context.Context, databaseURL string, a account) (peer, error) {
	dir, err := sourceDir()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(python(), filepath.Join(dir, "twin.py"), a.id.String(), a.userID)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+databaseURL, "ENCRYPTION_KEY="+keyring.GenerateKey())
	cmd.Stderr = os.Stderr
	p := &twinPeer{cmd: cmd}
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewScanner(out)
	return p, cmd.Start()
}

// do sends a request and returns the number of rows it handled.
func (p *twinPeer) do(r twinRequest) (rows int, err error) {
	if err := json.NewEncoder(p.in).Encode(r); err != nil {
		return 0, err
	}
	if !p.out.Scan() {
		return 0, errors.Join(errors.New("twin.py ended"), p.out.Err())
	}
	var reply struct {
		Rows  int    `json:"rows"`
		Error string `json:"error"`
	}
	if err := json.Unmarshal(p.out.Bytes(), &reply); err != nil {
		return 0, err
	}
	if reply.Error != "" {
		return 0, fmt.Errorf("twin.py: %s", reply.Error)
	}
	return reply.Rows, nil
}

func (p *twinPeer) insert(_ context.Context, n int, kind string) error {
	_, err := p.do(twinRequest{Do: "insert", N: n, Kind: kind})
	return err
}

func (p *twinPeer) bulk(_ context.Context, n int, kind string) error {
	_, err := p.do(twinRequest{Do: "bulk", N: n, Kind: kind})
	return err
}

func (p *twinPeer) read(context.Context) (int, error) {
	return p.do(twinRequest{Do: "read", Kind: typeStored})
}

func (p *twinPeer) list(ctx context.Context) (int, error) { return p.read(ctx) }

func (p *twinPeer) point(_ context.Context, ids []uuid.UUID) error {
	_, err := p.do(twinRequest{Do: "point", IDs: ids})
	return err
}

func (p *twinPeer) close() error { return errors.Join(p.in.Close(), p.cmd.Wait()) }
