package auditrow

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Chain numbers one writer's rows and links each to the row before it. It isn't
// safe for concurrent use.
type Chain struct {
	Writer uuid.UUID
	Seq    int64
	Hash   Digest // the last row's hash
}

// NewChain returns the chain of a new writer.
func NewChain() *Chain { return &Chain{Writer: uuid.New()} }

// Append completes a row: it sets a missing ID or time, the row's number and
// the previous row's hash, and signs it.
func (c *Chain) Append(k *Keys, r *Row) {
	Complete(r)
	c.Seq++
	r.Writer, r.Seq, r.Prev = c.Writer, c.Seq, c.Hash
	c.Hash = k.Sign(r)
}

// Complete fills in a missing ID, time, outcome and number of rows. A negative
// number of rows means none.
func Complete(r *Row) {
	if r.ID == uuid.Nil {
		r.ID = uuid.Must(uuid.NewV7()) // the system's randomness never fails
	}
	if at := r.Time(); at.Year() < 2000 || at.Year() > 9999 { // the database refuses such years
		r.At = time.Now().UnixMicro()
	}
	if r.Outcome == "" {
		r.Outcome = "ok"
	}
	if r.Rows == 0 {
		r.Rows = 1
	}
	r.Rows = max(r.Rows, 0)
}

// Lines packs the lines of one action into rows, several lines to a row.
func Lines[L fmt.Stringer](texts Texts, lines []L) (rows []Row) {
	var b strings.Builder
	n := int64(0)
	flush := func() {
		r := Row{Texts: texts, Rows: n}
		r.Row = b.String()
		rows = append(rows, r)
		b.Reset()
		n = 0
	}
	for _, l := range lines {
		line := l.String()
		if n > 0 && b.Len()+len(line) >= MaxLines {
			flush()
		}
		if n++; n > 1 {
			b.WriteByte('\n')
		}
		b.WriteString(line)
	}
	if n > 0 || len(rows) == 0 {
		flush()
	}
	return rows
}
