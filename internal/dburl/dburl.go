// Package dburl says what is wrong with a database URL, in particular one that
// was written for another program: psql, Python, Java, Prisma.
//
// What it returns never holds the URL or a part of it, except for names that
// it knows itself: schemes, and parameters of other programs. Any other part
// may be a password, or belong to one that isn't percent-encoded.
package dburl

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// form is what a URL should be.
	form = "postgres://USER:PASSWORD@HOST:PORT/DATABASE or sqlite:FILE"
	use  = "write " + form
)

// Cause returns what is wrong with a database URL and what to write, or "" if
// nothing is known to be.
func Cause(text string) string {
	if keywordForm.MatchString(text) {
		_, cause := keywords(text)
		return cause
	}
	if cause := wrapping(text); cause != "" {
		return cause
	}
	scheme, rest, ok := strings.Cut(text, ":")
	switch {
	case !ok || !schemeForm.MatchString(scheme):
		return "it has no scheme: " + use
	case scheme == "postgres" || scheme == "postgresql":
		return postgres(rest)
	case scheme == "sqlite" || scheme == "sqlite3":
		switch file, _, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "?"); {
		case file == "":
			return "it has no file: write sqlite:FILE"
		case strings.HasPrefix(file, "file:"):
			return "it has two schemes: write sqlite:FILE, without file:"
		}
		return ""
	}
	return unknownScheme(scheme, rest)
}

var (
	// assignment is what a line of a file of variables begins with.
	assignment = regexp.MustCompile(`^(?:export\s+|set\s+)?["']?[A-Z_][A-Z_0-9]*["']?\s*(?:=|:\s)\s*["']?[a-z+0-9]+:`)
	schemeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)
)

// keywordForm finds psql's form of keywords by its first one, which is a
// parameter of libpq or of a driver.
var keywordForm = regexp.MustCompile(`^\s*(?:host|hostaddr|port|dbname|user|password|passfile|service|servicefile|` +
	`options|connect_timeout|(?:fallback_)?application_name|client_encoding|keepalives(?:_\w+)?|tcp_user_timeout|` +
	`(?:target_session|channel|load_balance|require|replication|gss|krb|ssl|(?:min|max)_protocol)\w*|` +
	`statement_cache_capacity|description_cache_capacity|default_query_exec_mode|binary_parameters)\s*=`)

const quotes = "\"'`“”„‘’«»"

// wrapping finds what is around a URL.
func wrapping(text string) string {
	trimmed := strings.TrimSpace(text)
	switch first, _ := utf8.DecodeRuneInString(trimmed); {
	case trimmed == "":
		return "it is empty: " + use
	case first == '\ufeff':
		return "it begins with a byte order mark, which editors on Windows write and don't show: remove it"
	case strings.ContainsRune(quotes, first):
		return "it is in quotes: remove them; only a shell does that by itself"
	case strings.HasPrefix(trimmed, "psql "):
		return "it is a command: leave the URL only"
	case strings.HasPrefix(trimmed, "$"), strings.HasPrefix(trimmed, "{{"), strings.HasPrefix(trimmed, "<"):
		return "it is a placeholder, and nobody has put the URL in its place"
	case assignment.MatchString(trimmed):
		return "it has the variable name before it, as in a .env file: leave only what follows the = or the colon"
	}
	if i := strings.IndexAny(text, "\r\n"); i >= 0 {
		return fmt.Sprintf("it has a line break at position %d of %d: remove it", utf8.RuneCountInString(text[:i])+1,
			utf8.RuneCountInString(text))
	}
	if trimmed != text {
		return "it has white space around it: remove it"
	}
	return invisible(text)
}

// invisible finds characters that nobody sees.
func invisible(text string) string {
	n := 0
	for _, r := range text {
		n++
		if !unicode.IsPrint(r) {
			return fmt.Sprintf("it has an invisible character (%U) at position %d: remove it", r, n)
		}
	}
	return ""
}

// foreign are databases that Credent doesn't work with.
var foreign = map[string]string{
	"mysql": "MySQL", "mysql2": "MySQL", "mariadb": "MariaDB", "sqlserver": "SQL Server", "mssql": "SQL Server",
	"oracle": "Oracle", "mongodb": "MongoDB", "mongodb+srv": "MongoDB", "redis": "Redis", "rediss": "Redis",
	"libsql": "libSQL", "duckdb": "DuckDB", "clickhouse": "ClickHouse", "snowflake": "Snowflake",
	"bigquery": "BigQuery", "cassandra": "Cassandra", "prisma": "Prisma's proxy",
	"prisma+postgres": "Prisma's proxy",
}

