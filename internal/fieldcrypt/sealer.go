package fieldcrypt

import (
	"context"
	"fmt"

	"entgo.io/ent/dialect"
	"entgo.io/ent/schema/field"
)

// Sealer encrypts secrets without a statement, as a driver of [NewDriver] with the same configuration does. It is safe for
// concurrent use.
type Sealer struct{ codec *codec }

// NewSealer panics as [NewDriver] does.
func NewSealer(cfg DriverConfig) Sealer { return Sealer{newCodec(nil, cfg)} }

// Driver wraps a driver as [NewDriver] does. What is [Sealer.Prepare]d is so for both.
func (s Sealer) Driver(drv dialect.Driver) dialect.Driver {
	return &cryptDriver{Driver: drv, conn: conn{next: drv, codec: s.codec, dialect: drv.Dialect()}}
}

// Prepare reads the keys of the tenants whose rows are sealed next, and makes those that are missing, in the transaction in which
// the rows will be stored: while they are sent the connection is not free. It replaces what was prepared before. Where tenants
// have no keys of their own it does nothing.
func (s Sealer) Prepare(ctx context.Context, tx dialect.ExecQuerier, tenants []string) error {
	t := s.codec.tenants
	if t == nil {
		return nil
	}
	ring, err := s.codec.keyring()
	if err != nil {
		return err
	}
	found, err := t.toSeal(ctx, tx, &tenantTx{snapshot: true}, ring, tenants)
	if err != nil {
		return fmt.Errorf("fieldcrypt: %w", err)
	}
	t.prepare(found)
	return nil
}

// Seal encrypts a secret for a column, in a row of the given tenant, and returns what the column's blind index has for it, nil if
// there is none. Errors are those of the column's value function and of a driver; and [ErrIndex] for a unique index while the keyring
// has several keys, for which one statement is not enough.
func (s Sealer) Seal(column field.TypeValueScanner[Secret], secret Secret, tenant string) (token string, digest []byte, err error) {
	value, err := column.Value(secret)
	if err != nil {
		return "", nil, err
	}
	p, ok := value.(*pending)
	if !ok {
		return "", nil, &Error{Op: "encrypt", Err: errAbsent}
	}
	if p.column.Index != "" {
		var steps [][]byte
		digest, steps, err = s.codec.digest(p.column.ColumnInfo, p.secret)
		if err == nil && len(steps) > 1 {
			err = ErrIndex
		}
		if err != nil {
			return "", nil, p.column.wrap("index", err)
		}
	}
	of := owner{tenant: tenant, known: true}
	if t := s.codec.tenants; t != nil {
		of.keys = t.preparedFor(tenant)
	}
	token, err = s.codec.sealPending(p, ColumnInfo{}, of)
	return token, digest, err
}
