package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/canary"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// pageSize is the number of rows read at a time, so that no statement runs for
// long.
const pageSize = 1000

// tokenCount is the result for one encrypted column.
type tokenCount struct {
	Tokens int `json:"tokens"`
	Bound  int `json:"bound"` // tokens bound to table, column and tenant
	// Tokens of tenants with a destroyed key.
	Shredded int `json:"shredded"`
	// Tokens that don't open, and the first of them, at most maxShown.
	Bad      int        `json:"bad"`
	Examples []badToken `json:"examples"`
	// Rows read: all, or with --limit the last ones.
	Rows    int  `json:"rows_read"`
	Limited bool `json:"limited"`

	otherKey int // bad tokens that seem to be under another key
	plain    int // bad values that aren't tokens

	locate *seal.Locator
}

// badToken is a token that doesn't open.
type badToken struct {
	Row    string `json:"row"`
	Reason string `json:"reason"`
}

func (c *tokenCount) String() string {
	of, tokens := "", count(c.Tokens, "token")
	if c.Limited {
		of = fmt.Sprintf(" in the last %s by primary key", count(c.Rows, "row"))
	}
	switch bad := c.Bad; {
	case bad == 0 && c.Tokens == 0 && !c.Limited:
		return "no tokens yet"
	case bad == 0 && c.Tokens == 0:
		return "no tokens" + of
	case bad == 0:
		text := tokens + " checked"
		if c.Bound > 0 {
			text += fmt.Sprintf(", %d of them bound", c.Bound)
		}
		if c.Shredded > 0 {
			text += fmt.Sprintf(", %d of them shredded with their tenant's key", c.Shredded)
		}
		return text + of
	case bad == c.Tokens && c.otherKey == bad:
		return fmt.Sprintf("none of %s%s opens; set ENCRYPTION_KEY to the key of this database", tokens, of)
	case c.plain == bad:
		values := count(c.Tokens, "value")
		return fmt.Sprintf("%d of %s%s not encrypted; `credent encrypt` encrypts plaintext", bad, values, of)
	default:
		return fmt.Sprintf("%d of %s%s cannot be opened; store or restore those rows", bad, tokens, of)
	}
}

// check opens a token. A token counts as bad if the column's states refuse it,
// or if it opens although its tenant's key was destroyed.
func (c *tokenCount) check(
	ring *keyring.Keyring, row any, token sql.NullString, place seal.Place, given states.Set, key tenantkey.Key,
) {
	if !token.Valid {
		return
	}
	c.Tokens++
	if c.locate == nil {
		c.locate = new(seal.Locator)
	}
	o, err := c.locate.OpenAt(engine.With((*engine.Ring)(ring), key.Data), place, token.String)
	if errors.Is(key.Err, credent.ErrShredded) {
		if errors.Is(err, credent.ErrUnknownKey) {
			c.Shredded++
			return
		}
		err = errNotShredded
	}
	if err == nil && o.Bound {
		c.Bound++
	}
	if err == nil {
		err = c.refused(ring, token.String, place, given, o.Bound)
	}
	if errors.Is(err, credent.ErrNotEncrypted) && given.Encryption != states.Unset &&
		given.Encryption < states.Require {
		return
	}
	if err != nil {
		if c.Bad++; len(c.Examples) < maxShown {
			c.Examples = append(c.Examples, badToken{Row: rowText(row), Reason: trimPackage(err.Error())})
		}
		if errors.Is(err, credent.ErrUnknownKey) {
			c.otherKey++
		}
		if errors.Is(err, credent.ErrNotEncrypted) {
			c.plain++
		}
	}
}

// refused returns why the column's states refuse a token that opens.
func (c *tokenCount) refused(
	ring *keyring.Keyring, token string, place seal.Place, given states.Set, bound bool,
) error {
	_, err := c.locate.OpenAt((*engine.Ring)(ring), place, token)
	switch underKeyring := err == nil; {
	case given.Encryption == states.Off:
		return credent.ErrEncrypted
	case given.Binding == states.Require && !bound:
		return rotate.ErrUnbound
	case given.Binding == states.Off && bound:
		return rotate.ErrBound
	case given.TenantKeys == states.Require && underKeyring:
		return credent.ErrUnderKeyring
	case given.TenantKeys == states.Off && !underKeyring:
		return rotate.ErrTenantKey
	}
	return nil
}

// errNotShredded is about a secret stored by a client without tenant keys.
var errNotShredded = errors.New("the tenant's key was destroyed, and this is not under it; `credent rotate` " +
	"overwrites it")

func rowText(id any) string {
	if b, ok := id.([]byte); ok {
		return strconv.QuoteToASCII(string(b))
	}
	return printable(fmt.Sprint(id))
}

