package cli

import (
	"cmp"
	"context"
	"strings"

	"entgo.io/ent/dialect"
	"github.com/spf13/cobra"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

// States of a check.
const (
	stateOK      = "ok"
	stateFailed  = "failed"
	stateSkipped = "skipped"
)

// check is one line of the report.
type check struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Detail string `json:"detail"`
	*tokenCount
	*tableAccess
}

// report is the result of doctor.
type report struct {
	OK     bool    `json:"ok"`
	Checks []check `json:"checks"`
}

func (r *report) add(name string, err error, detail string) {
	c := check{Name: name, State: stateOK, Detail: detail}
	if err != nil {
		c.State, c.Detail = stateFailed, reason(err)
	}
	r.Checks = append(r.Checks, c)
}

func (r *report) skip(name, why string) {
	r.Checks = append(r.Checks, check{Name: name, State: stateSkipped, Detail: why})
}

func (a *app) doctor() *cobra.Command {
	var (
		asJSON bool
		limit  int
	)
	cmd := a.action(&cobra.Command{
		Use:   "doctor [flags]",
		Short: "Check key, database, migrations, and that every stored secret opens",
		Long: `Check, in this order, that there is a well-formed key, that the database can be reached, that it has the schema
of this version, which states it has, that every stored secret opens with the key, as its column's states say, and that the
canaries do. It also says which role this is, whether row-level security applies to it on each table, and how many rows it sees.
It changes nothing and prints no secret. Exit code 1 if a check failed.

It reads every row of the encrypted tables, page by page and on one connection: a million rows take seconds, ten million a
minute or more. With --limit it only reads the last rows by primary key, which takes equally long on any table, and says so: the
others may have secrets that do not open.`,
		Example: `  credent doctor
  credent doctor --limit 1000 --json   # the last 1,000 rows only`,
	}, func(ctx context.Context, _ []string) error {
		if limit < 0 {
			return usageError("--limit is negative")
		}
		r := examine(ctx, limit)
		if err := ctx.Err(); err != nil {
			return err
		}
		show := a.printReport
		if asJSON {
			show = func(r *report) error { return a.printJSON(r) }
		}
		if err := show(r); err != nil {
			return err
		}
		return r.err()
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().IntVar(&limit, "limit", 0, "look at the last `N` rows by primary key only; 0 means all")
	return cmd
}

// examine runs the checks that are possible.
func examine(ctx context.Context, limit int) *report {
	r := &report{}
	ring, keyErr := keyring.FromEnv()
	r.add("key", keyErr, describeKeys(ring))

	blocked := ""
	if keyErr != nil {
		blocked = "needs a key"
	}
	db, err := open(ctx, databaseURL(), false)
	if err != nil {
		r.add("database", err, "")
		r.skip("migrations", "needs the database")
		blocked = "needs the database"
	} else {
		defer func() { _ = db.Close() }()
		r.add("database", nil, db.describe())
		r.addAccess(ctx, db, limit)
		if err := r.addMigrations(ctx, db); err != nil {
			blocked = "needs the migrations"
		}
	}
	if blocked == "" {
		detail, err := db.describeStates(ctx)
		r.add("states", err, detail)
	} else {
		r.skip("states", blocked)
	}
	for _, table := range encryptedTables() {
		if blocked == "" {
			r.addTokens(ctx, db, ring, table, limit)
			continue
		}
		for _, column := range table.columns {
			r.skip(column.String(), blocked)
		}
	}
	if blocked == "" {
		r.addCanaries(ctx, db, ring)
	} else {
		r.skip("canary", blocked)
	}
	r.OK = r.err() == nil
	return r
}

func describeKeys(ring *keyring.Keyring) string {
	if ring == nil {
		return ""
	}
	text := "key ID " + ring.Primary().ID()
	var earlier []string
	for _, key := range ring.Keys()[1:] {
		earlier = append(earlier, key.ID())
	}
	if len(earlier) > 0 {
		text += ", earlier " + strings.Join(earlier, ", ")
	}
	return text
}

func (db *database) describe() string {
	if db.dialect == dialect.SQLite {
		return "SQLite, " + db.file
	}
	if db.standby != nil {
		return "Postgres, a standby, replayed up to " + db.standby.String()
	}
	return "Postgres"
}

// describeStates lists the states stored in the database. States set only in
// the services' configuration are unknown.
func (db *database) describeStates(ctx context.Context) (string, error) {
	stored, err := rotate.States(ctx, db.DB)
	if err != nil {
		return "", err
	}
	if len(stored) == 0 {
		return "none in the database; what services have in their own configuration isn't known here", nil
	}
	var list, outlive []string
	for _, s := range stored {
		list = append(list, s.Protection.String()+" of "+s.Column+" "+s.State.String())
		c, err := column.Find(s.Column)
		if err == nil && s.Protection == rotate.TenantKeys && s.State > credent.Off && c.Index != "" &&
			c.AcrossTenants {
			outlive = append(outlive, s.Column)
		}
	}
	text := strings.Join(list, ", ")
	if len(outlive) > 0 {
		text += "; digests of " + strings.Join(outlive, ", ") + " are across tenants, and copies of them outlive a " +
			"tenant's key"
	}
	return text, nil
}

func (r *report) addMigrations(ctx context.Context, db *database) error {
	status, err := migrate.ReadStatus(ctx, db.DB, migrate.Config{})
	if err != nil {
		r.add("migrations", err, "")
		return err
	}
	err = status.Err()
	detail := "at version " + status.Current()
	if status.Layout != migrate.Single {
		detail += ", in the layout " + string(status.Layout)
	}
	r.add("migrations", err, detail)
	return err
}

// addTokens checks one table's encrypted columns.
func (r *report) addTokens(
	ctx context.Context, db *database, ring *keyring.Keyring, table encryptedTable, limit int,
) {
	counts, err := openTokens(ctx, db, ring, table, limit)
	for i, column := range table.columns {
		name := column.String()
		if err != nil {
			r.add(name, err, "")
			continue
		}
		c := check{Name: name, State: stateOK, Detail: counts[i].String(), tokenCount: counts[i]}
		if c.Bad > 0 {
			c.State = stateFailed
		}
		r.Checks = append(r.Checks, c)
	}
}

// encryptedTable is a table with its encrypted columns.
type encryptedTable struct {
	name    string
	columns []encrypted.Column
}

// selected returns the columns to read: the encrypted ones and the tenant
// column, if there is one.
func (t encryptedTable) selected() []string {
	var names []string
	tenant := ""
	for _, c := range t.columns {
		names, tenant = append(names, c.Name), cmp.Or(tenant, c.Tenant)
	}
	if tenant == "" {
		return names
	}
	return append(names, tenant)
}

func encryptedTables() []encryptedTable {
	var tables []encryptedTable
	for _, column := range column.All() { // sorted
		if n := len(tables); n == 0 || tables[n-1].name != column.Table {
			tables = append(tables, encryptedTable{name: column.Table})
		}
		last := &tables[len(tables)-1]
		last.columns = append(last.columns, column)
	}
	return tables
}

// err returns the first failure, with what to do about it.
func (r *report) err() error {
	var failed []check
	for _, c := range r.Checks {
		if c.State == stateFailed {
			failed = append(failed, c)
		}
	}
	switch len(failed) {
	case 0:
		return nil
	case 1:
		return messagef("%s: %s", failed[0].Name, failed[0].Detail)
	}
	return messagef("%s: %s (and %s)", failed[0].Name, failed[0].Detail, count(len(failed)-1, "other failed check"))
}

// maxShown limits the bad tokens printed per column.
const maxShown = 20

func (a *app) printReport(r *report) error {
	width := 0
	for _, c := range r.Checks {
		width = max(width, len(c.Name))
	}
	for _, c := range r.Checks {
		state := c.State
		if state == stateFailed {
			state = "FAILED"
		}
		a.printf("%-9s%-*s  %s\n", state, width, c.Name, c.Detail)
		if c.tokenCount == nil {
			continue
		}
		for _, bad := range c.Examples {
			a.printf("%9s%s of row %s: %s\n", "", c.Name, bad.Row, bad.Reason)
		}
		if more := c.Bad - len(c.Examples); more > 0 {
			a.printf("%9sand %d more, which `credent verify --quarantine FILE` lists\n", "", more)
		}
	}
	return nil
}
