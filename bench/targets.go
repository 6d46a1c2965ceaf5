package main

import (
	"fmt"
	"strings"
)

// target is a claim that one run can show or refute.
type target struct {
	claim   string
	want    float64
	atMost  bool // the ratio must not be greater; otherwise not smaller
	got     ratio
	exact   bool // both are counts
	missing bool // it was not measured
}

func (t target) met() bool {
	if t.missing {
		return false
	}
	switch {
	case t.exact:
		return t.got.median == t.want
	case t.atMost:
		return t.got.median <= t.want
	}
	return t.got.median >= t.want
}

func (t target) row() string {
	sign, beyond, verdict := "≥", "< ", "**missed**"
	switch {
	case t.exact:
		sign = "="
	case t.atMost:
		sign, beyond = "≤", "> "
	}
	measured := t.got.String()
	if t.exact {
		measured = fmt.Sprint(t.got.median)
	}
	switch {
	case t.missing:
		measured, verdict = "–", "not measured"
	case t.met():
		verdict = "met"
	case strings.HasPrefix(measured, fmt.Sprintf("%.2f ", t.want)): // by less than the shown digits
		measured = beyond + measured
	}
	return fmt.Sprintf("| %s | %s %v | %s | %s |\n", t.claim, sign, t.want, measured, verdict)
}

// targets returns all claims, with their measurements.
func (r *report) targets() []target {
	all := r.cryptoTargets()
	all = append(all, r.clientTargets()...)
	all = append(all, r.trailTargets()...)
	all = append(all, r.peerTargets()...)
	faster := func(claim string, want float64, group, a, b string) {
		all = append(all, r.compare(claim, want, key{group, a}, key{group, b}))
	}
	faster("rotate / ent UpdateOneID", 15, groupRotate, nameRotate, nameUpdateOneID)
	faster("rotate / one bare SQL UPDATE", 0.33, groupRotate, nameRotate, nameUpdateAll)
	small, large := sizeName(r.cfg.growth[0]), sizeName(r.cfg.growth[min(2, len(r.cfg.growth)-1)])
	t := r.compare(fmt.Sprintf("time of a point lookup, %s / %s", large, small), 1.3,
		key{groupGrowPoint, small}, key{groupGrowPoint, large})
	t.atMost = true
	return append(all, t)
}

// compare returns the claim that a is a given number of times as fast as b.
func (r *report) compare(claim string, want float64, a, b key) target {
	got := r.series.faster(a, b)
	return target{claim: claim, want: want, got: got, missing: got == ratio{}}
}

func (r *report) cryptoTargets() (all []target) {
	for _, size := range []int{24, 64} {
		for _, c := range []struct {
			group    string
			vsFernet float64
			vsBare   float64
		}{
			{encryptGroup(size), 1.8, 1.35},
			{decryptGroup(size, 1), 2.2, 1.25},
			{decryptGroup(size, manyKeys), 2.2, 0},
		} {
			credent := key{c.group, engineCredent}
			all = append(all, r.compare(c.group+" / fernet-go", c.vsFernet, credent, key{c.group, engineFernet}))
			if c.vsBare > 0 {
				t := r.compare("time to "+c.group+" / bare primitives", c.vsBare,
					key{c.group, enginePrimitives}, credent)
				t.atMost = true
				all = append(all, t)
			}
		}
	}
	all = append(all, r.compare("two cores, round trip 24 B / fernet-go", 2.5,
		key{coresGroup(2), engineCredent}, key{coresGroup(2), engineFernet}))
	for _, c := range []struct {
		engine string
		want   float64
	}{{engineCredent, 1}, {engineAppend, 0}} {
		worst := target{claim: "allocations, " + c.engine + ", any size", want: c.want, exact: true, missing: true}
		for _, size := range cryptoSizes {
			for _, group := range []string{encryptGroup(size), decryptGroup(size, 1), decryptGroup(size, manyKeys)} {
				n, ok := r.allocs[key{group, c.engine}]
				if !ok {
					continue
				}
				worst.missing = false
				if n != c.want || worst.got == (ratio{}) {
					worst.got = ratio{n, n, n}
				}
			}
		}
		all = append(all, worst)
	}
	return all
}

// clientTargets returns the limits of encryption's cost in ent, on the same
// driver, compared with columns of the same size.
func (r *report) clientTargets() (all []target) {
	for _, d := range []struct{ driver, credent, plain string }{
		{"pgx", nameCredentPGX, nameTokenSizePGX},
		{"lib/pq", nameCredent, nameTokenSize},
	} {
		for _, c := range []struct {
			group string
			want  float64
		}{{groupRead, 0.62}, {groupList, 0.85}, {groupBulk, 0.8}, {groupInsert, 0.9}, {groupPoint, 0.9}} {
			all = append(all, r.compare(fmt.Sprintf("%s, ent + Credent / plain ent with columns of token size, %s",
				c.group, d.driver), c.want,
				key{c.group, d.credent}, key{c.group, d.plain}))
		}
	}
	return all
}

// trailTargets returns the limits of an audit trail's cost.
func (r *report) trailTargets() []target {
	t := r.compare("time of "+groupRead+" with all revealed, with the audit trail / without, pgx", 1.05,
		key{groupTrail, nameCredentPGX}, key{groupTrail, nameTrail})
	t.atMost = true
	return []target{t}
}

// peerTargets returns comparisons with other peers.
func (r *report) peerTargets() (all []target) {
	for _, group := range endGroups {
		all = append(all, r.compare(group+", ent + Credent / GORM with the same crypto, pgx", 1,
			key{group, nameCredentPGX}, key{group, nameGORM}))
	}
	for _, c := range []struct {
		group string
		want  float64
	}{{groupRead, 10}, {groupBulk, 4}} {
		all = append(all, r.compare(c.group+", ent + Credent (pgx) / SQLAlchemy", c.want,
			key{c.group, nameCredentPGX}, key{c.group, nameTwin}))
	}
	return append(all, r.compare("credent.Copy / ent + Credent bulk, pgx", 1.8,
		key{groupBulk, nameCopy}, key{groupBulk, nameCredentPGX}))
}

// missed names the missed targets.
func missed(all []target) string {
	var claims []string
	for _, t := range all {
		if !t.met() && !t.missing {
			claims = append(claims, t.claim)
		}
	}
	return strings.Join(claims, "; ")
}
