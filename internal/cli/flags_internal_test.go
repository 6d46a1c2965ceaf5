package cli

import (
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"30d": 30 * day, "12h": 12 * time.Hour, "1d12h": 36 * time.Hour, "0d": 0, "0": 0, "90m": 90 * time.Minute,
		"36500d": maxDays * day, "1.5h": 90 * time.Minute,
	} {
		var s span
		if err := s.Set(text); err != nil || s.of != want || !s.given || s.String() != text {
			t.Errorf("%q: got %+v, %v, want %s", text, s, err, want)
		}
	}
	for _, text := range []string{
		"", "d", "30", "-1d", "-1h", "1d-2h", "1d+2h", "+1d", "1.5d", "36501d", "99999999999999999999d",
		"1h30d", "30 d", "30days", "2w", "876001h", "tomorrow",
	} {
		s := span{text: "before"}
		if err := s.Set(text); err == nil || s.text != "before" {
			t.Errorf("%q: got %+v, %v", text, s, err)
		}
	}
}

func TestLeft(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Hour: "expired", 0: "expired", time.Second: "<1m", 61 * time.Second: "1m", 119 * time.Minute: "119m",
		2 * time.Hour: "2h", 47 * time.Hour: "47h", 2 * day: "2d", 30*day - time.Second: "29d",
	} {
		if got := left(d); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
}
