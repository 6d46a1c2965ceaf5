package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"
)

// measure is one way to do one thing. Run repeats it n times, or handles n
// rows, and fails if the result is wrong.
type measure struct {
	group string // the operation: "encrypt 24 B"
	name  string // the contender: "fernet-go"
	n     int
	times int // how often a round runs its group; 0 means once
	turns int // in how many parts it runs, alternating with its group; 0 means one
	run   func(n int) error
	after func() error // restores the database, not timed; may be nil
}

// key identifies a measure.
type key struct{ group, name string }

// series has the time of one operation in each round, in nanoseconds.
type series map[key][]float64

// rounds runs all measures in each round, in a new order each time, so that the
// machine's other work, and one measure's effect on the next, spread evenly.
// Measures of one group, which are compared, follow each other. A group that
// runs several times in a round counts as that many rounds.
func rounds(n int, measures []measure, s series) error {
	groups := make(map[string][]measure)
	var order []string
	for _, m := range measures {
		if len(groups[m.group]) == 0 {
			order = append(order, m.group)
		}
		groups[m.group] = append(groups[m.group], m)
	}
	for range n {
		//nolint:gosec // G404: an order isn't secret
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, name := range order {
			for range max(1, groups[name][0].times) {
				if err := round(groups[name], s); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// round runs each measure of a group once, in its number of alternating parts.
// The machine's other work then spreads evenly even if it is short, as when the
// scheduler puts a client and its server on one core.
func round(group []measure, s series) error {
	took := make([]time.Duration, len(group))
	turns := 1
	for _, m := range group {
		turns = max(turns, m.turns)
	}
	for turn := range turns {
		for place, i := range rand.Perm(len(group)) { //nolint:gosec // G404: an order isn't secret
			m := group[i]
			parts := max(1, m.turns)
			if turn >= parts {
				continue
			}
			if turns == 1 || turn == 0 && place == 0 {
				// Otherwise it collects earlier measures' garbage; but for a
				// moment after a collection everything is slower.
				runtime.GC()
			}
			t, err := m.time(m.n*(turn+1)/parts - m.n*turn/parts)
			if err == nil && turn == parts-1 {
				err = m.restore()
			}
			if err != nil {
				return err
			}
			took[i] += t
		}
	}
	for i, m := range group {
		k := key{m.group, m.name}
		s[k] = append(s[k], float64(took[i].Nanoseconds())/float64(m.n))
	}
	return nil
}

// time runs the measure with n operations or rows.
func (m measure) time(n int) (time.Duration, error) {
	start := time.Now()
	err := m.run(n)
	return time.Since(start), m.wrap(err)
}

// restore restores the database.
func (m measure) restore() error {
	if m.after == nil {
		return nil
	}
	return m.wrap(m.after())
}

func (m measure) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s, %s: %w", m.group, m.name, err)
}

// warmUp runs each measure once with the given number of operations, so that
// connections, caches and prepared statements exist.
func warmUp(measures []measure, size func(measure) int) error {
	for _, m := range measures {
		if _, err := m.time(size(m)); err != nil {
			return err
		}
		if err := m.restore(); err != nil {
			return err
		}
	}
	return nil
}

// ratio is how many times as fast one measure is as another, over pairs from
// the same round: the median and the quartiles.
type ratio struct{ median, low, high float64 }

// faster returns how many times as fast b a is.
func (s series) faster(a, b key) ratio {
	pairs := min(len(s[a]), len(s[b]))
	if pairs == 0 {
		return ratio{}
	}
	values := make([]float64, pairs)
	for i := range values {
		values[i] = s[b][i] / s[a][i]
	}
	return spread(values)
}

func spread(values []float64) ratio {
	return ratio{median(values), quantile(values, 0.25), quantile(values, 0.75)}
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile returns the value below which this part of all values lies,
// interpolating between neighbors.
func quantile(values []float64, part float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	place := part * float64(len(sorted)-1)
	below := int(place)
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (place-float64(below))*(sorted[above]-sorted[below])
}

func (r ratio) String() string {
	if r == (ratio{}) {
		return "–"
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", r.median, r.low, r.high)
}
