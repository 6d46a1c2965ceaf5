package fieldcrypt_test

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	entsql "entgo.io/ent/dialect/sql"
	_ "modernc.org/sqlite" // to try what was taken

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// statement is a text with arguments: s stands for a secret, p for one that came through its column, n for a named one, 0 for
// an absent one, anything else for a plain value.
type statement struct {
	query string
	args  string
}

func (s statement) values(t *testing.T) []any {
	t.Helper()
	var args []any
	for i, kind := range s.args {
		switch kind {
		case 's':
			args = append(args, fieldcrypt.New(fmt.Sprint("secret ", i)))
		case 'p':
			arg, err := wide.Value(fieldcrypt.New(fmt.Sprint("secret ", i)))
			if err != nil {
				t.Fatal(err)
			}
			args = append(args, arg)
		case 'n':
			args = append(args, sql.Named("secret", fieldcrypt.New(fmt.Sprint("secret ", i))))
		case 'i':
			args = append(args, sql.Named("id", 7))
		case '0':
			args = append(args, fieldcrypt.Secret{})
		default:
			args = append(args, 7)
		}
	}
	return args
}

// try runs a statement, and fails the test if it was refused after it had reached the database.
func (s statement) try(t *testing.T) error {
	t.Helper()
	rec := new(recorder)
	err := fieldcrypt.NewDriver(rec, fieldcrypt.DriverConfig{Keyring: ring(t, keyA)}).Exec(t.Context(), s.query, s.values(t), nil)
	if (err == nil) != (len(rec.calls) == 1) {
		t.Errorf("%s: got %v, and the calls %v", s.query, err, rec.calls)
	}
	for _, arg := range rec.args {
		if _, ok := arg.(fieldcrypt.Secret); ok {
			t.Errorf("%s: a secret was passed on", s.query)
		}
	}
	return err
}

func (s statement) refused(t *testing.T) bool {
	t.Helper()
	return s.try(t) != nil
}

