package cli

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/retry"
)

// followEvery is the interval at which --follow polls for new entries.
const followEvery = time.Second

// auditLister is the state of one audit list call.
type auditLister struct {
	listing
	filter   audit.Filter
	since    moment
	until    moment
	action   word[audit.Action]
	outcome  word[audit.Outcome]
	follow   bool
	retryFor retryFlag
	place
}

// place is a position in a list in commit order. A stored row may contain
// several reveals.
type place struct {
	before audit.Position // position before the last row; "" for a list ordered by time
	done   int            // printed entries of the last row

	last audit.Position // the last row in this run
	seen int            // its entries seen so far
}

// String returns the value for --after.
func (p *place) String() string {
	if p.done == 0 {
		return string(p.before)
	}
	return string(p.before) + "+" + strconv.Itoa(p.done)
}

func (p *place) parse(text string) error {
	before, done, more := strings.Cut(text, "+")
	n, err := uint64(0), error(nil)
	if more {
		n, err = strconv.ParseUint(done, 10, 31)
	}
	if err != nil {
		return usageError("--after: use a PLACE that an earlier list printed")
	}
	p.before, p.done = audit.Position(before), int(n)
	return nil
}

// next advances to an entry. It reports whether the entry was already printed.
func (p *place) next(of audit.Position) (printed bool) {
	if p.last != of {
		p.end()
		p.last = of
	}
	p.seen++
	return p.seen <= p.done
}

// end advances past the last row.
func (p *place) end() {
	if p.last != "" {
		p.before, p.done = p.last, 0
	}
	p.last, p.seen = "", 0
}

func (a *app) auditList() *cobra.Command {
	l := &auditLister{
		listing: listing{app: a, head: []string{
			"TIME", "ACTION", "OUTCOME", "ACTOR", "TENANT", "WHERE", "ROW", "KEY", "REQUEST", "NOTE",
		}},
		action:  word[audit.Action]{of: auditActions},
		outcome: word[audit.Outcome]{of: auditOutcomes},
	}
	cmd := a.action(&cobra.Command{
		Use:   "list [flags]",
		Short: "List the entries of the audit trail",
		Long: `List the entries of the audit trail, the earliest first, each as it is stored: "credent audit verify" finds out
whether somebody changed them. An entry is listed if it matches all filters. It needs no key, and little memory however many
there are. Entries about the trail itself are listed if --action names them: ` + words(auditOwnActions) + `.

With --follow it also prints new entries, until it is interrupted. With --json it then prints an object on each line; without
--follow, an array. With --follow, --limit and --after the entries come in the order in which they were committed; on Postgres
one appears once no transaction that began before its own is still open.`,
		Example: `  credent audit list --since 24h
  credent audit list --action reveal --row 3f0c1f8e-52a8-4c2a-9d3b-0d8a4f1d2b6c
  credent audit list --outcome refused --since 2027-01-01 --until 2027-02-01 --json
  credent audit list --since 1m --follow`,
	}, l.run)
	f := cmd.Flags()
	f.Var(&l.since, "since", "only entries from this `time` on: 2027-01-31T16:00:00Z, a date, from 00:00 UTC, or how "+
		"long ago, such as 30d or 12h")
	f.Var(&l.until, "until", "only entries before this `time`")
	f.StringVar(&l.filter.Actor, "actor", "", "only what this `actor` did")
	f.StringVar(&l.filter.Tenant, "tenant", "", "only what was done to secrets of this `tenant`")
	f.Var(&l.action, "action", "only this `action`: "+words(auditActions))
	f.StringVar(&l.filter.Table, "table", "", "only what was done to this `table`")
	f.StringVar(&l.filter.Column, "column", "", "only what was done to this `column`")
	f.StringVar(&l.filter.Row, "row", "", "only what was done to the row with this `ID`")
	f.Var(&l.outcome, "outcome", "only with this `outcome`: "+words(auditOutcomes))
	f.StringVar(&l.filter.Request, "request", "", "only what was done for the request with this `ID`")
	f.BoolVar(&l.follow, "follow", false, "go on with what is written later")
	l.listFlags.add(cmd, "this `PLACE`, which an earlier list said")
	l.retryFor.add(cmd)
	return cmd
}

func (l *auditLister) run(ctx context.Context, _ []string) error {
	if err := errors.Join(l.check(), l.retryFor.check(), l.begin()); err != nil {
		return err
	}
	return withDatabase(ctx, func(db *database) error {
		for {
			more, err := l.print(ctx, db)
			if err != nil {
				return err
			}
			if !l.follow {
				return l.finish(ctx, db, more)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(followEvery):
			}
		}
	})
}

