// Package expiring reports credentials that a client reads shortly before or
// after they expire.
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

	// Period is the minimum time between two reports of a credential.
	Period = time.Hour

	// maxTold bounds the credentials remembered per period: two such maps take
	// about 5 MB together. If more credentials expire, some are reported more
	// often.
	maxTold = 1 << 15
)

// Event is a credential that was read shortly before or after it expired.
type Event struct {
	Row            uuid.UUID
	UserID         string        // "" if the query doesn't select it
	CredentialType string        // likewise
	ExpiresAt      time.Time     // UTC
	Left           time.Duration // until it expires; 0 or less if it has
}

// Watcher inspects the results of a client's queries. It is safe for concurrent
// use.
type Watcher struct {
	within time.Duration
	tell   func(context.Context, Event)
	now    func() time.Time

	mu            sync.Mutex
	told, earlier map[uuid.UUID]mark // this period's and the previous period's
	began         time.Time          // start of this period
}

// mark records when a credential was reported, and whether it had expired.
type mark struct {
	at      time.Time
	expired bool
}

// New returns a watcher. It calls tell in the goroutine of the query. now is
// time.Now, except in tests.
func New(within time.Duration, tell func(context.Context, Event), now func() time.Time) *Watcher {
	if within == 0 {
		within = DefaultWithin
	}
	return &Watcher{within: within, tell: tell, now: now, told: make(map[uuid.UUID]mark)}
}

// Intercept intercepts queries for credentials. It looks only at entities with
// a secret, because other results can't be used with a provider.
func (w *Watcher) Intercept(next ent.Querier) ent.Querier {
	return ent.QuerierFunc(func(ctx context.Context, q ent.Query) (ent.Value, error) {
		value, err := next.Query(ctx, q)
		if rows, ok := value.([]*credent.UserCredential); ok && err == nil && len(rows) > 0 {
			w.look(ctx, rows)
		}
		return value, err
	})
}

// look reports the rows that expire soon. Any other row costs one comparison.
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
// have selected that column. A query that loads accounts' credentials has the
// outer query's fields in its context, and a row with a time is then complete.
func isDisabled(ctx context.Context, row *credent.UserCredential) bool {
	if row.IsActive {
		return false
	}
	if query := ent.QueryFromContext(ctx); query != nil && query.Type == credent.TypeUserCredential {
		return len(query.Fields) == 0 || slices.Contains(query.Fields, usercredential.FieldIsActive)
	}
	return !row.CreatedAt.IsZero()
}

// claim reports whether to report a credential: once per period, and once more
// after it has expired.
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
