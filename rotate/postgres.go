package rotate

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/retry"
)

// postgres writes a page with one statement.
type postgres struct{ db *sql.DB }

func (postgres) maxWorkers() int { return math.MaxInt }

func (postgres) dialect() string { return dialect.Postgres }

func (p postgres) count(ctx context.Context, t table) (int64, error) { return countRows(ctx, p.db, t) }

func (p postgres) describe(ctx context.Context, t *table) error {
	var hidden sql.NullBool
	err := p.db.QueryRowContext(ctx, "SELECT row_security_active(to_regclass($1::text)::oid)", t.quoted()).Scan(&hidden)
	if err != nil {
		return err
	}
	if !hidden.Valid {
		return missing(nil)
	}
	if hidden.Bool {
		return ErrHidden
	}
	if _, _, _, err := p.columnType(ctx, t.quoted(), t.tenant); errors.Is(err, sql.ErrNoRows) {
		t.tenant = ""
	} else if err != nil {
		return err
	}
	t.sources = make([]source, len(t.columns))
	for i, c := range t.columns {
		if _, _, _, err := p.columnType(ctx, t.quoted(), c.Index); errors.Is(err, sql.ErrNoRows) {
			t.columns[i].Index = ""
		} else if err != nil {
			return err
		}
		if t.sources[i], err = p.source(ctx, *t, i); errors.Is(err, sql.ErrNoRows) {
			return missing([]string{c.Name})
		} else if err != nil {
			return err
		}
	}
	// Without the columns that the index only includes. With -1 for the length,
	// or a character(8) would be called character, which is one character.
	keys, err := p.pairs(ctx, `SELECT a.attname, format_type(a.atttypid, -1) FROM pg_index i
		JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts-1])
		WHERE i.indisprimary AND i.indrelid = to_regclass($1::text)`, t.quoted())
	if err != nil {
		return err
	}
	if len(keys) != 1 {
		return fmt.Errorf("%w: it has %d", ErrPrimaryKey, len(keys))
	}
	t.key, t.keyType = keys[0][0], keys[0][1]
	return nil
}

// pairs runs a query for rows of two texts.
func (p postgres) pairs(ctx context.Context, query string, args ...any) (pairs [][2]string, err error) {
	rows, err := p.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var pair [2]string
		if err := rows.Scan(&pair[0], &pair[1]); err != nil {
			return nil, err
		}
		pairs = append(pairs, pair)
	}
	return pairs, rows.Err()
}

// selectRows is the beginning of a query for rows.
func (postgres) selectRows(t table) *strings.Builder {
	var query strings.Builder
	fmt.Fprintf(&query, "SELECT t.%s::text", quote(t.key))
	for i, c := range t.columns {
		fmt.Fprintf(&query, ", t.%s::text", quote(t.stored(i)))
		if c.Index != "" {
			fmt.Fprintf(&query, ", encode(t.%s, 'hex')", quote(c.Index))
		}
		if t.sources[i].expanded {
			fmt.Fprintf(&query, ", %s", t.sources[i].expr)
		}
	}
	if t.tenant != "" {
		fmt.Fprintf(&query, ", t.%s::text", quote(t.tenant))
	}
	for _, expression := range t.extra {
		fmt.Fprintf(&query, ", (%s)::text", expression)
	}
	fmt.Fprintf(&query, " FROM %s AS t", t.quoted())
	return &query
}

func (postgres) scanKey(key any) (string, any, error) {
	switch key := key.(type) {
	case string:
		return key, key, nil
	case []byte:
		return string(key), string(key), nil
	}
	return "", nil, fmt.Errorf("%w: it is a %T", ErrPrimaryKey, key)
}

func (p postgres) ofTenant(ctx context.Context, tx querier, t table, tenant string) ([]row, error) {
	query := p.selectRows(t)
	fmt.Fprintf(query, " WHERE t.%s::text = $1 FOR UPDATE", quote(t.tenant))
	return selectPage(ctx, tx, t, query.String(), []any{tenant}, p.scanKey)
}

func (postgres) shred(ctx context.Context, tx querier, t table, r row, tokens []sql.NullString) error {
	return shred(ctx, tx, t, tokens, "$%d", fmt.Sprintf("%s = $1::text::%s", quote(t.key), t.keyType), r.key)
}

func (p postgres) checkWritable(ctx context.Context) error { return retry.CheckWritable(ctx, p.db) }

// stored reads the rows of changes whose statement was not answered.
func (p postgres) stored(ctx context.Context, t table, changes []change) (map[string]bool, error) {
	keys, byID := make([]sql.NullString, len(changes)), make(map[string]change, len(changes))
	for i, c := range changes {
		keys[i], byID[c.id] = sql.NullString{String: c.id, Valid: true}, c
	}
	query := p.selectRows(t)
	fmt.Fprintf(query, " WHERE t.%s = ANY ((SELECT $1::text::%s[])::%[2]s[])", quote(t.key), t.keyType)
	rows, err := selectPage(ctx, p.db, t, query.String(), []any{textArray(keys)}, p.scanKey)
	found := make(map[string]bool)
	for _, r := range rows {
		if c, ok := byID[r.id]; ok && c.isStored(r) {
			found[r.id] = true
		}
	}
	return found, err
}