// begin sets the list's start and order: a list that may be continued later is
// in commit order.
func (l *auditLister) begin() error {
	l.filter.From, l.filter.To = l.since.at, l.until.at
	l.filter.Action, l.filter.Outcome = l.action.value, l.outcome.value
	switch {
	case l.follow && l.limit > 0:
		return usageError("--follow never ends, and --limit does: give one of them")
	case l.after != "":
		return l.parse(l.after)
	case l.follow || l.limit > 0:
		l.before = audit.Start
	}
	return nil
}

// errEnough ends a list at its limit.
var errEnough = errors.New("enough")

// print prints the stored entries. more reports whether --limit cut the list
// off.
func (l *auditLister) print(ctx context.Context, db *database) (more bool, err error) {
	err = l.policy(db, l.retryFor).Do(ctx, func() error {
		l.filter.After, l.last, l.seen = l.before, "", 0
		err := audit.List(ctx, db.DB, db.dialect, l.filter, l.entry)
		if lost := l.endPage(); lost != nil {
			return retry.Permanent(lost)
		}
		if l.before == "" && l.printed > 0 { // the position to continue from is unknown
			return retry.Permanent(err)
		}
		return err
	})
	if errors.Is(err, errEnough) {
		return true, nil
	}
	if err == nil && l.before != "" {
		l.place.end()
	}
	return false, err
}

// entry prints an entry, or keeps it until its page ends.
func (l *auditLister) entry(e audit.Stored) error {
	if l.before != "" && l.next(e.Position) {
		return nil
	}
	if l.limit > 0 && l.printed == l.limit {
		return errEnough
	}
	l.done = l.seen
	if l.follow && l.asJSON {
		l.printed++
		enc := json.NewEncoder(&l.text)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(e); err != nil {
			return err
		}
	} else if err := l.add(entryCells(e), e); err != nil {
		return err
	}
	if l.printed%pageSize == 0 {
		return l.endPage()
	}
	return nil
}

// finish ends the list.
func (l *auditLister) finish(ctx context.Context, db *database, more bool) error {
	if more {
		l.notef("credent: there are more; go on with --after %s\n", shellWord(l.String()))
	}
	if err := l.listing.end("no entry fits"); err != nil {
		return err
	}
	if l.before != "" && !more {
		late, err := db.hasLateEntries(ctx)
		if err != nil {
			return err
		}
		if late {
			l.notef("credent: note: the newest entries are not listed, as long as an older transaction is open on " +
				"the server; without --limit and --after they are\n")
		}
	}
	hides, err := db.hidesEntries(ctx)
	if hides {
		l.notef("credent: note: row-level security hides entries from this role: connect as the owner, or as a " +
			"member of credent_auditor without app.user_id\n")
	}
	return err
}

// hasLateEntries reports whether a list in commit order lacks entries, because
// an earlier one may still be committed.
func (db *database) hasLateEntries(ctx context.Context) (late bool, err error) {
	if !db.isPostgres() {
		return false, nil
	}
	err = db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM credent_audit WHERE place >= "+
		"txid_snapshot_xmin(txid_current_snapshot()))").Scan(&late)
	return late, err
}

// hidesEntries reports whether row-level security hides the trail's entries
// from the role.
func (db *database) hidesEntries(ctx context.Context) (hides bool, err error) {
	if !db.isPostgres() {
		return false, nil
	}
	err = db.QueryRowContext(ctx, `SELECT row_security_active('credent_audit') AND NOT (
COALESCE(current_setting('app.user_id', true), '') = '' AND pg_has_role(current_user, 'credent_auditor', 'USAGE'))`).Scan(&hides)
	return hides, err
}

// entryCells returns an entry as a table row. Empty values become dashes, so
// that programs can split the columns.
func entryCells(e audit.Stored) []string {
	where, row := e.Table, e.Row
	if e.Column != "" {
		where += "." + e.Column
	}
	switch {
	case slices.Contains(auditOwnActions, e.Action) && row != "": // only --json prints them
		row = count(int(e.Rows), "line")
	case row == "" && e.Rows > 1:
		row = count(int(e.Rows), "row")
	}
	cells := []string{
		e.At.UTC().Format("2006-01-02T15:04:05.000000Z"), string(e.Action), string(e.Outcome), e.Actor, e.Tenant, where,
		row, e.KeyID, e.Request, e.Note,
	}
	for i, cell := range cells {
		if cells[i] = "-"; cell != "" {
			cells[i] = printable(cell)
		}
	}
	return cells
}
