package dburl

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/credent-go/credent/internal/pgservice"
	"github.com/credent-go/credent/internal/wire"
)

// Drivers of Postgres.
const (
	PGX = "pgx"
	PQ  = "lib/pq"
)

// Target is the part of a URL that a driver gets, and what it doesn't do
// itself.
type Target struct {
	// Settings are the ones that the driver knows.
	Settings Settings
	// HostAddr has addresses by host, for pgx.
	HostAddr map[string]string
	// MinTLS and MaxTLS are the parameters of that name, for pgx.
	MinTLS, MaxTLS string
	// KeepAlive and Connect are for the dialer. Connect is 0 if the URL doesn't
	// say.
	KeepAlive wire.KeepAlive
	Connect   time.Duration
	// Dropped are the names of parameters that are in none of the above, since
	// the driver holds to them anyway.
	Dropped []string
}

// neither are parameters of psql that no driver has.
var neither = []string{
	"gsslib", "gssdelegation", "sslcrl", "sslcrldir", "requirepeer", "requiressl", "sslkeylogfile", "scram_client_key",
	"scram_server_key", "oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope",
}

// refusedBy are parameters of psql that one driver lacks, and the other has.
var refusedBy = map[string][]string{
	PQ:  {"require_auth", "sslpassword"},
	PGX: {"sslinline"},
}

// utf8Names are client_encoding's names of UTF-8, and psql's default.
var utf8Names = []string{"utf8", "utf-8", "unicode", "auto"}

// another is what to do about a parameter that one driver lacks.
var another = map[string]string{
	PQ:  "use pgx, the default",
	PGX: "use lib/pq, package open/libpq",
}

// For returns what a driver is to get of the settings, or what it can't do.
func (s Settings) For(driver string) (*Target, string) {
	s, cause := s.withService()
	if cause != "" {
		return nil, cause
	}
	if cause := checkEnvironment(driver); cause != "" {
		return nil, cause
	}
	t := &Target{Settings: s, HostAddr: make(map[string]string)}
	if cause := t.refuse(driver); cause != "" {
		return nil, cause
	}
	connect := s["connect_timeout"]
	if connect == "" {
		connect = os.Getenv("PGCONNECT_TIMEOUT")
	}
	if seconds, err := strconv.Atoi(connect); err == nil && seconds > 0 {
		t.Connect = time.Duration(seconds) * time.Second
	}
	t.keepAlive()
	t.drop("gssencmode", "sslcompression", "sslcertmode", "client_encoding")
	if name, ok := s["fallback_application_name"]; ok {
		if s["application_name"] == "" && os.Getenv("PGAPPNAME") == "" {
			s["application_name"] = name
		}
		t.drop("fallback_application_name")
	}
	if driver == PGX {
		t.drop("binary_parameters", "disable_prepared_binary_result", "load_balance_hosts")
		t.MinTLS, t.MaxTLS = s["ssl_min_protocol_version"], s["ssl_max_protocol_version"]
		t.drop("ssl_min_protocol_version", "ssl_max_protocol_version")
		return t, t.hostAddr()
	}
	if s["sslmode"] == "" && os.Getenv("PGSSLMODE") == "" && s["sslrootcert"] != "system" {
		s["sslmode"] = "prefer" // psql's default, and not lib/pq's
	}
	t.drop("channel_binding", "default_query_exec_mode", "statement_cache_capacity", "description_cache_capacity")
	return t, ""
}

func (t *Target) drop(names ...string) {
	for _, name := range names {
		delete(t.Settings, name)
	}
	t.Dropped = append(t.Dropped, names...)
}

// refuse finds what the driver would not hold to.
func (t *Target) refuse(driver string) string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(t.Settings)) {
		value := t.Settings[name]
		switch {
		case slices.Contains(neither, name),
			name == "gssencmode" && value == "require",
			name == "sslcompression" && value != "0",
			name == "sslcertmode" && value != "allow":
			return "no driver supports these parameters: remove " + name
		case name == "client_encoding" && !slices.Contains(utf8Names, strings.ToLower(value)):
			return "its client_encoding isn't UTF8, which the drivers need: remove it"
		case slices.Contains(refusedBy[driver], name),
			driver == PQ && name == "channel_binding" && value == "require",
			driver == PGX && name == "load_balance_hosts" && value == "random":
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "the driver " + driver + " doesn't support these parameters: remove " + strings.Join(names, ", ") +
		", or " + another[driver]
}

// checkEnvironment finds variables by which lib/pq refuses every connection.
func checkEnvironment(driver string) string {
	if driver != PQ {
		return ""
	}
	for _, name := range []string{
		"PGREQUIRESSL", "PGSSLCOMPRESSION", "PGREALM", "PGGSSENCMODE", "PGGSSDELEGATION", "PGGSSLIB", "PGREQUIREAUTH",
		"PGCHANNELBINDING", "PGSSLCERTMODE", "PGSSLCRL", "PGSSLCRLDIR", "PGREQUIREPEER",
	} {
		if _, ok := os.LookupEnv(name); ok {
			return "the driver " + PQ + " doesn't support the variable " + name + ": unset it, or " + another[PQ]
		}
	}
	return ""
}

// keepAlive takes what the dialer does.
func (t *Target) keepAlive() {
	number := func(name string, unit time.Duration) time.Duration {
		n, _ := strconv.Atoi(t.Settings[name]) // which was checked
		return time.Duration(max(n, 0)) * unit
	}
	t.KeepAlive = wire.KeepAlive{
		Off:         t.Settings["keepalives"] == "0",
		Idle:        number("keepalives_idle", time.Second),
		Interval:    number("keepalives_interval", time.Second),
		Count:       int(number("keepalives_count", 1)),
		UserTimeout: number("tcp_user_timeout", time.Millisecond),
	}
	t.drop("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
}

// hostAddr replaces names that come with their address: pgx gets the name, for
// certificates and password files, and the address by way of its look-up.
func (t *Target) hostAddr() string {
	all := t.Settings["hostaddr"]
	if all == "" && t.Settings["host"] == "" {
		all = os.Getenv("PGHOSTADDR")
	}
	t.drop("hostaddr")
	if all == "" {
		return ""
	}
	names := t.Settings["host"]
	if names == "" {
		names = os.Getenv("PGHOST")
	}
	if names == "" {
		t.Settings["host"] = all
		return ""
	}
	addresses, hosts := strings.Split(all, ","), strings.Split(names, ",")
	if len(addresses) != len(hosts) {
		return "it has another number of addresses (hostaddr) than of hosts"
	}
	for i, host := range hosts {
		if known, ok := t.HostAddr[host]; ok && known != addresses[i] {
			return "it has two addresses (hostaddr) for one host: name the addresses as hosts"
		}
		if addresses[i] != "" {
			t.HostAddr[host] = addresses[i]
		}
	}
	return ""
}

// withService returns a copy with what a service file says, where the settings
// say nothing.
func (s Settings) withService() (Settings, string) {
	all := maps.Clone(s)
	service := s["service"]
	if service == "" {
		service = os.Getenv("PGSERVICE")
	}
	if service == "" {
		delete(all, "servicefile")
		return all, ""
	}
	for _, file := range pgservice.Files(s["servicefile"]) {
		section, ok := pgservice.Read(file, service)
		if !ok {
			continue
		}
		for name, value := range section {
			if _, given := all[name]; !given {
				all[name] = value
			}
		}
		delete(all, "service")
		delete(all, "servicefile")
		return all, checkSettings(all)
	}
	return nil, "its service isn't in a service file: look at PGSERVICEFILE and ~/.pg_service.conf"
}
