package auditrow

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// MaxLines is the maximum size in bytes of a Row field with several lines.
const MaxLines = 12 << 10

// Link ties an entry of a committed transaction to a chain. A Row field stores
// it as a line: ID, time, hash.
type Link struct {
	ID   uuid.UUID
	At   int64
	Hash Digest
}

func (l Link) String() string { return fmt.Sprintf("%s %d %x", l.ID, l.At, l.Hash) }

// Range is a run of consecutive rows in a chain. A Row field stores it as a
// line: writer, first number, last number, previous hash, last hash. A chain's
// head has From zero.
type Range struct {
	Writer     uuid.UUID
	From, To   int64
	Prev, Hash Digest
}

func (r Range) String() string {
	if r.From == 0 {
		return fmt.Sprintf("%s %d %x", r.Writer, r.To, r.Hash)
	}
	return fmt.Sprintf("%s %d %d %x %x", r.Writer, r.From, r.To, r.Prev, r.Hash)
}

// Links parses the lines of a Row field.
func Links(row string) (links []Link, err error) {
	for line := range strings.SplitSeq(row, "\n") {
		p := parser{parts: strings.Split(line, " ")}
		l := Link{ID: p.uuid(), At: p.number(), Hash: p.digest()}
		if err := p.end(); err != nil {
			return nil, err
		}
		links = append(links, l)
	}
	return links, nil
}

// Ranges parses the lines of a Row field, which are heads and runs of rows.
func Ranges(row string) (ranges []Range, err error) {
	if row == "" {
		return nil, nil
	}
	for line := range strings.SplitSeq(row, "\n") {
		p := parser{parts: strings.Split(line, " ")}
		r := Range{Writer: p.uuid()}
		if len(p.parts) > 2 {
			r.From = p.number()
		}
		r.To = p.number()
		if r.From > 0 {
			r.Prev = p.digest()
		}
		r.Hash = p.digest()
		if err := p.end(); err != nil {
			return nil, err
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

// parser splits a line into words.
type parser struct {
	parts []string
	err   error
}

func (p *parser) next() (word string) {
	if len(p.parts) > 0 {
		word, p.parts = p.parts[0], p.parts[1:]
	}
	return word
}

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *parser) uuid() uuid.UUID {
	id, err := uuid.Parse(p.next())
	if err != nil {
		p.fail(err)
	}
	return id
}

func (p *parser) number() int64 {
	n, err := strconv.ParseInt(p.next(), 10, 64)
	if err != nil {
		p.fail(err)
	}
	return n
}

// digest parses 64 hexadecimal digits.
func (p *parser) digest() Digest {
	d, err := ParseDigest(p.next())
	if err != nil {
		p.fail(err)
	}
	return d
}

func (p *parser) end() error {
	if p.err == nil && len(p.parts) > 0 {
		p.fail(fmt.Errorf("%d words too many", len(p.parts)))
	}
	return p.err
}

// ParseDigest parses 64 hexadecimal digits.
func ParseDigest(text string) (d Digest, err error) {
	if hex.DecodedLen(len(text)) != len(d) {
		return d, fmt.Errorf("a digest has %d characters, not %d", len(text), hex.EncodedLen(len(d)))
	}
	_, err = hex.Decode(d[:], []byte(text))
	return d, err
}
