package main

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"time"

	"github.com/credent-go/credent/bench/internal/machine"
)

// report is the result of a run.
type report struct {
	cfg     config
	series  series
	allocs  map[key]float64
	machine machine.Machine
	python  string // the versions of Python and its packages
	start   time.Time
	took    time.Duration
}

// markdown is the whole report.
func (r *report) markdown() string {
	var b strings.Builder
	r.head(&b)
	r.targetTable(&b)
	r.cryptoTable(&b)
	r.clientTable(&b)
	r.rotationTable(&b)
	r.growthTable(&b)
	return b.String()
}

func (r *report) head(b *strings.Builder) {
	m := r.machine
	fmt.Fprintf(b, `# Speed, measured

Made by `+"`%s`"+` on %s in %s. What the figures mean is in [docs/speed.md](../docs/speed.md).

- Machine: %s, %d cores, %s of memory, %s. Client and server share the cores.
- %s; Postgres %s on the same machine, shared_buffers 256 MB, with fsync off, as for tests.
- %s.
- %s.

Everything is measured in one process and in rounds: in each, all measures that are compared are run one after the other, in
an order drawn anew; single statements by turns in %d parts, and bulks in %d. A ratio is taken in each round and is the median of these, with the quartiles in parentheses, between
which half of the rounds are: %d rounds of cryptography, %d of reading and bulks, %d of single statements and %d of re-encryption.
All clients use the same tables, with Credent's indexes, foreign key and triggers; those that store
plaintext have no CHECK for tokens. All check what they read.

`, r.cfg.command, m.Date, r.took.Round(time.Second), m.CPU, m.Cores, m.Memory, m.System, runtime.Version(), m.Postgres,
		strings.Join(m.Modules, ", "), r.python, max(1, r.cfg.turns), max(1, r.cfg.bulkTurns), r.cfg.cryptoRounds,
		r.cfg.rounds*max(1, r.cfg.longRepeats), r.cfg.rounds*max(1, r.cfg.repeats), r.cfg.rotateRounds)
}

func (r *report) targetTable(b *strings.Builder) {
	all := r.targets()
	met, measured := 0, 0
	for _, t := range all {
		if !t.missing {
			measured++
		}
		if t.met() {
			met++
		}
	}
	fmt.Fprintf(b, "## Targets\n\n%d of %d met.", met, measured)
	if claims := missed(all); claims != "" {
		fmt.Fprintf(b, " Missed: %s.", claims)
	}
	b.WriteString("\n\n| speed of | target | measured | |\n|---|---|---|---|\n")
	for _, t := range all {
		b.WriteString(t.row())
	}
	b.WriteString("\n")
	if len(r.series[key{groupCommitted, nameTrail}]) > 0 {
		fmt.Fprintf(b, "With an audit trail, ten such lists and the commit of their %d entries, client and server on "+
			"the same cores, take %s times as long as the lists alone.\n\n", 2*trailReads*r.cfg.stored,
			r.series.faster(key{groupCommitted, nameCredentPGX}, key{groupCommitted, nameTrail}))
	}
	if len(r.series[key{groupRead, nameGORM}]) == 0 {
		return
	}
	for _, c := range []struct{ words, a, b string }{
		{"Beside plain ent with columns as short as the plaintexts, over lib/pq, Credent has", nameCredent, namePlain},
		{"Over pgx, it has", nameCredentPGX, namePlainPGX},
		{
			"What ent costs beside GORM is not Credent's to mend. Without any encryption, " +
				"ent is to GORM with encryption",
			namePlainPGX, nameGORM,
		},
	} {
		ratios := make([]string, len(endGroups))
		for i, group := range endGroups {
			ratios[i] = group + " " + r.series.faster(key{group, c.a}, key{group, c.b}).String()
		}
		fmt.Fprintf(b, "%s: %s.\n\n", c.words, strings.Join(ratios, ", "))
	}
}

func (r *report) cryptoTable(b *strings.Builder) {
	if r.allocs == nil {
		return
	}
	b.WriteString("## Cryptography\n\nNanoseconds of one operation on one core, and allocations. Fernet tokens but " +
		"for the last two, which give binary ciphertext without base64 and a time.\n\n|")
	for _, engine := range engines {
		b.WriteString(" | " + engine)
	}
	b.WriteString(" | Credent / fernet-go |\n|---|" + strings.Repeat("---:|", len(engines)+1) + "\n")
	var groups []string
	for _, size := range cryptoSizes {
		groups = append(groups, encryptGroup(size), decryptGroup(size, 1), decryptGroup(size, manyKeys))
	}
	for _, group := range append(groups, coresGroup(1), coresGroup(2)) {
		b.WriteString("| " + group)
		for _, engine := range engines {
			k := key{group, engine}
			b.WriteString(" | ")
			if values := r.series[k]; len(values) > 0 {
				fmt.Fprintf(b, "%.0f", median(values))
			}
			if n, ok := r.allocs[k]; ok {
				fmt.Fprintf(b, " · %.0f", n)
			}
		}
		fmt.Fprintf(b, " | %s |\n", r.series.faster(key{group, engineCredent}, key{group, engineFernet}))
	}
	b.WriteString("\n")
}

