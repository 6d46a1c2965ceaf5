// Package look fills a report. It examines a database for a limited time,
// however many rows there are: the database counts them, and the package opens
// the secrets of a sample.
package look

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/canary"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/report"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/internal/version"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

// Config says what to examine, and for how long.
type Config struct {
	Dialect string // ent's name for it
	Standby string // position up to which a standby has replayed; "" for a primary
	Columns []column.Column
	Keyring *keyring.Keyring // nil if there is none
	NoKey   string           // why there is no keyring
	Sample  int64            // rows to open per table; 0 for none
	Within  time.Duration    // limit of one count, and of the checks of one role
	Names   bool             // name the tenants with destroyed keys
	// Reason words an error for people, without secrets or parts of the URL.
	Reason func(error) string
	// Progress, if not nil, is called with the current step and its progress.
	Progress func(what string, done, total int64)
}

// maxRuns is how many verifications are shown per column.
const maxRuns = 60

// Look examines a database. It reports failed checks as a [report.Gap], and
// returns an error only if the context ends.
func Look(ctx context.Context, db *sql.DB, cfg Config) (*report.Report, error) {
	l := &looker{
		Config: cfg, db: db, keys: make(map[string]*report.Key),
		Report: &report.Report{
			Format: report.Format, MadeAt: time.Now().UTC().Truncate(time.Second), Version: version.String(),
			Findings: []report.Finding{}, Gaps: []report.Gap{}, Tables: []report.Table{}, Keys: []report.Key{},
			Protections: []report.Protection{}, Verifications: []report.Verification{},
		},
	}
	l.ring = (*engine.Ring)(cfg.Keyring)
	for _, part := range []struct {
		name string
		look func(context.Context) error
	}{
		{report.PartInventory, l.lookDatabase},
		{report.PartMigrations, l.lookMigrations},
		{report.PartProtections, l.lookStates},
		{report.PartInventory, l.lookTables},
		{report.PartVerification, l.lookVerifications},
		{report.PartKeys, l.lookKeys},
		{report.PartRowSecurity, l.lookRoles},
		{report.PartAudit, l.lookAudit},
		{report.PartTenants, l.lookTenants},
	} {
		err := part.look(ctx)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			l.missed(part.name, "this part, or the rest of it", err)
		}
	}
	l.judge()
	return l.Report, nil
}

// looker is the state of one Look call.
type looker struct {
	Config
	*report.Report
	db     *sql.DB
	ring   *engine.Ring
	stored []rotate.StoredState
	states states.Table
	keys   map[string]*report.Key
}

func (l *looker) isPostgres() bool { return l.Dialect == dialect.Postgres }

func (l *looker) find(part, format string, args ...any) {
	l.Findings = append(l.Findings, report.Finding{Part: part, Text: fmt.Sprintf(format, args...)})
}

// gap records something that no call could find out.
func (l *looker) gap(part, what, why string) {
	l.Gaps = append(l.Gaps, report.Gap{Part: part, What: what, Why: why})
}

// missed records something that another call could find out.
func (l *looker) missed(part, what string, err error) {
	l.lacks(part, what, l.Reason(err))
}

func (l *looker) lacks(part, what, why string) {
	l.Gaps = append(l.Gaps, report.Gap{Part: part, What: what, Why: why, Avoidable: true})
}

func (l *looker) step(what string, done, total int64) {
	if l.Progress != nil {
		l.Progress(what, done, total)
	}
}

func (l *looker) lookDatabase(ctx context.Context) error {
	l.Database = report.Database{Kind: "SQLite", Standby: l.Standby}
	query := "SELECT sqlite_version()"
	if l.isPostgres() {
		l.Database.Kind, query = "Postgres", "SHOW server_version"
	}
	if err := l.db.QueryRowContext(ctx, query).Scan(&l.Database.Version); err != nil {
		return err
	}
	l.Database.Version, _, _ = strings.Cut(l.Database.Version, " ") // drop the distribution's name
	l.gap(report.PartInventory, "tables with encrypted fields of other programs",
		"this command knows the columns it was built with")
	return nil
}

