package audit

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/auditrow"
	"github.com/credent-go/credent/internal/auditstore"
)

// linksAtOnce limits the links held in memory to about 30 MB. If there are
// more, the entries are read several times.
const linksAtOnce = 250_000

// linkSize is the minimum size of a link as text.
const linkSize = 36 + 64

// tie is a link held in memory.
type tie struct {
	hash auditrow.Digest
	at   int64
	seen bool
}

// links compares the entries of transactions with the chains' links.
func (v *verifier) links(
	ctx context.Context, tx *sql.Tx, d string, read func(string, func(*auditrow.Row) error) error,
) error {
	var n, linked int64
	if err := auditstore.One(ctx, tx, d, "SELECT count(*) FROM credent_audit WHERE seq IS NULL", &n); err != nil {
		return err
	}
	// Counts by the length of the lines, because anybody may write any
	// row_count.
	if err := auditstore.One(ctx, tx, d,
		"SELECT CAST(coalesce(sum(length(row_id)), 0) AS bigint) FROM credent_audit WHERE action = 'link'",
		&linked); err != nil {
		return err
	}
	linked /= linkSize
	v.report.Entries += n
	parts := int(max(n, linked)/linksAtOnce) + 1
	for part := range parts {
		// The last bytes of a UUIDv7 are random.
		mine := func(id uuid.UUID) bool { return (int(id[14])<<8|int(id[15]))%parts == part }
		ties := make(map[uuid.UUID]*tie)
		err := read("WHERE action = 'link' AND seq IS NOT NULL", func(r *auditrow.Row) error {
			if r.Malformed != "" || v.bad[r.ID] || v.isPending(r) {
				return nil
			}
			links, err := auditrow.Links(r.Row)
			if err != nil {
				return fmt.Errorf("audit: entry %d of %s: %w", r.Seq, r.Writer, err)
			}
			for _, l := range links {
				if mine(l.ID) && ties[l.ID] == nil {
					ties[l.ID] = &tie{hash: l.Hash, at: l.At}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := read("WHERE seq IS NULL", func(r *auditrow.Row) error {
			if !mine(r.ID) {
				return nil
			}
			v.sums.add(r)
			if r.Malformed != "" {
				v.malformed(r)
			} else {
				v.single(r, ties[r.ID])
			}
			return nil
		}); err != nil {
			return err
		}
		for id, t := range ties {
			if !t.seen && !v.inArchive(t.at) {
				v.report.found(Removed, uuid.Nil, 0, id, "entry %s of a transaction is missing", id)
			}
		}
	}
	return nil
}

// isPending reports whether nothing vouches for a chain's entry yet.
func (v *verifier) isPending(r *auditrow.Row) bool {
	for _, p := range v.pending {
		if p.count > 0 && p.writer == r.Writer && r.Seq >= p.from && r.Seq <= p.to {
			return true
		}
	}
	return false
}

// single checks an entry of a transaction.
func (v *verifier) single(r *auditrow.Row, t *tie) {
	hash, answer := v.keys.Check(r)
	switch {
	case t != nil && (hash != t.hash || answer == auditrow.Forged):
		v.bad[r.ID] = true
		v.report.found(Changed, r.Writer, 0, r.ID, "entry %s of a transaction is not what was signed", r.ID)
	case t != nil:
		v.report.Verified++
	case answer == auditrow.Valid:
		v.report.Verified++
		v.report.Unlinked++
		if len(v.unlinked) < linksAtOnce {
			v.unlinked = append(v.unlinked, auditrow.Link{ID: r.ID, At: r.At, Hash: hash})
		}
	case answer == auditrow.Unknown:
		v.cannotLook("entry %s of a transaction is under key %s, which is not in the keyring, and no chain has it",
			r.ID,
			r.Signer)
	default:
		v.bad[r.ID] = true
		v.report.found(Inserted, r.Writer, 0, r.ID, "entry %s was not made with a key of the keyring", r.ID)
	}
	if t != nil {
		t.seen = true
	}
}

// originals searches all entries for the originals of forged copies.
func (v *verifier) originals(ctx context.Context, tx *sql.Tx, d string) error {
	const few = 100
	looked := 0
	for i := range v.report.Findings {
		f := &v.report.Findings[i]
		if f.ID == uuid.Nil || f.Kind != Inserted && f.Kind != Changed {
			continue
		}
		if looked++; looked > few {
			return nil
		}
		var original uuid.UUID
		err := auditstore.Select(ctx, tx, d, `WHERE id <> $1 AND mac IN (SELECT mac FROM credent_audit WHERE id = $2)`,
			[]any{f.ID.String(), f.ID.String()}, func(r *auditrow.Row) error {
				if _, answer := v.keys.Check(r); answer == auditrow.Valid {
					original = r.ID
				}
				return nil
			})
		if err != nil {
			return err
		}
		if original != uuid.Nil {
			f.Kind = Copied
			f.Text = fmt.Sprintf("entry %s is a copy of %s", f.ID, original)
		}
	}
	return nil
}

// inArchive reports whether a time is in an archived month.
func (v *verifier) inArchive(at int64) bool {
	for _, m := range v.months {
		if m.by.counts() && at >= m.From.UnixMicro() && at < m.To.UnixMicro() {
			return true
		}
	}
	return false
}