// openTokens opens every token of a table, or of its last rows by primary key,
// and returns the result for each column. It reads rows through the primary
// key's index.
func openTokens(
	ctx context.Context, db *database, ring *keyring.Keyring, table encryptedTable, limit int,
) ([]*tokenCount, error) {
	if err := db.checkVisible(ctx, table.name); err != nil {
		return nil, err
	}
	known, err := db.states(ctx)
	if err != nil {
		return nil, err
	}
	o := &opener{db: db, ring: ring, table: table, states: known, counts: make([]*tokenCount, len(table.columns))}
	for i := range o.counts {
		o.counts[i] = &tokenCount{Examples: []badToken{}, Limited: limit > 0}
	}
	if o.key, err = db.idKey(ctx, table); err != nil {
		return nil, err
	}
	compare, direction := ">", ""
	if limit > 0 {
		compare, direction = "<", " DESC"
	}
	var last []any
	for left := limit; ; left -= pageSize {
		size := pageSize
		if limit > 0 {
			size = min(size, left)
		}
		n, at, err := o.page(ctx, o.query(last, compare, direction, size), last...)
		if err != nil || n < size || limit > 0 && left <= size {
			return o.counts, err
		}
		last = at
	}
}

// query returns the query for the page after last in primary-key order; nil for
// the first page.
func (o *opener) query(last []any, compare, direction string, size int) string {
	names, places := make([]string, len(o.key)), make([]string, len(o.key))
	for i, name := range o.key {
		names[i], places[i] = column.QuoteName(name), "$"+strconv.Itoa(i+1)
	}
	where := ""
	if last != nil {
		where = " WHERE (" + strings.Join(names, ", ") + ") " + compare + " (" + strings.Join(places, ", ") + ")"
	}
	order := strings.Join(names, direction+", ") + direction
	return fmt.Sprintf(`SELECT id, %s, %s FROM "%s"%s ORDER BY %s LIMIT %d`, strings.Join(names, ", "),
		strings.Join(o.table.selected(), ", "), o.table.name, where, order, size)
}

// idKey returns the columns of a table's primary key, or its id if the role
// can't see the key.
func (db *database) idKey(ctx context.Context, table encryptedTable) ([]string, error) {
	on, err := canary.Of(ctx, db.DB)
	if err != nil {
		return nil, err
	}
	key, err := on.Key(ctx, table.columns[0])
	if err == nil && len(key) == 0 {
		key = []string{"id"}
	}
	return key, err
}

// opener opens one table's tokens.
type opener struct {
	db     *database
	ring   *keyring.Keyring
	table  encryptedTable
	key    []string
	states states.Table
	counts []*tokenCount
}

// page opens the tokens in one query's rows. It loads tenants' keys after the
// rows, because the pool may have only one connection.
func (o *opener) page(ctx context.Context, query string, args ...any) (n int, last []any, err error) {
	var rows []tokenRow
	n, last, err = page(ctx, o.db, len(o.key), len(o.table.selected()), func(id any, values []sql.NullString) {
		r := tokenRow{id: id, values: slices.Clone(values[:len(o.counts)])}
		if len(values) > len(o.counts) {
			r.tenant = values[len(o.counts)]
		}
		rows = append(rows, r)
	}, query, args...)
	if err != nil {
		return 0, nil, err
	}
	keys, err := o.db.tenantKeys(ctx, o.ring, rows)
	if err != nil {
		return 0, nil, err
	}
	for _, r := range rows {
		for i, c := range o.counts {
			c.Rows++
			place := seal.Place{Column: o.table.columns[i], Tenant: r.tenant}
			given := o.states.Given(&place.Column)
			if place.Column.Bound && given.Binding == states.Unset {
				given.Binding = states.Require
			}
			c.check(o.ring, r.id, r.values[i], place, given, place.TenantKey(keys))
		}
	}
	return n, last, nil
}

// tokenRow is a stored row.
type tokenRow struct {
	id     any
	values []sql.NullString
	tenant sql.NullString // not Valid if the table has no tenants
}

// tenantKeys returns the keys of the rows' tenants.
func (db *database) tenantKeys(
	ctx context.Context, ring *keyring.Keyring, rows []tokenRow,
) (map[string]tenantkey.Key, error) {
	var tenants []string
	seen := make(map[string]bool)
	for _, r := range rows {
		if r.tenant.Valid && !seen[r.tenant.String] {
			seen[r.tenant.String] = true
			tenants = append(tenants, r.tenant.String)
		}
	}
	return tenantkey.Read(ctx, entsql.Conn{ExecQuerier: db.DB}, (*engine.Ring)(ring), tenants)
}

// page runs a query and returns the number of rows and the last row's primary
// key.
func page(
	ctx context.Context, db *database, keys, columns int, visit func(id any, tokens []sql.NullString),
	query string, args ...any,
) (n int, last []any, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	tokens := make([]sql.NullString, columns)
	last = make([]any, keys)
	var id any
	dest := []any{&id}
	for i := range last {
		dest = append(dest, &last[i])
	}
	for i := range tokens {
		dest = append(dest, &tokens[i])
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return n, nil, err
		}
		id = db.keyValue(id)
		for i := range last {
			last[i] = db.keyValue(last[i])
		}
		n++
		visit(id, tokens)
	}
	return n, last, rows.Err()
}

// keyValue converts a primary-key value to an argument: a uuid's text must not
// become a bytea.
func (db *database) keyValue(v any) any {
	if b, ok := v.([]byte); ok && db.isPostgres() {
		return string(b)
	}
	return v
}
