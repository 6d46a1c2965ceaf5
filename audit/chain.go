package audit

import (
	"cmp"
	"slices"

	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/auditrow"
)

// chain is the state of a chain while it is read.
type chain struct {
	auditrow.Range          // To and Hash are the last entry's
	sound          bool     // the last entry is, or may be, the one that was signed
	wait           *pending // the latest run of entries under an unknown key
	last           string   // the last action
	lists, other   bool     // it contains heads of chains; it contains other entries, or another key
	bad            []auditrow.Row
}

// maxBad limits the forged entries of a chain that are compared with each
// other.
const maxBad = 64

// entry reads the chains' next entry, in the order of writers and numbers.
func (v *verifier) entry(r *auditrow.Row) error {
	v.report.Entries++
	v.sums.add(r)
	if r.Malformed != "" {
		v.malformed(r)
		return nil
	}
	if v.chain == nil || v.chain.Writer != r.Writer {
		v.finish()
		v.chain = &chain{Range: auditrow.Range{Writer: r.Writer}, sound: true}
		v.report.Writers++
	}
	c := v.chain
	hash, answer := v.keys.Check(r)
	if r.Seq <= c.To {
		v.second(r, hash, answer)
		return nil
	}
	tied := v.bridge(r)
	if tied && c.sound && r.Prev != c.Hash && answer != auditrow.Forged {
		tied = false
		if answer == auditrow.Valid || c.wait == nil {
			v.report.found(Changed, r.Writer, c.To, uuid.Nil,
				"entry %d of %s is another than entry %d was written after", c.To, r.Writer, r.Seq)
		} else {
			v.report.found(Changed, r.Writer, r.Seq, r.ID, "entry %d or %d of %s is not what was signed", c.To, r.Seq,
				r.Writer)
		}
	}
	v.take(r, hash, answer, tied && c.sound)
	return nil
}

// second handles an entry with a number that the chain already has.
func (v *verifier) second(r *auditrow.Row, hash auditrow.Digest, answer auditrow.Answer) {
	c := v.chain
	if answer == auditrow.Valid && !c.sound && r.Seq == c.To {
		v.take(r, hash, answer, false) // the other one is forged
		return
	}
	v.bad[r.ID] = true
	v.report.found(Inserted, r.Writer, r.Seq, r.ID, "there is another entry %d of %s, %s", r.Seq, r.Writer, r.ID)
}

// bridge compares the entry's number with the last one. It reports whether the
// last entry, or an archived one, precedes it directly.
func (v *verifier) bridge(r *auditrow.Row) bool {
	c := v.chain
	for c.To+1 < r.Seq {
		i := slices.IndexFunc(v.archived[r.Writer], func(a *archivedRange) bool {
			return a.From <= c.To+1 && a.To > c.To
		})
		if i < 0 {
			break
		}
		a := v.archived[r.Writer][i]
		if a.To >= r.Seq { // archived entries came back
			return c.To+1 == r.Seq
		}
		if c.sound && a.From == c.To+1 && a.Prev != c.Hash {
			v.report.found(Changed, r.Writer, c.To, uuid.Nil,
				"entry %d of %s is another than the archived entry %d was written after", c.To, r.Writer, a.From)
			v.part()
		}
		c.To, c.Hash, c.sound = a.To, a.Hash, true
		v.pass(c.To, c.Hash)
	}
	if c.To+1 == r.Seq {
		return true
	}
	v.part()
	next := r.Seq
	if next-1 > c.To+1 {
		v.report.found(Removed, r.Writer, c.To+1, uuid.Nil, "entries %d to %d of %s are missing", c.To+1, next-1,
			r.Writer)
	} else {
		v.report.found(Removed, r.Writer, c.To+1, uuid.Nil, "entry %d of %s is missing", c.To+1, r.Writer)
	}
	return false
}

// take makes the entry the chain's last one. tied means that the previous entry
// is the one it was written after.
func (v *verifier) take(r *auditrow.Row, hash auditrow.Digest, answer auditrow.Answer, tied bool) {
	c := v.chain
	by := v.bearers[place{r.Writer, r.Seq}]
	if !tied {
		v.part()
	}
	c.To, c.Hash, c.sound, c.last = r.Seq, hash, answer != auditrow.Forged, r.Action
	switch Action(r.Action) {
	case ActionCheckpoint:
		c.lists = true
	case ActionOpen, ActionLink, ActionClose:
	default:
		c.other = true
	}
	c.other = c.other || answer != auditrow.Valid || r.Signer != v.keys.Primary
	switch answer {
	case auditrow.Forged:
		v.bad[r.ID] = true
		if c.bad = append(c.bad, *r); len(c.bad) == maxBad {
			v.name(c)
		}
		v.part()
		return
	case auditrow.Valid:
		v.report.Verified++
		if by != nil {
			by.verified = true
		}
		if c.wait != nil {
			v.vouch(c.wait)
			c.wait = nil
		}
	case auditrow.Unknown:
		if c.wait == nil {
			c.wait = &pending{writer: r.Writer, from: r.Seq, signer: r.Signer}
		}
		c.wait.to = r.Seq
		c.wait.count++
		if by != nil {
			c.wait.bearers = append(c.wait.bearers, by)
		}
	}
	v.pass(r.Seq, hash)
}

