package audit

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"

	"github.com/credent-go/credent/internal/auditrow"
	"github.com/credent-go/credent/internal/auditstore"
)

// monthSums identifies the entries that a verification saw in each month, by
// their number and the XOR of their HMACs under a secret key: other entries
// have another sum, whatever the order of reading.
type monthSums struct {
	key    []byte
	months map[auditstore.Month]*monthSum
}

type monthSum struct {
	entries int64
	sum     auditrow.Digest
}

func newMonthSums() *monthSums {
	s := &monthSums{key: make([]byte, sha256.Size), months: make(map[auditstore.Month]*monthSum)}
	_, _ = rand.Read(s.key) // never fails
	return s
}

// add includes an entry. It does nothing if s is nil.
func (s *monthSums) add(r *auditrow.Row) {
	if s == nil {
		return
	}
	month := auditstore.MonthOf(r.Time())
	if s.months[month] == nil {
		s.months[month] = new(monthSum)
	}
	s.months[month].add(s.key, r)
}

func (m *monthSum) add(key []byte, r *auditrow.Row) {
	hash := r.Hash()
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write(hash[:])
	_, _ = mac.Write(r.MAC[:])
	m.entries++
	subtle.XORBytes(m.sum[:], m.sum[:], mac.Sum(nil))
}

// of returns a month's sum.
func (s *monthSums) of(m auditstore.Month) monthSum {
	if sum := s.months[m]; sum != nil {
		return *sum
	}
	return monthSum{}
}
