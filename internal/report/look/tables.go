package look

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/report"
	"github.com/credent-go/credent/internal/report/sample"
	"github.com/credent-go/credent/internal/sqldialect"
	"github.com/credent-go/credent/rotate"
)

// table is a table to count and to sample.
type table struct {
	columns []column.Column
	*report.Table
}

// tables returns the columns' tables, and the table of tenants' keys.
func (l *looker) tables() (all []table) {
	wrapped := column.Column{
		Table: tenantkey.Table, Name: tenantkey.Column, Type: "data encryption key", Tenant: tenantkey.Tenant,
	}
	for _, c := range append(slices.Clone(l.Columns), wrapped) {
		if n := len(all); n == 0 || all[n-1].Name != c.TableName() {
			all = append(all, table{Table: &report.Table{Name: c.TableName(), Columns: []report.Column{}}})
		}
		t := &all[len(all)-1]
		t.columns = append(t.columns, c)
		t.Columns = append(t.Columns, report.Column{
			Table: c.TableName(), Column: c.Name, Type: c.Type, Index: c.Index,
			Sample: report.Sample{Under: map[string]int64{}},
		})
	}
	return all
}

// lookTables counts the rows of each table, and opens a sample.
func (l *looker) lookTables(ctx context.Context) error {
	for _, t := range l.tables() {
		if err := l.checkVisible(ctx, t.columns[0]); err != nil {
			l.missed(report.PartInventory, t.Name, err)
			continue
		}
		l.step("the rows of "+t.Name, 0, 0)
		if err := l.count(ctx, t); err != nil {
			l.missed(report.PartInventory, "the number of rows and secrets of "+t.Name, err)
		}
		if t.columns[0].Table == tenantkey.Table && t.Rows.Known && t.Rows.N == 0 {
			continue
		}
		if l.Sample > 0 {
			if err := l.sample(ctx, t); err != nil {
				l.missed(report.PartKeys, "the sample of "+t.Name, err)
			}
		}
		if !t.Whole {
			l.gap(report.PartKeys, "each secret of "+t.Name,
				fmt.Sprintf("only a sample of %d rows was examined; `credent verify` opens them all", t.Sampled))
		}
		l.Tables = append(l.Tables, *t.Table)
	}
	return nil
}

// checkVisible returns [rotate.ErrHidden] if row-level security hides rows,
// because a count would then be too low.
func (l *looker) checkVisible(ctx context.Context, c column.Column) error {
	if !l.isPostgres() {
		return nil
	}
	var active bool
	err := l.db.QueryRowContext(ctx, "SELECT row_security_active($1::text)", c.Quoted()).Scan(&active)
	if err == nil && active {
		return rotate.ErrHidden
	}
	return err
}

// count counts rows in the database, in one pass. If that takes too long, it
// uses an estimate.
func (l *looker) count(ctx context.Context, t table) error {
	parts := []string{"count(*)"}
	for _, c := range t.columns {
		name := column.QuoteName(c.Name)
		parts = append(parts, "count("+name+")",
			fmt.Sprintf("count(*) FILTER (WHERE substr(%s, 1, %d) <> %s)", name, len(fernet.Prefix),
				sqldialect.Literal(fernet.Prefix)))
	}
	limited, cancel := context.WithTimeout(ctx, l.Within)
	defer cancel()
	n := make([]int64, len(parts))
	dest := make([]any, len(parts))
	for i := range n {
		dest[i] = &n[i]
	}
	err := l.db.QueryRowContext(limited, "SELECT "+strings.Join(parts, ", ")+" FROM "+l.quoted(t)).Scan(dest...)
	switch {
	case err == nil:
		t.Rows = report.Count{N: n[0], Exact: true, Known: true}
		for i := range t.Columns {
			t.Columns[i].Stored = report.Count{N: n[1+2*i], Exact: true, Known: true}
			t.Columns[i].NotTokens = report.Count{N: n[2+2*i], Exact: true, Known: true}
		}
		return nil
	case limited.Err() == nil || ctx.Err() != nil:
		return err
	}
	if t.Rows.N, err = l.estimate(ctx, t); err == nil && t.Rows.N > 0 {
		t.Rows.Known = true
	}
	return fmt.Errorf("counting takes longer than %s; give it more by --within", l.Within)
}

// estimate returns the database's own estimate, or 0 if there is none.
func (l *looker) estimate(ctx context.Context, t table) (n int64, err error) {
	query := "SELECT coalesce(max(rowid), 0) FROM " + l.quoted(t)
	if l.isPostgres() {
		query = "SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_catalog.pg_class c " +
			"WHERE c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(to_regclass(" +
			sqldialect.Literal(l.quoted(t)) + ")) WHERE isleaf)"
	}
	limited, cancel := context.WithTimeout(ctx, l.Within)
	defer cancel()
	err = l.db.QueryRowContext(limited, query).Scan(&n)
	return n, err
}

func (l *looker) quoted(t table) string {
	if !l.isPostgres() { // ent omits schemas
		return column.QuoteTable("", t.columns[0].Table)
	}
	return t.columns[0].Quoted()
}

// sample opens the secrets of some rows.
func (l *looker) sample(ctx context.Context, t table) error {
	taken, err := sample.Take(ctx, sample.Config{
		DB: l.db, Postgres: l.isPostgres(), Columns: t.columns, From: l.quoted(t), Rows: t.Rows, Want: l.Sample,
		Within: l.Within, Ring: l.ring,
		Progress: func(done int64) { l.step("the secrets of "+t.Name, done, max(l.Sample, done)) },
		Saw: func(under string, at time.Time) {
			if k := l.keyOf(under); k != nil {
				k.Sampled++
				k.Saw(at)
			}
		},
	})
	t.Sampled, t.Whole = taken.Rows, taken.Whole
	for i, s := range taken.Columns {
		t.Columns[i].Sample = s
	}
	return err
}