// saidByStatus lists the kinds of findings that the status reports as well.
var saidByStatus = []migrate.Kind{migrate.FilePending, migrate.FilePartial, migrate.FileNewer}

// lookMigrations reads the history and compares the tables with the files.
func (l *looker) lookMigrations(ctx context.Context) error {
	l.step("the migrations", 0, 0)
	l.Migrations = report.Migrations{Applied: []report.Revision{}, Pending: []string{}, Drift: []string{}}
	m := &l.Migrations
	status, err := migrate.ReadStatus(ctx, l.db, migrate.Config{})
	if err != nil {
		return err
	}
	l.Database.Layout, m.Current = string(status.Layout), status.Current()
	m.Pending = append(m.Pending, status.Pending...)
	for _, r := range status.Applied {
		m.Applied = append(m.Applied, report.Revision{
			Version: r.Version, Description: r.Description, AppliedAt: r.AppliedAt.UTC(), Baseline: r.Baseline,
		})
	}
	if err := status.Err(); err != nil {
		l.find(report.PartMigrations, "%s", l.Reason(err))
	}
	check, err := migrate.Check(ctx, l.db, migrate.Config{})
	if check != nil {
		for _, f := range check.Findings {
			m.Drift = append(m.Drift, f.String())
			if !slices.Contains(saidByStatus, f.Kind) {
				l.find(report.PartMigrations, "%s", f)
			}
		}
		if m.Compared = check.NotCompared == "" && err == nil; check.NotCompared != "" && err == nil {
			err = errors.New(check.NotCompared)
		}
	}
	if err != nil {
		l.missed(report.PartMigrations, "whether the tables are as the migrations make them", err)
	}
	return nil
}

// lookStates reads the state of each column and protection.
func (l *looker) lookStates(ctx context.Context) (err error) {
	l.gap(report.PartProtections, "states that services have in their own configuration",
		"the database doesn't have them")
	if l.stored, err = rotate.States(ctx, l.db); err != nil {
		return err
	}
	l.states = states.TableOf(l.stored, l.Columns)
	for _, c := range l.Columns {
		for _, p := range states.Protections {
			if p != states.Encryption && c.Tenant == "" {
				continue
			}
			s := report.Protection{Column: c.String(), Protection: p.String(), State: l.states.Of(&c).Of(p).String()}
			if in, ok := states.Find(l.stored, c, p); ok {
				s.Set, s.ChangedAt = true, &in.ChangedAt
			}
			l.Protections = append(l.Protections, s)
		}
	}
	known := func(name string) bool {
		return slices.ContainsFunc(l.Columns, func(c column.Column) bool { return c.String() == name })
	}
	for _, s := range l.stored {
		if !known(s.Column) {
			l.gap(report.PartProtections, s.Column,
				"the database has a state for it, and this command doesn't know the column")
		}
	}
	return nil
}

// lookVerifications reads the results recorded by "credent verify".
func (l *looker) lookVerifications(ctx context.Context) error {
	all, err := rotate.Verifications(ctx, l.db, maxRuns)
	if err != nil {
		return err
	}
	names := []string{tenantkey.Table + "." + tenantkey.Column}
	for _, c := range l.Columns {
		names = append(names, c.TableName()+"."+c.Name)
	}
	for name := range all {
		if !slices.Contains(names, name) {
			l.gap(report.PartVerification, name, "it was verified by a program whose columns this command doesn't know")
		}
	}
	for _, name := range append(names[1:], names[0]) {
		v := report.Verification{Column: name, Runs: []report.Run{}}
		for _, r := range all[name] {
			v.Runs = append(v.Runs, report.Run{
				At: r.At, Secrets: r.Secrets, Failed: r.Failed, Ready: r.Ready, Primary: r.Primary, Under: r.Under,
			})
		}
		last, ok := v.Last()
		if name == names[0] && !ok {
			continue // no tenant has a key
		}
		l.Verifications = append(l.Verifications, v)
		switch {
		case !ok:
			l.find(report.PartVerification,
				"%s was never verified, or no verification was recorded: run `credent verify`", name)
		case last.Failed > 0:
			l.find(report.PartVerification, "%d of %d secrets of %s did not open at the last verification, on %s",
				last.Failed, last.Secrets, name, last.At.Format(time.DateOnly))
		case !last.Ready:
			l.find(report.PartVerification, "%s was not ready at the last verification, on %s%s", name,
				last.At.Format(time.DateOnly), notReady(last))
		}
	}
	return nil
}

