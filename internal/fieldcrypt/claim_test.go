package fieldcrypt_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// registerStamp registers the column of TestClaimWithRows when the package's tests are initialised.
var _ = registerStamp()

func registerStamp() bool {
	scanner := fieldcrypt.NewField("stamp", 500)
	fieldcrypt.Bind(fieldcrypt.Binding{
		ColumnInfo: fieldcrypt.ColumnInfo{Table: "letter", Name: "stamp", Size: 500, Index: "stamp_index"},
		Scanner:    func() any { return scanner },
		Index: func() any {
			return fieldcrypt.IndexField{IndexConfig: fieldcrypt.IndexConfig{Unique: true}}
		},
	})
	return true
}

// TestClaimWithRows stores by statements that return rows, as ent's are where the database makes the primary key. What is unique
// under one key is so under the other, also where the rows are not read to their end.
func TestClaimWithRows(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "claim.db")+"?_pragma=busy_timeout(5000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE letter (id INTEGER PRIMARY KEY, stamp TEXT, stamp_index BLOB UNIQUE)"); err != nil {
		t.Fatal(err)
	}
	driver := func(keys ...string) dialect.Driver {
		return fieldcrypt.NewDriver(entsql.OpenDB(dialect.SQLite, db), fieldcrypt.DriverConfig{Keyring: ring(t, keys[0], keys[1:]...)})
	}
	insert := func(drv dialect.ExecQuerier, read bool, stamps ...string) error {
		query, args := "INSERT INTO `letter` (`stamp`) VALUES (?)", []any{}
		query += strings.Repeat(", (?)", len(stamps)-1) + " RETURNING `id`"
		for _, stamp := range stamps {
			args = append(args, fieldcrypt.New(stamp))
		}
		rows := new(entsql.Rows)
		if err := drv.Query(t.Context(), query, args, rows); err != nil {
			return err
		}
		if read {
			ids := 0
			for rows.Next() {
				ids++
			}
			if err := rows.Err(); err != nil {
				return err
			}
			if ids != len(stamps) {
				t.Errorf("%d rows were returned, want %d", ids, len(stamps))
			}
		}
		return rows.Close()
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	must(insert(driver(keyA), true, "a"))
	must(insert(driver(keyB), true, "b"))
	must(insert(driver(keyA, keyB), true, "c", "d"))
	must(insert(driver(keyB, keyA), false, "e"))
	tx, err := driver(keyB, keyA).Tx(t.Context())
	must(err)
	must(insert(tx, true, "f"))
	must(tx.Commit())
	for _, stamp := range []string{"a", "b", "c", "d", "e", "f"} {
		for _, keys := range [][]string{{keyA, keyB}, {keyB, keyA}} {
			for _, read := range []bool{true, false} {
				if err := insert(driver(keys...), read, "new", stamp); err == nil || !strings.Contains(err.Error(), "UNIQUE constraint") {
					t.Errorf("%s once more: %v", stamp, err)
				}
			}
		}
	}
	var n int
	must(db.QueryRowContext(t.Context(), "SELECT count(*) FROM letter").Scan(&n))
	if n != 6 {
		t.Errorf("%d rows, want 6", n)
	}
	// The rows of database/sql cannot be followed by anything.
	raw := driver(keyA, keyB).(interface {
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	})
	if _, err := raw.QueryContext(t.Context(), "INSERT INTO letter (stamp) VALUES (?) RETURNING id", fieldcrypt.New("g")); !errors.Is(err, fieldcrypt.ErrIndex) { //nolint:sqlclosecheck,rowserrcheck // there are none
		t.Errorf("got %v, want ErrIndex", err)
	}
}