// rate formats operations per second.
func rate(ns float64) string {
	switch n := 1e9 / ns; {
	case ns == 0:
		return ""
	case n >= 1e6:
		return fmt.Sprintf("%.2f M", n/1e6)
	case n >= 10_000:
		return fmt.Sprintf("%.0f k", n/1000)
	case n >= 1000:
		return fmt.Sprintf("%.1f k", n/1000)
	default:
		return fmt.Sprintf("%.0f", math.Round(n))
	}
}

func (r *report) clientTable(b *strings.Builder) {
	if len(r.series[key{groupRead, nameCredent}]) == 0 {
		return
	}
	b.WriteString("## Clients on Postgres\n\n![speed of the clients](report.svg)\n\nRows in a second, each with two " +
		"secrets of 24 and 40 bytes, and below in parentheses the ratio to plain ent on the same driver. A list " +
		"without reveal reads whole rows and does not look at the secrets; who decrypts at once cannot, and has the " +
		"figure of a read there.\n\n| client | crypto |")
	for _, group := range endGroups {
		b.WriteString(" " + group + " |")
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---:|", len(endGroups)) + "\n")
	for _, c := range contenders() {
		fmt.Fprintf(b, "| %s | %s |", c.name, c.note)
		for _, group := range endGroups {
			fmt.Fprintf(b, " %s (%.2f) |", rate(median(r.series[key{group, c.name}])),
				r.series.faster(key{group, c.name}, key{group, plainOf(c.name)}).median)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(b, "| %s | %s | | %s (%.2f) | | | |\n\n", nameCopy, sameCrypto,
		rate(median(r.series[key{groupBulk, nameCopy}])),
		r.series.faster(key{groupBulk, nameCopy}, key{groupBulk, namePlainPGX}).median)
}

// plainOf returns the name of plain ent on a client's driver.
func plainOf(name string) string {
	if strings.Contains(name, "lib/pq") {
		return namePlain
	}
	return namePlainPGX
}

func (r *report) rotationTable(b *strings.Builder) {
	if len(r.series[key{groupRotate, nameRotate}]) == 0 {
		return
	}
	fmt.Fprintf(b, "## Re-encryption\n\nOf %s, freshly vacuumed; row by row of %d of them.\n\n| | rows in a second | "+
		"/ %s | / %s |\n|---|---:|---:|---:|\n", sizeName(r.cfg.rotated), r.cfg.updates, nameUpdateOneID, nameUpdateAll)
	for _, name := range []string{nameRotate, nameRotateOne, nameUpdateOneID, nameUpdateAll} {
		k := key{groupRotate, name}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", name, rate(median(r.series[k])),
			r.series.faster(k, key{groupRotate, nameUpdateOneID}), r.series.faster(k, key{groupRotate, nameUpdateAll}))
	}
	b.WriteString("\n")
}

func (r *report) growthTable(b *strings.Builder) {
	if len(r.series[key{groupGrowPoint, sizeName(r.cfg.growth[0])}]) == 0 {
		return
	}
	fmt.Fprintf(b, "## Growth\n\nMicroseconds of one operation, or of one row, with ent + Credent over pgx; a list "+
		"is of the %d credentials of one account, without reveal. The last three are of the whole table, once: "+
		"migrate is what the later migrations do to a table of the first.\n\n|", perAccount)
	for _, rows := range r.cfg.growth {
		b.WriteString(" | " + sizeName(rows))
	}
	b.WriteString(" | largest / smallest |\n|---|" + strings.Repeat("---:|", len(r.cfg.growth)+1) + "\n")
	smallest, largest := sizeName(r.cfg.growth[0]), sizeName(r.cfg.growth[len(r.cfg.growth)-1])
	for _, group := range growthGroups {
		b.WriteString("| " + strings.TrimPrefix(group, "growth: "))
		for _, rows := range r.cfg.growth {
			fmt.Fprintf(b, " | %.1f", median(r.series[key{group, sizeName(rows)}])/1000)
		}
		fmt.Fprintf(b, " | %s |\n", r.series.faster(key{group, smallest}, key{group, largest}))
	}
	b.WriteString("\n")
}