// TestStatementsTaken has what stores each secret in one row: all that ent writes, and what people write by hand.
func TestStatementsTaken(t *testing.T) {
	t.Parallel()
	for _, s := range []statement{
		// As ent writes them.
		{`INSERT INTO "vault" ("name", "wide", "narrow") VALUES ($1, $2, $3)`, ".pp"},
		{"INSERT INTO `vault` (`name`, `wide`, `narrow`) VALUES (?, ?, ?)", ".pp"},
		{`INSERT INTO "vault" ("name", "wide") VALUES ($1, $2) RETURNING "id"`, ".p"},
		{`INSERT INTO "public"."vault" ("wide") VALUES ($1), ($2), ($3) RETURNING "id"`, "ppp"},
		{"INSERT INTO `vault` (`wide`) VALUES (?), (?), (NULL), (?) RETURNING `id`", "ppp"},
		{`INSERT INTO "vault" ("wide") VALUES ($1) ON CONFLICT ("id") DO NOTHING`, "p"},
		{`INSERT INTO "vault" ("wide") VALUES ($1), ($2) ON CONFLICT ("id") DO UPDATE SET "wide" = "excluded"."wide"`, "pp"},
		{`INSERT INTO "vault" ("wide") VALUES ($1) ON CONFLICT ("id") DO UPDATE SET "wide" = $2, "n" = COALESCE("vault"."n", 0) + $3 RETURNING "id"`, "ps."},
		{`INSERT INTO "vault" ("wide") VALUES ($1) ON CONFLICT ("id") WHERE "on" DO UPDATE SET "wide" = $2, "b" = "excluded"."b" WHERE "vault"."a" = $3 RETURNING "id"`, "ps."},
		{`INSERT INTO "vault" ("wide") VALUES ($1) ON CONFLICT ON CONSTRAINT "vault_pkey" DO UPDATE SET "wide" = $2`, "ps"},
		{"INSERT INTO `vault` (`wide`) VALUES (?) ON CONFLICT (`id`) DO UPDATE SET `wide` = ?, `a` = `vault`.`a`", "ps"},
		{`UPDATE "vault" SET "at" = $1, "wide" = $2, "gone" = NULL WHERE "id" = $3`, ".p."},
		{"UPDATE `vault` SET `at` = ?, `wide` = ? WHERE `id` = ?", ".p."},
		{`UPDATE "vault" SET "wide" = $1 WHERE "id" = $2 AND ("vault"."a" = $3 OR "vault"."b" = $4)`, "p..."},
		{`UPDATE "vault" SET "wide" = $1 WHERE ("vault"."id" = $2 OR "vault"."a" = $3) AND "vault"."id" = $4`, "p..."},
		{`UPDATE "vault" SET "wide" = $1 WHERE (("vault"."id" IN ($2) AND "vault"."a" IS NOT NULL) AND (NOT ("vault"."b" = $3))) AND "vault"."id" = $4`, "p..."},
		{`UPDATE "vault" SET "wide" = $1 WHERE "id" IN ($2)`, "p."},
		{`UPDATE "vault" SET "wide" = $1 WHERE "vault"."a" IN (SELECT "id" FROM "others" WHERE "x" = $2) AND "vault"."id" = $3`, "p.."},
		{`UPDATE "vault" SET "wide" = $1 WHERE EXISTS (SELECT 1 FROM "others" WHERE "x" = $2 OR "y" = $3) AND "vault"."id" = $4`, "p..."},
		{`UPDATE "public"."vault" SET "wide" = $1 WHERE "id" = $2`, "p."},
		// By hand.
		{"UPDATE vault SET wide = $1 WHERE id = $2 AND a[1] = 2 AND b = ARRAY[$3, 4]", "s.."},
		{"update vault set wide = $1 where id = $2", "s."},
		{"UPDATE vault SET wide=$1 WHERE id=$2", "s."},
		{"UPDATE vault SET wide=? WHERE id=?", "s."},
		{"UPDATE vault SET wide = ?2 WHERE id = ?1", ".s"},
		{"UPDATE vault SET wide = :secret WHERE id = :id", "ni"},
		{"UPDATE vault SET wide = @secret WHERE id=@id", "in"},
		{"UPDATE vault SET wide = $secret WHERE id = $id", "in"},
		{"UPDATE\n\tvault\nSET\n\twide = $1\nWHERE\n\tid = $2\n", "s."},
		{"  -- why; WHERE not\nUPDATE vault /* or not */ SET wide = $1 WHERE id = $2 -- or not\n", "s."},
		{"UPDATE vault SET wide = $1::text WHERE id = $2::uuid RETURNING id;", "s."},
		{"UPDATE ONLY vault AS v SET wide = $1, narrow = $2::varchar WHERE v.id = $3", "ss."},
		{"UPDATE vault v SET wide = $1 WHERE (v.id = $2)", "s."},
		{"UPDATE vault SET wide = $1 WHERE a = 'x OR id' AND (((id = $2) AND b)) AND c LIKE '%''%'", "s."},
		{"UPDATE vault SET a = 'it''s WHERE', wide = $1, b = (SELECT max(x) FROM others WHERE y = $2) WHERE id = $3", "s.."},
		{`UPDATE "vault" SET "we ""ird WHERE" = 1, wide = $1 WHERE id = $2`, "s."},
		{"UPDATE vault SET wide = $2 WHERE id = $1", ".s"},
		{"UPDATE vault SET wide = $1 WHERE id = $2 AND a = $2", "s."},
		{"insert into vault values ($1, $2)", ".s"},
		{"INSERT OR REPLACE INTO vault (wide) VALUES (?)", "s"},
		{"INSERT INTO vault AS v (wide, n) VALUES ($1, coalesce($2, 3)) ON CONFLICT (id) DO UPDATE SET wide = $3", "s.s"},
		{"INSERT INTO vault (wide) VALUES ($1::text)", "s"},
		// Without a secret anything goes.
		{"DELETE FROM vault WHERE wide = $1", "0"},
		{"UPDATE vault SET wide = $1", "0"},
		{"WITH x AS (SELECT $1) SELECT * FROM x; garbage '", "."},
	} {
		if err := s.try(t); err != nil {
			t.Errorf("%s: %v", s.query, err)
		}
	}
}

