package keyring_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credent-go/credent/keyring"
)

// TestWatchTellsEachLoad checks that OnLoad is called for each load, including
// the first, and Observe only for news.
func TestWatchTellsEachLoad(t *testing.T) {
	t.Parallel()
	first, second := keyring.GenerateKey(), keyring.GenerateKey()
	down := errors.New("the source is down")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		source := &scripted{texts: []string{first}}
		var loads []keyring.Event
		news := 0
		if _, err := keyring.Watch(ctx, source.load, keyring.WatchConfig{
			Interval: time.Minute, OnLoad: func(e keyring.Event) { loads = append(loads, e) },
			Observe: func(keyring.Event) { news++ },
		}); err != nil {
			t.Fatal(err)
		}
		one, two := idsOf(t, first), idsOf(t, first, second)
		for i, want := range []struct {
			texts     []string
			err       error
			before    []string
			after     []string
			recovered bool
		}{
			{after: one}, // by Watch itself
			{texts: []string{first}, before: one, after: one},
			{err: down, before: one, after: one},
			{err: down, before: one, after: one},
			{texts: []string{first}, before: one, after: one, recovered: true},
			{texts: []string{first, second}, before: one, after: two},
			{texts: []string{first, second}, before: two, after: two},
		} {
			if i > 0 {
				source.next(want.texts, want.err, false)
				time.Sleep(time.Minute)
				synctest.Wait()
			}
			if len(loads) != i+1 {
				t.Fatalf("%d loads, want %d", len(loads), i+1)
			}
			got := loads[i]
			if !slices.Equal(got.Before, want.before) || !slices.Equal(got.After, want.after) ||
				!errors.Is(got.Err, want.err) || got.Recovered != want.recovered {
				t.Errorf("load %d: got %+v", i, got)
			}
		}
		if news != 3 { // a failure, a recovery, and a change of keys
			t.Errorf("%d news", news)
		}
		cancel()
		synctest.Wait()
	})
}

// TestWatchTellsAFirstLoadThatFails checks that OnLoad gets the reason if there
// is no keyring.
func TestWatchTellsAFirstLoadThatFails(t *testing.T) {
	t.Parallel()
	down := errors.New("the source is down")
	var loads []keyring.Event
	_, err := keyring.Watch(t.Context(), (&scripted{err: down}).load,
		keyring.WatchConfig{OnLoad: func(e keyring.Event) { loads = append(loads, e) }})
	if !errors.Is(err, down) || len(loads) != 1 || !errors.Is(loads[0].Err, down) || loads[0].After != nil {
		t.Errorf("got %v, %+v", err, loads)
	}
}