// pythonDrivers are what SQLAlchemy has after the + of a scheme.
var pythonDrivers = []string{
	"psycopg2", "psycopg2cffi", "psycopg", "psycopg_async", "asyncpg", "pg8000", "aiopg", "pygresql",
	"py-postgresql", "pypostgresql", "pysqlite", "aiosqlite", "pysqlcipher",
}

// aliases are other programs' names of Postgres.
var aliases = []string{"postgis", "postgresql2", "pgsql", "psql", "pg", "pgx", "pgx5", "pgx4", "pq"}

func unknownScheme(scheme, rest string) string {
	lower := strings.ToLower(scheme)
	base, driver, plus := strings.Cut(lower, "+")
	switch {
	case lower == "jdbc":
		inner, _, _ := strings.Cut(strings.ToLower(rest), ":")
		if name := foreign[inner]; name != "" {
			return "it is for " + name + ", and Credent works with Postgres and SQLite only"
		}
		return "it is a URL of JDBC: remove jdbc:, and write user and password before the host, " + form
	case foreign[lower] != "" || plus && foreign[base] != "":
		name := foreign[lower]
		if name == "" {
			name = foreign[base]
		}
		return "it is for " + name + ", and Credent works with Postgres and SQLite only"
	case plus && slices.Contains([]string{"postgres", "postgresql", "sqlite"}, base):
		if slices.Contains(pythonDrivers, driver) {
			return "its scheme names a driver of Python: remove +" + driver
		}
		return "its scheme names a driver: remove the + and what follows it, up to the colon"
	case slices.Contains([]string{"postgres", "postgresql", "sqlite", "sqlite3"}, lower):
		return "its scheme has upper-case letters: write " + lower
	case slices.Contains(aliases, lower):
		return "its scheme is " + lower + ": write postgres in its place"
	case lower == "file":
		return "it is a file: URL: write sqlite:FILE"
	case !strings.HasPrefix(rest, "//"):
		return "it has no scheme: " + use
	}
	return "unknown scheme: " + use
}

// postgres looks at what follows the scheme.
func postgres(rest string) string {
	rest, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return "it lacks the // after its scheme: write postgres://USER:PASSWORD@HOST:PORT/DATABASE"
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, tail := rest[:end], rest[end:]
	at := strings.LastIndex(authority, "@")
	if at < 0 && strings.Contains(tail, "@") && isCutOff(authority, tail) {
		return character(tail[:1])
	}
	if at >= 0 {
		if cause := userinfo(authority[:at]); cause != "" {
			return cause
		}
		if before, _, found := strings.Cut(tail, "@"); found && !strings.Contains(before, "=") {
			return character(tail[:1])
		}
	}
	if strings.Contains(tail, "#") {
		return "it has a number sign (#) that isn't percent-encoded: write %23"
	}
	if cause := hosts(authority[at+1:]); cause != "" {
		return cause
	}
	path, query, _ := strings.Cut(tail, "?")
	if plain, err := url.PathUnescape(path); err != nil || strings.ContainsRune(plain, 0) {
		return "its database has a percent sign that isn't percent-encoded: write %25"
	}
	if strings.Contains(authority, "%00") {
		return zero
	}
	return parameters(query)
}

const zero = "it has a zero byte (%00), which Postgres can't take"

