// Package auditrow is one row of the audit trail: its canonical encoding, its
// hash, its MAC, and the texts that tie rows to others.
//
// The chain is the hash chain of secure logs (Schneier and Kelsey, "Secure
// Audit Logs to Support Computer Forensics", 1999) without their evolving keys:
// anyone who has the keyring can make any entry. Hashes are SHA-256 and MACs
// HMAC-SHA-256 (RFC 2104), under subkeys by HKDF (RFC 5869).
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

// Row is a row of credent_audit. A row of a chain has a number from 1 and the
// hash of the row before. A row that was written in its change's transaction
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
	// Malformed says what a stored row has that no trail writes, such as a time
	// that is none; "" for nothing.
	Malformed string
}

// Texts are a row's texts. Signer is the ID of the key that signs the row, and
// KeyID is of the key that the row is about.
type Texts struct {
	Action, Actor, Tenant, Table, Column, Row, KeyID, Outcome, Request, Note, Signer string
}

func (t *Texts) all() [11]string {
	return [...]string{
		t.Action, t.Actor, t.Tenant, t.Table, t.Column, t.Row, t.KeyID, t.Outcome, t.Request, t.Note, t.Signer,
	}
}

// label begins what is hashed, so that nothing else has the same hash.
const label = "credent audit v1\x00"

// Hash returns the SHA-256 of the row's canonical encoding: the label, ID (16
// bytes), time (8), writer (16), number (8), the hash before (32), the number
// of rows (8), and each text in the order of [Texts] after its length (4).
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

// Time returns when it happened.
func (r *Row) Time() time.Time { return time.UnixMicro(r.At).UTC() }

// Several reports whether the row stands for several reveals, with one primary
// key per line of its Row.
func (r *Row) Several() bool {
	return r.Action == "reveal" && r.Rows > 1 && strings.Count(r.Row, "\n") == int(r.Rows-1)
}

// Clean returns a text as the database takes it, of at most size bytes.
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
