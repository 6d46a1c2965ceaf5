package migrate

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/schema"
	"ariga.io/atlas/sql/sqlcheck"
)

// Names of our analyzers in nolint directives.
const (
	ruleEncryptedColumn = "encrypted_column"
	ruleRowSecurity     = "row_security"
	ruleConcurrentIndex = "concurrent_index"
	ruleTxMode          = "txmode"
	ruleRepeatable      = "repeatable"
	ruleRename          = "rename"
	ruleFileName        = "file_name"
	ruleIndexTrigger    = "index_trigger"
	ruleBlocking        = "blocking"
	ruleSeveralLocks    = "several_locks"
)

// Codes of our findings.
const (
	codeDropEncrypted   = "CT101"
	codeShrinkEncrypted = "CT102"
	codeTypeEncrypted   = "CT103"
	codeIndexEncrypted  = "CT104"
	codeDropTokenCheck  = "CT105"
	codeRowSecurity     = "CT106"
	codeIndexTrigger    = "CT107"
	codeRenameEncrypted = "CT108"
	codeCast            = "CT109"
	codeIndexBlocks     = "CT201"
	codeNeedsNoTx       = "CT202"
	codeValidates       = "CT301"
	codeSetNotNull      = "CT302"
	codeLateValidation  = "CT303"
	codeRewrites        = "CT304"
	codeBuildsIndex     = "CT305"
	codeLocksTable      = "CT306"
	codeRebuildsIndex   = "CT307"
	codeSeveralLocks    = "CT308"
	codeTxModeIgnored   = "CT203"
	codeDropAndAdd      = "CT204"
	codeNotRepeatable   = "CT205"
	codeFileName        = "CT206"
)

// errFound turns an analyzer's findings into errors.
var errFound = errors.New("found")

// rule is one of our analyzers.
type rule struct {
	name    string
	warning bool
	find    func(file *sqlcheck.File) []sqlcheck.Diagnostic
}

// Name implements sqlcheck.NamedAnalyzer.
func (r rule) Name() string { return r.name }

// Analyze implements sqlcheck.Analyzer.
func (r rule) Analyze(_ context.Context, p *sqlcheck.Pass) error {
	found := r.find(p.File)
	if len(found) == 0 {
		return nil
	}
	p.Reporter.WriteReport(sqlcheck.Report{Diagnostics: found})
	if r.warning {
		return nil
	}
	return errFound
}

// rules returns our analyzers for a dialect.
func (l *linter) rules(d string) []sqlcheck.Analyzer {
	all := []sqlcheck.Analyzer{
		rule{name: ruleFileName, find: findFileName},
		rule{name: ruleEncryptedColumn, find: findEncryptedColumn},
		rule{name: ruleRename, find: findDropAndAdd},
		rule{name: ruleTxMode, find: findTxMode},
	}
	if isSQLite(d) {
		return all
	}
	return append(all,
		rule{name: ruleRowSecurity, find: findRowSecurity},
		rule{name: ruleConcurrentIndex, find: l.seen.findBlockingIndex},
		rule{name: ruleBlocking, find: l.seen.findBlocking},
		rule{name: ruleSeveralLocks, find: l.seen.findSeveral, warning: true},
		rule{name: ruleRepeatable, find: findNotRepeatable, warning: true},
	)
}

func finding(code string, stmt *migrate.Stmt, format string, args ...any) sqlcheck.Diagnostic {
	return sqlcheck.Diagnostic{Pos: stmt.Pos, Code: code, Text: fmt.Sprintf(format, args...)}
}

func findFileName(file *sqlcheck.File) []sqlcheck.Diagnostic {
	if fileName.MatchString(file.Name()) {
		return nil
	}
	return []sqlcheck.Diagnostic{{Code: codeFileName, Text: "a migration file must be named VERSION_name.sql; " +
		"there are no up and down files, stock Atlas runs each of them"}}
}

// comments matches comments within statements.
var comments = regexp.MustCompile(`(?s)--[^\n]*|/\*.*?\*/`)

// code returns a statement's text without comments.
func code(stmt *migrate.Stmt) string { return comments.ReplaceAllString(stmt.Text, " ") }

var (
	txModeLine    = regexp.MustCompile(`(?m)^[ \t]*--.*\batlas:txmode\b[ \t]*(\w*)`)
	noTransaction = regexp.MustCompile(`(?is)^\s*(?:(?:CREATE\s+(?:UNIQUE\s+)?|DROP\s+)INDEX\s+CONCURRENTLY|` +
		`REINDEX\b.*\bCONCURRENTLY|ALTER\s+TABLE\b.*\bDETACH\s+PARTITION\b.*\bCONCURRENTLY|VACUUM\b|ALTER\s+SYSTEM\b|` +
		`(?:CREATE|DROP)\s+(?:DATABASE|TABLESPACE)\b)`)
	createIndex = regexp.MustCompile(`(?is)^\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+(CONCURRENTLY\s+)?(IF\s+NOT\s+EXISTS\s+)?`)
)

