package migrate

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/schema"
	"ariga.io/atlas/sql/sqlcheck"
)

// replay runs a file without recording its changes.
func (l *linter) replay(ctx context.Context, f migrate.File) error {
	stmts, err := migrate.FileStmtDecls(l.scanner, f)
	if err != nil {
		return fmt.Errorf("migrate: %s: %w", f.Name(), err)
	}
	for _, stmt := range stmts {
		if err := l.exec(ctx, f, stmt); err != nil {
			return err
		}
	}
	return nil
}

func (l *linter) exec(ctx context.Context, f migrate.File, stmt *migrate.Stmt) error {
	_, err := l.execObserved(ctx, f, stmt)
	return err
}

// load runs a file and determines what each statement changes.
func (l *linter) load(ctx context.Context, f migrate.File) (*sqlcheck.File, []*migrate.Stmt, error) {
	stmts, err := migrate.FileStmtDecls(l.scanner, f)
	if err != nil {
		return nil, nil, fmt.Errorf("migrate: %s: %w", f.Name(), err)
	}
	file := &sqlcheck.File{File: f}
	if file.From, err = l.inspect(ctx); err != nil {
		return nil, nil, err
	}
	current := file.From
	if err := l.startFile(ctx); err != nil {
		return nil, nil, err
	}
	for _, stmt := range stmts {
		if err := l.observe(ctx, f, stmt); err != nil {
			return nil, nil, err
		}
		next, err := l.inspect(ctx)
		if err != nil {
			return nil, nil, err
		}
		changes, err := l.client.RealmDiff(current, next)
		if err != nil {
			return nil, nil, fmt.Errorf("migrate: lint %s:%d: %w", f.Name(), lineOf(f, stmt.Pos), err)
		}
		file.Changes = append(file.Changes, &sqlcheck.Change{Changes: findRename(stmt.Text, changes), Stmt: stmt})
		current = next
	}
	file.To = current
	if file.Sum, err = l.client.RealmDiff(file.From, file.To); err != nil {
		return nil, nil, fmt.Errorf("migrate: lint %s: %w", f.Name(), err)
	}
	return file, stmts, nil
}

func (l *linter) inspect(ctx context.Context) (*schema.Realm, error) {
	realm, err := l.client.InspectRealm(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("migrate: inspect the dev database: %w", err)
	}
	return realm, nil
}

// name matches a table, column or index in a statement, ignoring its schema.
const name = "(?:" + quotable + `\s*\.\s*)?(` + quotable + `)`

// quotable is identifier with MySQL's quotes, which SQLite accepts too.
const quotable = "(?:\"(?:[^\"]|\"\")+\"|`[^`]+`|[\\w$]+)"

const alterTable = `(?is)^\s*ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?` + name

var (
	renameTable  = regexp.MustCompile(alterTable + `\s+RENAME\s+TO\s+` + name)
	renameColumn = regexp.MustCompile(alterTable + `\s+RENAME\s+(?:COLUMN\s+)?` + name + `\s+TO\s+` + name)
)

// findRename replaces an apparent drop and add, a result of comparing names
// only, by the statement's rename.
func findRename(stmt string, changes schema.Changes) schema.Changes {
	stmt = comments.ReplaceAllString(stmt, " ")
	if renameTable.MatchString(stmt) {
		from, to := indexOf[*schema.DropTable](changes), indexOf[*schema.AddTable](changes)
		if from >= 0 && to >= 0 {
			rename := &schema.RenameTable{From: changes[from].(*schema.DropTable).
				T, To: changes[to].(*schema.AddTable).T}
			changes.RemoveIndex(from, to)
			return append(changes, rename)
		}
	}
	if !renameColumn.MatchString(stmt) {
		return changes
	}
	for _, change := range changes {
		table, ok := change.(*schema.ModifyTable)
		if !ok {
			continue
		}
		inner := schema.Changes(table.Changes)
		from, to := indexOf[*schema.DropColumn](inner), indexOf[*schema.AddColumn](inner)
		if from >= 0 && to >= 0 {
			rename := &schema.RenameColumn{From: inner[from].(*schema.DropColumn).
				C, To: inner[to].(*schema.AddColumn).C}
			inner.RemoveIndex(from, to)
			table.Changes = append(inner, rename)
		}
	}
	return changes
}

// indexOf returns the index of the only change of a kind, or -1. It doesn't
// compare names: a statement may write them in another case than the database.
func indexOf[T schema.Change](changes schema.Changes) int {
	is := func(c schema.Change) bool { _, ok := c.(T); return ok }
	return slices.IndexFunc(changes, is)
}

// plain is unquote for both kinds of quotes.
func plain(identifier string) string {
	if strings.HasPrefix(identifier, "`") {
		return strings.Trim(identifier, "`")
	}
	return unquote(identifier)
}
