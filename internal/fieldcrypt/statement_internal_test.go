package fieldcrypt

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// describe gives what a statement does with its watched columns, in a form that a test can spell.
func describe(query string, args int) string {
	watching := schema{
		key: func(string) string { return "id" },
		watched: func(table string) []string {
			if table == "t" {
				return []string{"a", "who"}
			}
			return nil
		},
	}
	s := &statement{lexer: newLexer(query, make([]any, args)), places: make([]place, args), schema: watching}
	s.read()
	if s.bad || s.foreign {
		return "?"
	}
	say := func(c cell) string {
		if c.kind == argument {
			return fmt.Sprint("$", c.arg+1)
		}
		return []string{"-", "", "null", "excluded", "same", "other"}[c.kind]
	}
	mark := func(p point) string {
		return fmt.Sprintf("%d:%s", p.questions, query[p.offset:min(p.offset+5, len(query))])
	}
	var words []string
	if s.insert != nil {
		words = append(words, strings.Join(s.insert.columns, ",")+" "+mark(s.insert.list))
		for _, r := range s.insert.rows {
			words = append(words, "("+say(r.cells[0])+" "+say(r.cells[1])+") "+mark(r.end))
		}
	}
	for _, set := range s.sets {
		words = append(words, set.column+"="+say(set.cell))
	}
	if s.set != nil {
		words = append(words, "at "+mark(*s.set))
	}
	if s.one {
		words = append(words, fmt.Sprint("id $", s.id+1))
	}
	return strings.Join(words, "; ")
}

// TestStatementDetails has what is known of the cells of watched columns: the a and who of the table t.
func TestStatementDetails(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		query string
		args  int
		want  string
	}{
		{`INSERT INTO "t" ("a", "b", "who") VALUES ($1, $2, $3)`, 3, `a,b,who 0:) VAL; ($1 $3) 0:)`},
		{"INSERT INTO `t` (`b`, `a`) VALUES (?, ?), (?, NULL), (?, DEFAULT) RETURNING `id`", 4, "b,a 0:) VAL; ($2 -) 2:), (?; (null -) 3:), (?; (null -) 4:) RET"},
		{`INSERT INTO s.t AS x (A) VALUES (lower($1)), ($2::text), ($1::int)`, 2, `a 0:) VAL; (other -) 0:), ($; ($2 -) 0:), ($; (other -) 0:)`},
		{
			`INSERT INTO "t" ("a") VALUES ($1) ON CONFLICT ("id") DO UPDATE SET "a" = "excluded"."a", "b" = 3, "who" = "t"."who" RETURNING "id"`, 1,
			`a 0:) VAL; ($1 -) 0:) ON ; a=excluded; who=same; at 0:RETUR`,
		},
		{`INSERT INTO t (a) VALUES (?) ON CONFLICT (id) DO UPDATE SET a = ?, who = a`, 2, `a 0:) VAL; ($1 -) 1:) ON ; a=$2; who=other; at 2:`},
		{`INSERT INTO t (a) VALUES ($1) ON CONFLICT DO NOTHING`, 1, `a 0:) VAL; ($1 -) 0:) ON `},
		{`UPDATE "t" SET "b" = $1, "a" = $2 WHERE "t"."id" = $3 AND "b" > $4`, 4, `a=$2; at 0:WHERE; id $3`},
		{`UPDATE t SET a = excluded.a, who = null WHERE b = 1 AND (b = 2 AND id IN ($1))`, 1, `a=excluded; who=null; at 0:WHERE; id $1`},
		{`UPDATE t SET a = 'x' || a`, 0, `a=other; at 0:`},
		{`UPDATE t SET a = a || 'x', who = other.who WHERE id = $2 AND (id = $1 OR true)`, 2, `a=other; who=other; at 0:WHERE; id $2`},
		{`UPDATE t SET (a, b) = ($1, 1) WHERE id = $2`, 2, `?`},
		{`INSERT INTO t VALUES ($1)`, 1, `?`},
		{`INSERT INTO t (a) SELECT $1`, 1, `?`},
		{`INSERT INTO t (a) VALUES ($1) ON CONFLICT (id) DO UPDATE SET (a) = ($1)`, 1, `?`},
		{`UPDATE t SET a = E'\''`, 0, `?`},
		{`INSERT INTO u (a) VALUES ($1)`, 1, `a 0:) VAL`},
		{`DELETE FROM t WHERE a = $1`, 1, ``},
	} {
		if diff := cmp.Diff(test.want, describe(test.query, test.args)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.query, diff)
		}
	}
}
