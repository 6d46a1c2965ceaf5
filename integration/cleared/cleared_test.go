// Package cleared tests that the digest of a secret goes with the secret,
// whatever the rest of the statement says.
package cleared

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/integration/sequence/ent"
	"github.com/credent-go/credent/integration/sequence/ent/note"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/internal/testdb/bare"
	"github.com/credent-go/credent/keyring"
)

// database is one with the tables, and a client.
type database struct {
	*sql.DB
	dialect string
	ring    *keyring.Keyring
	client  *ent.Client
}

// forEach runs a test over the drivers, with tokens that are bound and with
// tokens that aren't.
func forEach(t *testing.T, test func(t *testing.T, db *database)) {
	t.Helper()
	for _, driverName := range bare.SQLDrivers {
		for name, bound := range map[string][]encrypted.Column{"": nil, ", bound": {
			note.EmailColumn,
			note.CodeColumn,
		}} {
			t.Run(driverName+name, func(t *testing.T) {
				t.Parallel()
				test(t, open(t, driverName, states.New(states.Binding, encrypted.Require, bound...)))
			})
		}
	}
}

// open returns a database with the tables, and a client with a new key.
func open(t *testing.T, driverName string, given []encrypted.ColumnStates) *database {
	t.Helper()
	db := new(database)
	var err error
	db.DB, db.dialect = bare.Empty(t, driverName)
	if db.ring, err = keyring.New(keyring.GenerateKey()); err != nil {
		t.Fatal(err)
	}
	db.client = db.open(t, given)
	bare.CreateTables(t, db.client.Schema.Create)
	return db
}

