package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/rotate"
)

// pageSize is the number of rows that are read at a time, so that no statement runs for long.
const pageSize = 1000

// tokenCount is what was found in one encrypted column.
type tokenCount struct {
	Tokens int        `json:"tokens"`
	Bound  int        `json:"bound"` // of them, how many are bound to table, column and tenant
	Bad    []badToken `json:"bad"`

	otherKey int // of the bad ones, how many seem to be under another key
	plain    int // of the bad ones, how many are no tokens
}

// badToken is a token that does not open.
type badToken struct {
	Row    string `json:"row"`
	Reason string `json:"reason"`
}

func (c *tokenCount) String() string {
	switch bad := len(c.Bad); {
	case bad == 0 && c.Tokens == 0:
		return "no tokens yet"
	case bad == 0:
		if c.Bound > 0 {
			return fmt.Sprintf("%s checked, %d of them bound", count(c.Tokens, "token"), c.Bound)
		}
		return count(c.Tokens, "token") + " checked"
	case bad == c.Tokens && c.otherKey == bad:
		return fmt.Sprintf("none of %s opens; set ENCRYPTION_KEY to the key of this database", count(c.Tokens, "token"))
	case c.plain == bad:
		return fmt.Sprintf("%d of %s not encrypted; `credent encrypt` encrypts plaintext", bad, count(c.Tokens, "value"))
	default:
		return fmt.Sprintf("%d of %s cannot be opened; store or restore those rows", bad, count(c.Tokens, "token"))
	}
}

// check opens a token. One that must be bound and is not is a bad one.
func (c *tokenCount) check(ring *credent.Keyring, row any, token sql.NullString, place fieldcrypt.Place, mustBeBound bool) {
	if !token.Valid {
		return
	}
	c.Tokens++
	_, bound, err := ring.KeyAt(place, token.String)
	if err == nil && bound {
		c.Bound++
	}
	if err == nil && !bound && mustBeBound {
		err = rotate.ErrUnbound
	}
	if err != nil {
		c.Bad = append(c.Bad, badToken{Row: rowText(row), Reason: trimPackage(err.Error())})
		if errors.Is(err, credent.ErrUnknownKey) {
			c.otherKey++
		}
		if errors.Is(err, credent.ErrNotEncrypted) {
			c.plain++
		}
	}
}

func rowText(id any) string {
	if b, ok := id.([]byte); ok {
		return strconv.QuoteToASCII(string(b))
	}
	return printable(fmt.Sprint(id))
}

// openTokens opens every token of a table, or of its newest rows, and returns what it found for each column.
func openTokens(
	ctx context.Context, db *database, ring *credent.Keyring, table encryptedTable, limit int,
) ([]*tokenCount, error) {
	if err := db.checkVisible(ctx, table.name); err != nil {
		return nil, err
	}
	counts := make([]*tokenCount, len(table.columns))
	for i := range counts {
		counts[i] = &tokenCount{Bad: []badToken{}}
	}
	must, err := mustBeBound()
	if err != nil {
		return nil, err
	}
	visit := func(id any, values []sql.NullString) {
		place := fieldcrypt.Place{}
		if len(values) > len(counts) {
			place.Tenant = values[len(counts)]
		}
		for i, c := range counts {
			place.Column = table.columns[i]
			c.check(ring, id, values[i], place, must(place.Column))
		}
	}
	selectedColumns := table.selected()
	selected := fmt.Sprintf(`SELECT id, %s FROM "%s"`, strings.Join(selectedColumns, ", "), table.name)
	if limit > 0 {
		_, _, err := page(ctx, db, len(selectedColumns), visit,
			fmt.Sprintf("%s ORDER BY created_at DESC, id DESC LIMIT %d", selected, limit))
		return counts, err
	}
	order := fmt.Sprintf("ORDER BY id LIMIT %d", pageSize)
	n, last, err := page(ctx, db, len(selectedColumns), visit, selected+" "+order)
	for err == nil && n == pageSize {
		n, last, err = page(ctx, db, len(selectedColumns), visit, selected+" WHERE id > $1 "+order, last)
	}
	return counts, err
}

// page runs one query and returns the number of its rows and the last one's ID.
func page(
	ctx context.Context, db *database, columns int, visit func(id any, tokens []sql.NullString),
	query string, args ...any,
) (n int, last any, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	tokens := make([]sql.NullString, columns)
	dest := []any{&last}
	for i := range tokens {
		dest = append(dest, &tokens[i])
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return n, nil, err
		}
		if id, ok := last.([]byte); ok && db.isPostgres() {
			last = string(id) // text of a uuid, not a bytea
		}
		n++
		visit(last, tokens)
	}
	return n, last, rows.Err()
}
