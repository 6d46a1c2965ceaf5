package audit

import (
	"context"
	"database/sql"
	"fmt"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/auditrow"
	"github.com/credent-go/credent/internal/auditstore"
	"github.com/credent-go/credent/internal/nilarg"
	"github.com/credent-go/credent/keyring"
)

// Verify reads the whole trail, as it is at one moment, and reports each entry
// that was removed, changed, moved or inserted, as far as that can be seen from
// inside the database and from the checkpoints and archives of opt. Package
// documentation and docs/audit.md say how far that is. It takes memory for each
// writer, and little for an entry.
//
// What is wrong with the trail is in the report, whose Err a program may
// return. The error is about the verification itself: [keyring.ErrNoKey],
// [ErrNoTable], [ErrPartialView], [ErrCheckpoint], and the database's. On
// Postgres the role must be the table's owner, or a member of credent_auditor
// without app.user_id.
func Verify(
	ctx context.Context, db *sql.DB, entDialect string, ring *keyring.Keyring, opt VerifyOptions,
) (Report, error) {
	v, err := verify(ctx, db, entDialect, ring, nil, opt)
	if err != nil {
		return Report{}, err
	}
	return v.report, nil
}

// verifier is one verification.
type verifier struct {
	keys   *auditrow.Keys
	report Report

	claims   map[uuid.UUID][]*claim         // about a writer's chain
	archived map[uuid.UUID][]*archivedRange // by writer, in order
	months   []*archive
	bearers  map[place]*bearer
	heads    map[uuid.UUID]*head
	pending  []*pending
	chain    *chain     // that is being read
	sums     *monthSums // of the entries read; nil if nobody asks
	bad      map[uuid.UUID]bool
	unlinked []auditrow.Link
}

// place is a place in a chain.
type place struct {
	writer uuid.UUID
	seq    int64
}

// bearer is an entry that says something about other chains. It counts once it
// is verified itself.
type bearer struct {
	place
	verified bool
}

// name says who signed.
func (b *bearer) name() string {
	if b == nil {
		return "a checkpoint"
	}
	return fmt.Sprintf("entry %d of %s", b.seq, b.writer)
}

func (b *bearer) counts() bool { return b == nil || b.verified }

// claim is a signed head.
type claim struct {
	auditrow.Range
	by       *bearer // nil for a checkpoint from outside
	signer   string
	unknown  bool // nobody knows whether it is genuine, so that it vouches for nothing
	met      bool // the chain has this hash at this number
	mismatch bool
}

type archivedRange struct {
	auditrow.Range
	by *bearer
}

// archive is a month that was archived.
type archive struct {
	ArchivedMonth
	by   *bearer
	seen bool // its file was given
}

// head is the last entry of a chain.
type head struct {
	auditrow.Range
	verified bool
	signs    bool // the chain is nothing but an earlier list of heads
}

// pending are entries whose key is not in the keyring, until something newer
// vouches for them.
type pending struct {
	writer   uuid.UUID
	from, to int64
	count    int64
	signer   string
	claims   []*claim
	bearers  []*bearer
	head     *head // if it ends there
}

func verify(
	ctx context.Context, db *sql.DB, entDialect string, ring *keyring.Keyring, sums *monthSums, opt VerifyOptions,
) (v *verifier, err error) {
	if err := checkPool(db, entDialect); err != nil {
		return nil, err
	}
	v = &verifier{
		sums:   sums,
		claims: make(map[uuid.UUID][]*claim), archived: make(map[uuid.UUID][]*archivedRange),
		bearers: make(map[place]*bearer), heads: make(map[uuid.UUID]*head), bad: make(map[uuid.UUID]bool),
	}
	if v.keys, err = keysOf(ring); err != nil {
		return nil, err
	}
	for i, archive := range opt.Archives {
		if err := nilarg.Check(fmt.Sprintf("Archives[%d]", i), archive); err != nil {
			return nil, fmt.Errorf("audit: verify: %w", err)
		}
	}
	if err := v.checkpoints(opt.Checkpoints); err != nil {
		return nil, err
	}
	err = auditstore.Snapshot(ctx, db, entDialect, func(tx *sql.Tx) error {
		if err := checkView(ctx, tx, entDialect); err != nil {
			return err
		}
		read := func(rest string, each func(*auditrow.Row) error) error {
			return auditstore.Select(ctx, tx, entDialect, rest, nil, each)
		}
		if err := read("WHERE action IN ('checkpoint', 'archive') AND seq IS NOT NULL ORDER BY writer, seq",
			v.collect); err != nil {
			return err
		}
		if err := read("WHERE seq IS NOT NULL ORDER BY writer, seq, at, id", v.entry); err != nil {
			return err
		}
		v.finish()
		v.resolve()
		if err := v.links(ctx, tx, entDialect, read); err != nil {
			return err
		}
		return v.originals(ctx, tx, entDialect)
	})
	if err != nil {
		return nil, named(err)
	}
	v.judge()
	for i, from := range opt.Archives {
		if err := v.archiveFile(i+1, from); err != nil {
			return nil, err
		}
	}
	v.missingArchives(len(opt.Archives) > 0)
	return v, nil
}

