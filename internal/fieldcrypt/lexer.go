package fieldcrypt

import (
	"database/sql"
	"strconv"
	"strings"
)

// kind is that of a piece of a statement's text.
type kind uint8

const (
	end    kind = iota
	word        // a keyword, an unquoted identifier or a number
	quoted      // an identifier in quotes
	text        // a string
	param       // a placeholder
	symbol      // an operator or a punctuation mark
)

// lexer splits a statement of Postgres or SQLite into pieces. Comments are left out. It gives up on what the two, or settings
// of theirs, read differently: backslashes in strings, dollar quotes, nested comments, brackets that may be quotes, numbers that
// run into a word, placeholders of different kinds.
type lexer struct {
	kind kind
	text string // of the current piece, an identifier without its quotes
	arg  int    // of a placeholder: the index of its argument, -1 if there is none

	rest      string
	size      int // of the whole, in bytes
	start     int // where the current piece begins
	args      []any
	uses      []int // by how many placeholders an argument is used, as far as read
	questions int   // the number of the last ?
	highest   int   // number of the last argument that is referred to by its place
	bare      bool  // there was a placeholder ?
	numbered  bool  // there was a placeholder ?1
	dollars   bool  // there was a placeholder with $
	names     bool  // there was one with a name
	opaque    bool  // there was a string or a comment, which may say anything
	bad       bool  // the statement cannot be understood; kind is end
}

func newLexer(query string, args []any) lexer {
	l := lexer{rest: query, size: len(query), args: args, uses: make([]int, len(args))}
	l.next()
	return l
}

// next goes to the next piece.
func (l *lexer) next() {
	l.space()
	l.kind, l.text = end, ""
	l.start = l.size - len(l.rest)
	if l.rest == "" || l.bad {
		return
	}
	switch c := l.rest[0]; {
	case isWordStart(c) || isDigit(c):
		l.take(word, wordLen(l.rest))
	case c == '[' && !isPlainBracket(l.rest):
		l.giveUp()
	case c == '"' || c == '`':
		l.quotes(c, quoted)
	case c == '\'':
		l.opaque = true
		l.quotes(c, text)
	case c == '?' || c == '$':
		l.param(c)
	case c == ':' && strings.HasPrefix(l.rest, "::"):
		l.take(symbol, 2)
	case (c == ':' || c == '@') && len(l.rest) > 1 && isWordStart(l.rest[1]):
		l.param(c)
	case strings.IndexByte(operators, c) >= 0:
		l.take(symbol, operatorLen(l.rest))
	case c == ';':
		l.rest = l.rest[1:]
		l.space()
		l.bad = l.rest != "" // another statement
	default:
		l.take(symbol, 1)
	}
}

func (l *lexer) take(k kind, n int) {
	l.kind, l.text, l.rest = k, l.rest[:n], l.rest[n:]
}

// giveUp ends the statement.
func (l *lexer) giveUp() { l.kind, l.text, l.bad = end, "", true }

// space skips white space and comments.
func (l *lexer) space() {
	for {
		l.rest = strings.TrimLeft(l.rest, " \t\r\n\f\v")
		switch {
		case strings.HasPrefix(l.rest, "--"):
			l.opaque = true
			comment, _, _ := strings.Cut(l.rest, "\n")
			if strings.Contains(comment, "\r") { // where it ends in Postgres, and not in SQLite
				l.giveUp()
				return
			}
			l.rest = l.rest[len(comment):]
		case strings.HasPrefix(l.rest, "/*"):
			l.opaque = true
			comment, rest, closed := strings.Cut(l.rest[2:], "*/")
			if !closed || strings.Contains(comment, "/*") {
				l.giveUp()
				return
			}
			l.rest = rest
		default:
			return
		}
	}
}

// quotes reads a string or a quoted identifier. A doubled quote stands for itself.
func (l *lexer) quotes(quote byte, k kind) {
	for i := 1; i < len(l.rest); i++ {
		switch {
		case l.rest[i] == '\\':
			l.giveUp()
			return
		case l.rest[i] != quote:
		case i+1 < len(l.rest) && l.rest[i+1] == quote:
			i++
		default:
			l.take(k, i+1)
			l.text = l.text[1:i]
			return
		}
	}
	l.giveUp()
}

// param reads one of $1, ?, ?1, :name, @name, $name.
func (l *lexer) param(c byte) {
	n := 1 + wordLen(l.rest[1:])
	name := l.rest[1:n]
	l.take(param, n)
	l.arg = -1
	number, err := strconv.Atoi(name)
	switch {
	case c == '?' && name == "":
		l.bare = true
		l.questions++
		l.arg = l.questions - 1
	case err == nil:
		l.arg = number - 1
		if c == '?' {
			l.numbered = true
			l.questions = max(l.questions, number)
		}
	case c == '?' || name == "" || isDigit(name[0]) || strings.Contains(name, "$") || c == '$' && strings.HasPrefix(l.rest, "$"):
		l.giveUp() // an operator, or a dollar quote
		return
	default:
		l.names = true
		l.arg = namedArg(l.args, name)
	}
	l.dollars = l.dollars || c == '$'
	if l.questions > 0 && (l.dollars || l.names) {
		l.giveUp() // in Postgres ? is an operator, and SQLite numbers names too
		return
	}
	l.highest = max(l.highest, l.arg+1)
	if l.arg < 0 || l.arg >= len(l.args) {
		l.arg = -1
		return
	}
	l.uses[l.arg]++
}

func namedArg(args []any, name string) int {
	for i, arg := range args {
		if named, ok := arg.(sql.NamedArg); ok && named.Name == name {
			return i
		}
	}
	return -1
}

// isPlainBracket reports whether what is in brackets reads the same as a subscript or a list, in Postgres, and as an identifier,
// in SQLite, as far as it matters where it ends and which placeholders are in it.
func isPlainBracket(s string) bool {
	inside, _, closed := strings.Cut(s[1:], "]")
	return closed && !strings.ContainsAny(inside, "'\"`?[") && !strings.Contains(inside, "--") && !strings.Contains(inside, "/*")
}

const operators = "+-*/<>=~!#%^&|@"

// operatorLen returns the length of an operator, which ends where a comment or a placeholder begins.
func operatorLen(s string) int {
	for i := 1; i < len(s); i++ {
		if strings.IndexByte(operators, s[i]) < 0 || strings.HasPrefix(s[i:], "--") || strings.HasPrefix(s[i:], "/*") ||
			s[i] == '@' && i+1 < len(s) && isWordStart(s[i+1]) {
			return i
		}
	}
	return len(s)
}

func wordLen(s string) int {
	i := 0
	for i < len(s) && (isWordStart(s[i]) || isDigit(s[i]) || i > 0 && s[i] == '$') {
		i++
	}
	return i
}

func isWordStart(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c >= 0x80
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
