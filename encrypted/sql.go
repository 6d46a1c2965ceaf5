package encrypted

import (
	"context"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql/sqlgraph"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/entcrypt/record"
	"github.com/credent-go/credent/internal/entcrypt/result"
	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/principal"
	"github.com/credent-go/credent/internal/recorder"
	"github.com/credent-go/credent/keyring"
)

// At returns the argument that stands for a secret, a [Secret] or a [Value],
// in SQL that the caller writes: in a client's ExecContext and QueryContext,
// in the Modify of an update, and in the Set of an upsert.
//
//	client.ExecContext(ctx, "UPDATE notes SET body = $1 WHERE id = $2",
//		encrypted.At(secret, note.BodyColumn, nil), id)
//
// The driver refuses a bare secret there, since SQL doesn't say where it is
// stored. tenant is the row's tenant, for a column with keys that depend on it;
// it may be nil in the Modify of an update of one row, which tells. If the
// column has a blind index, the statement must set it too, to [DigestOf]. An
// absent secret is NULL.
//
// A statement that stores a secret in more rows than it has secrets is undone,
// with [ErrManyRows]. Rows that a data-modifying WITH stores aren't counted.
func At(secret any, c Column, tenant any) any { return stamp.At(secret, c, tenant) }

// DigestOf returns the argument that stands for a secret's digest, in SQL that
// the caller writes and that sets the column itself to [At] the same secret
// and tenant. To find rows use [Lookup] or the generated predicate.
func DigestOf(secret any, c Column, tenant any) any { return stamp.DigestOf(secret, c, tenant) }

// OpenerOf returns what opens secrets with a keyring, for secrets scanned from
// rows of database/sql, which don't know the client's:
//
//	secret.OpenedBy(encrypted.OpenerOf(ring, note.BodyColumn, tenant))
//
// tenant was the row's tenant; nil if the column's keys don't depend on it.
// With a tenant it opens tokens whether they are bound or not, unless the
// schema binds the column. It doesn't open what is under a tenant's own key. A
// nil keyring opens nothing, with [ErrNoKey].
//
// It doesn't know the driver's OnReveal and Trail either: give it [ObservedBy]
// and [RecordedBy]. A keyring that is a driver's with a Trail opens nothing
// without RecordedBy: Reveal is then an [ErrNotRecorded].
func OpenerOf(ring *keyring.Keyring, c Column, tenant any, opts ...OpenerOption) Opener {
	text, known := stamp.TenantText(tenant)
	if ring == nil {
		ring = new(keyring.Keyring) // without keys, and not the environment's
	}
	o := seal.NewOpenerAt((*engine.Ring)(ring), c, text, known)
	for _, opt := range opts {
		if opt != nil {
			o = opt(o)
		}
	}
	return o
}

// OpenerOption changes what [OpenerOf] returns.
type OpenerOption func(*seal.Opener) *seal.Opener

// ObservedBy makes an opener call onReveal at each Reveal, as a driver with
// OnReveal does, for a query of the context.
func ObservedBy(ctx context.Context, onReveal func(Reveal)) OpenerOption {
	return func(o *seal.Opener) *seal.Opener { return o.ObservedBy(result.ReaderOf(ctx), onReveal) }
}

// RecordedBy makes each Reveal an entry of the trail, as a driver with Trail
// does, for a query of the context. A nil trail changes nothing.
func RecordedBy(ctx context.Context, trail *audit.Trail) OpenerOption {
	return func(o *seal.Opener) *seal.Opener {
		if trail == nil {
			return o
		}
		return o.RecordedBy(result.ReaderOf(ctx), recorder.New(trail))
	}
}

// WithActor returns a context in which reads are told as the actor's, in
// [Reveal]; the same as credent.WithActor.
func WithActor(ctx context.Context, actor string) context.Context {
	return principal.WithActor(ctx, actor)
}

// BoundKeyring returns the keyring of the bound tokens of a column and a
// tenant, for programs that open or make tokens by themselves: each key is
// derived from one of ring's, as docs/binding.md says, and has its ID. Errors:
// [ErrNoKey].
func BoundKeyring(ring *keyring.Keyring, c Column, tenant string) (*keyring.Keyring, error) {
	bound, err := new(seal.Locator).Bind((*engine.Ring)(ring), c, tenant)
	return (*keyring.Keyring)(bound), err
}

// Register makes columns known to drivers, checks and re-encryption. Generated
// code calls it.
func Register(b Binding) Column { return column.Register(b) }

// CompleteCreate is for generated code.
func CompleteCreate(drv dialect.Driver, client string, spec *sqlgraph.CreateSpec) {
	stamp.Create(drv, client, spec)
}

// CompleteBatch is for generated code.
func CompleteBatch(client string, spec *sqlgraph.BatchCreateSpec) { stamp.Batch(client, spec) }

// CompleteUpdate is for generated code. It returns the context of the update's
// statements, and reports whether no row is to be updated.
func CompleteUpdate(
	ctx context.Context, client string, drv dialect.Driver, spec *sqlgraph.UpdateSpec, one bool,
) (of context.Context, none bool, err error) {
	none, err = stamp.Update(ctx, client, drv, spec, one)
	return record.Updating(ctx, client, spec, one), none, err
}

// CompleteDelete is for generated code. It returns the context of the
// statement that removes the rows.
func CompleteDelete(ctx context.Context, client string, spec *sqlgraph.DeleteSpec) context.Context {
	return record.Deleting(ctx, client, spec)
}

// Refuse is for generated code. It returns an argument that makes the driver
// refuse the statement with err.
func Refuse(err error) any { return &column.Refusal{Err: err} }

// PlainAnnotation marks a field that is named like a secret and is none.
type PlainAnnotation struct {
	Reason string // why it need not be encrypted
}

// PlainName is the name of [PlainAnnotation] among a field's annotations.
const PlainName = "CredentPlain"

// Name implements ent's schema.Annotation.
func (PlainAnnotation) Name() string { return PlainName }

// Plain annotates a field that is named like a secret (…_key, …secret…,
// …token…, …password…) and need not be encrypted, for the given reason. The
// code generation refuses such a field without it.
func Plain(reason string) PlainAnnotation { return PlainAnnotation{Reason: reason} }

// Redacted is what a secret prints as, in every format.
const Redacted = fieldcrypt.Redacted
