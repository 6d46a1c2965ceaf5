package main

import (
	"cmp"
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
	run   func(n int) error
	after func() error // puts things back, not timed; may be nil
}

// key tells measures apart.
type key struct{ group, name string }

// series has the time of one operation in each round, in nanoseconds.
type series map[key][]float64

// rounds runs all measures in each round, in another order each time, so that what a machine does besides, and what one
// measure leaves to the next, falls on all alike. Those of one group, which are compared, follow each other.
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
			group := groups[name]
			//nolint:gosec // G404: likewise
			rand.Shuffle(len(group), func(i, j int) { group[i], group[j] = group[j], group[i] })
			for _, m := range group {
				perOp, err := m.time()
				if err != nil {
					return fmt.Errorf("%s, %s: %w", m.group, m.name, err)
				}
				k := key{m.group, m.name}
				s[k] = append(s[k], perOp)
			}
		}
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

// ratio is how many times as fast one is as another, in pairs of one round each.
type ratio struct{ median, min, max float64 }

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
	return ratio{median(values), slices.Min(values), slices.Max(values)}
}

func median(values []float64) float64 {
	sorted := slices.Clone(values)
	slices.SortFunc(sorted, cmp.Compare[float64])
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func (r ratio) String() string {
	if r == (ratio{}) {
		return "–"
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", r.median, r.min, r.max)
}
