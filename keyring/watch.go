package keyring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"time"
)

// DefaultWatchInterval is how often [Watch] loads the keyring, unless
// told otherwise: every 30 seconds.
const DefaultWatchInterval = 30 * time.Second

// watchTimeout bounds one load, so that a source that hangs is reported.
const watchTimeout = 30 * time.Second

// Source loads a keyring, for instance from files or a key management
// service. It must respect the end of its context, and its errors must not hold
// key material.
type Source func(ctx context.Context) (*Keyring, error)

// EnvSource is the [Source] of [FromEnv]. A process's environment
// does not change from outside, so only keys in files can be replaced: those
// that ENCRYPTION_KEY_FILE and ENCRYPTION_KEY_PREVIOUS_FILE name. They may be
// rewritten in place, renamed or exchanged by a link, and both at once or one
// after the other. Where reading them takes longer than the context, as from a
// pipe that nobody writes to, it goes on in the background.
func EnvSource(ctx context.Context) (*Keyring, error) {
	type result struct {
		ring *Keyring
		err  error
	}
	read := make(chan result, 1)
	go func() {
		ring, err := FromEnv()
		read <- result{ring, err}
	}()
	select {
	case r := <-read:
		return r.ring, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// WatchConfig says how [Watch] works. The zero value is ready for use.
type WatchConfig struct {
	// Interval is the time between two loads; zero or less means
	// [DefaultWatchInterval].
	Interval time.Duration
	// Keyring is the keyring to keep fresh, such as [Default]'s. Nil means a
	// new one.
	Keyring *Keyring
	// Observe is called when the keys change, when loads begin to fail or fail
	// for another reason, and when they work again: once each, not at every
	// interval, and from one goroutine at a time. If it is nil, slog's default
	// logger gets a line.
	Observe func(Event)
	// OnLoad is called after each load, the first one too and whether or not it
	// changed anything, from one goroutine at a time, so that loads can be
	// counted and the age of the keys be measured. Nil means that nobody is
	// told.
	OnLoad func(Event)
	// AllowPrimaryRemoval accepts a keyring without the primary key in use.
	// What is stored under that key becomes unreadable. False refuses such a
	// keyring with [ErrPrimaryRemoved].
	AllowPrimaryRemoval bool
}

// Event says what came of loading a keyring again. It holds no key
// material.
type Event struct {
	Before []string // IDs of the keys, the primary one first
	After  []string // the same as Before if Err is not nil
	Err    error    // why the keys in use stay
	// Recovered is true for the first load that works after one that failed.
	// The keys may be the same as before.
	Recovered bool
}

// Watch loads a keyring from a source and returns it, for the Keyring of a
// client's configuration; then it loads again at each interval, until the
// context ends, and replaces the keys of the keyring it returned: clients, and
// the secrets they have read, use the new ones from then on. The error is the
// first load's.
//
// If a later load fails, the keys in use stay, and the next interval tries
// again. [WatchConfig.Observe] hears of it once, and once when loads work
// again. One of the reasons is [ErrPrimaryRemoved]: a new keyring without the
// primary key in use is refused, since secrets were encrypted under it until
// this moment. In the order of docs/rotation.md a primary key becomes an
// earlier one first and is dropped later, which is accepted.
// [WatchConfig.AllowPrimaryRemoval] is for who knows that nothing is stored
// under it.
func Watch(ctx context.Context, source Source, cfg WatchConfig) (*Keyring, error) {
	if source == nil {
		return nil, errors.New("keyring: watch the keyring: the source is nil")
	}
	w := watcher{source: source, cfg: cfg}
	if w.cfg.Interval <= 0 {
		w.cfg.Interval = DefaultWatchInterval
	}
	if w.cfg.Observe == nil {
		w.cfg.Observe = logEvent
	}
	if w.cfg.OnLoad == nil {
		w.cfg.OnLoad = func(Event) {}
	}
	before := keyIDs(w.cfg.Keyring)
	first, err := w.load(ctx)
	if err == nil && w.cfg.Keyring == nil {
		w.cfg.Keyring = first
	} else if err == nil {
		if _, err = w.replace(first); err != nil {
			err = fmt.Errorf("keyring: watch the keyring: %w", err)
		}
	}
	w.cfg.OnLoad(Event{Before: before, After: keyIDs(w.cfg.Keyring), Err: err})
	if err != nil {
		return nil, err
	}
	go w.run(ctx)
	return w.cfg.Keyring, nil
}

// watcher is one call of Watch.
type watcher struct {
	source Source
	cfg    WatchConfig
	failed map[string]bool // reasons observed since loads began to fail
}

func (w *watcher) run(ctx context.Context) {
	ticker := time.NewTicker(w.cfg.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		before := keyIDs(w.cfg.Keyring)
		changed := false
		next, err := w.load(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			changed, err = w.replace(next)
		}
		e := Event{Before: before, After: keyIDs(w.cfg.Keyring), Err: err}
		news := w.isNews(&e)
		w.cfg.OnLoad(e)
		if news || changed {
			w.cfg.Observe(e)
		}
	}
}

// maxReasons bounds how many reasons of one failure are observed, should a
// source give another one each time.
const maxReasons = 10

// changing are the parts of an error's text that differ each time, such as the
// IDs of requests.
var changing = regexp.MustCompile(`[0-9A-Fa-f]{8}[0-9A-Fa-f-]*|[0-9]+`)

// isNews reports whether the loads began to fail, fail for another reason, or
// work again.
func (w *watcher) isNews(e *Event) bool {
	if e.Err == nil {
		e.Recovered = len(w.failed) > 0
		w.failed = nil
		return e.Recovered
	}
	reason := changing.ReplaceAllString(e.Err.Error(), "#")
	if w.failed[reason] || len(w.failed) == maxReasons {
		return false
	}
	if w.failed == nil {
		w.failed = make(map[string]bool)
	}
	w.failed[reason] = true
	return true
}

func (w *watcher) load(ctx context.Context) (*Keyring, error) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	ring, err := w.source(ctx)
	if err != nil {
		return nil, fmt.Errorf("keyring: load the keyring: %w", err)
	}
	if ring.Primary() == nil {
		return nil, fmt.Errorf("keyring: load the keyring: %w: the source gave none", ErrNoKey)
	}
	return ring, nil
}

func (w *watcher) replace(next *Keyring) (changed bool, err error) {
	if w.cfg.AllowPrimaryRemoval {
		return w.cfg.Keyring.ReplaceRemovingPrimary(next)
	}
	return w.cfg.Keyring.Replace(next)
}

func keyIDs(ring *Keyring) []string {
	var ids []string
	for _, key := range ring.Keys() {
		ids = append(ids, key.ID())
	}
	return ids
}

func logEvent(e Event) {
	switch same := slices.Equal(e.Before, e.After); {
	case e.Err != nil:
		slog.Error("the keyring was not replaced, and the keys in use stay; logged once, until it loads again",
			"key_ids", e.Before, "error", e.Err)
	case same:
		slog.Info("the keyring loads again, with the keys in use", "key_ids", e.After)
	case e.Recovered:
		slog.Info("the keyring loads again, and was replaced", "key_ids_before", e.Before, "key_ids", e.After)
	default:
		slog.Info("the keyring was replaced", "key_ids_before", e.Before, "key_ids", e.After)
	}
}
