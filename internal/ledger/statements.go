package ledger

import (
	"fmt"
	"time"

	"entgo.io/ent/dialect"
)

// CreateTable returns the statements that create the table, for schemas not
// managed by Credent's migrations.
func CreateTable(d string) []string {
	text, number, stamp := "character varying", "bigint", "timestamp"
	switch d {
	case dialect.Postgres:
	case dialect.SQLite:
		text, number, stamp = "varchar", "integer", "datetime"
	default:
		return nil
	}
	return []string{fmt.Sprintf(`CREATE TABLE IF NOT EXISTS "%s" (
  "goal" %[2]s(64) NOT NULL,
  "table_name" %[2]s(255) NOT NULL,
  "part" integer NOT NULL,
  "parts" integer NOT NULL DEFAULT 0,
  "pass" integer NOT NULL,
  "done_pass" integer NOT NULL DEFAULT 0,
  "since" text NOT NULL DEFAULT '',
  "began" text NOT NULL DEFAULT '',
  "bounds" text NOT NULL DEFAULT '',
  "after_key" text NOT NULL DEFAULT '',
  "up_to_key" text NOT NULL DEFAULT '',
  "at_key" text NOT NULL DEFAULT '',
  "rows_read" %[3]s NOT NULL DEFAULT 0,
  "rows_found" %[3]s NOT NULL DEFAULT 0,
  "rows_skipped" %[3]s NOT NULL DEFAULT 0,
  "quarantined" %[3]s NOT NULL DEFAULT 0,
  "owner" %[2]s(64) NOT NULL DEFAULT '',
  "lease_until" %[4]s NULL,
  "updated_at" %[4]s NOT NULL,
  PRIMARY KEY ("goal", "table_name", "part")
)`, Table, text, number, stamp)}
}

// statements holds a database's SQL. Each argument is used once, in textual
// order, because some SQLite drivers number arguments that way. Integers are
// written into the text.
type statements struct {
	usable, bounds, clear, expire, begin, part, state, leave, drop, positions string

	now   string                       // the current time in UTC
	until func(d time.Duration) string // the time after a duration from now
	skip  string                       // appended to a SELECT of rows to update
}

const work = ` WHERE goal = $%d AND table_name = $%d`

func statementsOf(sqlite bool) statements {
	s := statements{
		now: "timezone('utc', clock_timestamp())",
		until: func(d time.Duration) string {
			return fmt.Sprintf("timezone('utc', clock_timestamp()) + interval '%d milliseconds'", d.Milliseconds())
		},
		skip: " FOR UPDATE SKIP LOCKED",
		usable: `SELECT to_regclass('` + Table + `') IS NOT NULL
			AND coalesce(has_table_privilege(to_regclass('` + Table + `'), 'SELECT'), false)
			AND coalesce(has_table_privilege(to_regclass('` + Table + `'), 'INSERT'), false)
			AND coalesce(has_table_privilege(to_regclass('` + Table + `'), 'UPDATE'), false)
			AND coalesce(has_table_privilege(to_regclass('` + Table + `'), 'DELETE'), false)`,
	}
	if sqlite {
		s.now, s.skip = "strftime('%Y-%m-%d %H:%M:%f', 'now')", ""
		s.until = func(d time.Duration) string {
			return fmt.Sprintf("strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '%+.3f seconds')", d.Seconds())
		}
		s.usable = `SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '` + Table + `')`
	}
	s.bounds = `SELECT part, after_key, up_to_key, bounds FROM ` + Table + fmt.Sprintf(work, 1, 2) + ` ORDER BY part`
	s.drop = `DELETE FROM ` + Table + fmt.Sprintf(work, 1, 2)
	s.leave = `UPDATE ` + Table + ` SET lease_until = NULL` + fmt.Sprintf(work, 1, 2) + ` AND part > 0 AND owner LIKE $3`
	s.clear = s.drop + ` AND part > 0`
	s.positions = `SELECT at_key FROM ` + Table + fmt.Sprintf(work, 1, 2) + ` AND part > 0 AND at_key <> ''`
	s.expire = `DELETE FROM ` + Table + ` WHERE goal NOT IN (SELECT goal FROM ` + Table + ` WHERE updated_at > ` +
		s.until(-keptDays*24*time.Hour) + `)`
	s.begin = `INSERT INTO ` + Table + ` (goal, table_name, part, pass, parts, began, bounds, updated_at)
		VALUES ($1, $2, 0, 1, $3, $4, $5, ` + s.now + `) ON CONFLICT DO NOTHING`
	s.part = `INSERT INTO ` + Table + ` (goal, table_name, part, pass, done_pass, after_key, up_to_key, updated_at) VALUES `
	s.state = `SELECT j.pass, j.since, j.began, j.parts, count(p.part),
			CAST(coalesce(sum(CASE WHEN p.done_pass >= j.pass THEN 0 ELSE 1 END), 0) AS bigint),
			CAST(coalesce(sum(CASE WHEN p.done_pass < j.pass AND (p.lease_until IS NULL OR p.lease_until < ` + s.now + `) THEN 1 END), 0) AS bigint),
			CAST(coalesce(sum(CASE WHEN p.pass = j.pass THEN p.rows_read END), 0) AS bigint),
			CAST(coalesce(sum(CASE WHEN p.pass = j.pass THEN p.rows_found END), 0) AS bigint),
			CAST(coalesce(sum(CASE WHEN p.pass = j.pass THEN p.rows_skipped END), 0) AS bigint),
			CAST(coalesce(sum(CASE WHEN p.pass = j.pass THEN p.quarantined END), 0) AS bigint),
			CAST(coalesce(sum(CASE WHEN p.pass = j.pass AND p.owner NOT LIKE $1 THEN p.rows_read END), 0) AS bigint)
		FROM ` + Table + ` AS j LEFT JOIN ` + Table + ` AS p ON p.goal = j.goal AND p.table_name = j.table_name AND p.part > 0
		WHERE j.goal = $2 AND j.table_name = $3 AND j.part = 0
		GROUP BY j.pass, j.since, j.began, j.parts`
	return s
}

