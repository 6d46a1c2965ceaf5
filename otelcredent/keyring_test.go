package otelcredent_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/otelcredent"
)

// source is a source of keys controlled by the test.
type source struct {
	mu    sync.Mutex
	texts []string
	err   error
}

func (s *source) load(context.Context) (*keyring.Keyring, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	return keyring.New(s.texts[0], s.texts[1:]...)
}

func (s *source) next(err error, texts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.texts = err, texts
}

// TestKeyringLoads watches a keyring: successful and failed loads are counted,
// each successful load resets the age, and changes of keys are counted.
func TestKeyringLoads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newMetrics(t, otelcredent.Config{})
		e.check("credent.keyring.age", nil)
		e.check("credent.keyring.keys", nil)
		first, second := keyring.GenerateKey(), keyring.GenerateKey()
		source := &source{texts: []string{first}}
		ctx, cancel := context.WithCancel(t.Context())
		_, err := keyring.Watch(ctx, source.load,
			keyring.WatchConfig{Interval: time.Minute, OnLoad: e.KeyringLoaded, Observe: func(keyring.Event) {}})
		if err != nil {
			t.Fatal(err)
		}
		e.check("credent.keyring.loads", map[string]float64{"": 1})
		e.check("credent.keyring.age", map[string]float64{"": 0})
		time.Sleep(90 * time.Second) // one load, half a minute ago
		synctest.Wait()
		e.check("credent.keyring.loads", map[string]float64{"": 2})
		e.check("credent.keyring.age", map[string]float64{"": 30})
		e.check("credent.keyring.changes", map[string]float64{"": 0})

		source.next(errors.New("the source is down"))
		time.Sleep(2 * time.Minute) // the age grows while loads fail
		synctest.Wait()
		e.check("credent.keyring.loads", map[string]float64{"": 2, "error.type=_OTHER": 2})
		e.check("credent.keyring.age", map[string]float64{"": 150})

		source.next(nil, second) // without the primary key
		time.Sleep(time.Minute)
		synctest.Wait()
		e.check("credent.keyring.loads",
			map[string]float64{"": 2, "error.type=_OTHER": 2, "error.type=primary-removed": 1})

		source.next(nil, first, second)
		time.Sleep(time.Minute)
		synctest.Wait()
		e.check("credent.keyring.changes", map[string]float64{"": 1})
		e.check("credent.keyring.keys", map[string]float64{"": 2})
		e.check("credent.keyring.age", map[string]float64{"": 30})
		e.none(first, second)
		cancel()
		synctest.Wait()
	})
}