// write falls back to one statement a row where a row of the page is refused.
func (p postgres) write(ctx context.Context, t table, changes []change) (written int64, refused []refusal, err error) {
	written, err = p.update(ctx, t, changes)
	if err == nil || refusedBy(err) == "" {
		return written, nil, err
	}
	for _, c := range changes {
		n, err := p.update(ctx, t, []change{c})
		if reason := refusedBy(err); reason != "" {
			refused = append(refused, refusal{c, fmt.Errorf("%w: %s", ErrRefused, reason)})
			continue
		}
		if err != nil {
			return written, refused, err
		}
		written += n
	}
	return written, refused, nil
}

// update compares with the old values in the statement itself. Without that it
// would undo what others write between the page's reading and its writing.
// Columns that are not to be changed are neither compared nor written. The
// comparison is of bytes, whatever the column's type and collation take for
// equal. Old values that are plaintext are compared by their SHA-256, so that
// they are in no parameter, which the server may log.
//
// The arrays stand in subqueries, so that the planner does not know how long
// they are: in a table of some hundred thousand rows it would take a page for a
// reason to read the whole table.
func (p postgres) update(ctx context.Context, t table, changes []change) (int64, error) {
	keys := make([]sql.NullString, len(changes))
	for j, c := range changes {
		keys[j] = sql.NullString{String: c.id, Valid: true}
	}
	u := update{args: []any{textArray(keys)}, arrays: []string{"(SELECT $1::text::" + t.keyType + "[])"}, columns: []string{`"key"`}}
	for i := range t.columns {
		u.column(t, i, changes)
	}
	u.tenant(t.tenant, changes)
	u.key(t.tenant, changes)
	return p.exec(ctx, t, u.args[0], fmt.Sprintf(`UPDATE %s AS t SET %s FROM unnest(%s) AS u(%s) WHERE t.%s = u."key" AND %s`,
		t.quoted(), strings.Join(u.set, ", "), strings.Join(u.arrays, ", "), strings.Join(u.columns, ", "),
		quote(t.key), strings.Join(u.where, " AND ")), u.args...)
}

// exec runs the update of the rows with the given keys. If several have a value
// that is unique, it locks all of them before it changes one: a writer that
// holds one of them, and stores another's value there, would wait for the
// update, which waits for the writer. Of rows that are only locked Postgres
// tells the writer at once that the value is taken.
func (p postgres) exec(ctx context.Context, t table, keys any, query string, args ...any) (int64, error) {
	if !slices.ContainsFunc(t.columns, isUnique) {
		result, err := p.db.ExecContext(ctx, query, args...)
		if err != nil {
			return 0, err
		}
		return result.RowsAffected()
	}
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("SELECT FROM %s AS t WHERE t.%s = ANY ((SELECT $1::text::%s[])::%[3]s[]) ORDER BY t.%[2]s "+
		"FOR NO KEY UPDATE", t.quoted(), quote(t.key), t.keyType), keys); err != nil {
		return 0, err
	}
	result, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	written, err := result.RowsAffected()
	if err != nil {
		return 0, err
	}
	return written, tx.Commit()
}

// update is a statement over a page.
type update struct {
	args                        []any
	arrays, columns, set, where []string
}

// add makes an array of the statement's source, and returns the name of a row's
// element.
func (u *update) add(name string, values []sql.NullString) string {
	u.args = append(u.args, textArray(values))
	u.arrays = append(u.arrays, fmt.Sprintf("(SELECT $%d::text::text[])", len(u.args)))
	u.columns = append(u.columns, quote(name))
	return "u." + quote(name)
}

// absent stands for NULL among old values; no text that Postgres stores has it.
const absent = "\x01absent"

// column adds what becomes of one column, if it is changed in any of the rows.
// A blind index is set even to what it was: a trigger could take one that is
// not set for one that was left behind.
func (u *update) column(t table, i int, changes []change) {
	column, name, beside := t.columns[i], quote(t.stored(i)), make([]sql.NullString, len(changes))
	olds, news, indexes := make([]sql.NullString, len(changes)), make([]sql.NullString, len(changes)), make([]sql.NullString, len(changes))
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
	if t.sources[i].expanded {
		plain := u.add(fmt.Sprint("plain", i), digests(beside))
		u.where = append(u.where, fmt.Sprintf(`(%s IS NULL OR %s = %[1]s)`, plain, digestOf("("+t.sources[i].expr+`) COLLATE "C"`)))
	}
	if column.Index != "" {
		index := u.add(fmt.Sprint("index", i), indexes)
		u.set = append(u.set, fmt.Sprintf("%s = CASE WHEN %s IS NULL THEN t.%[1]s ELSE decode(%[3]s, 'hex') END", quote(column.Index), old, index))
	}
}

// tenant compares whose a row is, where something new opens only as long as it
// is the same tenant's.
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

// digestOf returns SQL for the SHA-256 of a text, in hexadecimal.
func digestOf(text string) string { return "encode(sha256(convert_to(" + text + ", 'UTF8')), 'hex')" }

// digests returns the SHA-256 of values, in hexadecimal.
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

// textArray writes an array the way Postgres reads it. The library's way, by
// reflection, was a sixth of the client's cost of a run.
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

// refusedBy says why the server does not take a value, or "" if that is not the
// error: a constraint, a value that the type does not hold, a trigger that
// raises. The server's own words may quote the row, and are left out.
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
