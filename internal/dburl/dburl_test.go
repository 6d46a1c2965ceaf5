package dburl_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/dburl"
)

// secret stands for what no cause may have: it is user, password, host,
// database or the value of a parameter.
const secret = "IN-VAIN"

func TestCause(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                                            "it is empty",
		" \n":                                                         "it is empty",
		"credent.db":                                                  "it has no scheme: write postgres://",
		secret + ":5432/d":                                            "it has no scheme",
		secret + ":" + secret + "@h/d":                                "it has no scheme",
		"//" + secret + "@h/d":                                        "it has no scheme",
		`"postgres://u:IN-VAIN@h/d"`:                                  "in quotes",
		`'sqlite:credent.db'`:                                         "in quotes",
		"“postgres://u:IN-VAIN@h/d”":                                  "in quotes",
		"postgres://u:IN-VAIN@h/d\n":                                  "a line break at position 25 of 25",
		"postgres://u:IN-\nVAIN@h/d":                                  "a line break at position 17 of 25",
		" postgres://u:IN-VAIN@h/d":                                   "white space around it",
		"\ufeffpostgres://u:IN-VAIN@h/d":                              "a byte order mark",
		"postgres://u:IN-VAIN@h\u200b/d":                              "an invisible character (U+200B) at position 23",
		"DATABASE_URL=postgres://u:IN-VAIN@h/d":                       "the variable name before it",
		"export DB='postgres://u:IN-VAIN@h/d'":                        "the variable name before it",
		"DATABASE_URL: postgres://u:IN-VAIN@h/d":                      "the variable name before it",
		"psql postgres://u:IN-VAIN@h/d":                               "it is a command",
		"${DATABASE_URL}":                                             "a placeholder",
		"host=IN-VAIN user=u password=IN-VAIN":                        "psql's form of keywords",
		"user=u password='a:b'":                                       "psql's form of keywords",
		"postgresql+psycopg2://u:IN-VAIN@h/d":                         "remove +psycopg2",
		"postgresql+asyncpg://u:IN-VAIN@h/d":                          "remove +asyncpg",
		"postgresql+IN-VAIN://u:IN-VAIN@h/d":                          "remove the +",
		"sqlite+aiosqlite:///credent.db":                              "remove +aiosqlite",
		"mysql://u:IN-VAIN@h/d":                                       "it is for MySQL",
		"mysql+pymysql://u:IN-VAIN@h/d":                               "it is for MySQL",
		"jdbc:postgresql://h/d?user=u&password=IN-VAIN":               "remove jdbc:",
		"jdbc:mysql://h/d":                                            "it is for MySQL",
		"postgis://u:IN-VAIN@h/d":                                     "its scheme is postgis: write postgres",
		"POSTGRES://u:IN-VAIN@h/d":                                    "upper-case letters: write postgres",
		"IN-VAIN://u@h":                                               "unknown scheme",
		"file:credent.db":                                             "write sqlite:FILE",
		"sqlite:":                                                     "it has no file",
		"sqlite:?mode=ro":                                             "it has no file",
		"postgres:u:IN-VAIN@h/d":                                      "it lacks the //",
		"postgres:/u:IN-VAIN@h/d":                                     "it lacks the //",
		"postgres://u:IN/VAIN@h/d":                                    "a slash that isn't percent-encoded: write %2F",
		"postgres://u:12/IN-VAIN@h:1/d":                               "a slash",
		"postgres://u:12#IN-VAIN@h:1/d":                               "a number sign (#)",
		"postgres://u:12?IN-VAIN@h:1/d":                               "a question mark",
		"postgres://u:ab?IN-VAIN=1@h:1/d":                             "a question mark",
		"postgres://a@u:12/IN-VAIN@h:1/d":                             "a slash",
		"postgres://u:IN%VAIN@h/d":                                    "a percent sign that isn't percent-encoded: write %25",
		"postgres://u:IN VAIN@h/d":                                    "a space",
		"postgres://u:IN[VAIN@h/d":                                    "a bracket",
		"postgres://u:IN^VAIN@h/d":                                    "a caret",
		`postgres://u:IN\VAIN@h/d`:                                    "a backslash",
		`postgres://u:IN"VAIN@h/d`:                                    "a double quote",
		"postgres://u:IN{VAIN@h/d":                                    "a brace",
		"postgres://u:INéVAIN@h/d":                                    "outside of ASCII",
		"postgres://u:p@h/d?password=IN#VAIN":                         "a number sign",
		"postgres://u:p@IN-VAIN:port/d":                               "its port is not a number",
		"postgres://u:p@IN-VAIN:0/d":                                  "its port is not a number",
		"postgres://u:p@IN-VAIN:99999/d":                              "its port is not a number",
		"postgres://u:p@h/d?port=IN-VAIN":                             "its port is not a number",
		"postgres://u:p@[::1/d":                                       "without the closing bracket",
		"postgres://u:p@::1/d":                                        "write an IPv6 address in brackets",
		"postgres://u:p@a:1,b:2/d":                                    "?port=PORT1,PORT2",
		"postgres://%2Ftmp%2FIN-VAIN/d":                               "?host=/FOLDER",
		"postgres://u:p@h/d?connect_timeout=5s":                       "a whole number of seconds",
		"postgres://u:p@h/d?sslmode=IN-VAIN":                          "one of disable, allow",
		"postgres://u:p@h/d?schema=IN-VAIN&pgbouncer=true":            "remove pgbouncer (leave it out), schema (write options=-csearch_path%3DSCHEMA)",
		"postgres://u:p@h/d?sslmode=disable&connection_limit=IN-VAIN": "connection_limit (set it with db.SetMaxOpenConns)",
		"postgres://u:p@h/d?a=%zz":                                    "its parameters don't parse",

		// Nothing is wrong with these.
		"postgres://":                      "",
		"postgres:///d":                    "",
		"postgresql://u:p@h:5432/d":        "",
		"postgres://u:p@ss@h/d":            "",
		"postgres://u:p%2F%40@h/d":         "",
		"postgres://u:p:q!$&'()*+,;=@h/d":  "",
		"postgres://[::1]:5432/d":          "",
		"postgres://h/d?user=a@b":          "",
		"postgres://h:5432/d?password=p@s": "",
		"postgres://u:p@h/d?options=-csearch_path%3Dx&connect_timeout=5&sslmode=verify-full": "",
		"postgres://u:p@/d?host=/tmp&port=5433":                                              "",
		"postgres://u:p@a,b/d?port=1,2&target_session_attrs=read-write":                      "",
		"sqlite:credent.db":                 "",
		"sqlite:///var/lib/credent.db":      "",
		"sqlite::memory:":                   "",
		"sqlite3:credent.db?mode=ro":        "",
		"sqlite:My Documents/a b's.db":      "",
		"sqlite:/tmp/with@at/and#number.db": "",
	} {
		got := dburl.Cause(text)
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
		if strings.Contains(got, "IN-VAIN") || strings.Contains(got, "VAIN") || strings.Contains(got, "\n") {
			t.Errorf("%q: the cause quotes it: %q", text, got)
		}
	}
}

