package rotate

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
)

// write falls back to one statement per row if a row of the page is refused.
func (p postgres) write(ctx context.Context, t table, changes []change) (done written, err error) {
	if t.heap {
		done, err = p.writeRead(ctx, t, changes)
	} else {
		done.rows, err = p.update(ctx, t, changes)
	}
	if refusedBy(err) != "" {
		done, err = p.writeEach(ctx, t, changes)
	}
	if err == nil && t.heap && done.rows+int64(len(done.refused)) < int64(len(changes)) {
		done.stuck, err = p.stuck(ctx, t, changes, done.refused)
	}
	return done, err
}

func (p postgres) writeEach(ctx context.Context, t table, changes []change) (done written, err error) {
	for _, c := range changes {
		n, err := p.update(ctx, t, []change{c})
		if reason := refusedBy(err); reason != "" {
			done.refused = append(done.refused, refusal{c, fmt.Errorf("%w: %s", ErrRefused, reason)})
			continue
		}
		if err != nil {
			return done, err
		}
		done.rows += n
	}
	return done, nil
}

// update compares the old values in the statement itself, or it would undo
// writes made between reading and writing the page. Unchanged columns are
// neither compared nor written. The comparison is by bytes, whatever the
// column's type and collation treat as equal. Old plaintext is compared by its
// SHA-256, so that it isn't in a parameter, which the server may log.
//
// The arrays are in subqueries, so that the planner doesn't know their length:
// in a table of some hundred thousand rows, a page would make it read the whole
// table. They are unnested in a WITH, because shards don't support a subquery
// in the FROM of an UPDATE.
func (p postgres) update(ctx context.Context, t table, changes []change) (n int64, err error) {
	var u update
	u.row(t, changes)
	query := "WITH " + u.source() + " " + u.statement(t)
	err = p.locked(ctx, t, changes, func(on querier) error {
		result, err := on.ExecContext(ctx, query, u.args...)
		if err == nil {
			n, err = result.RowsAffected()
		}
		return err
	})
	return n, err
}

// row adds the conditions and assignments for all columns.
func (u *update) row(t table, changes []change) {
	u.keys(t, changes)
	for i := range t.columns {
		u.column(t, i, changes)
	}
	u.tenant(t.tenant, changes)
	u.key(t, changes)
}

// statement returns the statement without its WITH.
func (u *update) statement(t table) string {
	return fmt.Sprintf("UPDATE %s AS t SET %s FROM u WHERE %s", t.quoted(), strings.Join(u.set, ", "),
		strings.Join(u.where, " AND "))
}

