package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/retry"
)

// badRow is a refused row.
type badRow struct {
	line   int
	reason string
}

// refusedLine is a line of the --quarantine file.
type refusedLine struct {
	Line   int    `json:"line"`
	Reason string `json:"reason"`
}

// note records a refused row in a dry run or with --quarantine, and reports
// whether the import continues.
func (m *importer) note(e *credent.CopyError) bool {
	var end fatalError
	if errors.As(e.Err, &end) {
		var of rowError
		if !errors.As(e.Err, &of) {
			return false
		}
	}
	bad := badRow{m.lineOf(e.Row), rowReason(e.Err)}
	if end.error != nil {
		m.unread = fmt.Sprintf(", and nothing after line %d was read", bad.line)
	}
	if m.nBad++; len(m.bad) < maxShown {
		m.bad = append(m.bad, bad)
	}
	return m.quarantine.out == nil || m.quarantine.write(refusedLine{bad.line, bad.reason}) == nil
}

// lineOf returns the line of a row passed to Copy, by its number from 1.
func (m *importer) lineOf(row int64) int { return m.lines[(row-1)%int64(len(m.lines))] }

// rowReason says why a row was refused, without quoting its values.
func rowReason(err error) string {
	var invalid *ent.ValidationError
	switch {
	case ent.IsNotFound(err):
		return "there is no account of its user_id"
	case errors.Is(err, credent.ErrTenantMismatch):
		return credent.ErrTenantMismatch.Error()
	case ent.IsConstraintError(err):
		return "the database refuses it: its id is there already, or its account is not there any more"
	case errors.As(err, &invalid):
		if field, ok := textFields[invalid.Name]; ok {
			return fmt.Sprintf("%s must have 1 to %d characters", invalid.Name, field.size)
		}
	}
	return oneLine(trimPackage(err.Error()))
}

// report prints the outcome and returns the error that ended the import.
func (m *importer) report(ctx context.Context, stored int64, err error) error {
	already := ""
	if m.there > 0 {
		already = fmt.Sprintf("; %s in already", count(int(m.there), "row"))
	}
	lost := m.quarantine.close()
	if lost != nil && m.dryRun {
		return lost
	}
	if lost != nil {
		return partly(stored > 0, messagef("%s; %s%s; %s", lost, inNow(stored), already, m.next("go on")))
	}
	var failed *credent.CopyError
	switch {
	case err == nil && m.dryRun:
		// Rows that don't parse are found before other rows of their batch.
		slices.SortFunc(m.bad, func(a, b badRow) int { return cmp.Compare(a.line, b.line) })
		for _, bad := range m.bad {
			m.printf("line %d: %s\n", bad.line, bad.reason)
		}
		if m.nBad > len(m.bad) {
			m.printf("and %d more; --quarantine lists all\n", m.nBad-len(m.bad))
		}
		m.printf("%s can be imported%s\n", count(int(stored), "row"), already)
		if m.nBad > 0 {
			return messagef("%s would be refused%s; nothing was stored", count(m.nBad, "row"), m.unread)
		}
		return nil
	case err == nil:
		m.printf("imported %s%s\n", count(int(stored), "row"), already)
		if m.nBad > 0 {
			return partly(stored > 0, messagef("%s refused and left out, which the quarantine lists%s; %s",
				count(m.nBad, "row"), m.unread, m.next("mend it and go on")))
		}
		return nil
	case m.dryRun || m.rows == 0:
		return m.unwrapped(err)
	case ctx.Err() != nil:
		return messagef("stopped: %s%s; %s", inNow(stored), already, m.next("go on"))
	case errors.As(err, &failed) && failed.Row > 0 && retry.KindOf(err) == retry.Other:
		var msg message
		if errors.As(err, &msg) {
			return partly(stored > 0, msg)
		}
		text := fmt.Sprintf("line %d: %s", m.lineOf(failed.Row), rowReason(failed.Err))
		if stored == 0 && m.there == 0 {
			return messagef("%s; nothing was stored", text)
		}
		return partly(stored > 0, messagef("%s; %s%s; %s", text, inNow(stored), already, m.next("mend it and go on")))
	}
	in := inNow(stored)
	if errors.Is(err, credent.ErrUncertain) {
		in += fmt.Sprintf(", and perhaps the next %d or fewer, which the next run finds out", m.batch)
	}
	m.notef("credent: note: %s%s; %s\n", in, already, m.next("go on"))
	return partly(stored > 0, m.unwrapped(err))
}

func inNow(rows int64) string {
	if rows == 1 {
		return "1 row is in"
	}
	return fmt.Sprintf("%d rows are in", rows)
}

// next says how to continue the import.
func (m *importer) next(what string) string {
	if m.withIDs {
		return what + " with --skip-existing"
	}
	return what + " with --continue " + m.id.String()
}

// unwrapped removes the text that Copy adds to an error.
func (m *importer) unwrapped(err error) error {
	var failed *credent.CopyError
	if !errors.As(err, &failed) {
		return err
	}
	var of rowError
	if failed.Row > 0 && errors.As(failed.Err, &of) {
		return messagef("line %d: %s", m.lineOf(failed.Row), of)
	}
	return failed.Err
}
