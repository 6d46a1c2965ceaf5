package audit

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/auditrow"
	"github.com/credent-go/credent/internal/auditstore"
	"github.com/credent-go/credent/internal/nilarg"
	"github.com/credent-go/credent/keyring"
)

// Checkpoint is the signed head of a chain at a moment. Kept where nobody who
// can change the database can change it, it shows that entries were removed
// from the chain's end, or the whole chain, or that an old backup was restored.
// As JSON it is one line.
type Checkpoint struct {
	Writer uuid.UUID `json:"writer"`
	Seq    int64     `json:"seq"`  // the number of the last entry, from 1
	Hash   string    `json:"hash"` // the chain's hash there: SHA-256, hexadecimal
	At     time.Time `json:"at"`   // when it was signed, in microseconds
	KeyID  string    `json:"key"`  // of the keyring's key
	MAC    string    `json:"mac"`  // HMAC-SHA-256 under a subkey, hexadecimal
}

// hash returns the SHA-256 of a label, writer (16 bytes), number (8), hash
// (32), time in microseconds (8), and the key's ID. Numbers are big-endian.
func (c *Checkpoint) hash(head auditrow.Digest) auditrow.Digest {
	buf := []byte("credent audit checkpoint v1\x00")
	buf = append(buf, c.Writer[:]...)
	buf = binary.BigEndian.AppendUint64(buf, uint64(c.Seq))
	buf = append(buf, head[:]...)
	buf = binary.BigEndian.AppendUint64(buf, uint64(c.At.UnixMicro()))
	return sha256.Sum256(append(buf, c.KeyID...))
}

func newCheckpoint(keys *auditrow.Keys, head auditrow.Range) Checkpoint {
	c := Checkpoint{
		Writer: head.Writer, Seq: head.To, Hash: hex.EncodeToString(head.Hash[:]),
		At: time.Now().UTC().Truncate(time.Microsecond), KeyID: keys.Primary,
	}
	mac := keys.SignCheckpoint(c.hash(head.Hash))
	c.MAC = hex.EncodeToString(mac[:])
	return c
}

// check returns the head, and what the MAC says.
func (c *Checkpoint) check(keys *auditrow.Keys) (head auditrow.Range, answer auditrow.Answer, err error) {
	head = auditrow.Range{Writer: c.Writer, To: c.Seq}
	if head.Hash, err = auditrow.ParseDigest(c.Hash); err != nil {
		return head, auditrow.Forged, fmt.Errorf("audit: %w: hash: %w", ErrCheckpoint, err)
	}
	mac, err := auditrow.ParseDigest(c.MAC)
	if err != nil {
		return head, auditrow.Forged, fmt.Errorf("audit: %w: mac: %w", ErrCheckpoint, err)
	}
	return head, keys.CheckCheckpoint(c.KeyID, c.hash(head.Hash), mac), nil
}

// ReadCheckpoints reads checkpoints as JSON, one a line. Errors:
// [ErrCheckpoint], with the line, and the reader's.
func ReadCheckpoints(from io.Reader) ([]Checkpoint, error) {
	if err := nilarg.Check("the reader", from); err != nil {
		return nil, fmt.Errorf("audit: read checkpoints: %w", err)
	}
	var all []Checkpoint
	scanner := bufio.NewScanner(from)
	for n := 1; scanner.Scan(); n++ {
		if len(scanner.Bytes()) == 0 {
			continue
		}
		var c Checkpoint
		if err := json.Unmarshal(scanner.Bytes(), &c); err != nil || c.Seq < 1 || c.Writer == uuid.Nil {
			return nil, fmt.Errorf("audit: line %d: %w: it is no JSON of a checkpoint", n, ErrCheckpoint)
		}
		all = append(all, c)
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("audit: read checkpoints: %w", err)
	}
	return all, nil
}

// Checkpoints verifies the trail and returns the head of each chain that
// verifies, signed with the primary key. Keep them outside the database. What
// doesn't verify is in the report.
//
// Errors: [Verify]'s.
func Checkpoints(
	ctx context.Context, db *sql.DB, entDialect string, ring *keyring.Keyring,
) (heads []Checkpoint, report Report, err error) {
	v, err := verify(ctx, db, entDialect, ring, nil, VerifyOptions{})
	if err != nil {
		return nil, Report{}, err
	}
	for _, h := range v.verifiedHeads() {
		heads = append(heads, newCheckpoint(v.keys, h.Range))
	}
	return heads, v.report, nil
}

// SignHeads verifies the trail, and stores an entry with the head of each chain
// that verifies and isn't signed so already, and with links to entries of
// transactions that no chain has, as a process leaves them that is killed. The
// entry is signed with the primary key, so that it vouches for entries under
// keys that are retired afterwards: a rotation calls it before the old key
// leaves the keyring. It also shows that the newest entries of another chain
// were removed.
//
// It writes nothing if there is nothing new but the chain of the call before.
// Heads is how many it signed. What doesn't verify is in the report, and isn't
// signed. Errors: [Verify]'s.
func SignHeads(
	ctx context.Context, db *sql.DB, entDialect string, ring *keyring.Keyring,
) (heads int, report Report, err error) {
	v, err := verify(ctx, db, entDialect, ring, nil, VerifyOptions{})
	if err != nil {
		return 0, Report{}, err
	}
	var (
		fresh []auditrow.Range
		news  int // heads of others than an earlier call
	)
	for _, h := range v.verifiedHeads() {
		if !v.signed(h) {
			fresh = append(fresh, h.Range)
			if !h.signs {
				news++
			}
		}
	}
	if len(fresh) <= 1 && news == 0 && len(v.unlinked) == 0 {
		return 0, v.report, nil
	}
	w := newClosedChain(v.keys, "audit checkpoint")
	w.append(auditrow.Lines(auditrow.Texts{Action: string(ActionCheckpoint)}, fresh)...)
	if len(v.unlinked) > 0 {
		w.append(auditrow.Lines(auditrow.Texts{Action: string(ActionLink)}, v.unlinked)...)
	}
	for _, rows := range w.end() {
		if err := auditstore.Insert(ctx, db, entDialect, rows); err != nil {
			return 0, v.report, named(err)
		}
	}
	return len(fresh), v.report, nil
}

// closedChain is a whole chain that is written at once.
type closedChain struct {
	keys  *auditrow.Keys
	chain *auditrow.Chain
	rows  []auditrow.Row
}

func newClosedChain(keys *auditrow.Keys, writer string) *closedChain {
	w := &closedChain{keys: keys, chain: auditrow.NewChain()}
	w.append(auditrow.Row{Texts: auditrow.Texts{Action: string(ActionOpen), Actor: writer}})
	return w
}

func (w *closedChain) append(rows ...auditrow.Row) {
	for _, r := range rows {
		w.chain.Append(w.keys, &r)
		w.rows = append(w.rows, r)
	}
}

// end closes the chain, and returns it in batches.
func (w *closedChain) end() (batches [][]auditrow.Row) {
	w.append(auditrow.Row{Texts: auditrow.Texts{Action: string(ActionClose)}})
	return w.batches()
}

// batches returns the rows that were appended since the last call.
func (w *closedChain) batches() (batches [][]auditrow.Row) {
	const rows = 64 // of up to 12 KB each
	for len(w.rows) > 0 {
		n := min(rows, len(w.rows))
		batches = append(batches, w.rows[:n])
		w.rows = w.rows[n:]
	}
	return batches
}
