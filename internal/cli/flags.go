package cli

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// span is a flag value that takes durations with days, such as 30d, 12h or
// 1d12h.
type span struct {
	of    time.Duration
	text  string
	given bool
}

const (
	day     = 24 * time.Hour
	maxDays = 36500
)

var errSpan = errors.New("not a duration")

// Set implements pflag.Value.
func (s *span) Set(text string) error {
	days, rest, ok := strings.Cut(text, "d")
	if !ok {
		days, rest = "0", text
	}
	n, err := strconv.ParseUint(days, 10, 32)
	if err != nil || n > maxDays || ok && strings.ContainsAny(rest, "+-") {
		return errSpan
	}
	var within time.Duration
	if rest != "" || !ok {
		if within, err = time.ParseDuration(rest); err != nil || within < 0 || within > maxDays*day {
			return errSpan
		}
	}
	*s = span{of: time.Duration(n)*day + within, text: text, given: true}
	return nil
}

// String implements pflag.Value.
func (s *span) String() string { return s.text }

// Type implements pflag.Value.
func (*span) Type() string { return "span" }

func (*span) wants() string { return "a duration such as 30d or 12h" }

// moment is a flag value that takes a time, a date, or a duration before now.
type moment struct {
	at   time.Time // zero if the flag isn't set
	text string
}

// Set implements pflag.Value.
func (m *moment) Set(text string) error {
	var ago span
	if err := ago.Set(text); err == nil {
		*m = moment{time.Now().Add(-ago.of), text}
		return nil
	}
	at, ok := parseTime(text)
	if !ok {
		return errors.New("not a time")
	}
	*m = moment{at, text}
	return nil
}

// String implements pflag.Value.
func (m *moment) String() string { return m.text }

// Type implements pflag.Value.
func (*moment) Type() string { return "moment" }

func (*moment) wants() string {
	return "a time such as 2027-01-31T16:00:00Z, a date such as 2027-01-31, or how long ago, such as 30d or 12h"
}

// word is a flag value that takes one of several words.
type word[T ~string] struct {
	of    []T
	value T
}

// Set implements pflag.Value.
func (w *word[T]) Set(text string) error {
	if !slices.Contains(w.of, T(text)) {
		return errors.New("not one of them")
	}
	w.value = T(text)
	return nil
}

// String implements pflag.Value.
func (w *word[T]) String() string { return string(w.value) }

// Type implements pflag.Value.
func (*word[T]) Type() string { return "word" }

func (w *word[T]) wants() string { return "one of " + words(w.of) }

// words lists words.
func words[T ~string](list []T) string {
	texts := make([]string, len(list))
	for i, one := range list {
		texts[i] = string(one)
	}
	return strings.Join(texts, ", ")
}

// left formats the remaining validity for people.
func left(d time.Duration) string {
	switch {
	case d <= 0:
		return "expired"
	case d >= 2*day:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	case d >= 2*time.Hour:
		return strconv.FormatInt(int64(d/time.Hour), 10) + "h"
	case d >= time.Minute:
		return strconv.FormatInt(int64(d/time.Minute), 10) + "m"
	}
	return "<1m"
}
