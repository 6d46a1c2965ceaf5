package pending_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/credent-go/credent/internal/entcrypt/pending"
)

// Entries rolled back to a savepoint aren't committed. If it's unclear what was
// rolled back, no entry counts as committed.
func TestEntries(t *testing.T) {
	t.Parallel()
	const add = "" // an entry
	for name, test := range map[string]struct {
		steps []string
		want  []bool // in the order of the entries
	}{
		"committed":   {[]string{add, add}, []bool{true, true}},
		"released":    {[]string{add, "SAVEPOINT a", add, "RELEASE SAVEPOINT a"}, []bool{true, true}},
		"rolled back": {[]string{add, "savepoint a", add, "rollback to a;", add}, []bool{true, false, true}},
		"nested, outer": {
			[]string{"SAVEPOINT a", add, "SAVEPOINT b", add, "ROLLBACK TO SAVEPOINT a"},
			[]bool{false, false},
		},
		"nested, inner": {[]string{"SAVEPOINT a", add, "SAVEPOINT b", add, "ROLLBACK TO b"}, []bool{true, false}},
		"same name":     {[]string{"SAVEPOINT a", add, "SAVEPOINT a", add, "ROLLBACK TO a"}, []bool{true, false}},
		"twice": {
			[]string{"SAVEPOINT a", add, "ROLLBACK TO a", add, "ROLLBACK TO a"},
			[]bool{false, false},
		},
		"unknown":            {[]string{add, "ROLLBACK TO elsewhere", add}, []bool{false, true}},
		"several statements": {[]string{add, "SELECT 1; ROLLBACK TO x", add}, []bool{false, true}},
		"abort":              {[]string{add, "ABORT"}, []bool{false}},
		"other words":        {[]string{add, "UPDATE t SET a = 1"}, []bool{true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p pending.Entries
			got := make([]bool, 0, len(test.want))
			for _, step := range test.steps {
				if step != add {
					p.SQL(step)
					continue
				}
				i := len(got)
				got = append(got, false)
				p.Add(func(committed bool) { got[i] = committed })
			}
			p.End(true)
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// A transaction with a change that has no entry isn't committed, unless the
// change was rolled back.
func TestFailed(t *testing.T) {
	t.Parallel()
	failure := errors.New("full")
	for name, test := range map[string]struct {
		before, after []string
		want          error
	}{
		"fails":                      {nil, nil, failure},
		"is rolled back":             {[]string{"SAVEPOINT a"}, []string{"ROLLBACK TO a"}, nil},
		"before the savepoint":       {nil, []string{"SAVEPOINT a", "ROLLBACK TO a"}, failure},
		"within an inner savepoint":  {[]string{"SAVEPOINT a", "SAVEPOINT b"}, []string{"ROLLBACK TO a"}, nil},
		"is released":                {[]string{"SAVEPOINT a"}, []string{"RELEASE a"}, failure},
		"another one is rolled back": {[]string{"SAVEPOINT a"}, []string{"SAVEPOINT b", "ROLLBACK TO b"}, failure},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p pending.Entries
			for _, query := range test.before {
				p.SQL(query)
			}
			if err := p.Fail(failure); !errors.Is(err, failure) {
				t.Errorf("Fail returned %v", err)
			}
			for _, query := range test.after {
				p.SQL(query)
			}
			if err := p.Failed(); !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}
