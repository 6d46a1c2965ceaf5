package fieldcrypt

import (
	"slices"
	"strings"
)

// place is where a statement stores an argument, as far as it does.
type place struct {
	column string // "" if not known
	times  int    // how often
	many   bool   // in more than one row, perhaps
}

// schema is what a statement's reader has to know of the tables. Its answers are always the same.
type schema struct {
	key     func(table string) string         // column of the primary key
	watched func(table string) []string       // columns of which the cells are wanted, row by row
	index   func(table, column string) string // column of its blind index, or ""
}

// statement finds the places where a statement stores its arguments.
type statement struct {
	lexer
	schema    schema
	table     string
	qualified bool // the statement says in which schema it is
	alias     string
	places    []place

	// What follows is complete if the statement was understood to its end, and the table has columns that are watched.
	watched []string
	insert  *inserted    // of an INSERT … VALUES
	target  []string     // the columns of its ON CONFLICT (…), if that has nothing else
	sets    []assignment // of a SET, for watched columns
	set     *point       // where a SET takes one more
	one     bool         // the WHERE of an UPDATE chooses one row at the most, by its primary key
	id      int          // then the argument that has it
	plan    *plan        // how it keeps blind indexes in step; nil if there is nothing to do
	foreign bool         // it stores watched columns in a way that is not understood
	several bool         // there is more than one ON CONFLICT, which only SQLite takes
}

// point is a place in a statement's text.
type point struct {
	offset    int // in bytes
	questions int // how many placeholders of the form ? are before it
}

// inserted is what an INSERT has between INTO and the end of its VALUES.
type inserted struct {
	columns []string // all of them, in order
	list    point    // where the list of columns takes one more
	rows    []insertedRow
}

// stores reports whether it names a column.
func (in *inserted) stores(column string) bool {
	return slices.ContainsFunc(in.columns, func(name string) bool { return strings.EqualFold(name, column) })
}

type insertedRow struct {
	cells []cell // of the watched columns, in their order
	end   point  // where the row takes one more value
}

// assignment is one of a SET.
type assignment struct {
	column string
	cell
}

// cell is what a statement stores in one column of a row.
type cell struct {
	kind cellKind
	arg  int // index of the argument
}

type cellKind uint8

const (
	unset    cellKind = iota // the statement does not name the column
	argument                 // an argument, as it is
	null                     // NULL or DEFAULT
	excluded                 // the same column of the row that could not be inserted
	same                     // the same column of the row as it is
	other                    // anything else
)

// read reads the statement to its end, so that every placeholder is counted.
func (s *statement) read() {
	switch {
	case s.word("INSERT"):
		s.readInsert()
	case s.word("UPDATE"):
		s.readUpdate()
	}
	for s.kind != end {
		s.next()
	}
}

// into reads the statement's table.
func (s *statement) into() {
	if s.table = s.name1(); s.symbol(".") {
		s.qualified, s.table = true, s.name()
	}
	if s.schema.watched != nil {
		s.watched = s.schema.watched(s.table)
	}
	s.foreign = len(s.watched) > 0 // until the end is reached
}

// here is the place before the current piece.
func (s *statement) here() point {
	questions := s.questions
	if s.kind == param && s.text == "?" {
		questions--
	}
	return point{offset: s.start, questions: questions}
}

// readInsert reads [OR …] INTO table [AS alias] [(columns)] VALUES (…), … [ON CONFLICT … DO UPDATE SET …].
func (s *statement) readInsert() {
	if s.word("OR") {
		s.next()
	}
	if !s.word("INTO") {
		return
	}
	s.into()
	if s.word("AS") {
		s.alias = s.name()
	}
	in := new(inserted)
	if s.symbol("(") {
		for in.list = s.here(); !s.symbol(")"); in.list = s.here() {
			column := s.name()
			if column == "" {
				return
			}
			if s.isWatched(column) >= 0 && in.stores(column) {
				return // which of the two counts SQLite alone knows
			}
			in.columns = append(in.columns, column)
			s.symbol(",")
		}
	}
	if !s.word("VALUES") {
		return
	}
	rows := 0
	for more := true; more; more = s.symbol(",") {
		if !s.row(in) {
			return
		}
		rows++
	}
	if s.word("ON") && s.word("CONFLICT") {
		s.target = s.nameList()
	}
	for s.kind != end && !s.is("SET") {
		if s.is("CONFLICT") { // a second clause, of SQLite
			return
		}
		s.skip()
	}
	if s.word("SET") && !s.assignments(rows > 1) || s.is("FROM") || s.several { // to every row that is in conflict
		return
	}
	for s.kind != end {
		if s.is("CONFLICT") {
			return
		}
		s.skip()
	}
	s.insert = in
	s.foreign = s.foreign && len(in.columns) == 0
}