// findTxMode finds the directive in places where it has no effect, and
// statements that fail without it.
func findTxMode(file *sqlcheck.File) (found []sqlcheck.Diagnostic) {
	content := string(file.Bytes())
	modes := directives(file.File, "txmode")
	for _, m := range txModeLine.FindAllStringSubmatchIndex(content, -1) {
		mode := content[m[2]:m[3]]
		text := ""
		switch {
		case len(modes) == 0:
			text = "atlas:txmode counts only in the comment at the top of the file, and only if a blank line follows " +
				"that comment"
		case len(modes) > 1:
			text = "atlas:txmode is there more than once"
		case mode != "none" && mode != "file":
			text = "atlas:txmode must be none or file"
		}
		if text != "" {
			found = append(found, sqlcheck.Diagnostic{Pos: m[0], Code: codeTxModeIgnored, Text: text})
		}
	}
	if withoutTransaction(file.File) {
		return found
	}
	for _, change := range file.Changes {
		if noTransaction.MatchString(code(change.Stmt)) {
			found = append(found, finding(codeNeedsNoTx, change.Stmt,
				"the statement cannot run in a transaction: begin the file with \"-- atlas:txmode none\" and a blank "+
					"line"))
		}
	}
	return found
}

// findNotRepeatable finds statements in files without a transaction that fail
// after a crash if they ran but were not recorded.
func findNotRepeatable(file *sqlcheck.File) (found []sqlcheck.Diagnostic) {
	if !withoutTransaction(file.File) {
		return nil
	}
	for _, change := range file.Changes {
		if m := createIndex.FindStringSubmatch(code(change.Stmt)); m != nil && m[2] == "" {
			found = append(found, finding(codeNotRepeatable, change.Stmt, "without IF NOT EXISTS the statement fails "+
				"after a crash in which it was done and not recorded"))
		}
	}
	return found
}

var (
	dropPolicy   = regexp.MustCompile(`(?is)\bDROP\s+POLICY\s+(?:IF\s+EXISTS\s+)?(` + quotable + `)\s+ON\s+` + name)
	createPolicy = regexp.MustCompile(`(?is)\bCREATE\s+POLICY\s+(` + quotable + `)\s+ON\s+` + name)
	disableRLS   = regexp.MustCompile(`(?is)\b(?:DISABLE|NO\s+FORCE)\s+ROW\s+LEVEL\s+SECURITY\b`)
	bypassRLS    = regexp.MustCompile(`(?is)\bROLE\b.*\bBYPASSRLS\b`)
)

// findRowSecurity finds statements that remove row-level security, which Atlas
// doesn't see. A policy that a later statement recreates doesn't count.
func findRowSecurity(file *sqlcheck.File) (found []sqlcheck.Diagnostic) {
	for i, change := range file.Changes {
		text := code(change.Stmt)
		if disableRLS.MatchString(text) {
			found = append(found, finding(codeRowSecurity, change.Stmt, "row-level security is switched off"))
		}
		if bypassRLS.MatchString(text) {
			found = append(found, finding(codeRowSecurity, change.Stmt, "a role is let past row-level security"))
		}
		for _, m := range dropPolicy.FindAllStringSubmatch(text, -1) {
			if !makesPolicy(file.Changes[i:], plain(m[1]), plain(m[2])) {
				found = append(found, finding(codeRowSecurity, change.Stmt, "policy %q of table %q is dropped",
					plain(m[1]), plain(m[2])))
			}
		}
	}
	return found
}

func makesPolicy(changes []*sqlcheck.Change, policy, table string) bool {
	return slices.ContainsFunc(changes, func(change *sqlcheck.Change) bool {
		return slices.ContainsFunc(createPolicy.FindAllStringSubmatch(code(change.Stmt), -1), func(m []string) bool {
			return plain(m[1]) == policy && plain(m[2]) == table
		})
	})
}

// findDropAndAdd finds dropped columns if the file adds one of the same type.
func findDropAndAdd(file *sqlcheck.File) (found []sqlcheck.Diagnostic) {
	added := make(map[string][]*schema.Column) // by table
	eachColumn(file, func(_ *migrate.Stmt, table *schema.Table, change schema.Change) {
		if add, ok := change.(*schema.AddColumn); ok {
			added[table.Name] = append(added[table.Name], add.C)
		}
	})
	eachColumn(file, func(stmt *migrate.Stmt, table *schema.Table, change schema.Change) {
		drop, ok := change.(*schema.DropColumn)
		if !ok || file.ColumnSpan(table, drop.C) == sqlcheck.SpanTemporary {
			return
		}
		for _, add := range added[table.Name] {
			if add.Name != drop.C.Name && sameType(add, drop.C) {
				found = append(found, finding(codeDropAndAdd, stmt, "column %q is dropped and %q of the same type is "+
					"added: if this is a rename, write ALTER TABLE … RENAME COLUMN, or the data are lost",
					drop.C.Name, add.Name))
			}
		}
	})
	return found
}

func sameType(a, b *schema.Column) bool {
	return a.Type != nil && b.Type != nil && strings.EqualFold(a.Type.Raw, b.Type.Raw) && sizeOf(a) == sizeOf(b)
}

// eachColumn calls f with each change of a table's part.
func eachColumn(file *sqlcheck.File, f func(stmt *migrate.Stmt, table *schema.Table, change schema.Change)) {
	for _, change := range file.Changes {
		for _, c := range change.Changes {
			if table, ok := c.(*schema.ModifyTable); ok {
				for _, part := range table.Changes {
					f(change.Stmt, table.T, part)
				}
			}
		}
	}
}
