package ledger

import (
	"context"
	"sync"
)

// Memory is a ledger for the workers of one process. It is safe for concurrent
// use. Call Open before any other method.
type Memory struct {
	mu    sync.Mutex
	state State
	parts []Part
	held  []bool
	done  []bool
}

// Open begins the job, unless it has begun.
func (m *Memory) Open(_ context.Context, plan func() (Plan, error)) (State, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.Pass > 0 {
		return m.now(), true, nil
	}
	p, err := plan()
	if err != nil {
		return State{}, false, err
	}
	m.parts = p.parts()
	m.begin(1, "", p.Began)
	return m.now(), false, nil
}

func (m *Memory) begin(pass int, since, began string) {
	m.state = State{Pass: pass, Since: since, Began: began}
	m.held, m.done = make([]bool, len(m.parts)), make([]bool, len(m.parts))
	for i := range m.parts {
		m.parts[i].Pass, m.parts[i].At, m.parts[i].Counts = pass, "", Counts{}
	}
}

// now returns the state.
func (m *Memory) now() State {
	s := m.state
	for i, p := range m.parts {
		if !m.done[i] {
			s.Left++
			if !m.held[i] {
				s.Free++
			}
		}
		s.Counts.Read += p.Counts.Read
		s.Counts.Found += p.Counts.Found
		s.Counts.Skipped += p.Counts.Skipped
		s.Counts.Quarantined += p.Counts.Quarantined
	}
	return s
}

// State is like [Stored.State].
func (m *Memory) State(context.Context) (State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now(), nil
}

// Claim is like [Stored.Claim].
func (m *Memory) Claim(_ context.Context, _, pass int) (Part, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, p := range m.parts {
		if pass == m.state.Pass && !m.held[i] && !m.done[i] {
			m.held[i] = true
			return p, true, nil
		}
	}
	return Part{}, false, nil
}

// Save is like [Stored.Save].
func (m *Memory) Save(_ context.Context, _ int, p Part, release bool) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.parts[p.Number-1], m.held[p.Number-1] = p, !release
	return true, nil
}

// Finish is like [Stored.Finish].
func (m *Memory) Finish(_ context.Context, _ int, p Part) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.parts[p.Number-1], m.held[p.Number-1], m.done[p.Number-1] = p, false, true
	return true, nil
}

// Next is like [Stored.Next].
func (m *Memory) Next(_ context.Context, from int, since, began string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.Pass == from {
		m.begin(from+1, since, began)
	}
	return nil
}

// NextWhole is like [Stored.NextWhole].
func (m *Memory) NextWhole(_ context.Context, from int, since, began string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.Pass != from {
		return nil
	}
	m.state = State{Pass: from + 1, Since: since, Began: began}
	for i := range m.parts {
		p := &m.parts[i]
		p.Pass, p.Counts = from+1, Counts{Quarantined: p.Counts.Quarantined}
		m.done[i] = i > 0
	}
	return nil
}

// Positions is like [Stored.Positions].
func (m *Memory) Positions(context.Context) (all []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.parts {
		if p.At != "" {
			all = append(all, p.At)
		}
	}
	return all, nil
}

// Leave does nothing: no other process can take the parts.
func (m *Memory) Leave(context.Context) error { return nil }

// Drop is like [Stored.Drop].
func (m *Memory) Drop(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state, m.parts = State{}, nil
	return nil
}
