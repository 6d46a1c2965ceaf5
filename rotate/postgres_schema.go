package rotate

import (
	"context"
	"fmt"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// columnType returns a column's full type, the type's name or, for a domain,
// the base type's name, and its length limit in characters, or 0.
func (p postgres) columnType(ctx context.Context, table, column string) (full, name string, length int, err error) {
	const header = 4 // bytes, which Postgres adds to the length
	var modifier int
	err = p.db.QueryRowContext(ctx, `SELECT format_type(a.atttypid, a.atttypmod), coalesce(b.typname, t.typname),
			CASE WHEN b.oid IS NULL THEN a.atttypmod ELSE t.typtypmod END
		FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
		WHERE a.attrelid = to_regclass($1::text) AND a.attname = $2::text AND NOT a.attisdropped`, table, column).
		Scan(&full, &name, &modifier)
	return full, name, max(0, modifier-header), err
}

// describeTenant fills in the tenant column's details, or returns
// sql.ErrNoRows.
func (p postgres) describeTenant(ctx context.Context, t *table) error {
	return p.db.QueryRowContext(ctx, `SELECT format_type(b.oid, -1), b.typcategory = 'S'
		FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
		WHERE a.attrelid = to_regclass($1::text) AND a.attname = $2::text AND NOT a.attisdropped`, t.quoted(), t.tenant).
		Scan(&t.tenantType, &t.tenantIsText)
}

func (p postgres) checkWidth(ctx context.Context, t table, i int) error {
	if err := checkSource(dialect.Postgres, t, i); err != nil {
		return err
	}
	c := t.columns[i]
	full, name, length, err := p.columnType(ctx, c.Quoted(), t.stored(i))
	if err != nil {
		return err
	}
	mend := fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE varchar(%d);", c.Quoted(), quote(t.stored(i)), c.Size)
	e := &SchemaError{Column: c, SQL: mend}
	switch {
	case name == "text" || name == "citext" || name == "varchar" && (length == 0 || length >= c.Size):
		return nil
	case name == "varchar":
		e.Reason = fmt.Sprintf("it is %s, and tokens need %d characters", full, c.Size)
	default:
		e.Reason = fmt.Sprintf("it is %s, which pads tokens with blanks", full)
	}
	return e
}

func (p postgres) checks(ctx context.Context, c column.Column) ([]tokenCheck, error) {
	found, err := p.pairs(ctx, `SELECT conname, convalidated::text FROM pg_constraint
		WHERE contype = 'c' AND conrelid = to_regclass($1::text) AND (conname = $3::text OR
			pg_get_constraintdef(oid) LIKE '%gAAAA%' AND
			conkey = ARRAY(SELECT attnum FROM pg_attribute WHERE attrelid = conrelid AND attname = $2::text))
		ORDER BY conname`, c.Quoted(), c.Name, constraintName(c))
	if err != nil {
		return nil, err
	}
	var checks []tokenCheck
	for _, pair := range found {
		checks = append(checks, tokenCheck{
			name: pair[0], valid: pair[1] == "true",
			drop: fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s;", c.Quoted(), quote(pair[0])),
		})
	}
	return checks, nil
}

// constraintName returns the name that the code generator gives an encrypted
// column's CHECK.
func constraintName(c column.Column) string { return c.Table + "_" + c.Name + "_encrypted" }