// checkView refuses a role from which row-level security hides entries.
func checkView(ctx context.Context, tx *sql.Tx, d string) error {
	if d != dialect.Postgres {
		return nil
	}
	var all bool
	err := auditstore.One(ctx, tx, d, `SELECT NOT row_security_active('credent_audit') OR
  coalesce(current_setting('app.user_id', true), '') = '' AND
  pg_has_role(current_user, 'credent_auditor', 'USAGE')`, &all)
	if err == nil && !all {
		err = fmt.Errorf("audit: verify: %w from this role: connect as the table's owner, or as a member of "+
			"credent_auditor without app.user_id", ErrPartialView)
	}
	return err
}

// checkpoints takes the checkpoints from outside.
func (v *verifier) checkpoints(given []Checkpoint) error {
	for i := range given {
		c := &given[i]
		head, answer, err := c.check(v.keys)
		if err != nil {
			return err
		}
		switch answer {
		case auditrow.Valid, auditrow.Unknown:
			v.claims[c.Writer] = append(v.claims[c.Writer],
				&claim{Range: head, signer: c.KeyID, unknown: answer == auditrow.Unknown})
		case auditrow.Forged:
			v.report.found(BadCheckpoint, c.Writer, c.Seq, uuid.Nil, "the checkpoint of entry %d of %s is not genuine",
				c.Seq, c.Writer)
		}
	}
	return nil
}

func (v *verifier) cannotLook(format string, args ...any) {
	if len(v.report.CouldNotLook) == maxFindings {
		v.report.MoreCouldNotLook++
		return
	}
	v.report.CouldNotLook = append(v.report.CouldNotLook, fmt.Sprintf(format, args...))
}

// collect takes what entries say about chains. An entry that is forged says
// nothing; the chain's reading reports it.
func (v *verifier) collect(r *auditrow.Row) error {
	if _, answer := v.keys.Check(r); answer == auditrow.Forged {
		return nil
	}
	ranges, err := auditrow.Ranges(r.Row)
	if err != nil {
		return nil //nolint:nilerr // under a key that isn't known, anything may stand there
	}
	at := place{r.Writer, r.Seq}
	by := v.bearers[at]
	if by == nil {
		by = &bearer{place: at}
		v.bearers[at] = by
	}
	for _, of := range ranges {
		if of.From == 0 {
			v.claims[of.Writer] = append(v.claims[of.Writer], &claim{Range: of, by: by, signer: r.Signer})
		} else {
			v.archived[of.Writer] = append(v.archived[of.Writer], &archivedRange{of, by})
		}
	}
	if r.Action == string(ActionArchive) {
		v.month(r.Note, by)
	}
	return nil
}

// malformed reports an entry with what no trail writes.
func (v *verifier) malformed(r *auditrow.Row) {
	v.bad[r.ID] = true
	v.report.found(Inserted, r.Writer, 0, r.ID, "there is an entry that no trail writes: its %s", r.Malformed)
}

// verifiedHeads returns the heads of chains that verify to their end, in the
// order of writers.
func (v *verifier) verifiedHeads() (heads []*head) {
	for _, h := range v.heads {
		if h.verified {
			heads = append(heads, h)
		}
	}
	sortHeads(heads)
	return heads
}

// signed reports whether a verified entry under the primary key has this head.
func (v *verifier) signed(h *head) bool {
	for _, c := range v.claims[h.Writer] {
		if c.met && c.To == h.To && c.by != nil && c.by.verified && c.signer == v.keys.Primary {
			return true
		}
	}
	return false
}
