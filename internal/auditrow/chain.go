package auditrow

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Chain makes rows of one writer, each tied to the one before. It isn't safe
// for concurrent use.
type Chain struct {
	Writer uuid.UUID
	Seq    int64
	Hash   Digest // of the last row
}

// NewChain returns the chain of a new writer.
func NewChain() *Chain { return &Chain{Writer: uuid.New()} }

// Append completes a row: an ID and a time if it has none, its number, the hash
// before, and the MAC.
func (c *Chain) Append(k *Keys, r *Row) {
	Complete(r)
	c.Seq++
	r.Writer, r.Seq, r.Prev = c.Writer, c.Seq, c.Hash
	c.Hash = k.Sign(r)
}

// Complete gives a row an ID, a time, an outcome and a number of rows if it has
// none. A negative number of rows stands for none.
func Complete(r *Row) {
	if r.ID == uuid.Nil {
		r.ID = uuid.Must(uuid.NewV7()) // the system's randomness never fails
	}
	if at := r.Time(); at.Year() < 2000 || at.Year() > 9999 { // which the database refuses
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

// Lines returns rows of an action for lines, several in each row.
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
