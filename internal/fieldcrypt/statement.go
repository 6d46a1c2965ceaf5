package fieldcrypt

import "strings"

// place is where a statement stores an argument, as far as it does.
type place struct {
	column string // "" if not known
	times  int    // how often
	many   bool   // in more than one row, perhaps
}

// statement finds the places where a statement stores its arguments.
type statement struct {
	lexer
	table  string
	places []place
	keyOf  func(table string) string
}

// read reads the statement to its end, so that every placeholder is counted.
func (s *statement) read() {
	switch {
	case s.word("INSERT"):
		s.insert()
	case s.word("UPDATE"):
		s.update()
	}
	for s.kind != end {
		s.next()
	}
}

// insert reads [OR …] INTO table [AS alias] [(columns)] VALUES (…), … [ON CONFLICT … DO UPDATE SET …].
func (s *statement) insert() {
	if s.word("OR") {
		s.next()
	}
	if !s.word("INTO") {
		return
	}
	s.table = s.name()
	if s.word("AS") {
		s.name()
	}
	var columns []string
	if s.symbol("(") {
		for !s.symbol(")") {
			column := s.name()
			if column == "" {
				return
			}
			columns = append(columns, column)
			s.symbol(",")
		}
	}
	if !s.word("VALUES") {
		return
	}
	rows := 0
	for more := true; more; more = s.symbol(",") {
		if !s.symbol("(") {
			return
		}
		for i := 0; ; i++ {
			column := ""
			if i < len(columns) {
				column = columns[i]
			}
			s.value(column, false)
			if !s.symbol(",") {
				break
			}
		}
		if !s.symbol(")") {
			return
		}
		rows++
	}
	for s.kind != end && !s.is("SET") {
		s.skip()
	}
	if s.word("SET") {
		s.assignments(rows > 1) // to every row that is in conflict
	}
}

// update reads [OR …] [ONLY] table [[AS] alias] SET … WHERE ….
func (s *statement) update() {
	if s.word("OR") {
		s.next()
	}
	s.word("ONLY")
	s.table = s.name()
	s.word("AS")
	if !s.is("SET") {
		s.name()
	}
	if !s.word("SET") {
		return
	}
	s.assignments(false)
	if s.word("WHERE") && s.condition(false) {
		return
	}
	for i := range s.places {
		s.places[i].many = true
	}
}

// assignments reads column = value, ….
func (s *statement) assignments(many bool) {
	for more := true; more; more = s.symbol(",") {
		if column := s.name(); column != "" && s.symbol("=") {
			s.value(column, many)
			continue
		}
		for !s.over() && !s.is(",") {
			s.skip()
		}
	}
}

// value reads an expression, and notes its place if it is nothing but a placeholder. A cast to another type than these two
// could shorten a token.
func (s *statement) value(column string, many bool) {
	if s.kind == param {
		arg := s.arg
		s.next()
		if s.symbol("::") && !s.word("text") && !s.word("varchar") {
			arg = -1
		}
		if arg >= 0 && (s.over() || s.is(",")) {
			s.places[arg].column = column
			s.places[arg].times++
			s.places[arg].many = s.places[arg].many || many
		}
	}
	for !s.over() && !s.is(",") {
		s.skip()
	}
}

// condition reads a condition to the end of its level, and reports whether it holds for one row at the most: it joins others
// by AND, and one of them is id = placeholder or the like.
func (s *statement) condition(nested bool) bool {
	over := func() bool {
		return s.kind == end || s.is(")") || !nested && s.isAny("RETURNING", "ORDER", "LIMIT")
	}
	one, sure := false, true
	for more := true; more; more = s.word("AND") {
		if s.oneRow() && (over() || s.is("AND")) {
			one = true
		}
		for !over() && !s.is("AND") {
			if s.isAny("OR", "||", "CASE", "BETWEEN", "SELECT") { // with the last three, an AND may belong to them
				sure = false
			}
			s.skip()
		}
	}
	return one && sure && (nested || !s.is(")"))
}

// oneRow reads the beginning of a part of a condition as id = placeholder, id IN (placeholder), or a condition in parentheses,
// and reports whether that holds for one row at the most.
func (s *statement) oneRow() bool {
	if s.symbol("(") {
		one := s.condition(true)
		return s.symbol(")") && one
	}
	if s.name() != s.keyOf(s.table) {
		return false
	}
	switch {
	case s.symbol("="):
		return s.operand()
	case s.word("IN"):
		return s.list()
	}
	return false
}

// list reads a list in parentheses, and reports whether it is one placeholder.
func (s *statement) list() bool {
	if !s.symbol("(") {
		return false
	}
	one := s.operand() && s.is(")")
	for s.kind != end && !s.is(")") {
		s.skip()
	}
	return s.symbol(")") && one
}

// operand reads a placeholder with a cast, if any.
func (s *statement) operand() bool {
	if s.kind != param {
		return false
	}
	s.next()
	if s.symbol("::") {
		return s.name() != ""
	}
	return true
}

// name reads an identifier, and returns the last part of a qualified one, or "" if there is none.
func (s *statement) name() string {
	name := ""
	for {
		switch {
		case s.kind == quoted:
			name = s.text
		case s.kind == word && !s.isAny("AND", "OR", "NOT", "CASE", "BETWEEN", "SELECT", "EXISTS"):
			name = strings.ToLower(s.text)
		default:
			return ""
		}
		s.next()
		if !s.symbol(".") {
			return name
		}
	}
}

// over reports whether the clause or the level ends here.
func (s *statement) over() bool {
	return s.kind == end || s.is(")") || s.isAny("WHERE", "FROM", "RETURNING", "ORDER", "LIMIT")
}

// skip goes past the current piece, or past what is in parentheses if it opens one.
func (s *statement) skip() {
	depth := 0
	for {
		switch {
		case s.kind == end:
			return
		case s.is("(") || s.is("["):
			depth++
		case s.is(")") || s.is("]"):
			depth--
		}
		s.next()
		if depth <= 0 {
			return
		}
	}
}

// is reports whether the current piece is a keyword or a symbol.
func (s *statement) is(text string) bool {
	return (s.kind == word || s.kind == symbol) && strings.EqualFold(s.text, text)
}

func (s *statement) isAny(words ...string) bool {
	for _, word := range words {
		if s.is(word) {
			return true
		}
	}
	return false
}

// word goes past a keyword, if it is the current piece.
func (s *statement) word(text string) bool {
	if s.kind != word || !strings.EqualFold(s.text, text) {
		return false
	}
	s.next()
	return true
}

// symbol goes past a symbol, if it is the current piece.
func (s *statement) symbol(text string) bool {
	if s.kind != symbol || s.text != text {
		return false
	}
	s.next()
	return true
}