// TestStatementsRefused has what would compare a secret, store it in several rows, or might.
func TestStatementsRefused(t *testing.T) {
	t.Parallel()
	for want, statements := range map[error][]statement{
		fieldcrypt.ErrManyRows: {
			{`UPDATE "vault" SET "wide" = $1`, "p"},
			{`UPDATE "vault" SET "wide" = $1`, "s"},
			{`UPDATE "vault" SET "wide" = $1 WHERE "user_account_id" = $2`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "vault"."account-id" = $2`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "x""id" = $2`, "s."},
			{"UPDATE vault SET wide = $1 WHERE a.id.b = $2", "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "ID" = $2`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" = $2::char`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" = $2::varchar(3)`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" IN ($2::bpchar)`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" IN ($2, $3)`, "s.."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" NOT IN ($2)`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" IN (SELECT $2)`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" = ANY($2)`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" = $2 OR "a" = $3`, "s.."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "a" = $2 or "id" = $3`, "s.."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "b" OR "a" AND "id" = $2`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" = $2 AND "a" OR "b"`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE ("id" = $2 OR "a")`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE ("b" AND ("a" OR ("id" = $2)))`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" <> $2`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" >= $2`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" != $2`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" =~ $2`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE NOT "id" = $2`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE NOT ("id" = $2)`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE ("id" = $2) = false`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE ("id" = $2) IS NOT TRUE`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" = $2 IS NULL`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" = $2 = $3`, "s.."},
			{`UPDATE "vault" SET "wide" = $1 WHERE coalesce("id" = $2, true)`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE coalesce(true AND "id" = $2 AND true)`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "a" BETWEEN 1 AND "id" = $2`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE CASE WHEN true AND "id" = $2 AND false THEN false ELSE true END`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "a" = ARRAY[1 AND id = $2 AND 2]`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" = "vault"."id"`, "s"},
			{`UPDATE "vault" SET "wide" = $1 WHERE "id" = $2 + "x"`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE '"id" = $2'`, "s."},
			{`UPDATE "vault" SET "wide" = $1 /* WHERE "id" = $2 */`, "s."},
			{"UPDATE \"vault\" SET \"wide\" = $1 -- WHERE \"id\" = $2", "s."},
			{`UPDATE "vault" SET "wide" = $1, "a" = (SELECT "a" FROM "others" WHERE "id" = $2)`, "s."},
			{`UPDATE "vault" SET "wide" = $1, "a" = 'WHERE id = $2'`, "s."},
			{`UPDATE "vault" SET "wide" = $1, "where" = $2`, "s."},
			{`UPDATE "vault" SET "wide" = $1 FROM "others" WHERE "others"."id" = $2`, "s."},
			{`UPDATE "vault" SET "wide" = $1 FROM "others" AS "vault2" WHERE "id" = $2`, "s."},
			{`UPDATE "vault" SET "wide" = $1 WHERE CURRENT OF "c"`, "s"},
			{"UPDATE vault SET wide = :secret", "n"},
			{"UPDATE vault SET wide = $1, narrow = $1 WHERE id = $2", "s."},
			{"INSERT INTO vault (wide) VALUES ($1), ($1)", "s"},
			{"INSERT INTO vault (wide, narrow) VALUES ($1, $1)", "s"},
			{`INSERT INTO "vault" ("wide") VALUES ($1), ($2) ON CONFLICT ("id") DO UPDATE SET "wide" = $3`, "pps"},
			{`INSERT INTO "vault" ("wide") VALUES ($1), ($2) ON CONFLICT ("id") DO UPDATE SET "wide" = $3`, "sss"},
			{`INSERT INTO "vault" ("a") VALUES ($1), ($2) ON CONFLICT ("id") DO UPDATE SET "wide" = $3`, "..s"},
			{`INSERT INTO "vault" ("wide") VALUES ($1) ON CONFLICT ("id") DO UPDATE SET "wide" = $1`, "s"},
		},
		fieldcrypt.ErrPredicate: {
			{`SELECT * FROM "vault" WHERE "wide" = $1`, "s"},
			{"select 1 from vault where wide = ?", "s"},
			{"SELECT\n* FROM vault WHERE wide = $1", "s"},
			{"(SELECT * FROM vault WHERE wide = $1)", "s"},
			{"/* */ DELETE FROM vault WHERE wide = $1", "s"},
			{"DELETE\tFROM vault WHERE wide <> $1 AND id = $2", "s."},
			{"DELETE FROM vault WHERE wide = :secret", "n"},
			{"WITH gone AS (DELETE FROM vault WHERE wide = $1 RETURNING id) SELECT * FROM gone", "s"},
			{"WITH v AS (SELECT 1) UPDATE vault SET wide = $1 WHERE id = $2", "s."},
			{"WITH v AS (SELECT 1) DELETE FROM vault WHERE wide = $1", "s"},
			{"with recursive v AS (SELECT 1) INSERT INTO vault (wide) VALUES ($1)", "s"},
			{"EXPLAIN ANALYZE UPDATE vault SET wide = $1 WHERE id = $2", "s."},
			{"MERGE INTO vault USING others ON true WHEN MATCHED THEN UPDATE SET wide = $1", "s"},
			{"CALL store($1)", "s"},
			{"REPLACE INTO vault (wide) VALUES (?)", "s"},
			{"", "s"},
			{"-- only a comment", "s"},
			{"INSERT", "s"},
			{"UPDATE", "s"},
			{"UPDATE vault SET a = 1 WHERE wide = $1 AND id = $2", "s."},
			{`UPDATE "vault" SET "narrow" = $1 WHERE "id" = $2 AND "wide" = $3`, "s.s"},
			{`UPDATE "vault" SET "narrow" = $1 WHERE "id" = $2 AND "wide" IN (SELECT $3)`, "s.s"},
			{"UPDATE vault SET a = (wide = $1) WHERE id = $2", "s."},
			{"UPDATE vault SET a = wide = $1 WHERE id = $2", "s."},
			{"UPDATE vault SET a = $1 = wide WHERE id = $2", "s."},
			{"UPDATE vault SET a = CASE WHEN wide = $1 THEN 1 END WHERE id = $2", "s."},
			{"UPDATE vault SET wide = upper($1) WHERE id = $2", "s."},
			{"UPDATE vault SET wide = 'x' || $1 WHERE id = $2", "s."},
			{"UPDATE vault SET wide = $1 || 'x' WHERE id = $2", "s."},
			{"UPDATE vault SET wide = $1::varchar(9) WHERE id = $2", "s."},
			{"UPDATE vault SET wide = $1::name WHERE id = $2", "s."},
			{"UPDATE vault SET wide = $1::text::char WHERE id = $2", "s."},
			{"UPDATE vault SET (wide, narrow) = ($1, $2) WHERE id = $3", "ss."},
			{"UPDATE vault SET wide = (SELECT wide FROM vault WHERE narrow = $1) WHERE id = $2", "s."},
			{"UPDATE vault SET tags[$1] = 1 WHERE id = $2", "s."},
			{"UPDATE vault SET wide = $1 WHERE id = $2 RETURNING wide = $1", "s."},
			{"UPDATE vault SET wide = $1 WHERE id = $2 RETURNING narrow = $3", "s.s"},
			{"UPDATE vault SET wide = $1 WHERE id = $1", "s"},
			{"UPDATE vault SET wide = $1 WHERE id = $2; DELETE FROM vault", "s."},
			{"UPDATE vault SET wide = $1 WHERE id = $2 AND a = 'x", "s."},
			{"UPDATE vault SET wide = $1 WHERE id = $2 AND \"a", "s."},
			{"UPDATE vault SET wide = $1 WHERE id = $2 /* open", "s."},
			{"UPDATE vault SET wide = $1 /* /* */ WHERE id = $2 */", "s."},
			{`UPDATE vault SET wide = $1 WHERE a = E'\' OR ' AND id = $2 AND b = ''`, "s."},
			{"UPDATE vault SET wide = $1 WHERE a = $$ OR $$ AND id = $2", "s."},
			{"UPDATE vault SET wide = $1 WHERE a = $x$ OR $x$ AND id = $2", "s."},
			{"UPDATE vault SET wide = $1 WHERE id = $2 AND a ? 'x'", "s."},
			{"UPDATE vault SET wide = $2 WHERE id = ?", "s."},
			{"INSERT INTO vault (wide) SELECT $1 FROM others", "s"},
			{"INSERT INTO vault (wide) SELECT wide FROM vault WHERE wide = $1", "s"},
			{"INSERT INTO vault (wide) (VALUES ($1))", "s"},
			{"INSERT INTO vault (wide) VALUES (lower($1))", "s"},
			{"INSERT INTO vault (wide) VALUES ((SELECT wide FROM vault WHERE narrow = $1))", "s"},
			{"INSERT INTO vault (a) VALUES ($1) ON CONFLICT (id) WHERE wide = $2 DO NOTHING", ".s"},
			{`INSERT INTO "vault" ("wide") VALUES ($1) ON CONFLICT ("id") DO UPDATE SET "a" = 1 WHERE "wide" = $2`, "ss"},
			{`INSERT INTO "vault" ("wide") VALUES ($1) ON CONFLICT ("id") DO UPDATE SET "wide" = COALESCE("vault"."wide", 0) + $2`, "ps"},
			{"INSERT INTO vault (wide) VALUES ($1) RETURNING wide = $2", "ss"},
			{"INSERT INTO vault (a) VALUES ($1)", ".s"}, // no placeholder stands for it
			{"INSERT INTO vault (wide) VALUES (:other)", "n"},
			// What Postgres and SQLite, or versions of them, read differently.
			{"UPDATE vault SET wide = $1 WHERE id = $2 -- x\r OR true", "s."},
			{"UPDATE vault SET wide = $1 WHERE id = $2 -- x\r\n", "s."},
			{"INSERT INTO vault (name, wide, narrow) VALUES (:id, (SELECT count(*) FROM vault WHERE wide <> ?), ?)", "is."},
			{"INSERT INTO vault (name, wide) VALUES (?, :secret)", "in"},
			{`UPDATE vault SET wide = $1 WHERE id = $2 AND wide <> $1OR true`, "s."},
			{"UPDATE vault SET wide = $1 WHERE id = $2 AND [a'b] OR [a'b]", "s."},
			{"UPDATE vault SET wide = $1 WHERE id = $2 AND [--] OR true\n", "s."},
			{"UPDATE vault SET wide = $1 WHERE id = $2 AND [/*] OR true OR [*/]", "s."},
			{"UPDATE vault SET wide = ? WHERE [?] IS NULL AND id = ?", "s."},
			{"UPDATE vault SET wide = $1 WHERE id = $2 AND a = b[1", "s."},
		},
	} {
		for _, s := range statements {
			err := s.try(t)
			var detail *fieldcrypt.Error
			if !errors.Is(err, want) || !errors.As(err, &detail) || detail.Op != "encrypt" {
				t.Errorf("%s: got %v, want %v", s.query, err, want)
			}
			if err != nil && strings.Contains(err.Error(), "secret 0") {
				t.Errorf("%s: the error quotes the secret: %v", s.query, err)
			}
		}
	}
}

// Where a refusal can say which column it is about, it does, also for a secret that came without its column.
func TestStatementErrorsNameTheColumn(t *testing.T) {
	t.Parallel()
	drv := fieldcrypt.NewDriver(new(recorder), fieldcrypt.DriverConfig{Keyring: ring(t, keyA)})
	for _, test := range []struct {
		query string
		bytes int
		want  error
	}{
		{`INSERT INTO "vault" ("narrow", "wide") VALUES ($2, $1)`, 304, fieldcrypt.ErrTooLong},
		{"INSERT INTO vault (wide) VALUES ($1)", 304, fieldcrypt.ErrTooLong},
		{"INSERT INTO Vault (Wide) VALUES ($1)", 304, fieldcrypt.ErrTooLong},
		{`UPDATE "vault" SET "wide" = $1 WHERE "id" = $2`, 304, fieldcrypt.ErrTooLong},
		{`INSERT INTO "vault" ("n") VALUES ($2) ON CONFLICT ("id") DO UPDATE SET "wide" = $1`, 304, fieldcrypt.ErrTooLong},
		{`UPDATE "public"."vault" SET "wide" = $1`, 5, fieldcrypt.ErrManyRows},
	} {
		err := drv.Exec(t.Context(), test.query, []any{fieldcrypt.New(strings.Repeat("x", test.bytes)), 7}, nil)
		var detail *fieldcrypt.Error
		if !errors.Is(err, test.want) || !errors.As(err, &detail) || detail.Table != "vault" || detail.Column != "wide" {
			t.Errorf("%s: got %v, want %v of vault.wide", test.query, err, test.want)
		}
	}
}

// TestStatementsWithLists has secrets in arguments that hold more than one, or hide it. Drivers would send the redaction
// marker, or fail with an error of their own.
func TestStatementsWithLists(t *testing.T) {
	t.Parallel()
	secret := fieldcrypt.New("secret")
	pointer := &secret
	type record struct{ fieldcrypt.Secret }
	for _, arg := range []any{
		[]fieldcrypt.Secret{secret},
		[]*fieldcrypt.Secret{pointer},
		[1]fieldcrypt.Secret{secret},
		[][]fieldcrypt.Secret{{secret}},
		map[string]fieldcrypt.Secret{"k": secret},
		[]any{7, secret},
		&pointer,
		record{secret},
		&record{secret},
		[]sql.Null[fieldcrypt.Secret]{{V: secret, Valid: true}},
		sql.Named("n", []fieldcrypt.Secret{secret}),
	} {
		rec := new(recorder)
		drv := fieldcrypt.NewDriver(rec, fieldcrypt.DriverConfig{Keyring: ring(t, keyA)})
		for _, query := range []string{
			`SELECT * FROM "vault" WHERE "wide" = ANY($1)`,
			`UPDATE "vault" SET "wide" = $1 WHERE "id" = 1`,
			`INSERT INTO "vault" ("wide") VALUES ($1)`,
		} {
			var detail *fieldcrypt.Error
			if err := drv.Exec(t.Context(), query, []any{arg}, nil); !errors.Is(err, fieldcrypt.ErrPredicate) || !errors.As(err, &detail) {
				t.Errorf("%T in %s: got %v, want ErrPredicate", arg, query, err)
			}
		}
		if len(rec.calls) > 0 {
			t.Errorf("%T reached the database", arg)
		}
	}
}

// TestStatementsWithMarkers has the text that secrets print as, which is what becomes of one that was printed or marshalled
// on the way to a statement, as ent's sqljson does.
func TestStatementsWithMarkers(t *testing.T) {
	t.Parallel()
	drv := fieldcrypt.NewDriver(new(recorder), fieldcrypt.DriverConfig{Keyring: ring(t, keyA)})
	for _, arg := range []any{fieldcrypt.Redacted, `"[REDACTED]"`, []byte(fieldcrypt.Redacted), sql.Named("n", fieldcrypt.Redacted)} {
		for query, want := range map[string]error{
			`SELECT * FROM "vault" WHERE "wide" = $1`:             fieldcrypt.ErrRedacted,
			"DELETE FROM `vault` WHERE `wide` <> ?":               fieldcrypt.ErrRedacted,
			`UPDATE "vault" SET "wide" = $1 WHERE "id" = 1`:       fieldcrypt.ErrRedacted,
			`UPDATE "others" SET "name" = $1 WHERE "id" = 1`:      nil,
			`SELECT * FROM "others" WHERE "name" = $1`:            nil,
			`INSERT INTO "others" ("name", "x") VALUES ($1, 'x')`: nil,
		} {
			if err := drv.Exec(t.Context(), query, []any{arg}, nil); !errors.Is(err, want) {
				t.Errorf("%T in %s: got %v, want %v", arg, query, err, want)
			}
		}
	}
	// Other texts that are like it are none.
	for _, arg := range []any{"REDACTED", "[REDACTED] by hand", "", nil, 7, []byte(nil)} {
		if err := drv.Exec(t.Context(), `SELECT * FROM "vault" WHERE "name" = $1`, []any{arg}, nil); err != nil {
			t.Errorf("%v: %v", arg, err)
		}
	}
}

// TestStatementOfManyRows is about time: a bulk insert of ent's has tens of thousands of placeholders.
func TestStatementOfManyRows(t *testing.T) {
	t.Parallel()
	const rows, columns = 2000, 9
	b := entsql.Dialect("postgres").Insert("vault").Columns("a", "b", "c", "d", "e", "f", "g", "wide", "narrow")
	for range rows {
		b.Values(1, 2, 3, 4, 5, 6, 7, fieldcrypt.New("wide"), fieldcrypt.New("narrow"))
	}
	query, args := b.Query()
	rec := new(recorder)
	if err := fieldcrypt.NewDriver(rec, fieldcrypt.DriverConfig{Keyring: ring(t, keyA)}).Exec(t.Context(), query, args, nil); err != nil {
		t.Fatal(err)
	}
	if len(rec.args) != rows*columns {
		t.Fatalf("%d arguments", len(rec.args))
	}
	for i, arg := range rec.args {
		if _, ok := arg.(string); ok != (i%columns >= 7) {
			t.Fatalf("argument %d is a %T", i, arg)
		}
	}
}

// TestStatementsOnADatabase makes up conditions, and lets SQLite count the rows that those which are taken change.
func TestStatementsOnADatabase(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	for _, query := range []string{
		"CREATE TABLE vault (id INTEGER PRIMARY KEY, wide TEXT, a INTEGER)",
		"INSERT INTO vault VALUES (1, '', 0), (2, '', 1), (3, '', NULL)",
	} {
		if _, err := db.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	parts := []string{
		"id = ?2", `"id" = ?2`, "id IN (?2)", "id IN (?2, 1)", "id <> ?2", "a = 1", "a IS NULL", "true", "id", "'OR id = ?2'",
		"CASE WHEN a AND id = ?2 AND a THEN a ELSE 1 END", "1 BETWEEN 0 AND id = ?2", "id = (SELECT id FROM vault WHERE id = ?2)",
		"EXISTS (SELECT 1 FROM vault WHERE id = ?2)", "coalesce(id = ?2, true)", "a /* OR */ IS NOT 5", "id -- OR\n= ?2",
	}
	joints := []string{" AND ", " AND ", "\nand\n", " OR ", " IS ", " = ", " IS NOT DISTINCT FROM ", " < ", " || "}
	var condition func(depth int) string
	condition = func(depth int) string {
		switch n := random.IntN(10); {
		case depth == 0 || n < 3:
			return parts[random.IntN(len(parts))]
		case n < 5:
			return "(" + condition(depth-1) + ")"
		case n < 6:
			return "NOT " + condition(depth-1)
		default:
			return condition(depth-1) + joints[random.IntN(len(joints))] + condition(depth-1)
		}
	}
	taken := 0
	for i := range 20000 {
		query := "UPDATE vault SET wide = ?1 WHERE " + condition(4)
		if (statement{query: query, args: "s."}).refused(t) {
			continue
		}
		taken++
		result, err := db.ExecContext(t.Context(), query, i, 2)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		if n, err := result.RowsAffected(); err != nil || n > 1 {
			t.Errorf("%s: changed %d rows, %v", query, n, err)
		}
	}
	if taken < 1000 {
		t.Errorf("only %d conditions were taken", taken)
	}
}

// FuzzStatement looks for statements that the reader hangs or breaks on.
func FuzzStatement(f *testing.F) {
	for _, query := range []string{
		insert, selectAll, `UPDATE "vault" SET "wide" = $1, "a" = ? WHERE "id" = $2 AND (a OR b) -- c`, "UPDATE vault SET wide=:secret",
		"INSERT INTO vault VALUES (?1), ($x$), (E'\\'')/*", "WITH x AS (UPDATE vault SET wide = $1 WHERE id IN ($2))", "((((]", "$9999999999999999999",
	} {
		f.Add(query, "spn.0")
	}
	f.Fuzz(func(t *testing.T, query, kinds string) {
		_ = statement{query, kinds}.refused(t)
	})
}
