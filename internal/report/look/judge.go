package look

import (
	"errors"
	"slices"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/report"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/rotate"
)

// judge compares the samples and counts with the protections' states.
func (l *looker) judge() {
	for _, t := range l.Tables {
		for _, c := range t.Columns {
			l.judgeColumn(c)
		}
	}
	for i := range l.Protections {
		p := &l.Protections[i]
		for _, t := range l.Tables {
			for _, c := range t.Columns {
				if c.Table+"."+c.Column == p.Column {
					p.Sampled, p.Follow = c.Sample.Secrets, follow(c.Sample, p.Protection)
				}
			}
		}
	}
}

// follow counts the secrets stored as the protection requires.
func follow(s report.Sample, protection string) int64 {
	switch protection {
	case states.Binding.String():
		return s.Bound
	case states.TenantKeys.String():
		return s.Under[rotate.UnderTenantKey] + s.Under[rotate.UnderDestroyed]
	}
	return s.Secrets - s.Under[rotate.UnderNone]
}

func (l *looker) judgeColumn(c report.Column) {
	name := c.Table + "." + c.Column
	for _, bad := range []struct{ under, what string }{
		{rotate.UnderUnknown, "open under no key of the keyring, or were altered"},
		{rotate.UnderDamaged, "are damaged"},
		{rotate.UnderReadable, "can be read, though the key of their tenant was destroyed"},
	} {
		if n := c.Sample.Under[bad.under]; n > 0 {
			l.find(report.PartKeys, "%d of %d sampled secrets of %s %s", n, c.Sample.Secrets, name, bad.what)
		}
	}
	i := slices.IndexFunc(l.Columns, func(of column.Column) bool { return of.String() == name })
	if i < 0 || l.stored == nil && len(l.Protections) == 0 {
		return
	}
	set := l.states.Of(&l.Columns[i])
	if n := c.NotTokens.N; n > 0 && set.Encryption == states.Require {
		l.find(report.PartProtections, "%d values of %s are no tokens, and its encryption is require", n, name)
	}
	if !c.Sample.Opened || c.Sample.Secrets == 0 {
		return
	}
	given := l.states.Given(&l.Columns[i])
	count := rotate.ColumnCount{
		Table: c.Table, Column: c.Column, Rows: c.Sample.Secrets, Bound: c.Sample.Bound,
		Tenant: c.Sample.Under[rotate.UnderTenantKey], Shredded: c.Sample.Under[rotate.UnderDestroyed],
		States: given,
	}
	if l.Columns[i].Bound && given.Binding == states.Unset {
		count.States.Binding = states.Require
	}
	for _, k := range l.ring.Keys() {
		count.Primary += c.Sample.Under[k.ID()]
	}
	count.NotEncrypted = c.Sample.Under[rotate.UnderNone]
	if err := count.CheckStates(); err != nil && !errors.Is(err, rotate.ErrPlaintext) {
		l.find(report.PartProtections, "in the sample, %s", l.Reason(err))
	}
}
