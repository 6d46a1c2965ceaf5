package fieldcrypt

import (
	"database/sql"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// place is where a statement stores an argument, as far as it does.
type place struct {
	column string // "" if not known
	times  int    // how often
	many   bool   // in more than one row, perhaps
}

// check refuses statements that would do something else with their secrets than to store each in one place: compare
// with it, which never matches, or store one token in many rows. It finds the places where INSERT … VALUES, DO UPDATE SET
// and UPDATE … SET store an argument as it is, and refuses every secret that is used elsewhere. It returns the statement's
// table, "" if there is none, and the places of the arguments, nil if there is no secret among them. The primary key's column
// of a table is what key says, always the same.
func (c *statements) check(query string, args []any, key func(table string) string) (table string, places []place, err error) {
	first := -1
	for i, arg := range args {
		if isSecret(arg) {
			first = i
			break
		}
		if hidesSecret(arg) {
			return "", nil, refuse("", "", arg, fmt.Errorf("%w; and each must be an argument of its own", ErrPredicate))
		}
	}
	if first < 0 {
		return "", nil, nil
	}
	s := c.read(query, args, key)
	for i, arg := range args[first:] {
		i += first
		column := s.places[i].column
		switch {
		case hidesSecret(arg):
			return "", nil, refuse("", "", arg, fmt.Errorf("%w; and each must be an argument of its own", ErrPredicate))
		case !isSecret(arg):
		case s.bad || s.uses[i] == 0 || s.uses[i] > s.places[i].times:
			return "", nil, refuse("", "", arg, fmt.Errorf(
				"%w; it is taken as one of the VALUES of an INSERT and as what a SET makes a column, in plain statements", ErrPredicate))
		case s.uses[i] > 1:
			return "", nil, refuse(s.table, column, arg, fmt.Errorf("%w: the statement stores it in %d places", ErrManyRows, s.uses[i]))
		case s.places[i].many:
			return "", nil, refuse(s.table, column, arg, fmt.Errorf("%w: the statement does not choose one by its id", ErrManyRows))
		}
	}
	return s.table, s.places, nil
}

func refuse(table, name string, arg any, err error) error {
	if p, ok := arg.(*pending); ok {
		table, name = p.column.Table, p.column.Name
	}
	if name == "" {
		table = ""
	}
	return &Error{Op: "encrypt", Table: table, Column: name, Err: err}
}

// isSecret reports whether an argument is a secret of any form. An absent one stores as NULL, and is none.
func isSecret(arg any) bool {
	switch arg := arg.(type) {
	case *pending:
		return true
	case Secret:
		return !arg.IsZero()
	case *Secret:
		return arg != nil && !arg.IsZero()
	case sql.Null[Secret]:
		return arg.Valid && !arg.V.IsZero()
	case sql.NamedArg:
		return isSecret(arg.Value)
	}
	return false
}

// hidesSecret reports whether an argument is made of secrets: a list of them, say. What becomes of it depends on the driver:
// pgx, for one, would send the redaction marker.
func hidesSecret(arg any) bool {
	switch arg := arg.(type) {
	case nil, string, []byte, bool, int, int64, float64, time.Time,
		*pending, Secret, *Secret, sql.Null[Secret]:
		return false
	case sql.NamedArg:
		return hidesSecret(arg.Value)
	case []any:
		for _, element := range arg {
			if isSecret(element) || hidesSecret(element) {
				return true
			}
		}
		return false
	}
	return madeOfSecrets(reflect.TypeOf(arg))
}

func madeOfSecrets(t reflect.Type) bool {
	secret := reflect.TypeFor[Secret]()
	for range 4 { // a type may be a list of itself
		if isTyped(t) {
			return true
		}
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			t = t.Elem()
		case reflect.Struct:
			if t == secret || t == reflect.TypeFor[sql.Null[Secret]]() {
				return true
			}
			for i := range t.NumField() {
				if field := t.Field(i); field.Anonymous && field.Type == secret {
					return true
				}
			}
			return false
		default:
			return false
		}
	}
	return false
}

// isMarker reports whether an argument is the text that a secret prints as, or its JSON: it was one, before it was printed.
func isMarker(arg any) bool {
	switch arg := arg.(type) {
	case string:
		return len(arg) <= len(Redacted)+2 && strings.Trim(arg, `"`) == Redacted
	case []byte:
		return len(arg) <= len(Redacted)+2 && strings.Trim(string(arg), `"`) == Redacted
	case sql.NamedArg:
		return isMarker(arg.Value)
	}
	return false
}

// statements keeps what the latest statements were found to do, by their text: reading one takes longer than encrypting what
// it stores, and an ent client has few different ones. The zero value is empty. It is safe for concurrent use.
type statements struct {
	mu    sync.Mutex
	known map[string]*statement // immutable
	size  int                   // of the keys, in bytes
}

// What is kept at most; more of it empties the whole.
const (
	maxStatements     = 64
	maxStatementBytes = 1 << 20
)

// read returns what a statement does with its arguments.
func (c *statements) read(query string, args []any, key func(table string) string) *statement {
	c.mu.Lock()
	known := c.known[query]
	c.mu.Unlock()
	if known != nil && len(known.places) == len(args) && !named(args) {
		return known
	}
	s := &statement{lexer: newLexer(query, args), places: make([]place, len(args)), keyOf: key}
	s.read()
	// Not one with a string or a comment in it, which may be a secret, and should be gone when the statement is.
	if s.opaque || s.bad || named(args) || len(query) > maxStatementBytes {
		return s
	}
	s.args, s.rest, s.text = nil, "", ""
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxStatements || c.size+len(query) > maxStatementBytes {
		c.known, c.size = nil, 0
	}
	if c.known == nil {
		c.known = make(map[string]*statement)
	}
	if c.known[query] == nil {
		c.size += len(query)
	}
	c.known[query] = s
	return s
}

// named reports whether an argument has a name, by which the statement refers to it.
func named(args []any) bool {
	return slices.ContainsFunc(args, func(arg any) bool { _, ok := arg.(sql.NamedArg); return ok })
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
