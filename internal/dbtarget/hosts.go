package dbtarget

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/dburl"
	"github.com/credent-go/credent/internal/wire"
)

// Host is a server to try.
type Host struct {
	Name    string // a host name, an address or a socket; "" for the driver's default
	Address string // an IP address to use instead of the name's, or ""
	Port    string
	// Password is from the URL, or from the password file for this host.
	Password string
}

// IsSocket reports whether the host is a socket's directory, or an abstract
// socket, which has a name that starts with @.
func (h Host) IsSocket() bool {
	return filepath.IsAbs(h.Name) || strings.HasPrefix(h.Name, "/") || strings.HasPrefix(h.Name, "@")
}

// hosts moves the hosts out of the settings.
func (t *Target) hosts() string {
	s := t.Settings
	names, addresses, ports := list(s["host"]), list(s["hostaddr"]), list(s["port"])
	t.drop("host", "hostaddr", "port")
	n := max(len(names), len(addresses), 1)
	switch {
	case len(names) > 0 && len(addresses) > 0 && len(names) != len(addresses):
		return "it has a different number of addresses (hostaddr) than hosts"
	case len(ports) > 1 && len(ports) != n:
		return "it has another number of ports than of hosts: write one port, or one for each host"
	}
	for i := range n {
		h := Host{Name: at(names, i), Address: at(addresses, i), Port: at(ports, i)}
		if len(ports) == 1 {
			h.Port = ports[0]
		}
		if h.Port = strings.TrimSpace(h.Port); h.Port == "" {
			h.Port = "5432"
		}
		if h.Address != "" && (h.Name == "" || h.IsSocket()) {
			h.Name, h.Address = h.Address, ""
		}
		if h.Name == "" {
			h.Name = defaultSocket(h.Port)
		}
		t.Hosts = append(t.Hosts, h)
	}
	return ""
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func at(all []string, i int) string {
	if i < len(all) {
		return all[i]
	}
	return ""
}

// sockets are directories in which servers have their sockets. psql knows only
// its built-in one.
var sockets = []string{"/var/run/postgresql", "/run/postgresql", "/private/tmp", "/tmp"}

// defaultSocket returns the directory with a local server's socket, or "".
func defaultSocket(port string) string {
	if runtime.GOOS == "windows" {
		return ""
	}
	for _, dir := range sockets {
		if _, err := os.Stat(filepath.Join(dir, ".s.PGSQL."+port)); err == nil {
			return dir
		}
	}
	return ""
}

// For returns the driver's settings for one host and one of the attempts.
func (t *Target) For(h Host, attempt string) dburl.Settings {
	s := maps.Clone(t.Settings)
	if h.Name != "" {
		s["host"] = h.Name
	}
	s["port"], s["password"] = h.Port, h.Password
	if attempt != "" {
		s["target_session_attrs"] = attempt
	}
	return s
}

// Rounds returns a driver's configurations of the hosts, in their order, for
// each of the attempts.
func Rounds[T any](t *Target, config func(h Host, attempt string) (T, error)) (rounds [][]T, err error) {
	for _, attempt := range t.Attempts {
		round := make([]T, len(t.Hosts))
		for i, host := range t.Hosts {
			if round[i], err = config(host, attempt); err != nil {
				return nil, err
			}
		}
		rounds = append(rounds, round)
	}
	return rounds, nil
}

// Explain says why connecting failed, without any part of the URL.
func (t *Target) Explain(err error, limit time.Duration) error {
	values := []string{t.Settings["user"], t.Settings["dbname"]}
	for _, h := range t.Hosts {
		values = append(values, h.Name, h.Address, h.Password)
	}
	err = wire.ConnectError(err, limit, values...)
	if t.OpenPassFile && slices.Contains([]string{"28P01", "28000"}, dberror.State(err)) {
		const why = "the password file isn't used, since others than its owner have access to it: chmod 600"
		return fmt.Errorf("%w; %s", err, why)
	}
	return err
}
