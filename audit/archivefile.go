package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
)

// archiveFile compares an archive with the trail's entries about its months.
func (v *verifier) archiveFile(number int, from io.Reader) error {
	var (
		reader  = bufio.NewReader(from)
		sum     = sha256.New()
		entries int64
	)
	bad := func(format string, args ...any) {
		v.report.found(BadArchive, uuid.Nil, 0, uuid.Nil, "archive file %d: %s", number, fmt.Sprintf(format, args...))
	}
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("audit: read archive file %d: %w", number, err)
		}
		if !bytes.HasPrefix(line, []byte(`{"archive":`)) {
			_, _ = sum.Write(line)
			entries++
			continue
		}
		var end closing
		if err := json.Unmarshal(line, &end); err != nil {
			bad("the line after %d entries is malformed", entries)
			continue
		}
		got := ArchivedMonth{end.Archive.From, end.Archive.To, entries, hex.EncodeToString(sum.Sum(nil))}
		sum.Reset()
		entries = 0
		if !v.knows(got) {
			bad("%s is not what was archived, or the trail doesn't know it", got.From.Format("2006-01"))
		}
	}
	if entries > 0 {
		bad("%d entries at its end are not of an archived month", entries)
	}
	return nil
}

// knows marks months equal to the given one as seen.
func (v *verifier) knows(got ArchivedMonth) (some bool) {
	for _, m := range v.months {
		if m.by.counts() && m.Entries == got.Entries && m.SHA256 == got.SHA256 && m.From.Equal(got.From) &&
			m.To.Equal(got.To) {
			m.seen, some = true, true
		}
	}
	return some
}

// missingArchives lists the archived months and those without a file.
func (v *verifier) missingArchives(given bool) {
	for _, m := range v.months {
		if !m.by.counts() {
			continue
		}
		v.report.Archived = append(v.report.Archived, m.ArchivedMonth)
		if given && !m.seen {
			v.report.found(BadArchive, uuid.Nil, 0, uuid.Nil, "no archive file has %s, with %d entries",
				m.From.Format("2006-01"), m.Entries)
		}
	}
}
