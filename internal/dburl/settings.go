package dburl

import (
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Settings are what a URL of Postgres, or psql's form of keywords, says, by the
// names of libpq's parameters: host, port, dbname, user, password, sslmode, …
type Settings map[string]string

// Parse returns the settings of a URL of Postgres or of psql's form of
// keywords. The cause is [Cause]'s.
func Parse(text string) (_ Settings, cause string) {
	if cause := Cause(text); cause != "" {
		return nil, cause
	}
	if keywordForm.MatchString(text) {
		return keywords(text)
	}
	_, rest, _ := strings.Cut(text, "://")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority, tail := rest[:end], rest[end:]
	s := make(Settings)
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		user, password, has := strings.Cut(authority[:at], ":")
		s.set("user", decoded(user))
		if has {
			s.set("password", decoded(password))
		}
		authority = authority[at+1:]
	}
	s.hosts(authority)
	path, query, _ := strings.Cut(tail, "?")
	s.set("dbname", decoded(strings.TrimPrefix(path, "/")))
	for pair := range strings.SplitSeq(query, "&") {
		if name, value, ok := strings.Cut(pair, "="); ok {
			s[decoded(name)] = decoded(value) // which wins over the path
		}
	}
	return s, checkPorts(s)
}

// IsKeywords reports whether a text is in psql's form of keywords.
func IsKeywords(text string) bool { return keywordForm.MatchString(text) }

func (s Settings) set(name, value string) {
	if value != "" {
		s[name] = value
	}
}

// decoded is what psql makes of a part of a URL, in which a plus is no space.
func decoded(text string) string {
	plain, err := url.PathUnescape(text)
	if err != nil { // which Cause would have found
		return text
	}
	return plain
}

// hosts splits the hosts of a URL, each with its port or none.
func (s Settings) hosts(authority string) {
	if authority == "" {
		return
	}
	var hosts, ports []string
	for host := range strings.SplitSeq(authority, ",") {
		var name, port string
		if inner, ok := strings.CutPrefix(host, "["); ok {
			name, port, _ = strings.Cut(inner, "]")
			port = strings.TrimPrefix(port, ":")
		} else {
			name, port, _ = strings.Cut(host, ":")
		}
		hosts, ports = append(hosts, decoded(name)), append(ports, port)
	}
	if slices.ContainsFunc(hosts, func(host string) bool { return host != "" }) {
		s["host"] = strings.Join(hosts, ",")
	}
	if len(hosts) == 1 && ports[0] == "" {
		return // PGPORT says it; of several hosts none takes it
	}
	for i := range ports {
		if ports[i] == "" {
			ports[i] = "5432"
		}
	}
	s["port"] = strings.Join(ports, ",")
}

// space separates keywords.
const space = " \t\v\f\r\n"

