package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"
)

// measure is one way to do one thing. Run does it n times over, or handles n rows, and fails if the result is wrong.
type measure struct {
	group string // what is done: "encrypt 24 B"
	name  string // who does it: "fernet-go"
	n     int
	times int // how often a round has its group; 0 means once
	run   func(n int) error
	after func() error // puts things back, not timed; may be nil
}

// key tells measures apart.
type key struct{ group, name string }

// series has the time of one operation in each round, in nanoseconds.
type series map[key][]float64

// rounds runs all measures in each round, in another order each time, so that what a machine does besides, and what one
// measure leaves to the next, falls on all alike. Those of one group, which are compared, follow each other. A group that a
// round has several times counts as so many rounds.
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
		//nolint:gosec // G404: an order is no secret
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

// round runs each measure of a group once.
func round(group []measure, s series) error {
	//nolint:gosec // G404: an order is no secret
	rand.Shuffle(len(group), func(i, j int) { group[i], group[j] = group[j], group[i] })
	for _, m := range group {
		perOp, err := m.time()
		if err != nil {
			return fmt.Errorf("%s, %s: %w", m.group, m.name, err)
		}
		k := key{m.group, m.name}
		s[k] = append(s[k], perOp)
	}
	return nil
}

// time returns the nanoseconds of one operation. It begins without garbage of the measure before.
func (m measure) time() (float64, error) {
	runtime.GC()
	start := time.Now()
	if err := m.run(m.n); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if m.after != nil {
		if err := m.after(); err != nil {
			return 0, err
		}
	}
	return float64(took.Nanoseconds()) / float64(m.n), nil
}

// warm runs each measure once, with a few operations, so that connections, caches and prepared statements are there.
func warm(measures []measure) error {
	for _, m := range measures {
		m.n = min(m.n, 500)
		if _, err := m.time(); err != nil {
			return fmt.Errorf("%s, %s: %w", m.group, m.name, err)
		}
	}
	return nil
}

// ratio is how many times as fast one is as another, in pairs of one round each: the median and the quartiles.
type ratio struct{ median, low, high float64 }

// faster returns how many times as fast as b a is.
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

// quantile returns the value that this part of all are below, and between two of them what lies between in proportion.
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