// open returns a client of the database.
func (db *database) open(t *testing.T, given []encrypted.ColumnStates) *ent.Client {
	t.Helper()
	cfg := encrypted.Config{Keyring: db.ring, Columns: ent.EncryptedColumns(), States: given}
	drv, err := encrypted.NewDriver(entsql.OpenDB(db.dialect, db.DB), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ent.NewClient(ent.Driver(drv))
}

// texts are SQL expressions that a reader of SQL may misread, by the dialect
// that knows them. Each is true for a title that is a word.
var texts = map[string]map[string]string{
	dialect.SQLite: {
		"a backslash before a quote": `"title" <> 'C:\'`,
		"a double backslash":         `"title" || 'C:\\dir' <> ''`,
		"a quote in a string":        `"title" <> 'it''s'`,
		"brackets":                   `[title] <> ']'`,
		"backticks":                  "`title` <> '`'",
		"a comment":                  "\"title\" /* ' */ <> ''",
		"a question mark in text":    `"title" <> '?'`,
	},
	dialect.Postgres: {
		"a regular expression":       `"title" ~ '^\w+$'`,
		"a backslash before a quote": `"title" <> 'C:\'`,
		"an escape string":           `"title" <> E'it\'s'`,
		"jsonb with a question mark": `'{"a": 1}'::jsonb ? 'a'`,
		"an array":                   `'a' = ANY(ARRAY['a'])`,
		"a dollar quote":             `"title" <> $$x$$`,
		"a tagged dollar quote":      `"title" <> $of$ it's $1 $of$`,
		"a nested comment":           "\"title\" /* /* ' */ ' */ <> ''",
	},
}

// ways clear or leave out both secrets of a row, beside a text.
var ways = map[string]func(ctx context.Context, db *database, id int, text string) error{
	"UpdateOne, clear": func(ctx context.Context, db *database, id int, text string) error {
		return db.client.Note.UpdateOneID(id).ClearEmail().ClearCode().Modify(titled(text)).Exec(ctx)
	},
	"Update, clear": func(ctx context.Context, db *database, id int, text string) error {
		return db.client.Note.Update().Where(note.ID(id)).ClearEmail().ClearCode().Modify(titled(text)).Exec(ctx)
	},
	"UpdateOne, clear, in the condition": func(ctx context.Context, db *database, id int, text string) error {
		return db.client.Note.UpdateOneID(id).ClearEmail().ClearCode().Modify(where(text)).Exec(ctx)
	},
	"UpdateOne, absent": func(ctx context.Context, db *database, id int, text string) error {
		return db.client.Note.UpdateOneID(id).SetEmail(encrypted.Secret{}).SetCode(encrypted.Value[[]byte]{}).
			Modify(titled(text)).Exec(ctx)
	},
	"Update, absent, in a transaction": func(ctx context.Context, db *database, id int, text string) error {
		tx, err := db.client.Tx(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		if err := tx.Note.Update().Where(note.ID(id)).SetEmail(encrypted.Secret{}).SetCode(encrypted.Value[[]byte]{}).
			Modify(where(text)).Exec(ctx); err != nil {
			return err
		}
		return tx.Commit()
	},
	"UpdateOne, clear, after WITH": func(ctx context.Context, db *database, id int, text string) error {
		return db.client.Note.UpdateOneID(id).ClearEmail().ClearCode().
			Modify(titled(text), func(u *entsql.UpdateBuilder) {
				u.Prefix(entsql.Raw("WITH x AS (SELECT 1)"))
			}).Exec(ctx)
	},
	"Update, clear, after WITH": func(ctx context.Context, db *database, id int, text string) error {
		return db.client.Note.Update().Where(note.ID(id)).ClearEmail().ClearCode().
			Modify(where(text), func(u *entsql.UpdateBuilder) {
				u.Prefix(entsql.Raw("WITH x AS (SELECT 1)"))
			}).Exec(ctx)
	},
	"Modify": func(ctx context.Context, db *database, id int, text string) error {
		return db.client.Note.UpdateOneID(id).Modify(titled(text), func(u *entsql.UpdateBuilder) {
			u.SetNull("email").SetNull("email_index").
				Set("code", encrypted.At(encrypted.Value[[]byte]{}, note.CodeColumn, nil)).
				Set("code_index", encrypted.DigestOf(encrypted.Value[[]byte]{}, note.CodeColumn, nil))
		}).Exec(ctx)
	},
	"SQL": func(ctx context.Context, db *database, id int, text string) error {
		query := `UPDATE "notes" SET "email" = $1, "email_index" = $2, "code" = $3, "code_index" = $4 WHERE ` + text + ` AND "id" = $5`
		if db.dialect == dialect.SQLite {
			query = `UPDATE "notes" SET "email" = ?, "email_index" = ?, "code" = ?, "code_index" = ? WHERE ` + text + ` AND "id" = ?`
		}
		var email encrypted.Secret
		var code encrypted.Value[[]byte]
		result, err := db.client.ExecContext(ctx, query, encrypted.At(email, note.EmailColumn, "o1"),
			encrypted.DigestOf(email, note.EmailColumn, nil),
			encrypted.At(code, note.CodeColumn, "o1"), encrypted.DigestOf(code, note.CodeColumn, nil), id)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return fmt.Errorf("%d rows, %w", n, err)
		}
		return nil
	},
}

func titled(text string) func(u *entsql.UpdateBuilder) {
	return func(u *entsql.UpdateBuilder) {
		u.Set("title", entsql.Raw(`CASE WHEN `+text+` THEN "title" || ' changed' ELSE '' END`))
	}
}

func where(text string) func(u *entsql.UpdateBuilder) {
	return func(u *entsql.UpdateBuilder) {
		u.Where(entsql.P(func(b *entsql.Builder) { b.WriteString(text) }))
	}
}

// TestClearedDigest clears an indexed secret and a uniquely indexed one beside
// the caller's SQL. Nobody finds the row by them, and they can be stored again.
func TestClearedDigest(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *database) {
		ctx := t.Context()
		db.client.Owner.Create().SetID("o1").ExecX(ctx)
		email, n := encrypted.New("A@example.com"), 0
		create := func(code string) *ent.NoteCreate {
			n++
			return db.client.Note.Create().SetTitle(fmt.Sprint("title", n)).SetOwnerID("o1").SetEmail(email).
				SetCode(encrypted.NewValue([]byte(code)))
		}
		kept := create("kept").SaveX(ctx)
		for wayName, way := range ways {
			for textName, text := range texts[db.dialect] {
				name := wayName + ", " + textName
				code := encrypted.NewValue([]byte(name))
				row := create(name).SaveX(ctx)
				if ids := db.client.Note.Query().Where(note.CodeIs(code)).IDsX(ctx); len(ids) != 1 || ids[0] != row.ID {
					t.Fatalf("%s: before, found %v", name, ids)
				}
				if err := way(ctx, db, row.ID, text); err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				var left int
				if err := db.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*) FROM notes WHERE id = %d AND (email "+
					"IS NOT NULL OR code IS NOT NULL OR email_index IS NOT NULL OR code_index IS NOT NULL OR title = "+
					"'')", row.ID)).Scan(&left); err != nil || left != 0 {
					t.Errorf("%s: something is left, %v", name, err)
				}
				if ids := db.client.Note.Query().Where(note.CodeIs(code)).IDsX(ctx); len(ids) != 0 {
					t.Errorf("%s: found %v by the cleared code", name, ids)
				}
				if ids := db.client.Note.Query().Where(note.EmailIs(email)).IDsX(ctx); len(ids) != 1 ||
					ids[0] != kept.ID {
					t.Errorf("%s: found %v by the cleared email", name, ids)
				}
				again, err := create(name).Save(ctx)
				if err != nil {
					t.Errorf("%s: stored again: %v", name, err)
					continue
				}
				db.client.Note.DeleteOne(again).ExecX(ctx)
				if got := db.client.Note.GetX(ctx, row.ID); !got.Email.IsZero() ||
					!strings.HasPrefix(got.Title, "title") {
					t.Errorf("%s: read %v", name, got)
				}
			}
		}
		if plaintext, err := db.client.Note.GetX(ctx, kept.ID).Email.Reveal(); err != nil ||
			plaintext != "A@example.com" {
			t.Errorf("another row reveals %q, %v", plaintext, err)
		}
	})
}
