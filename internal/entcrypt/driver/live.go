package driver

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/entcrypt/record"
	"github.com/credent-go/credent/internal/entcrypt/shared"
	"github.com/credent-go/credent/internal/entcrypt/statement"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/states"
)

// early is the age of the database's states at which one statement reads them
// again. Others go on with the old ones until [states.Lifetime].
const early = states.Lifetime / 2

// live is a client's policy, which follows the states in the database.
type live struct {
	base    seal.Policy
	tenants *tenantkey.Cache
	given   states.Table // in the client's configuration
	follows bool
	refuse  func(context.Context) error // or nil
	trail   record.Trail                // or nil
	busy    sync.Mutex
	now     atomic.Pointer[dated]
}

// dated is a policy, with the stored states and the time they were read.
type dated struct {
	policy *seal.Policy
	stored []states.Stored
	at     time.Time // zero before the first read
}

// newLive returns a policy that reads forgotten tenants' keys again from pool.
func newLive(pool dialect.ExecQuerier, cfg Config, follows bool) (*live, error) {
	l := &live{
		given: cfg.States, follows: follows, refuse: cfg.Refuse, trail: cfg.Trail,
		base: seal.Policy{
			Ring: cfg.Keyring, OnReveal: cfg.OnReveal, Observer: cfg.Observer, Columns: cfg.Columns,
			VerifyOnRead: cfg.VerifyOnRead, Locator: new(seal.Locator), Digests: new(blindindex.Digester),
		},
	}
	if cfg.Trail != nil {
		l.base.Record = cfg.Trail
		if cfg.Keyring != nil {
			cfg.Keyring.Record()
		}
	}
	if l.base.Columns == nil {
		l.base.Columns = column.All()
	}
	if err := l.given.Check(); err != nil {
		return nil, err
	}
	l.tenants = tenantkey.NewCache(statement.Store{Conn: statement.Conn{Next: pool, Policy: &l.base}})
	l.tenants.Observe = cfg.Observer.TenantKeys
	policy, err := l.with(nil)
	l.now.Store(&dated{policy: policy})
	return l, err
}

// recorder implements policies. If the database requires a trail and the client
// has none, its trail refuses everything.
func (l *live) recorder(p *seal.Policy) record.Trail {
	if l.trail == nil && p.Record != nil {
		return record.Refusing{}
	}
	return l.trail
}

// with returns the policy from the configuration and the database's states. The
// database's states come first.
func (l *live) with(stored states.Table) (*seal.Policy, error) {
	p := l.base
	p.States = slices.Concat(l.given, stored)
	for i := range p.Columns {
		c := &p.Columns[i]
		set := p.States.Of(c)
		if err := set.Check(*c); err != nil {
			return nil, err
		}
		p.Scopes = p.Scopes || p.IsScoped(c)
		p.Requires = p.Requires || max(set.Binding, set.TenantKeys) == states.Require
		if set.TenantKeys >= states.Accept {
			p.Tenants = l.tenants
		}
	}
	for i := range p.States { // including columns that aren't the client's
		if p.States.Of(&p.States[i].Column).TenantKeys >= states.Accept {
			p.Tenants = l.tenants
		}
	}
	return &p, nil
}

// policy returns the policy of a statement. If the states are too old, it reads
// them again over the statement's own connection, so that it never waits for
// another one.
func (l *live) policy(ctx context.Context, on statement.Conn) (*seal.Policy, error) {
	if l.refuse != nil {
		if err := l.refuse(ctx); err != nil {
			return nil, err
		}
	}
	now := l.now.Load()
	if !l.follows {
		return now.policy, nil
	}
	if age := time.Since(now.at); !now.at.IsZero() && age < states.Lifetime {
		if age < early || !l.busy.TryLock() {
			return now.policy, nil
		}
		defer l.busy.Unlock()
		if policy, err := l.read(ctx, on); err == nil {
			return policy, nil
		}
		return now.policy, nil // it is still valid
	}
	return l.read(ctx, on)
}

func (l *live) read(ctx context.Context, on statement.Conn) (policy *seal.Policy, err error) {
	if tx, ok := on.Next.(*shared.Tx); ok {
		err = tx.Alone(func(next dialect.ExecQuerier) error {
			on.Next = next
			policy, err = l.read(ctx, on)
			return err
		})
		return policy, err
	}
	now := l.now.Load()
	if !now.at.IsZero() && time.Since(now.at) < early { // another goroutine has read them
		return now.policy, nil
	}
	fresh := &dated{policy: now.policy, at: time.Now()}
	if fresh.stored, _, err = states.Read(ctx, on.Next, on.Dialect); err != nil {
		return nil, err
	}
	table := states.TableOf(fresh.stored, l.base.Columns)
	if now.at.IsZero() {
		if err := states.Agree(l.given, table); err != nil {
			return nil, err
		}
	}
	if now.at.IsZero() || !slices.Equal(fresh.stored, now.stored) {
		if fresh.policy, err = l.with(table); err != nil {
			return nil, fmt.Errorf("%w; so says the database's %s", err, states.TableName)
		}
		if l.trail == nil && states.RequiresTrail(fresh.stored) {
			fresh.policy.Record = record.Refusing{}
			if l.base.Ring != nil {
				l.base.Ring.Record()
			}
		}
	}
	if on.Tx == nil || !on.Tx.Snapshot { // a snapshot may be older than it seems
		l.now.Store(fresh)
	}
	return fresh.policy, nil
}