// isCutOff reports whether a character of the password has ended the part of a
// URL that has user and password: the host would then be the user.
func isCutOff(authority, tail string) bool {
	before, _, _ := strings.Cut(tail, "@")
	_, query, ok := strings.Cut(before, "?")
	_, port, hasPort := strings.Cut(authority, ":")
	return !ok || !strings.Contains(query, "=") || hasPort && !isPort(port)
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

// kinds are the characters that mean something in a URL.
var kinds = map[string][2]string{
	"/": {"a slash", "%2F"}, "?": {"a question mark", "%3F"}, "#": {"a number sign (#)", "%23"},
	"%": {"a percent sign", "%25"}, " ": {"a space", "%20"}, "[": {"a bracket", "%5B"}, "]": {"a bracket", "%5D"},
	"\\": {"a backslash", "%5C"}, "^": {"a caret (^)", "%5E"}, "`": {"a backtick", "%60"}, "{": {"a brace", "%7B"},
	"}": {"a brace", "%7D"}, "|": {"a vertical bar", "%7C"},
	"<": {"an angle bracket", "%3C"}, ">": {"an angle bracket", "%3E"}, "\"": {"a double quote", "%22"},
}

// character says that user or password has a character of a kind.
func character(text string) string {
	kind, ok := kinds[text]
	if !ok {
		return "its user or password has a character that must be percent-encoded"
	}
	return fmt.Sprintf("its user or password has %s that isn't percent-encoded: write %s", kind[0], kind[1])
}

var escape = regexp.MustCompile(`^%[0-9A-Fa-f]{2}`)

// userinfo looks at user and password.
func userinfo(text string) string {
	for i, r := range text {
		switch {
		case r == '%':
			if !escape.MatchString(text[i:]) {
				return character("%")
			}
		case r > unicode.MaxASCII:
			return "its user or password has a character outside of ASCII: percent-encode its bytes in UTF-8"
		case kinds[string(r)] != [2]string{}:
			return character(string(r))
		}
	}
	return ""
}

// hosts looks at hosts and ports.
func hosts(text string) string {
	for host := range strings.SplitSeq(text, ",") {
		if cause := host1(host); cause != "" {
			return cause
		}
	}
	return ""
}

func host1(text string) string {
	if cause := userinfo(strings.NewReplacer("[", "", "]", "").Replace(text)); cause != "" {
		return strings.Replace(cause, "its user or password", "its host, user or password", 1)
	}
	if strings.HasPrefix(text, "[") {
		_, after, ok := strings.Cut(text, "]")
		if !ok {
			return "its host is an IPv6 address without the closing bracket"
		}
		text = after
	}
	if strings.Count(text, ":") > 1 {
		return "its host has several colons: write an IPv6 address in brackets, [::1]"
	}
	if _, port, ok := strings.Cut(text, ":"); ok && port != "" && !isPort(port) {
		return "its port is not a number from 1 to 65535; if it is a part of the password, percent-encode that"
	}
	return ""
}

// otherPrograms are parameters that Postgres and its drivers don't know, and
// what to write in their place.
var otherPrograms = map[string]string{
	"schema":                        "write options=-csearch_path%3DSCHEMA",
	"currentSchema":                 "write options=-csearch_path%3DSCHEMA",
	"pgbouncer":                     "leave it out",
	"connection_limit":              "set it with db.SetMaxOpenConns",
	"pool_timeout":                  "it is an option of Prisma's pool",
	"socket_timeout":                "statement_timeout, in milliseconds, bounds a statement",
	"socketTimeout":                 "statement_timeout, in milliseconds, bounds a statement",
	"command_timeout":               "statement_timeout, in milliseconds, bounds a statement",
	"statement_cache_size":          "leave it out",
	"prepared_statement_cache_size": "leave it out",
	"prepared_statements":           "leave it out",
	"prepareThreshold":              "leave it out",
	"preferQueryMode":               "leave it out",
	"server_settings":               "write each setting as a parameter of its own",
	"sslaccept":                     "sslmode says it: require, verify-ca or verify-full",
	"sslidentity":                   "sslcert and sslkey name the files",
	"ssl":                           "sslmode says it: disable, require, verify-ca or verify-full",
	"useSSL":                        "sslmode says it: disable, require, verify-ca or verify-full",
	"sslfactory":                    "sslmode says it: disable, require, verify-ca or verify-full",
	"useUnicode":                    "leave it out",
	"characterEncoding":             "leave it out: it is UTF-8",
	"charset":                       "leave it out: it is UTF-8",
	"encoding":                      "leave it out: it is UTF-8",
	"ApplicationName":               "application_name is its name",
	"connectTimeout":                "connect_timeout takes seconds",
	"loginTimeout":                  "connect_timeout takes seconds",
	"timeout":                       "connect_timeout takes seconds",
	"targetServerType":              "target_session_attrs is its name",
	"reWriteBatchedInserts":         "leave it out",
	"pool_size":                     "set it with db.SetMaxOpenConns",
	"max_overflow":                  "set it with db.SetMaxOpenConns",
	"pool_max_conns":                "set it with db.SetMaxOpenConns",
	"pool_min_conns":                "set it with db.SetMaxIdleConns",
	"pool_max_conn_lifetime":        "set it with db.SetConnMaxLifetime",
	"pool_max_conn_idle_time":       "set it with db.SetConnMaxIdleTime",
	"pool_health_check_period":      "leave it out",
	"conn_max_age":                  "set it with db.SetConnMaxLifetime",
	"x-migrations-table":            "leave it out: package migrate has its own table",
	"uselibpqcompat":                "leave it out",
	"async_fallback":                "leave it out",
	"tz":                            "timezone is its name",
	"application":                   "application_name is its name",
}

// parameters looks at what follows the question mark.
func parameters(query string) string {
	values, err := url.ParseQuery(query)
	if err != nil {
		return "its parameters don't parse: percent-encode special characters, and separate them by &"
	}
	for pair := range strings.SplitSeq(query, "&") {
		if pair != "" && !strings.Contains(pair, "=") {
			return "it has a parameter without a value: write NAME=VALUE"
		}
	}
	s := make(Settings)
	for name := range values {
		if s[name] = values.Get(name); strings.ContainsRune(name+s[name], 0) {
			return zero
		}
	}
	return Check(s, nil)
}
