package statement

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"entgo.io/ent/dialect"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/internal/entcrypt/unique"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/states"
)

var errAbsent = errors.New("the secret is absent")

// Sealer encrypts secrets like a client's driver, but without a statement. It
// is safe for concurrent use, except Prepare.
type Sealer struct {
	Policy *seal.Policy
	Tx     *tenantkey.Tx
	keys   map[string]*tenantkey.Sealing // set by Prepare
}

// Prepare reads the keys of the tenants of the next rows, and makes missing
// keys. tx is the transaction that will store the rows, since its connection is
// busy while they are sent. It replaces the keys of an earlier Prepare.
func (s *Sealer) Prepare(ctx context.Context, tx dialect.ExecQuerier, d string, tenants []string) (err error) {
	if s.Policy.Tenants == nil {
		return nil
	}
	need := tenantkey.Current
	if slices.ContainsFunc(s.Policy.Columns,
		func(c column.Column) bool { return s.Policy.States.Of(&c).TenantKeys >= states.Write }) {
		need = tenantkey.Made
	}
	s.Tx.Reset()
	if s.keys, err = (Conn{Next: tx, Dialect: d, Policy: s.Policy, Tx: s.Tx}).keys(ctx, tenants, need); err != nil {
		return fmt.Errorf("credent: %w", err)
	}
	return nil
}

// Seal encrypts a secret for a column in a tenant's row, and returns its digest
// for the column's blind index, or nil. Errors are the column's Value's and a
// driver's, and [blindindex.ErrBlindIndex] for a unique index while the keyring
// has several keys, which takes more than one statement.
func (s *Sealer) Seal(
	of field.TypeValueScanner[fieldcrypt.Secret], secret fieldcrypt.Secret, tenant string,
) (token string, digest []byte, err error) {
	value, err := of.Value(secret)
	if err != nil {
		return "", nil, err
	}
	arg, ok := value.(*column.Arg)
	if !ok {
		return "", nil, &fieldcrypt.Error{Op: "encrypt", Err: errAbsent}
	}
	owner := seal.Owner{Tenant: tenant, Known: true, Keys: s.keys[tenant]}
	if arg.Column.Index != "" {
		_, first, steps, err := claimOf(s.Policy, arg, owner)
		if err == nil && len(steps) > 1 {
			err = blindindex.ErrBlindIndex
		}
		if err != nil {
			return "", nil, arg.Column.Wrap("index", err)
		}
		digest = first
	}
	plaintext, err := arg.Secret.Reveal()
	if err == nil {
		token, err = s.Policy.Encrypt(arg.Column, plaintext, owner)
	}
	if err != nil {
		return "", nil, arg.Column.Wrap("encrypt", err)
	}
	return token, digest, nil
}

// claimOf returns the digest that a statement stores in a blind index, and the
// digests to store after it; see [blindindex.Digester.Claim].
func claimOf(
	c *seal.Policy, arg *column.Arg, of seal.Owner,
) (w unique.Wanted, first []byte, steps [][]byte, err error) {
	plaintext, err := arg.Secret.Reveal()
	if err != nil {
		return w, nil, nil, err
	}
	return unique.Want(c, arg.Column, plaintext, of)
}

// refusal returns the error for a refused argument.
func refusal(format string, args ...any) error {
	return &fieldcrypt.Error{Op: "encrypt", Err: fmt.Errorf(format, args...)}
}
