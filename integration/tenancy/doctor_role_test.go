package tenancy

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/testdb"
)

// seenTable is doctor's JSON about a table.
type seenTable struct {
	Role, Login string
	RowSecurity bool `json:"row_security"`
	Cause       string
	Rows        int
}

// seenBy runs doctor over a URL, and returns its findings about each table, and
// its text.
func seenBy(t *testing.T, s *testdb.Service, url string, args ...string) (tables map[string]seenTable, text string) {
	t.Helper()
	env := *s.Env
	env.URL = url
	run := func(args ...string) string {
		cmd := env.Command(append([]string{"doctor"}, args...)...)
		out, err := cmd.Output()
		if err != nil && cmd.ProcessState.ExitCode() != 1 {
			t.Fatalf("doctor: %v", err)
		}
		return string(out)
	}
	var report struct {
		Checks []struct {
			Name string
			seenTable
		}
	}
	out := run(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	tables = map[string]seenTable{}
	for _, c := range report.Checks {
		if table, ok := strings.CutPrefix(c.Name, "rows of "); ok && c.Role != "" {
			tables[table] = c.seenTable
		}
	}
	return tables, run(args...)
}

// Doctor prints the role, whether row-level security applies to it, and how
// many rows it sees.
func TestDoctorTellsTheRole(t *testing.T) {
	t.Parallel()
	s := testdb.NewService(t)
	var admin string
	s.Value(t, &admin, "SELECT current_user")
	for name, test := range map[string]struct {
		url   string
		args  []string
		want  map[string]seenTable
		lines []string
	}{
		"administrator": {url: s.URL, want: map[string]seenTable{
			"user_accounts":       {admin, admin, false, "it is a superuser", 2},
			"user_credentials":    {admin, admin, false, "it is a superuser", 3},
			"credent_tenant_keys": {admin, admin, false, "it is a superuser", 0},
		}, lines: []string{
			`(?m)^ok +role +this is ` + admin + `$`,
			`(?m)^ok +rows of user_credentials +row-level security does not apply to this role, since it is a superuser: it sees 3 rows$`,
		}},
		"limited": {url: s.URL, args: []string{"--limit", "2"}, want: map[string]seenTable{
			"user_accounts":       {admin, admin, false, "it is a superuser", 2},
			"user_credentials":    {admin, admin, false, "it is a superuser", 2},
			"credent_tenant_keys": {admin, admin, false, "it is a superuser", 0},
		}, lines: []string{`it sees 2 rows or more\n`}},
		"member": {url: s.ServiceURL, want: map[string]seenTable{
			"user_accounts":       {s.Role, s.Role, true, "", 0},
			"user_credentials":    {s.Role, s.Role, true, "", 0},
			"credent_tenant_keys": {s.Role, s.Role, true, "", 0},
		}, lines: []string{
			`(?m)^ok +role +this is ` + s.Role + `$`,
			`(?m)^ok +rows of user_accounts +row-level security applies to this role: it sees 0 rows without a user$`,
		}},
		"of another role": {url: s.URL + "&options=-c%20role%3D" + s.Role, want: map[string]seenTable{
			"user_accounts":       {s.Role, admin, true, "", 0},
			"user_credentials":    {s.Role, admin, true, "", 0},
			"credent_tenant_keys": {s.Role, admin, true, "", 0},
		}, lines: []string{`(?m)^ok +role +this is ` + s.Role + `, logged in as ` + admin + `$`}},
	} {
		tables, text := seenBy(t, s, test.url, test.args...)
		if diff := cmp.Diff(test.want, tables); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		for _, line := range test.lines {
			if !regexp.MustCompile(line).MatchString(text) {
				t.Errorf("%s: no line is like %s:\n%s", name, line, text)
			}
		}
	}
	s.Exec(t, "ALTER TABLE user_accounts OWNER TO "+s.Role+"; ALTER TABLE user_credentials DISABLE ROW LEVEL SECURITY")
	want := map[string]seenTable{
		"user_accounts":       {s.Role, s.Role, false, "it owns the table", 2},
		"user_credentials":    {s.Role, s.Role, false, "row-level security is not enabled on the table", 3},
		"credent_tenant_keys": {s.Role, s.Role, true, "", 0},
	}
	if tables, _ := seenBy(t, s, s.ServiceURL); !cmp.Equal(want, tables) {
		t.Error(cmp.Diff(want, tables))
	}
	// Before the migrations no tables exist.
	if tables, text := seenBy(t, s, testdb.NewDatabase(t, "")); len(tables) != 0 || !strings.Contains(text,
		"rows of user_accounts") ||
		!strings.Contains(text, "there is no such table that the role may use") {
		t.Errorf("before the migrations: %v\n%s", tables, text)
	}
}