// claim takes the first free part. It prefers a part already given to this
// worker, which may have missed the answer.
func (s statements) claim(pass int, lease time.Duration) string {
	keep := func(column, none string) string {
		return fmt.Sprintf("%s = CASE WHEN pass = %d THEN %[1]s ELSE %[3]s END", column, pass, none)
	}
	return fmt.Sprintf(`UPDATE `+Table+` SET owner = $1, lease_until = %s, updated_at = %s, pass = %d, %s, %s, %s, %s, %s
		WHERE goal = $2 AND table_name = $3 AND part = (
			SELECT c.part FROM `+Table+` AS c WHERE c.goal = $4 AND c.table_name = $5 AND c.part > 0 AND c.done_pass < %[3]d
				AND (c.owner = $6 OR c.lease_until IS NULL OR c.lease_until < %[2]s)
			ORDER BY CASE WHEN c.owner = $7 THEN 0 ELSE 1 END, c.part LIMIT 1%[9]s)
		AND EXISTS (SELECT 1 FROM `+Table+` AS j WHERE j.goal = $8 AND j.table_name = $9 AND j.part = 0 AND j.pass = %[3]d)
		RETURNING part, after_key, up_to_key, pass, at_key, rows_read, rows_found, rows_skipped, quarantined`,
		s.until(lease), s.now, pass, keep("at_key", "''"), keep("rows_read", "0"), keep("rows_found", "0"),
		keep("rows_skipped", "0"), keep("quarantined", "0"), s.skip)
}

func (s statements) save(set string) string {
	return `UPDATE ` + Table + ` SET ` + set + `, at_key = $1, rows_read = $2, rows_found = $3, rows_skipped = $4, quarantined = $5, updated_at = ` + s.now + `
		WHERE goal = $6 AND table_name = $7 AND owner = $8 AND part = $9 AND pass = $10`
}

// next checks the parts once more if the next pass relies on them: after a
// fail-over, the server may not know that they are finished.
func (s statements) next(from int, relies string) string {
	query := fmt.Sprintf(`UPDATE `+Table+` SET pass = %d, since = $1, began = $2, updated_at = %s
		WHERE goal = $3 AND table_name = $4 AND part = 0 AND pass = %d`, from+1, s.now, from)
	if relies != "" {
		query += fmt.Sprintf(` AND parts = (SELECT count(*) FROM `+Table+` AS p WHERE p.goal = $5 AND p.table_name = $6
			AND p.part > 0 AND p.done_pass >= %d%s)`, from, relies)
	}
	return query
}

// Conditions on the previous pass that the next one relies on.
const (
	allWritten = " AND p.rows_skipped = 0"
	allRight   = allWritten + " AND p.quarantined = 0"
)

// whole runs after next, in the same transaction.
func (s statements) whole(from int) string {
	return fmt.Sprintf(`UPDATE `+Table+` SET pass = %[1]d, done_pass = CASE WHEN part > 1 THEN %[1]d ELSE done_pass END,
		rows_read = 0, rows_found = 0, rows_skipped = 0, updated_at = %[2]s WHERE goal = $1 AND table_name = $2 AND part > 0`,
		from+1, s.now)
}
