package plaintype

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// layouts are the formats of times in text: RFC 3339, Postgres' output, and
// what SQLite drivers store. Without a zone, a time is in UTC.
var layouts = []string{
	"2006-01-02T15:04:05Z07:00",
	"2006-01-02T15:04:05Z0700",
	"2006-01-02T15:04:05Z07",
	"2006-01-02T15:04:05",
	"2006-01-02T15:04Z07:00",
	"2006-01-02T15:04",
	"2006-01-02",
}

var (
	// The output of time.Time's String, which modernc.org/sqlite stores.
	printed = regexp.MustCompile(`^(\S+ \S+) ([+-]\d{4}) \S+(?: m=[+-][\d.]+)?$`)
	// Postgres' output for zones with seconds, before 1900.
	oddZone  = regexp.MustCompile(`([+-]\d\d:\d\d):(\d\d)$`)
	fraction = regexp.MustCompile(`\.(\d+)`)
)

// parseTime returns the encoding of a time in text. It doesn't round, and
// refuses infinity, BC and years over 9999, which an encrypted time can't hold.
func parseTime(text string) (string, error) {
	if m := printed.FindStringSubmatch(text); m != nil {
		text = m[1] + m[2]
	}
	if i := strings.IndexByte(text, ' '); i == len("2006-01-02") {
		text = text[:i] + "T" + strings.Replace(text[i+1:], " ", "", 1)
	}
	if bare, ok := strings.CutSuffix(text, "UTC"); ok {
		text = bare + "Z"
	}
	if m := fraction.FindStringSubmatch(text); m != nil && len(m[1]) > 9 && strings.Trim(m[1][9:], "0") != "" {
		return "", fmt.Errorf("%w (time.Time: more digits than nanoseconds)", fieldcrypt.ErrValue)
	}
	var odd time.Duration
	if m := oddZone.FindStringSubmatchIndex(text); m != nil {
		seconds, err := time.ParseDuration(text[m[4]:m[5]] + "s")
		if err != nil {
			return "", timeError()
		}
		if odd = seconds; text[m[2]] == '-' {
			odd = -seconds
		}
		text = text[:m[3]]
	}
	for _, layout := range layouts {
		if t, err := time.Parse(layout, text); err == nil {
			encoded, err := t.Add(-odd).UTC().MarshalText()
			if err != nil {
				break
			}
			return string(encoded), nil
		}
	}
	return "", timeError()
}

func timeError() error { return fmt.Errorf("%w (time.Time)", fieldcrypt.ErrValue) }
