package dbtarget_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/credent-go/credent/internal/dbtarget"
	"github.com/credent-go/credent/internal/dburl"
)

// describe writes what a driver is given, host for host.
func describe(t *dbtarget.Target, cause string) string {
	if cause != "" {
		return cause
	}
	text := t.Settings.String()
	for _, h := range t.Hosts {
		text += fmt.Sprintf(" → %s(%s):%s %s", h.Name, h.Address, h.Port, h.Password)
	}
	return text
}

// TestTarget has what one driver does, and the other doesn't.
func TestTarget(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("services", "[other]\nhost=x\n# a comment\n[blue]\nhost=s\nkeepalives_idle=7\nuser = bob\ndbname=d\n"+
		"[nested]\nservice=blue\n", 0o600)
	passes := write("passes", "# a comment\nh:5432:d:u:p\\:1\\\\\n"+
		"/s:5432:*:u:p2\nx:1:d:u:p3\ny:*:*:*:p4\nh:5432:u:u:p5\n", 0o600)
	const to = "postgres://u@h/d?"
	for _, test := range []struct {
		text, driver string
		env          string // NAME=VALUE
		want         string // settings, or what is wrong
	}{
		{to + "channel_binding=prefer", dbtarget.PQ, "", "dbname='d' sslmode='prefer' user='u' → h():5432 "},
		{to + "channel_binding=disable", dbtarget.PQ, "", "dbname='d' sslmode='prefer' user='u' → h():5432 "},
		{to + "channel_binding=require", dbtarget.PQ, "", "the driver lib/pq doesn't support these parameters: " +
			"remove channel_binding, or use pgx, the default"},
		{
			to + "channel_binding=require", dbtarget.PGX, "",
			"channel_binding='require' dbname='d' user='u' → h():5432 ",
		},
		{to + "hostaddr=127.0.0.1", dbtarget.PGX, "", "dbname='d' user='u' → h(127.0.0.1):5432 "},
		{"postgres://u@/d?hostaddr=127.0.0.1", dbtarget.PGX, "", "dbname='d' user='u' → 127.0.0.1():5432 "},
		{"postgres://u@/d?host=/s&hostaddr=::1", dbtarget.PGX, "", "dbname='d' user='u' → ::1():5432 "},
		{to + "hostaddr=127.0.0.1,127.0.0.2", dbtarget.PQ, "", "another number of addresses"},
		{
			to + "keepalives=1&keepalives_idle=5&tcp_user_timeout=9", dbtarget.PGX, "",
			"dbname='d' user='u' → h():5432 ",
		},
		{
			to + "gssencmode=disable&sslcompression=0&sslcertmode=allow&client_encoding=UTF8", dbtarget.PQ, "",
			"dbname='d' sslmode='prefer' user='u' → h():5432 ",
		},
		{to + "gssencmode=require", dbtarget.PGX, "", "no driver supports these parameters: remove gssencmode"},
		{to + "client_encoding=latin1", dbtarget.PGX, "", "its client_encoding isn't UTF8"},
		{to + "DateStyle=German", dbtarget.PGX, "", "its DateStyle isn't ISO, which the drivers need"},
		{to + "datestyle=iso,dmy", dbtarget.PGX, "", "datestyle='iso,dmy' dbname='d' user='u' → h():5432 "},
		{to + "datestyle=ISO", dbtarget.PQ, "", "dbname='d' sslmode='prefer' user='u' → h():5432 "},
		{
			to + "default_query_exec_mode=exec&statement_cache_capacity=5", dbtarget.PQ, "",
			"dbname='d' sslmode='prefer' user='u' → h():5432 ",
		},
		{to + "binary_parameters=yes", dbtarget.PGX, "", "dbname='d' user='u' → h():5432 "},
		{to + "ssl_min_protocol_version=TLSv1.3", dbtarget.PGX, "", "dbname='d' user='u' → h():5432 "},
		{
			to + "ssl_min_protocol_version=tlsv1&sslmode=allow", dbtarget.PQ, "",
			"dbname='d' ssl_min_protocol_version='TLSv1.0' sslmode='allow' user='u' → h():5432 ",
		},
		{
			to + "fallback_application_name=x", dbtarget.PGX, "",
			"application_name='x' dbname='d' user='u' → h():5432 ",
		},
		{to + "statement_timeout=5000&search_path=x", dbtarget.PGX, "", "dbname='d' search_path='x' " +
			"statement_timeout='5000' user='u' → h():5432 "},
		{"service=blue servicefile=" + file, dbtarget.PGX, "", "dbname='d' user='bob' → s():5432 "},
		{
			"service=blue user=eve servicefile=" + file, dbtarget.PQ, "",
			"dbname='d' sslmode='prefer' user='eve' → s():5432 ",
		},
		{"service=green servicefile=" + file, dbtarget.PQ, "", "its service isn't in a service file"},
		{"service=nested servicefile=" + file, dbtarget.PQ, "", "its service names another service"},

		// Variables hold as parameters do, and are named in what is wrong.
		{to, dbtarget.PQ, "PGCHANNELBINDING=prefer", "the variable PGCHANNELBINDING: unset it"},
		{to, dbtarget.PQ, "PGKRBSRVNAME=x", "the variable PGKRBSRVNAME: unset it"},
		{to, dbtarget.PGX, "PGSSLCRL=IN-VAIN", "no driver supports these parameters: unset PGSSLCRL"},
		{to, dbtarget.PGX, "PGREQUIREPEER=IN-VAIN", "no driver supports these parameters: unset PGREQUIREPEER"},
		{to, dbtarget.PGX, "PGGSSENCMODE=require", "no driver supports these parameters: unset PGGSSENCMODE"},
		{to, dbtarget.PGX, "PGGSSENCMODE=prefer", "dbname='d' user='u' → h():5432 "},
		{to, dbtarget.PGX, "PGREQUIRESSL=1", "dbname='d' sslmode='require' user='u' → h():5432 "},
		{to + "sslmode=disable", dbtarget.PGX, "PGREQUIRESSL=1", "dbname='d' sslmode='disable' user='u' → h():5432 "},
		{to, dbtarget.PGX, "PGSSLMODE=IN-VAIN", "the variable PGSSLMODE must be one of disable"},
		{to, dbtarget.PGX, "PGPORT=IN-VAIN", "the variable PGPORT is not a number"},
		{to, dbtarget.PGX, "PGPORT=1,2", "another number of ports than of hosts"},
		{to, dbtarget.PGX, "PGPORT= 5433 ", "dbname='d' user='u' → h():5433 "},
		{"postgres://u@h,i/d", dbtarget.PGX, "PGPORT=5433", "dbname='d' user='u' → h():5432  → i():5432 "},
		{to, dbtarget.PGX, "PGHOSTADDR=127.0.0.1", "dbname='d' user='u' → h(127.0.0.1):5432 "},
		{to, dbtarget.PGX, "PGTZ=UTC", "dbname='d' timezone='UTC' user='u' → h():5432 "},
		{to + "TimeZone=UTC", dbtarget.PGX, "PGTZ=Asia/Tokyo", "TimeZone='UTC' dbname='d' user='u' → h():5432 "},
		{to, dbtarget.PQ, "PGDATESTYLE=German", "the variable PGDATESTYLE isn't ISO"},
		{to, dbtarget.PQ, "PGCLIENTENCODING=LATIN1", "dbname='d' sslmode='prefer' user='u' → h():5432 "},
		{"host=h user=u dbname=''", dbtarget.PGX, "PGDATABASE=x", "dbname='u' user='u' → h():5432 "},
		{"host=h user=u dbname=d options=''", dbtarget.PGX, "PGOPTIONS=-cx=y", "dbname='d' user='u' → h():5432 "},

		// Each host has its own password.
		{to, dbtarget.PGX, "PGPASSFILE=" + passes, `dbname='d' user='u' → h():5432 p:1\`},
		{"postgres://u@h", dbtarget.PGX, "PGPASSFILE=" + passes, "dbname='u' user='u' → h():5432 p5"},
		{to + "password=q", dbtarget.PQ, "PGPASSFILE=" + passes, "dbname='d' sslmode='prefer' user='u' → h():5432 q"},
		{
			"host=/s,x,y,z port=5432,1,2,3 user=u dbname=d passfile=" + passes, dbtarget.PGX, "",
			"dbname='d' user='u' → /s():5432 p2 → x():1 p3 → y():2 p4 → z():3 ",
		},
		{
			"host=n hostaddr=127.0.0.1 user=u dbname=d passfile=" + dir, dbtarget.PGX, "",
			"dbname='d' user='u' → n(127.0.0.1):5432 ",
		},
	} {
		t.Run(test.text+" "+test.driver+" "+test.env, func(t *testing.T) {
			if name, value, ok := strings.Cut(test.env, "="); ok {
				t.Setenv(name, value)
			}
			settings, cause := dburl.Parse(test.text)
			if cause != "" {
				t.Fatal(cause)
			}
			target, cause := dbtarget.New(settings, test.driver)
			if got := describe(target, cause); got != test.want &&
				(cause == "" || !strings.Contains(cause, test.want)) ||
				strings.Contains(got, "VAIN") {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// TestAttempts has the ways to go through the hosts.
func TestAttempts(t *testing.T) {
	t.Parallel()
	for wish, want := range map[string]string{"any": "[any]", "prefer-standby": "[standby any]"} {
		target, cause := dbtarget.New(dburl.Settings{"target_session_attrs": wish, "user": "u"}, dbtarget.PGX)
		if cause != "" || fmt.Sprint(target.Attempts) != want {
			t.Errorf("%s: %v, %s", wish, target, cause)
		}
	}
}

// TestOpenPassFile has a password file that everyone can read. It isn't used,
// and that is said once the server wants a password.
func TestOpenPassFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "passes")
	if err := os.WriteFile(file, []byte("*:*:*:*:IN-VAIN\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]string{0o600: "IN-VAIN", 0o640: ""} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		target, cause := dbtarget.New(dburl.Settings{"host": "h", "user": "u", "passfile": file}, dbtarget.PGX)
		if cause != "" || target.Hosts[0].Password != want {
			t.Errorf("%v: %v, %s", mode, target, cause)
		}
		err := target.Explain(&pgconn.PgError{Code: "28P01"}, 0)
		if told := strings.Contains(err.Error(), "chmod 600"); told == (want != "") {
			t.Errorf("%v: %v", mode, err)
		}
		if err := target.Explain(errors.New("no route"), 0); strings.Contains(err.Error(), "chmod") {
			t.Errorf("%v: %v", mode, err)
		}
	}
}