func TestUnsupported(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ query, driver, want string }{
		{"channel_binding=prefer", "lib/pq", "the driver lib/pq doesn't support these parameters: remove channel_binding, or use pgx, by credent.WithPGX"},
		{"channel_binding=prefer", "pgx", ""},
		{"hostaddr=127.0.0.1", "lib/pq", ""},
		{"keepalives=1&gssencmode=IN-VAIN", "pgx", "the driver pgx doesn't support these parameters: remove gssencmode, keepalives"},
		{"sslmode=disable&statement_timeout=5000", "lib/pq", ""},
	} {
		values, err := url.ParseQuery(test.query)
		if err != nil {
			t.Fatal(err)
		}
		if got := dburl.Unsupported(values, test.driver); got != test.want {
			t.Errorf("%s: got %q, want %q", test.query, got, test.want)
		}
	}
}

// FuzzCause puts a password into any place of any URL: no cause has 6
// characters of it in a row.
func FuzzCause(f *testing.F) {
	const password = "q9Zx-7Kw_2Rt.5Yv"
	for _, seed := range []struct{ before, after string }{
		{"postgres://u:", "@h/d"},
		{"postgres://u:/", "@h/d"},
		{"postgres://u:p@", ":1/d"},
		{"", ""},
		{"", "://h"},
		{"postgres+", "://h"},
		{"postgres://h/d?", "=1"},
		{"postgres://h/d?sslmode=", ""},
		{"postgres://h/d?schema=", "&"},
		{"sqlite:", "?%"},
		{"host=", ""},
		{"postgres://u:%", "@h"},
		{"jdbc:", ":"},
		{"postgres://h:", "/d"},
		{"\"", "\""},
		{"A=", "\n"},
	} {
		f.Add(seed.before, seed.after)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		cause := dburl.Cause(before + password + after)
		for i := 0; i+6 <= len(password); i++ {
			if strings.Contains(cause, password[i:i+6]) {
				t.Errorf("%q", cause)
			}
		}
		if strings.ContainsAny(cause, "\r\n") {
			t.Errorf("%q", cause)
		}
	})
}
