package dbtarget

import (
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/credent-go/credent/internal/pgservice"
)

// variables are libpq's variables by the parameter that each one stands for.
// The encoding is missing, since it is the terminal's.
var variables = map[string]string{
	"host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER",
	"password": "PGPASSWORD", "passfile": "PGPASSFILE", "channel_binding": "PGCHANNELBINDING", "options": "PGOPTIONS",
	"application_name": "PGAPPNAME", "connect_timeout": "PGCONNECT_TIMEOUT", "sslmode": "PGSSLMODE",
	"sslnegotiation": "PGSSLNEGOTIATION", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "sslcertmode": "PGSSLCERTMODE",
	"sslrootcert": "PGSSLROOTCERT", "sslcrl": "PGSSLCRL", "sslcrldir": "PGSSLCRLDIR", "sslsni": "PGSSLSNI",
	"requirepeer": "PGREQUIREPEER", "require_auth": "PGREQUIREAUTH", "gssencmode": "PGGSSENCMODE",
	"krbsrvname": "PGKRBSRVNAME", "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
	"ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION", "min_protocol_version": "PGMINPROTOCOLVERSION",
	"max_protocol_version": "PGMAXPROTOCOLVERSION", "target_session_attrs": "PGTARGETSESSIONATTRS",
	"load_balance_hosts": "PGLOADBALANCEHOSTS", "datestyle": "PGDATESTYLE", "timezone": "PGTZ", "geqo": "PGGEQO",
}

// withEnvironment adds what variables say, where the settings say nothing, and
// removes empty ones, which have hidden their variables by then.
func (t *Target) withEnvironment() {
	s := t.Settings
	given := make(map[string]bool, len(s))
	for name := range s {
		given[strings.ToLower(name)] = true // names of the server's settings have no case
	}
	for name, variable := range variables {
		if value := os.Getenv(variable); value != "" && !given[name] {
			s[name], t.from[name] = value, variable
		}
	}
	if strings.HasPrefix(os.Getenv("PGREQUIRESSL"), "1") && s["sslmode"] == "" {
		s["sslmode"], t.from["sslmode"] = "require", "PGREQUIRESSL"
	}
	for name, value := range s {
		if value == "" {
			delete(s, name)
		}
	}
}

// subject is what to call a setting.
func (t *Target) subject(name string) string {
	if variable := t.from[name]; variable != "" {
		return "the variable " + variable
	}
	return "its " + name
}

// remove is what to do about a setting.
func (t *Target) remove(name string) string {
	if variable := t.from[name]; variable != "" {
		return "unset " + variable
	}
	return "remove " + name
}

// defaults fills in whom psql logs in as, and where.
func (t *Target) defaults() {
	s := t.Settings
	if s["user"] == "" {
		if current, err := user.Current(); err == nil { // else it is for the driver to say
			s["user"] = current.Username[strings.LastIndexByte(current.Username, '\\')+1:]
		}
	}
	if s["dbname"] == "" && s["user"] != "" {
		s["dbname"] = s["user"]
	}
}

// passwords looks for the hosts' passwords in the password file.
func (t *Target) passwords() {
	password, file := t.Settings["password"], pgservice.PassFile(t.Settings["passfile"])
	t.drop("password", "passfile")
	for i := range t.Hosts {
		h := &t.Hosts[i]
		if h.Password = password; password != "" {
			continue
		}
		names := []string{h.Name, h.Address}
		if h.Name == "" || h.IsSocket() {
			names = append(names, "localhost")
		}
		found, open := pgservice.Password(file, names, h.Port, t.Settings["dbname"], t.Settings["user"])
		h.Password, t.OpenPassFile = found, t.OpenPassFile || open
	}
}

// withService adds what a service file says, where the settings say nothing.
func (t *Target) withService() string {
	s := t.Settings
	service, file := s["service"], s["servicefile"]
	delete(s, "service")
	delete(s, "servicefile")
	if service == "" {
		service = os.Getenv("PGSERVICE")
	}
	if service == "" {
		return ""
	}
	for _, file := range pgservice.Files(file) {
		section, ok := pgservice.Read(file, service)
		if !ok {
			continue
		}
		if _, nested := section["service"]; nested {
			return "its service names another service, which service files don't do"
		}
		for name, value := range section {
			if _, given := s[name]; !given {
				s[name] = value
			}
		}
		return ""
	}
	return "its service isn't in a service file: look at PGSERVICEFILE and ~/.pg_service.conf"
}

// isISO reports whether the drivers can read a style of dates.
func isISO(style, driver string) bool {
	all := strings.FieldsFunc(strings.ToUpper(style), func(r rune) bool { return r == ',' || r == ' ' })
	return slices.Equal(all, []string{"ISO"}) || slices.Equal(all, []string{"ISO", "MDY"}) ||
		driver == PGX && len(all) > 0 && all[0] == "ISO"
}
