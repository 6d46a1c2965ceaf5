package dashboard_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This is a small part of Prometheus's query language: sums and maxima, rates
// over a window, selectors, a quotient, and a constant instead of an empty
// result. Anything else is an error, so the dashboard can't use it.
//
//	query    = quotient [ "or vector(" number ")" ]
//	quotient = value [ "/" value ]
//	value    = ("sum" | "max") [ "by (" labels ")" ] "(" value ")"
//	         | ("rate" | "increase") "(" selector "[" window "])"
//	         | selector

// scrape holds a registry's content at one moment.
type scrape struct {
	at     time.Time
	series []series
}

// series is one time series at one moment.
type series struct {
	labels map[string]string // includes the name as __name__
	value  float64
}

// history holds all scrapes, in order. interval is the number of scrapes that
// $__rate_interval spans.
type history struct {
	scrapes  []scrape
	interval int
}

// query computes a value at the time of a scrape.
type query func(h history, now int) []series

var tokens = regexp.MustCompile(
	`\s*([a-zA-Z_:][a-zA-Z0-9_:]*|"[^"]*"|\$__rate_interval|[0-9]+[smh]?|!=|=~|!~|[(){}\[\]/,=])`)

type parser struct {
	rest  []string
	names map[string]bool // metric names
	err   error
}

// parse returns a query and its metrics' names.
func parse(text string) (query, map[string]bool, error) {
	p := &parser{names: make(map[string]bool)}
	left := text
	for strings.TrimSpace(left) != "" {
		at := tokens.FindStringSubmatchIndex(left)
		if at == nil || at[0] != 0 {
			return nil, nil, fmt.Errorf("what is %q?", left)
		}
		p.rest = append(p.rest, left[at[2]:at[3]])
		left = left[at[1]:]
	}
	q := p.value()
	if p.next("/") {
		q = quotient(q, p.value())
	}
	if p.next("or") {
		p.want("vector", "(")
		constant, err := strconv.ParseFloat(p.take(), 64)
		p.fail(err)
		p.want(")")
		q = instead(q, constant)
	}
	if p.err == nil && len(p.rest) > 0 {
		p.fail(fmt.Errorf("nothing is known after it: %q", p.rest))
	}
	return q, p.names, p.err
}

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *parser) take() string {
	if len(p.rest) == 0 {
		p.fail(errors.New("it ends early"))
		return ""
	}
	first := p.rest[0]
	p.rest = p.rest[1:]
	return first
}

func (p *parser) next(token string) bool {
	if len(p.rest) == 0 || p.rest[0] != token {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *parser) want(list ...string) {
	for _, token := range list {
		if !p.next(token) {
			p.fail(fmt.Errorf("%q is missing before %q", token, p.rest))
		}
	}
}

func (p *parser) value() query {
	switch word := p.take(); word {
	case "sum", "max":
		var by []string
		if p.next("by") {
			p.want("(")
			for p.err == nil && !p.next(")") {
				by = append(by, p.take())
				p.next(",")
			}
		}
		p.want("(")
		of := p.value()
		p.want(")")
		return aggregate(word, by, of)
	case "rate", "increase":
		p.want("(")
		matches := p.selector(p.take())
		p.want("[")
		window := p.take()
		p.want("]", ")")
		_, err := time.ParseDuration(window)
		if window != "$__rate_interval" {
			p.fail(err)
		}
		return counted(word, matches, window)
	default:
		matches := p.selector(word)
		return func(h history, now int) (found []series) {
			for _, one := range h.scrapes[now].series {
				if matches(one.labels) {
					found = append(found, one)
				}
			}
			return found
		}
	}
}

// selector returns a function that matches a metric's name and the labels in
// braces.
func (p *parser) selector(name string) func(map[string]string) bool {
	p.names[name] = true
	type matcher struct {
		label, value string
		equal        bool
	}
	matchers := []matcher{{"__name__", name, true}}
	if p.next("{") {
		for p.err == nil && !p.next("}") {
			m := matcher{label: p.take()}
			if m.equal = p.next("="); !m.equal {
				p.want("!=")
			}
			m.value = strings.Trim(p.take(), `"`)
			matchers = append(matchers, m)
			p.next(",")
		}
	}
	return func(labels map[string]string) bool {
		return !slices.ContainsFunc(matchers, func(m matcher) bool { return (labels[m.label] == m.value) != m.equal })
	}
}

// id returns a set of labels as text.
func id(labels map[string]string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&b, "%s=%q ", key, labels[key])
	}
	return b.String()
}

// kept returns only the labels with the given names.
func kept(labels map[string]string, names []string) map[string]string {
	only := make(map[string]string)
	for _, name := range names {
		if value := labels[name]; value != "" {
			only[name] = value
		}
	}
	return only
}

func aggregate(how string, by []string, of query) query {
	return func(h history, now int) (groups []series) {
		places := make(map[string]int)
		for _, one := range of(h, now) {
			labels := kept(one.labels, by)
			at, known := places[id(labels)]
			switch {
			case !known:
				places[id(labels)] = len(groups)
				groups = append(groups, series{labels, one.value})
			case how == "sum":
				groups[at].value += one.value
			default:
				groups[at].value = max(groups[at].value, one.value)
			}
		}
		return groups
	}
}

// counted returns the increase of counters in a window, or its rate per second.
// It uses the first and last scrape in the window, without extrapolating to its
// ends as Prometheus does.
func counted(how string, matches func(map[string]string) bool, window string) query {
	return func(h history, now int) (rates []series) {
		end := h.scrapes[now].at
		first := max(0, now-h.interval)
		if d, err := time.ParseDuration(window); err == nil {
			first = slices.IndexFunc(h.scrapes, func(s scrape) bool { return s.at.After(end.Add(-d)) })
		}
		type sum struct {
			from, to time.Time
			last, by float64
		}
		sums := make(map[string]*sum)
		for _, s := range h.scrapes[first : now+1] {
			for _, one := range s.series {
				if !matches(one.labels) {
					continue
				}
				known := sums[id(one.labels)]
				if known == nil {
					known = &sum{from: s.at, last: one.value}
					sums[id(one.labels)] = known
				}
				if one.value < known.last { // the process restarted
					known.last = 0
				}
				known.by += one.value - known.last
				known.last, known.to = one.value, s.at
			}
		}
		for _, one := range h.scrapes[now].series {
			known := sums[id(one.labels)]
			if known == nil || !known.to.After(known.from) {
				continue
			}
			labels := maps.Clone(one.labels)
			delete(labels, "__name__")
			if how == "rate" {
				known.by /= known.to.Sub(known.from).Seconds()
			}
			rates = append(rates, series{labels, known.by})
		}
		return rates
	}
}

func quotient(above, below query) query {
	return func(h history, now int) (quotients []series) {
		under := make(map[string]float64)
		for _, one := range below(h, now) {
			under[id(one.labels)] = one.value
		}
		for _, one := range above(h, now) {
			if by, is := under[id(one.labels)]; is && by != 0 && !math.IsNaN(by) {
				quotients = append(quotients, series{one.labels, one.value / by})
			}
		}
		return quotients
	}
}

// instead returns a constant if a query's result is empty.
func instead(q query, constant float64) query {
	return func(h history, now int) []series {
		if found := q(h, now); len(found) > 0 {
			return found
		}
		return []series{{map[string]string{}, constant}}
	}
}
