package fieldcrypt

import "slices"

// condition reads a condition to the end of its level, and reports whether it holds for one row at the most: it joins others
// by AND, and one of them is id = placeholder or the like.
func (s *statement) condition(nested bool) bool {
	over := func() bool {
		return s.kind == end || s.is(")") || !nested && s.isAny("RETURNING", "ORDER", "LIMIT")
	}
	one, sure := false, true
	for more := true; more; more = s.word("AND") {
		id := s.id
		if s.oneRow() && (over() || s.is("AND")) {
			one = true
		} else {
			s.id = id
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
	if s.name() != s.schema.key(s.table) {
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

// operand reads a placeholder with a cast, if any, and reports whether it is as given.
func (s *statement) operand() bool {
	if s.kind != param {
		return false
	}
	s.id = s.arg
	s.next()
	if s.symbol("::") {
		// Of a character, or a number cut short, several keys could be the same.
		return slices.Contains(exactCasts, s.name())
	}
	return true
}

// exactCasts are casts to types in which different keys stay different.
var exactCasts = []string{"text", "varchar", "uuid", "int", "int4", "int8", "integer", "bigint", "numeric"}