// row reads a row of VALUES.
func (s *statement) row(in *inserted) bool {
	if !s.symbol("(") {
		return false
	}
	var cells []cell
	if len(s.watched) > 0 {
		cells = make([]cell, len(s.watched))
	}
	for i := 0; ; i++ {
		column := ""
		if i < len(in.columns) {
			column = in.columns[i]
		}
		c := s.value(column, false)
		if n := s.isWatched(column); n >= 0 {
			cells[n] = c
		}
		if !s.symbol(",") {
			break
		}
	}
	end := s.here()
	if !s.symbol(")") {
		return false
	}
	if cells != nil {
		in.rows = append(in.rows, insertedRow{cells, end})
	}
	return true
}

// isWatched returns the place of a column among the watched ones, or -1.
func (s *statement) isWatched(column string) int {
	for i, name := range s.watched {
		if strings.EqualFold(name, column) {
			return i
		}
	}
	return -1
}

// readUpdate reads [OR …] [ONLY] table [[AS] alias] SET … WHERE ….
func (s *statement) readUpdate() {
	if s.word("OR") {
		s.next()
	}
	s.word("ONLY")
	s.into()
	s.word("AS")
	if !s.is("SET") {
		s.alias = s.name()
	}
	if !s.word("SET") {
		return
	}
	s.foreign = !s.assignments(false) && s.foreign
	if s.word("WHERE") && s.condition(false) {
		s.one = true
		return
	}
	for i := range s.places {
		s.places[i].many = true
	}
}

// assignments reads column = value, …, and reports whether it understands them all.
func (s *statement) assignments(many bool) bool {
	understood := true
	for more := true; more; more = s.symbol(",") {
		if column := s.name(); column != "" && s.symbol("=") {
			c := s.value(column, many)
			if i := s.isWatched(column); i >= 0 {
				understood = understood && s.assigned(s.watched[i]).kind == unset
				s.sets = append(s.sets, assignment{s.watched[i], c})
			}
			continue
		}
		understood = false // (a, b) = (…), say
		for !s.over() && !s.is(",") {
			s.several = s.several || s.is("CONFLICT")
			s.skipOperand()
		}
	}
	at := s.here()
	s.set = &at
	return understood
}

// assigned returns what a SET makes a watched column.
func (s *statement) assigned(column string) cell {
	for _, a := range s.sets {
		if a.column == column {
			return a.cell
		}
	}
	return cell{}
}

// value reads an expression, and notes its place if it is nothing but a placeholder. A cast to another type than these two
// could shorten a token.
func (s *statement) value(column string, many bool) cell {
	c := cell{kind: other}
	switch {
	case s.kind == param:
		arg := s.arg
		s.next()
		if s.symbol("::") && !s.word("text") && !s.word("varchar") {
			arg = -1
		}
		if arg >= 0 && (s.over() || s.is(",")) {
			s.places[arg].column = column
			s.places[arg].times++
			s.places[arg].many = s.places[arg].many || many
			c = cell{argument, arg}
		}
	case s.isAny("NULL", "DEFAULT"):
		s.next()
		c.kind = null
	case len(s.watched) > 0:
		c.kind = s.reference(column)
	}
	for !s.over() && !s.is(",") {
		c.kind = other
		s.several = s.several || s.is("CONFLICT")
		s.skipOperand()
	}
	return c
}

// reference reads a column's name as that of the same column, if it is.
func (s *statement) reference(column string) cellKind {
	before := s.lexer
	qualifier := s.name1()
	name, kind := qualifier, same
	if s.symbol(".") {
		name = s.name1()
		switch {
		case strings.EqualFold(qualifier, "excluded"):
			kind = excluded
		case s.alias != "" && strings.EqualFold(qualifier, s.alias), s.alias == "" && strings.EqualFold(qualifier, s.table):
		default: // with an alias, the table's own name is another row's
			name = ""
		}
	}
	if name == "" || !strings.EqualFold(name, column) {
		s.lexer = before
		return other
	}
	return kind
}

// name reads an identifier, and returns the last part of a qualified one, or "" if there is none.
func (s *statement) name() string {
	for {
		name := s.name1()
		if name == "" || !s.symbol(".") {
			return name
		}
	}
}

// nameList reads names in parentheses, or nothing if anything else is in them.
func (s *statement) nameList() (names []string) {
	before := s.lexer
	if !s.symbol("(") {
		return nil
	}
	for more := true; more; more = s.symbol(",") {
		names = append(names, s.name1())
	}
	if !s.symbol(")") {
		s.lexer = before
		return nil
	}
	return names
}

// name1 reads one part of an identifier.
func (s *statement) name1() string {
	name := ""
	switch {
	case s.kind == quoted:
		name = s.text
	case s.kind == word && !s.isAny("AND", "OR", "NOT", "CASE", "BETWEEN", "SELECT", "EXISTS"):
		name = strings.ToLower(s.text)
	default:
		return ""
	}
	s.next()
	return name
}

// over reports whether the clause or the level ends here.
func (s *statement) over() bool {
	return s.kind == end || s.is(")") || s.isAny("WHERE", "FROM", "RETURNING", "ORDER", "LIMIT")
}

// skipOperand is skip within an expression, where FROM may belong to IS DISTINCT FROM.
func (s *statement) skipOperand() {
	if s.word("DISTINCT") {
		s.word("FROM")
		return
	}
	s.skip()
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