// locked updates the rows of changes. If several rows have a unique value, it
// locks all of them before changing one. Otherwise a writer that holds one row
// and stores another row's value there would wait for the update, which waits
// for the writer. If the rows are only locked, Postgres tells the writer at
// once that the value is taken. If the key starts with the tenant, it locks one
// tenant's rows after another's, because shards lock no rows for a statement
// that doesn't select a shard.
func (p postgres) locked(ctx context.Context, t table, changes []change, run func(on querier) error) error {
	if !slices.ContainsFunc(t.columns, isUnique) {
		return run(p.db)
	}
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // has no effect after the commit
	for _, group := range t.groups(changes) {
		if err := p.lock(ctx, tx, t, group); err != nil {
			return err
		}
	}
	if err := run(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// lock locks the rows of changes. They belong to one tenant if the table's key
// starts with it.
func (postgres) lock(ctx context.Context, tx querier, t table, changes []change) error {
	keys := make([]sql.NullString, len(changes))
	for i, c := range changes {
		keys[i] = sql.NullString{String: c.id, Valid: true}
	}
	args := []any{textArray(keys)}
	where := fmt.Sprintf("t.%s = ANY ((SELECT $1::text::%s[])::%[2]s[])", quote(t.key), t.keyType)
	if t.scoped {
		args = append(args, changes[0].tenant.String)
		where = fmt.Sprintf("t.%s = $2::text::%s AND t.%s = ANY ($1::text::%s[])", quote(t.tenant), t.tenantType,
			quote(t.key), t.keyType)
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf("SELECT FROM %s AS t WHERE %s ORDER BY %s FOR NO KEY UPDATE",
		t.quoted(), where, strings.Join(t.keyColumns(), ", ")), args...)
	return err
}

// update builds a statement over a page.
type update struct {
	args                        []any
	arrays, columns, set, where []string
	// kept holds conditions that tell whether a written row has its new values.
	kept []string
}

// source returns the statement's row source, the first part of its WITH.
func (u *update) source() string {
	return fmt.Sprintf("u AS MATERIALIZED (SELECT * FROM unnest(%s) AS u(%s))", strings.Join(u.arrays, ", "),
		strings.Join(u.columns, ", "))
}

// keys adds the rows' primary keys.
func (u *update) keys(t table, changes []change) {
	keys, scopes := make([]sql.NullString, len(changes)), make([]sql.NullString, len(changes))
	for j, c := range changes {
		keys[j], scopes[j] = sql.NullString{String: c.id, Valid: true}, c.tenant
	}
	u.where = append(u.where, fmt.Sprintf("t.%s = %s", quote(t.key), u.addAs("key", t.keyType, keys)))
	if t.scoped {
		u.where = append(u.where, fmt.Sprintf("t.%s = %s", quote(t.tenant), u.addAs("scope", t.tenantType, scopes)))
	}
}

// add adds an array to the statement's row source, and returns the name of a
// row's element.
func (u *update) add(name string, values []sql.NullString) string {
	return u.addAs(name, "text", values)
}

// addAs is add with an element type.
func (u *update) addAs(name, elements string, values []sql.NullString) string {
	u.args = append(u.args, textArray(values))
	u.arrays = append(u.arrays, fmt.Sprintf("(SELECT $%d::text::%s[])", len(u.args), elements))
	u.columns = append(u.columns, quote(name))
	return "u." + quote(name)
}

// absent stands for NULL among old values. No stored value is equal to it.
const absent = "\x01absent"

// column adds a column's changes, if it changes in any row. It sets a blind
// index even to its current value, because a trigger could mistake an index
// that the UPDATE doesn't set for a stale one.
func (u *update) column(t table, i int, changes []change) {
	column, name, beside := t.columns[i], quote(t.stored(i)), make([]sql.NullString, len(changes))
	olds, news, indexes := make([]sql.NullString, len(changes)), make([]sql.NullString,
		len(changes)), make([]sql.NullString, len(changes))
	changed, plaintext := false, false
	for j, c := range changes {
		if !c.cells[i].changed {
			continue
		}
		changed = true
		olds[j], news[j], indexes[j] = c.values[i], c.cells[i].value, c.cells[i].index
		if c.isWaiting(i) {
			beside[j] = c.plains[i]
		}
		if !olds[j].Valid {
			olds[j] = sql.NullString{String: absent, Valid: true}
		}
		plaintext = plaintext || !fernet.IsToken(c.values[i].String)
	}
	if !changed {
		return
	}
	stored := "t." + name + "::text"
	compared := stored + ` COLLATE "C"`
	if column.Index != "" || t.sources[i].expanded {
		compared = `coalesce(` + stored + `, E'\x01absent') COLLATE "C"`
	}
	if plaintext {
		olds, compared = digests(olds), digestOf(compared)
	}
	old, value := u.add(fmt.Sprint("old", i), olds), u.add(fmt.Sprint("new", i), news)
	u.set = append(u.set, fmt.Sprintf("%s = coalesce(%s, %s)", name, value, stored))
	u.where = append(u.where, fmt.Sprintf(`(%s IS NULL OR %s = %s)`, old, compared, old))
	u.kept = append(u.kept, fmt.Sprintf(`(%s IS NULL OR %s COLLATE "C" = %[1]s)`, value, stored))
	if t.sources[i].expanded {
		plain := u.add(fmt.Sprint("plain", i), digests(beside))
		u.where = append(u.where, fmt.Sprintf(`(%s IS NULL OR %s = %[1]s)`, plain, digestOf("("+t.sources[i].expr+`) COLLATE "C"`)))
	}
	if column.Index != "" {
		index := u.add(fmt.Sprint("index", i), indexes)
		u.set = append(u.set, fmt.Sprintf("%s = CASE WHEN %s IS NULL THEN t.%[1]s ELSE decode(%[3]s, 'hex') END",
			quote(column.Index), old, index))
		u.kept = append(u.kept, fmt.Sprintf("(%s IS NULL OR t.%s IS NOT DISTINCT FROM decode(%s, 'hex'))", old,
			quote(column.Index), index))
	}
}

// tenant compares the tenant, if a new value opens only in that tenant's row.
func (u *update) tenant(column string, changes []change) {
	if !slices.ContainsFunc(changes, change.bound) {
		return
	}
	tenants := make([]sql.NullString, len(changes))
	for j, c := range changes {
		tenants[j] = sql.NullString{String: c.tenant.String, Valid: c.bound()}
	}
	of := u.add("tenant", tenants)
	u.where = append(u.where, fmt.Sprintf(`(%s IS NULL OR t.%s::text COLLATE "C" = %[1]s)`, of, quote(column)))
}

// digestOf returns SQL for a text's SHA-256 in hexadecimal.
func digestOf(text string) string { return "encode(sha256(convert_to(" + text + ", 'UTF8')), 'hex')" }

// digests returns the values' SHA-256 in hexadecimal.
func digests(values []sql.NullString) []sql.NullString {
	all := make([]sql.NullString, len(values))
	for i, v := range values {
		if v.Valid {
			sum := sha256.Sum256([]byte(v.String))
			all[i] = sql.NullString{String: hex.EncodeToString(sum[:]), Valid: true}
		}
	}
	return all
}

// textArray writes an array in Postgres' syntax. The library's reflection took
// a sixth of a run's client time.
func textArray(values []sql.NullString) string {
	size := 2
	for _, v := range values {
		size += len(v.String) + len(`"",`)
	}
	array := make([]byte, 0, max(size, 2+len("NULL,")*len(values)))
	array = append(array, '{')
	for i, v := range values {
		if i > 0 {
			array = append(array, ',')
		}
		if !v.Valid {
			array = append(array, "NULL"...)
			continue
		}
		array = append(array, '"')
		if strings.ContainsAny(v.String, `"\`) {
			array = append(array, arrayEscaper.Replace(v.String)...)
		} else {
			array = append(array, v.String...)
		}
		array = append(array, '"')
	}
	return string(append(array, '}'))
}

var arrayEscaper = strings.NewReplacer(`"`, `\"`, `\`, `\\`)

// refusedBy returns why the server refused a value, or "" for other errors: a
// constraint, a value outside the type's range, or an error raised by a
// trigger. It omits the server's message, which may quote the row.
func refusedBy(err error) string {
	state := dberror.State(err)
	if len(state) != 5 || !slices.Contains([]string{"22", "23", "P0"}, state[:2]) {
		return ""
	}
	reason := "SQLSTATE " + state
	if state == "23505" {
		reason += ", another row has it"
	}
	if answer, _ := dberror.Of(err); answer.Constraint != "" {
		reason += ", constraint " + answer.Constraint
	}
	return reason
}
