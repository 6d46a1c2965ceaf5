// Package auditrow defines a row of the audit trail: its canonical encoding,
// hash and MAC, and the text that links it to other rows.
//
// The rows form a hash chain as in secure logs (Schneier and Kelsey, "Secure
// Audit Logs to Support Computer Forensics", 1999), without evolving keys:
// anyone with the keyring can forge an entry. Hashes are SHA-256, and MACs are
// HMAC-SHA-256 (RFC 2104) under subkeys derived with HKDF (RFC 5869).
package auditrow

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Digest is a hash or a MAC, 32 bytes.
type Digest = [sha256.Size]byte

// Row is a row of credent_audit. A chained row has a number, counted from 1,
// and the previous row's hash. A row written in the transaction of its change
// has neither.
type Row struct {
	ID     uuid.UUID
	At     int64 // microseconds since 1970, UTC
	Writer uuid.UUID
	Seq    int64
	Prev   Digest
	Rows   int64
	Texts
	MAC   Digest
	Place int64 // not signed
	// Malformed describes what no trail would have written, such as an invalid
	// time; "" if the row is well formed.
	Malformed string
}

// Texts holds a row's text fields. Signer is the ID of the key that signs the
// row, and KeyID is the ID of the key that the row is about.
type Texts struct {
	Action, Actor, Tenant, Table, Column, Row, KeyID, Outcome, Request, Note, Signer string
}

func (t *Texts) all() [11]string {
	return [...]string{
		t.Action, t.Actor, t.Tenant, t.Table, t.Column, t.Row, t.KeyID, t.Outcome, t.Request, t.Note, t.Signer,
	}
}

// label is a prefix for domain separation.
const label = "credent audit v1\x00"

// Hash returns the SHA-256 of the row's canonical encoding: the label, ID (16
// bytes), time (8), writer (16), number (8), previous hash (32), number of rows
// (8), and each text in the order of [Texts], preceded by its length (4).
// Numbers are big-endian.
func (r *Row) Hash() Digest {
	buf := make([]byte, 0, 512+len(r.Row))
	buf = append(buf, label...)
	buf = append(buf, r.ID[:]...)
	buf = binary.BigEndian.AppendUint64(buf, uint64(r.At))
	buf = append(buf, r.Writer[:]...)
	buf = binary.BigEndian.AppendUint64(buf, uint64(r.Seq))
	buf = append(buf, r.Prev[:]...)
	buf = binary.BigEndian.AppendUint64(buf, uint64(r.Rows))
	for _, text := range r.all() {
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(text)))
		buf = append(buf, text...)
	}
	return sha256.Sum256(buf)
}

// Time returns the time of the event.
func (r *Row) Time() time.Time { return time.UnixMicro(r.At).UTC() }

// Several reports whether the row stands for several reveals. The lines of its
// Row field are then the revealed rows' primary keys.
func (r *Row) Several() bool {
	return r.Action == "reveal" && r.Rows > 1 && strings.Count(r.Row, "\n") == int(r.Rows-1)
}

// Clean returns the text in a form that the database accepts, at most size
// bytes long.
func Clean(text string, size int) string {
	if len(text) <= size && utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 {
		return text
	}
	const more = "…"
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	if len(text) <= size {
		return text
	}
	end := size - len(more)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + more
}
