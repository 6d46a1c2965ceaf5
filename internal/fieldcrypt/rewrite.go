package fieldcrypt

import (
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// plan is how a statement becomes one that keeps the blind indexes of what it stores in step: its text, and what its arguments
// are made of.
type plan struct {
	query   string
	args    []planned // those that come after the given ones or, if ordered is false, all
	ordered bool
	columns []string // of which digests are wanted
	named   bool     // arguments have names
	err     error    // why there is none
}

// planned is an argument of the new statement. Of a bulk there are thousands, and they are kept.
type planned struct {
	from  int32 // the given argument
	index int32 // what is wanted is the digest for this one of the columns, from 1; 0 means the argument itself
}

// planner makes a plan of a statement that was read.
type planner struct {
	*statement
	query   string
	index   func(table, column string) string // the name of a column's blind index, or ""
	text    strings.Builder
	done    int // up to where the text was copied
	given   int // up to which the arguments of ? were taken
	args    []planned
	extra   []planned
	columns []string
	changed bool
}

// planIndexes returns how the statement is to be changed, or nil if it is not.
func planIndexes(s *statement, query string, index func(table, column string) string) *plan {
	indexed := false
	for _, name := range s.watched {
		indexed = indexed || index(s.table, name) != ""
	}
	if !indexed {
		return nil
	}
	if s.highest > len(s.places) {
		return nil // an argument is missing, as the database will say
	}
	if s.bad || s.foreign || s.bare && s.numbered {
		return &plan{err: fmt.Errorf("%w: list the columns in the INSERT, set each by itself in a SET, and use $1 or ? for the arguments", ErrIndex)}
	}
	p := &planner{statement: s, query: query, index: index}
	if err := p.write(); err != nil {
		return &plan{err: err}
	}
	if !p.changed {
		return nil
	}
	p.text.WriteString(query[p.done:])
	result := &plan{query: p.text.String(), args: p.extra, ordered: !p.bare, columns: p.columns, named: p.names && !p.dollars}
	if p.bare {
		p.take(len(s.places))
		result.args = p.args
	}
	return result
}

func (p *planner) write() error {
	if p.insert != nil {
		if err := p.values(); err != nil {
			return err
		}
	}
	for _, set := range p.sets {
		if err := p.refuseIndex(set.column); err != nil {
			return err
		}
		index := p.index(p.table, set.column)
		if index == "" || set.kind == same {
			continue
		}
		p.at(*p.set)
		if p.opaque {
			p.text.WriteString("\n") // a comment ends there at the latest
		}
		p.text.WriteString(", " + QuoteName(index) + " = ")
		if set.kind == excluded {
			p.text.WriteString(`"excluded".` + QuoteName(index))
		} else {
			p.cell(set.column, set.cell)
		}
		p.text.WriteString(" ")
	}
	return nil
}

// values adds the indexes of the columns that an INSERT stores.
func (p *planner) values() error {
	var columns []int // places among the watched ones
	for i, name := range p.watched {
		if !p.insert.stores(name) {
			continue
		}
		if err := p.refuseIndex(name); err != nil {
			return err
		}
		if index := p.index(p.table, name); index != "" {
			columns = append(columns, i)
			p.at(p.insert.list)
			p.text.WriteString(", " + QuoteName(index))
		}
	}
	if len(columns) == 0 {
		return nil
	}
	for _, row := range p.insert.rows {
		p.at(row.end)
		for _, i := range columns {
			p.text.WriteString(", ")
			p.cell(p.watched[i], row.cells[i])
		}
	}
	return nil
}

// refuseIndex refuses a statement that sets a blind index itself.
func (p *planner) refuseIndex(column string) error {
	for _, name := range p.watched {
		if strings.EqualFold(p.index(p.table, name), column) {
			return fmt.Errorf("%w: the statement sets %s itself", ErrIndex, column)
		}
	}
	return nil
}

// at copies the statement up to a place.
func (p *planner) at(to point) {
	p.changed = true
	p.text.WriteString(p.query[p.done:to.offset])
	p.done = to.offset
	if p.bare {
		p.take(to.questions)
	}
}

// take takes the given arguments up to one.
func (p *planner) take(n int) {
	for ; p.given < n; p.given++ {
		p.args = append(p.args, planned{from: int32(p.given)})
	}
}

// cell writes what the index has for what is stored in a column. Of anything but an argument nothing is known.
func (p *planner) cell(column string, c cell) {
	if c.kind != argument {
		p.text.WriteString("NULL")
		return
	}
	i := slices.Index(p.columns, column)
	if i < 0 {
		i = len(p.columns)
		p.columns = append(p.columns, column)
	}
	digest := planned{from: int32(c.arg), index: int32(i + 1)}
	switch {
	case p.bare:
		p.text.WriteString("?")
		p.args = append(p.args, digest)
		return
	case p.names && !p.dollars: // with $1, an operator like @@ may look like a name
		p.text.WriteString(":" + digestName(len(p.extra)))
	case p.numbered:
		p.text.WriteString("?" + strconv.Itoa(len(p.places)+len(p.extra)+1))
	default:
		p.text.WriteString("$" + strconv.Itoa(len(p.places)+len(p.extra)+1))
	}
	p.extra = append(p.extra, digest)
}

// apply returns the arguments of the new statement, those given as sealed and the digests of what they were before, and what is
// to be done after it. What sealed has room for beyond its length is used.
func (p *plan) apply(c *codec, table string, args, sealed []any) ([]any, []claim, error) {
	result := sealed
	if !p.ordered {
		result = make([]any, 0, len(p.args))
	}
	var claims []claim
	for _, a := range p.args {
		if a.index == 0 {
			result = append(result, sealed[a.from])
			continue
		}
		var digest any
		if secret, ok := secretOfArg(args[a.from]); ok { // and not NULL, or what somebody else encrypted
			column := c.column(table, p.columns[a.index-1])
			stored, steps, err := c.digest(column, secret)
			if err != nil {
				return nil, nil, column.wrap("index", err)
			}
			digest = stored
			if len(steps) > 1 {
				claims = append(claims, claim{table, column.Index, steps})
			}
		}
		if p.named {
			digest = sql.Named(digestName(len(result)-len(sealed)), digest)
		}
		result = append(result, digest)
	}
	return result, claims, nil
}

// digest returns what a statement stores in a column's blind index and, if that is unique and the keyring has several keys, the
// steps of the claim that begins with it.
func (c *codec) digest(column ColumnInfo, s Secret) (digest []byte, steps [][]byte, err error) {
	plaintext, err := s.Reveal()
	if err != nil {
		return nil, nil, err
	}
	ring, err := c.keyring()
	if err != nil {
		return nil, nil, err
	}
	cfg, err := IndexOf(column)
	if err != nil {
		return nil, nil, err
	}
	if !cfg.Unique {
		digest, err = ring.digest(cfg, column, plaintext)
		return digest, nil, err
	}
	digests, err := ring.digests(cfg, column, plaintext)
	if err != nil {
		return nil, nil, err
	}
	steps = claimed(digests)
	return steps[0], steps, nil
}

// digestName is the name of a new argument, where they have names.
func digestName(i int) string { return "credent_index_" + strconv.Itoa(i) }

// secretOfArg returns the secret that an argument is, if it is present.
func secretOfArg(arg any) (Secret, bool) {
	switch arg := arg.(type) {
	case *pending:
		return arg.secret, true
	case Secret:
		return arg, !arg.IsZero()
	case *Secret:
		if arg == nil {
			return Secret{}, false
		}
		return *arg, !arg.IsZero()
	case sql.Null[Secret]:
		return arg.V, arg.Valid && !arg.V.IsZero()
	case sql.NamedArg:
		return secretOfArg(arg.Value)
	}
	return Secret{}, false
}