// keywords parses psql's form: name = value, separated by white space, with
// values in single quotes if wanted, and a backslash before quotes and
// backslashes.
func keywords(text string) (Settings, string) {
	const (
		malformed = "it is in psql's form of keywords, and isn't well-formed: write name=value, and put a value " +
			"with spaces in single quotes"
	)
	plain := func(r rune) rune {
		if strings.ContainsRune(space, r) {
			return ' '
		}
		return r
	}
	if cause := invisible(strings.Map(plain, text)); cause != "" {
		return nil, cause
	}
	s := make(Settings)
	for text = strings.TrimLeft(text, space); text != ""; text = strings.TrimLeft(text, space) {
		name, rest, ok := strings.Cut(text, "=")
		if name = strings.TrimRight(name, space); !ok || name == "" || strings.ContainsAny(name, space+`'\`) {
			return nil, malformed
		}
		value, rest, ok := keywordValue(strings.TrimLeft(rest, space))
		if !ok {
			return nil, malformed
		}
		s[name], text = value, rest
	}
	if cause := Check(s, nil); cause != "" {
		return nil, cause
	}
	return s, checkPorts(s)
}

// keywordValue takes one value off a text.
func keywordValue(text string) (value, rest string, ok bool) {
	var b strings.Builder
	inner, quoted := strings.CutPrefix(text, "'")
	for i := 0; i < len(inner); i++ {
		switch c := inner[i]; {
		case c == '\\':
			if i++; i < len(inner) {
				b.WriteByte(inner[i])
			}
		case quoted && c == '\'':
			return b.String(), inner[i+1:], true
		case !quoted && strings.IndexByte(space, c) >= 0:
			return b.String(), inner[i:], true
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", !quoted
}

// String returns the settings in psql's form, for a driver.
func (s Settings) String() string {
	escape := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s)) {
		b.WriteString(name + "='" + escape.Replace(s[name]) + "' ")
	}
	return strings.TrimSuffix(b.String(), " ")
}

// choices are parameters with a closed set of values.
var choices = map[string][]string{
	"sslmode":              {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"},
	"channel_binding":      {"disable", "prefer", "require"},
	"target_session_attrs": {"any", "read-write", "read-only", "primary", "standby", "prefer-standby"},
	"gssencmode":           {"disable", "prefer", "require"},
	"sslnegotiation":       {"postgres", "direct"},
	"sslcertmode":          {"disable", "allow", "require"},
	"load_balance_hosts":   {"disable", "random"},
	"default_query_exec_mode": {
		"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol",
	},
	"ssl_min_protocol_version": {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"},
	"ssl_max_protocol_version": {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"},
	"min_protocol_version":     {"3.0", "3.2", "latest"},
	"max_protocol_version":     {"3.0", "3.2", "latest"},
	"keepalives":               {"0", "1"},
	"binary_parameters":        {"yes", "no"},
}

// counts are parameters that are whole numbers, and their unit.
var counts = map[string]string{
	"connect_timeout": " of seconds", "keepalives_idle": " of seconds", "keepalives_interval": " of seconds",
	"keepalives_count": "", "tcp_user_timeout": " of milliseconds",
	"statement_cache_capacity": "", "description_cache_capacity": "",
}

// Check finds what neither driver would take. The subject is what to call a
// setting by its name, if it isn't in the URL; nil means that all of them are.
func Check(s Settings, subject func(name string) string) string {
	if subject == nil {
		subject = func(name string) string { return "its " + name }
	}
	names := slices.Sorted(maps.Keys(s))
	var foreign []string
	for _, name := range names {
		if instead, ok := otherPrograms[name]; ok {
			foreign = append(foreign, name+" ("+instead+")")
		}
	}
	if len(foreign) > 0 {
		return "it has parameters of another program, which Postgres doesn't know: remove " +
			strings.Join(foreign, ", ")
	}
	for _, name := range names {
		if must := mustBe(name, s[name]); must != "" {
			return subject(name) + " " + must
		}
	}
	if oldest, newest := s["ssl_min_protocol_version"], s["ssl_max_protocol_version"]; oldest != "" && newest != "" &&
		strings.ToLower(oldest) > strings.ToLower(newest) {
		return subject("ssl_min_protocol_version") + " is later than the ssl_max_protocol_version"
	}
	return ""
}

// mustBe says what a setting must be, or "" if it is.
func mustBe(name, value string) string {
	if unit, ok := counts[name]; ok {
		if _, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32); err != nil {
			return "must be a whole number" + unit + ", without a unit"
		}
	}
	if allowed, ok := choices[name]; ok && !slices.Contains(allowed, value) {
		fits := func(one string) bool { return value == "" || strings.EqualFold(one, value) }
		if !strings.HasPrefix(name, "ssl_") || !slices.ContainsFunc(allowed, fits) {
			return "must be one of " + strings.Join(allowed, ", ")
		}
	}
	switch name {
	case "port":
		for port := range strings.SplitSeq(value, ",") {
			if port = strings.TrimSpace(port); port != "" && !isPort(port) {
				return "is not a number from 1 to 65535"
			}
		}
	case "hostaddr":
		for address := range strings.SplitSeq(value, ",") {
			if _, err := netip.ParseAddr(address); address != "" && err != nil {
				return "is not an IP address: host takes names"
			}
		}
	}
	return ""
}

func checkPorts(s Settings) string {
	hosts := max(strings.Count(s["host"], ","), strings.Count(s["hostaddr"], ","))
	if ports := strings.Count(s["port"], ","); ports > 0 && ports != hosts {
		return "it has another number of ports than of hosts: write one port, or one for each host"
	}
	return ""
}