// pass compares the chain's hash at a number with hashes signed elsewhere.
func (v *verifier) pass(seq int64, hash auditrow.Digest) {
	c := v.chain
	for _, signed := range v.claims[c.Writer] {
		if signed.To != seq {
			continue
		}
		signed.met, signed.mismatch = signed.Hash == hash, signed.Hash != hash
		if signed.met && !signed.unknown && c.wait != nil {
			c.wait.claims = append(c.wait.claims, signed)
		}
	}
}

// part ends a run of entries under an unknown key: the next entry doesn't vouch
// for them.
func (v *verifier) part() {
	if c := v.chain; c.wait != nil {
		v.pending = append(v.pending, c.wait)
		c.wait = nil
	}
}

// vouch counts entries as verified.
func (v *verifier) vouch(p *pending) {
	v.report.Verified += p.count
	p.count = 0
	for _, by := range p.bearers {
		by.verified = true
	}
	if p.head != nil {
		p.head.verified = true
	}
}

// finish ends a chain that was read.
func (v *verifier) finish() {
	c := v.chain
	if c == nil {
		return
	}
	v.name(c)
	h := &head{Range: c.Range, verified: c.sound && c.wait == nil, signs: c.lists && !c.other}
	v.heads[c.Writer] = h
	if c.wait != nil {
		c.wait.head = h
	}
	v.part()
	if c.last != string(ActionClose) {
		v.report.Open++
	}
	v.chain = nil
}

// name reports forged entries. A valid entry in another entry's place was
// moved.
func (v *verifier) name(c *chain) {
	for i := range c.bad {
		r := c.bad[i]
		moved := int64(0)
		for j := range c.bad {
			for _, prev := range []auditrow.Digest{r.Prev, c.bad[j].Prev} {
				try := r
				try.Seq, try.Prev = c.bad[j].Seq, prev
				if _, answer := v.keys.Check(&try); answer == auditrow.Valid && try.Seq != r.Seq {
					moved = try.Seq
				}
			}
		}
		if moved != 0 {
			v.report.found(Reordered, r.Writer, r.Seq, r.ID, "entry %d of %s, %s, was written as entry %d", r.Seq,
				r.Writer, r.ID, moved)
		} else {
			v.report.found(Changed, r.Writer, r.Seq, r.ID, "entry %d of %s, %s, is not what was signed", r.Seq,
				r.Writer, r.ID)
		}
	}
	c.bad = nil
}

// resolve lets signed heads vouch for entries under unknown keys, until nothing
// changes.
func (v *verifier) resolve() {
	for again := true; again; {
		again = false
		for _, p := range v.pending {
			if p.count == 0 {
				continue
			}
			for _, c := range p.claims {
				if !c.by.counts() {
					continue
				}
				if c.To == p.to {
					v.vouch(p)
					again = true
					break
				}
				again = v.vouchUpTo(p, c.To) || again
			}
		}
	}
	for _, p := range v.pending {
		if p.count > 0 {
			v.cannotLook("entries %d to %d of %s are under keys such as %s, which is not in the keyring, and nothing "+
				"vouches for them", p.from, p.to, p.writer, p.signer)
		}
	}
}

// vouchUpTo counts a run's first entries as verified.
func (v *verifier) vouchUpTo(p *pending, to int64) (some bool) {
	if to < p.from {
		return false
	}
	n := min(to-p.from+1, p.count-1)
	v.report.Verified += n
	p.count, p.from = p.count-n, to+1
	for _, by := range p.bearers {
		if by.seq <= to && !by.verified {
			by.verified = true
		}
	}
	return true
}

// judge compares signed heads with the chains' ends.
func (v *verifier) judge() {
	for writer, claims := range v.claims {
		slices.SortFunc(claims, func(a, b *claim) int { return cmp.Compare(b.To, a.To) })
		end := int64(0)
		if h := v.heads[writer]; h != nil {
			end = h.To
		}
		removed := false
		for _, c := range claims {
			switch {
			case c.met || !c.by.counts():
			case c.unknown: // relevant only if the trail says something else
				if c.mismatch || !v.isArchived(c) {
					v.cannotLook("the checkpoint of entry %d of %s is under key %s, which is not in the keyring", c.To,
						c.Writer, c.signer)
				}
			case c.mismatch:
				v.report.found(Changed, writer, c.To, uuid.Nil,
					"the chain of %s has another entry %d than %s signed", writer, c.To, c.by.name())
			case c.To <= end || removed || v.isArchived(c):
			default:
				removed = true
				v.report.found(Removed, writer, c.To, uuid.Nil, "the chain of %s ends at entry %d, and %s signed "+
					"entry %d: the newest were removed, or an older backup was restored",
					writer, end, c.by.name(), c.To)
			}
		}
	}
	for _, ranges := range v.archived {
		for _, a := range ranges {
			if !a.by.counts() {
				v.report.found(Removed, a.Writer, a.From, uuid.Nil, "entries %d to %d of %s are said to be archived "+
					"by %s, which does not verify", a.From, a.To, a.Writer, a.by.name())
			}
		}
	}
}

// isArchived reports whether a signed entry was archived.
func (v *verifier) isArchived(c *claim) bool {
	return slices.ContainsFunc(v.archived[c.Writer], func(a *archivedRange) bool {
		return a.by.counts() && a.From <= c.To && (c.To < a.To || c.To == a.To && c.Hash == a.Hash)
	})
}

func sortHeads(heads []*head) {
	slices.SortFunc(heads, func(a, b *head) int { return cmp.Compare(a.Writer.String(), b.Writer.String()) })
}
