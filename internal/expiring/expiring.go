// Package expiring tells of credentials that a client reads shortly before they
// expire, or later.
package expiring

import (
	"context"
	"slices"
	"sync"
	"time"

	"entgo.io/ent"
	"github.com/google/uuid"

	credent "github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
)

const (
	// DefaultWithin is how long before its expiry a credential is reported,
	// unless a client is configured otherwise.
	DefaultWithin = 30 * 24 * time.Hour

	// Period is how long a credential isn't reported again.
	Period = time.Hour

	// maxTold bounds what is remembered for a period: two such maps, about 5 MB
	// together. If more credentials expire, some are reported more often.
	maxTold = 1 << 15
)

// Event is a credential that was read shortly before it expires, or later.
type Event struct {
	Row            uuid.UUID
	UserID         string        // "" if the query doesn't select it
	CredentialType string        // likewise
	ExpiresAt      time.Time     // UTC
	Left           time.Duration // until it expires; 0 or less if it has
}

// Watcher looks at what the queries of a client return. It is safe for
// concurrent use.
type Watcher struct {
	within time.Duration
	tell   func(context.Context, Event)
	now    func() time.Time

	mu            sync.Mutex
	told, earlier map[uuid.UUID]mark // of this period, and of the one before
	began         time.Time          // of this period
}

// mark says when a credential was reported, and as what.
type mark struct {
	at      time.Time
	expired bool
}

// New returns a watcher with a function that it calls in the goroutine of the
// query, and the clock: time.Now, except in tests.
func New(within time.Duration, tell func(context.Context, Event), now func() time.Time) *Watcher {
	if within == 0 {
		within = DefaultWithin
	}
	return &Watcher{within: within, tell: tell, now: now, told: make(map[uuid.UUID]mark)}
}

// Intercept is an interceptor of queries for credentials. It looks at entities
// that have a secret: what else a query returns can't be used at a provider.
func (w *Watcher) Intercept(next ent.Querier) ent.Querier {
	return ent.QuerierFunc(func(ctx context.Context, q ent.Query) (ent.Value, error) {
		value, err := next.Query(ctx, q)
		if rows, ok := value.([]*credent.UserCredential); ok && err == nil && len(rows) > 0 {
			w.look(ctx, rows)
		}
		return value, err
	})
}

// look tells of the rows that expire. A row that doesn't costs a comparison.
func (w *Watcher) look(ctx context.Context, rows []*credent.UserCredential) {
	now := w.now()
	limit := now.Add(w.within)
	for _, row := range rows {
		if row.ExpiresAt == nil || row.ExpiresAt.After(limit) || row.APIKey.IsZero() && row.SecretKey.IsZero() ||
			isDisabled(ctx, row) {
			continue
		}
		left := row.ExpiresAt.Sub(now)
		if w.claim(row.ID, left <= 0, now) {
			w.tell(ctx, Event{
				Row: row.ID, UserID: row.UserID, CredentialType: row.CredentialType,
				ExpiresAt: row.ExpiresAt.UTC(), Left: left,
			})
		}
	}
}

// isDisabled reports whether a row is known to be disabled: its query may not
// have selected that. The context of a query for the credentials of accounts
// has the outer query's fields, and then a row with a time is a whole one.
func isDisabled(ctx context.Context, row *credent.UserCredential) bool {
	if row.IsActive {
		return false
	}
	if query := ent.QueryFromContext(ctx); query != nil && query.Type == credent.TypeUserCredential {
		return len(query.Fields) == 0 || slices.Contains(query.Fields, usercredential.FieldIsActive)
	}
	return !row.CreatedAt.IsZero()
}

// claim reports whether to report a credential: once in a period, and again
// when it has expired.
func (w *Watcher) claim(id uuid.UUID, expired bool, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.began) >= Period || len(w.told) >= maxTold {
		w.told, w.earlier, w.began = make(map[uuid.UUID]mark), w.told, now
	}
	last, ok := w.told[id]
	if !ok {
		last, ok = w.earlier[id]
	}
	if ok && last.expired == expired && now.Sub(last.at) < Period {
		return false
	}
	w.told[id] = mark{now, expired}
	return true
}