// notReady explains, from what was recorded, why a run wasn't ready.
func notReady(r report.Run) string {
	var n int64
	for under, secrets := range r.Under {
		if !words[under] && under != r.Primary {
			n += secrets
		}
	}
	if n > 0 {
		return fmt.Sprintf(": %d secrets are under an earlier key", n)
	}
	return ""
}

// words lists the categories in a count that aren't key IDs.
var words = map[string]bool{
	rotate.UnderTenantKey: true, rotate.UnderDestroyed: true, rotate.UnderReadable: true, rotate.UnderUnknown: true,
	rotate.UnderNone: true, rotate.UnderDamaged: true,
}

// lookKeys adds up the counts of each key and opens the canaries.
func (l *looker) lookKeys(ctx context.Context) error {
	if l.ring == nil {
		l.lacks(report.PartKeys, "under which keys the sampled secrets and the canaries are", l.NoKey)
	}
	for i, k := range l.ring.Keys() {
		l.key(k.ID()).Use = "earlier"
		if i == 0 {
			l.key(k.ID()).Use = "primary"
		}
	}
	for _, v := range l.Verifications {
		last, ok := v.Last()
		if !ok {
			continue
		}
		for id, n := range last.Under {
			if k := l.keyOf(id); k != nil {
				k.Verified += n
			}
		}
	}
	for _, k := range l.ring.Keys() {
		l.Keys = append(l.Keys, *l.keys[k.ID()])
	}
	for _, id := range slices.Sorted(maps.Keys(l.keys)) {
		if k := *l.keys[id]; k.Use == "unknown" || k.Use == "tenants" {
			l.Keys = append(l.Keys, k)
		}
	}
	if l.ring == nil {
		return nil
	}
	on, err := canary.Of(ctx, l.db)
	if err != nil {
		return err
	}
	found, err := canary.States(ctx, on, l.ring, l.Columns...)
	if err != nil {
		return err
	}
	for i, state := range found {
		name := l.Columns[i].String()
		switch {
		case state.Err != nil:
			l.find(report.PartKeys, "the canary of %s does not open: %s", name, l.Reason(state.Err))
		case state.Missing != "":
			l.lacks(report.PartKeys, "the canary of "+name, state.Missing)
		default:
			if c := l.columnOf(l.Columns[i]); c != nil {
				c.Canary = state.Key.ID()
			}
		}
	}
	return nil
}

// key returns the report's entry for a key, adding it if needed.
func (l *looker) key(id string) *report.Key {
	if l.keys[id] == nil {
		l.keys[id] = &report.Key{ID: id, Use: "unknown"}
	}
	return l.keys[id]
}

// keyOf returns the key of a count, or nil if the count isn't about a key.
func (l *looker) keyOf(under string) *report.Key {
	switch {
	case under == rotate.UnderTenantKey:
		k := l.key("tenants' data keys")
		k.Use = "tenants"
		return k
	case words[under]:
		return nil
	}
	return l.key(under)
}

// columnOf returns a column of the report.
func (l *looker) columnOf(of column.Column) *report.Column {
	for i := range l.Tables {
		for j := range l.Tables[i].Columns {
			if c := &l.Tables[i].Columns[j]; c.Table == of.TableName() && c.Column == of.Name {
				return c
			}
		}
	}
	return nil
}
