// Package dbtarget prepares the settings of a URL for a driver of Postgres. It
// adds what psql finds in variables, service files and password files, and
// names each setting that the driver wouldn't hold to.
package dbtarget

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/credent-go/credent/internal/dburl"
	"github.com/credent-go/credent/internal/wire"
)

// Drivers of Postgres.
const (
	PGX = "pgx"
	PQ  = "lib/pq"
)

// Target is what a driver is given of a URL, and what it doesn't do by itself.
type Target struct {
	// Settings are the ones that the driver knows, for every host.
	Settings dburl.Settings
	// Hosts are the servers to try. Random means in any order.
	Hosts  []Host
	Random bool
	// Attempts are the values of target_session_attrs to go through all hosts
	// with, one after the other.
	Attempts []string
	// MinTLS and MaxTLS are the parameters of that name, for pgx.
	MinTLS, MaxTLS string
	// KeepAlive and Connect are for the dialer. Connect is 0 if the URL doesn't
	// say.
	KeepAlive wire.KeepAlive
	Connect   time.Duration
	// OpenPassFile means that a password file wasn't read, since others than
	// its owner have access to it.
	OpenPassFile bool
	// Dropped are the names of parameters that are in none of the above, since
	// the driver holds to them anyway.
	Dropped []string

	from map[string]string // variables, by the parameters that they gave
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

// New returns what a driver is to get of the settings, or what it can't do.
func New(s dburl.Settings, driver string) (*Target, string) {
	t := &Target{Settings: maps.Clone(s), from: make(map[string]string)}
	if cause := t.withService(); cause != "" {
		return nil, cause
	}
	if cause := checkEnvironment(driver); cause != "" {
		return nil, cause
	}
	t.withEnvironment()
	if cause := dburl.Check(t.Settings, t.subject); cause != "" {
		return nil, cause
	}
	if cause := t.refuse(driver); cause != "" {
		return nil, cause
	}
	if cause := t.hosts(); cause != "" {
		return nil, cause
	}
	t.defaults()
	t.passwords()
	s = t.Settings
	if seconds, err := strconv.Atoi(strings.TrimSpace(s["connect_timeout"])); err == nil && seconds > 0 {
		t.Connect = time.Duration(seconds) * time.Second
	}
	t.keepAlive()
	t.Random = s["load_balance_hosts"] == "random"
	t.Attempts = []string{s["target_session_attrs"]}
	if s["target_session_attrs"] == "prefer-standby" {
		t.Attempts = []string{"standby", "any"}
	}
	t.drop("connect_timeout", "gssencmode", "sslcompression", "client_encoding", "load_balance_hosts",
		"target_session_attrs")
	if name, ok := s["fallback_application_name"]; ok {
		if s["application_name"] == "" {
			s["application_name"] = name
		}
		t.drop("fallback_application_name")
	}
	if driver == PGX {
		t.drop("binary_parameters", "disable_prepared_binary_result")
		t.MinTLS, t.MaxTLS = s["ssl_min_protocol_version"], s["ssl_max_protocol_version"]
		t.drop("ssl_min_protocol_version", "ssl_max_protocol_version")
		return t, ""
	}
	t.forPQ()
	return t, ""
}

// forPQ adds what lib/pq has other defaults or names for.
func (t *Target) forPQ() {
	s := t.Settings
	if s["sslmode"] == "" && s["sslrootcert"] != "system" {
		s["sslmode"] = "prefer" // psql's default, and not lib/pq's
	}
	for _, name := range []string{"ssl_min_protocol_version", "ssl_max_protocol_version"} {
		if strings.EqualFold(s[name], "TLSv1") {
			s[name] = "TLSv1.0"
		} else if s[name] != "" {
			s[name] = "TLS" + strings.ToLower(s[name][len("TLS"):])
		}
	}
	for name := range s {
		if strings.EqualFold(name, "datestyle") {
			delete(s, name) // lib/pq sets it
		}
	}
	t.drop("channel_binding", "default_query_exec_mode", "statement_cache_capacity", "description_cache_capacity",
		"sslcertmode")
}

func (t *Target) drop(names ...string) {
	for _, name := range names {
		delete(t.Settings, name)
	}
	t.Dropped = append(t.Dropped, names...)
}

// refuse finds what the driver would not hold to.
func (t *Target) refuse(driver string) string {
	var advice []string
	for _, name := range slices.Sorted(maps.Keys(t.Settings)) {
		value := t.Settings[name]
		switch {
		case slices.Contains(neither, name),
			name == "gssencmode" && value == "require",
			name == "sslcompression" && value != "0":
			return "no driver supports these parameters: " + t.remove(name)
		case name == "client_encoding" && !slices.Contains(utf8Names, strings.ToLower(value)):
			return t.subject(name) + " isn't UTF8, which the drivers need: " + t.remove(name)
		case strings.EqualFold(name, "datestyle") && !isISO(value, driver):
			return t.subject(name) + " isn't ISO, which the drivers need: " + t.remove(name)
		case slices.Contains(refusedBy[driver], name),
			driver == PQ && name == "channel_binding" && value == "require",
			driver == PQ && name == "sslcertmode" && value != "allow":
			advice = append(advice, t.remove(name))
		}
	}
	if len(advice) == 0 {
		return ""
	}
	return "the driver " + driver + " doesn't support these parameters: " + strings.Join(advice, ", ") +
		", or " + another[driver]
}

// checkEnvironment finds variables by which lib/pq refuses every connection.
func checkEnvironment(driver string) string {
	if driver != PQ {
		return ""
	}
	for _, name := range []string{
		"PGREQUIRESSL", "PGSSLCOMPRESSION", "PGREALM", "PGGSSENCMODE", "PGGSSDELEGATION", "PGGSSLIB", "PGREQUIREAUTH",
		"PGCHANNELBINDING", "PGSSLCERTMODE", "PGSSLCRL", "PGSSLCRLDIR", "PGREQUIREPEER", "PGKRBSRVNAME",
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
		n, _ := strconv.Atoi(strings.TrimSpace(t.Settings[name])) // which was checked
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
