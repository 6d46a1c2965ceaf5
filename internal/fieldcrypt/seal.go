package fieldcrypt

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// sealed is a statement as it is to be run: with blind indexes kept in step, secrets encrypted and times in UTC.
type sealed struct {
	query  string
	args   []any
	claims []claim // to be run after it, in the same transaction
}

// seal is that of the codec, with the keys of tenants from the connection's database.
func (c conn) seal(ctx context.Context, query string, args []any) (sealed, error) {
	return c.codec.seal(ctx, query, args, c.lookUp(), c.sealKeys)
}

// seal returns a statement as it is to be run. The given slice is not changed. look finds whose a row is; nil if that cannot be
// done here. keys gives the keys of tenants.
func (c *codec) seal(ctx context.Context, query string, args []any, look lookUp, keys keySource) (sealed, error) {
	args = untyped(args)
	s, err := c.statements.check(query, args, c.schema)
	if err != nil {
		return sealed{}, err
	}
	secrets := s != nil
	if s == nil && c.storesIndexed(query) {
		s = c.statements.read(query, args, c.schema)
	}
	var owners []owner
	if c.scopes {
		if args, owners, err = c.owners(ctx, query, args, look); err != nil {
			return sealed{}, err
		}
		if err := c.giveKeys(ctx, owners, keys); err != nil {
			return sealed{}, err
		}
	}
	result := sealed{query: query}
	if result.args, err = c.sealAll(query, args, s, owners); err != nil || s == nil || s.plan == nil {
		return result, err
	}
	switch {
	case s.plan.err == nil:
		result.query = s.plan.query
		result.args, result.claims, err = s.plan.apply(c, s.table, args, result.args)
		if err == nil && len(result.claims) > 0 && s.qualified {
			err = &Error{Op: "index", Table: s.table, Err: fmt.Errorf("%w: name the table without its schema", ErrIndex)}
		}
		return result, err
	case secrets:
		return sealed{}, &Error{Op: "index", Table: s.table, Err: s.plan.err}
	}
	return result, nil // SQL of the caller's that is not understood and has no secret
}

// sealAll returns the arguments sealed, of a statement that was read if it has secrets. owners say whose rows they are stored in,
// or are nil. There is room for those that the statement's plan adds.
func (c *codec) sealAll(query string, args []any, s *statement, owners []owner) ([]any, error) {
	sealed := slices.Clip(args)
	room := 0
	if s != nil && s.plan != nil && s.plan.ordered {
		room = len(s.plan.args)
	}
	for i, arg := range args {
		var of owner
		if owners != nil {
			of = owners[i]
		}
		value, changed, err := c.sealOne(arg, target{s, i}, of)
		if err != nil {
			return nil, err
		}
		if !changed {
			if isMarker(arg) && c.names(query) {
				return nil, &Error{Op: "encrypt", Err: ErrRedacted}
			}
			continue
		}
		if &sealed[0] == &args[0] {
			sealed = append(make([]any, 0, len(args)+room), args...)
		}
		sealed[i] = value
	}
	return sealed, nil
}

// target is where a statement stores an argument; s is nil if that is not known. Most arguments are no secrets, and have no use for
// the column.
type target struct {
	s *statement
	i int
}

func (t target) column(c *codec) ColumnInfo {
	if t.s == nil {
		return ColumnInfo{}
	}
	return c.column(t.s.table, t.s.places[t.i].column)
}

func (c *codec) sealOne(arg any, to target, of owner) (value any, changed bool, err error) {
	switch arg := arg.(type) {
	case *pending:
		token, err := c.sealPending(arg, to.column(c), of)
		return token, true, err
	case *lookup:
		ring, err := c.keyring()
		if err != nil {
			return nil, false, arg.column.wrap("look up", err)
		}
		digests, err := arg.encode(ring)
		return digests, true, err
	case Secret:
		token, err := c.sealRaw(arg, to.column(c), of)
		return token, true, err
	case *Secret:
		if arg == nil {
			return nil, true, nil
		}
		token, err := c.sealRaw(*arg, to.column(c), of)
		return token, true, err
	case sql.Null[Secret]:
		if !arg.Valid {
			return nil, true, nil
		}
		token, err := c.sealRaw(arg.V, to.column(c), of)
		return token, true, err
	case uuid.UUID:
		return UUIDArg{arg}, true, nil
	case *uuid.UUID: // what ent makes of an ID
		if arg == nil {
			return nil, true, nil
		}
		return UUIDArg{*arg}, true, nil
	case time.Time:
		if arg.Location() == time.UTC {
			return nil, false, nil
		}
		return arg.UTC(), true, nil
	case *time.Time:
		if arg == nil {
			return nil, true, nil
		}
		return arg.UTC(), true, nil
	case sql.NullTime:
		arg.Time = arg.Time.UTC()
		return arg, true, nil
	case sql.Null[time.Time]:
		arg.V = arg.V.UTC()
		return arg, true, nil
	case sql.NamedArg:
		arg.Value, changed, err = c.sealOne(arg.Value, to, of)
		return arg, changed, err
	}
	return nil, false, nil
}

// sealRaw encrypts a secret that comes without its column, as from an upsert's or a modifier's setter. Where the statement
// stores it is known as far as its text says so.
func (c *codec) sealRaw(s Secret, to ColumnInfo, of owner) (any, error) {
	if s.IsZero() {
		return nil, nil
	}
	token, err := func() (string, error) {
		if _, err := c.keyring(); err != nil {
			return "", err
		}
		plaintext, err := s.Reveal()
		if err != nil {
			return "", err
		}
		size := to.Size
		if size == 0 {
			size = TokenLen(len(plaintext)) // no table of ours: no limit is known
		}
		if err := checkPlaintext(plaintext, size, to.Type == bytesType || s.inner().binary); err != nil {
			return "", err
		}
		if !c.scopes {
			return c.encrypt(nil, plaintext, of)
		}
		column := to // a copy, or every statement's would be on the heap
		return c.encrypt(&column, plaintext, of)
	}()
	if err != nil {
		return nil, to.wrap("encrypt", err)
	}
	return token, nil
}
