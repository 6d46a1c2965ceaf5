package dberror

import (
	"regexp"
	"strings"
)

// internalError is the SQLSTATE under which Citus passes on what a node said of
// a COPY.
const internalError = "XX000"

// onNode is how Citus ends the context of an error that it passes on.
const onNode = "while executing command on "

// faults are what Postgres says of a row or of a session, with the SQLSTATE
// that it has there. A message that names a constraint has it in quotes.
var faults = []struct {
	text, state string
}{
	{" violates foreign key constraint ", "23503"},
	{" violates unique constraint ", "23505"},
	{" violates check constraint ", "23514"},
	{" violates exclusion constraint ", "23P01"},
	{" violates not-null constraint", "23502"},
	{" violates row-level security policy", "42501"},
	{"value too long for type ", "22001"},
	{"deadlock detected", "40P01"},
	{"could not serialize access ", "40001"},
	{"canceling statement due to lock timeout", "55P03"},
	{"canceling statement due to ", "57014"},
	{"terminating connection due to administrator command", "57P01"},
}

var (
	// constraintName and tableName are how Postgres names them in a message.
	// Both have the number of a shard at their end, a check constraint has not.
	constraintName = regexp.MustCompile(` constraint "([^"]+)"`)
	tableName      = regexp.MustCompile(`(?:table|relation) "([^"]+)"`)
	shardNumber    = regexp.MustCompile(`_[0-9]{6,}$`)
)

// ofNode completes an answer that a node of a Citus cluster gave and the
// coordinator passed on. Such an answer has neither the table nor the
// constraint, except in the message, and there with the number of a shard; and
// if it is about a COPY, its SQLSTATE is the coordinator's.
func (a *Answer) ofNode() {
	passedOn := strings.Contains(a.Where, onNode)
	if a.Table != "" || a.Constraint != "" || !passedOn && a.State != internalError {
		return
	}
	for _, f := range faults {
		if !strings.Contains(a.Message, f.text) {
			continue
		}
		if a.State == internalError {
			a.State, passedOn = f.state, true
		}
		break
	}
	if !passedOn {
		return
	}
	a.Table = named(tableName, a.Message)
	a.Constraint = named(constraintName, a.Message)
}

// named returns a name in a message, without the number of a shard.
func named(pattern *regexp.Regexp, message string) string {
	found := pattern.FindStringSubmatch(message)
	if found == nil {
		return ""
	}
	return shardNumber.ReplaceAllString(found[1], "")
}

// spread are what the coordinator of a Citus cluster says of a statement that
// needs rows of several shards together, and what to do instead. It translates
// nothing.
var spread = []struct{ state, text, instead string }{
	{
		"0A000", "modifying the partition value of rows is not allowed",
		"a row keeps its user_id: make the account and its credentials anew, and delete these",
	},
	{
		"0A000", "could not run distributed query with FOR UPDATE/SHARE",
		"rows are locked by their user_id: add it to the conditions",
	},
	{
		"0A000", "complex joins are only supported",
		"rows are joined by their user_id: query the one first, and the other by the user_ids of the first",
	},
	{
		"0A000", "correlated subqueries are not supported",
		"rows are joined by their user_id: query the one first, and the other by the user_ids of the first",
	},
	{
		"XX000", "the query contains a join that requires repartitioning",
		"rows are joined by their user_id: query the one first, and the other by the user_ids of the first",
	},
}

// Spread says what to do instead of a statement that a database refuses since
// its rows are spread over the nodes of a Citus cluster, and "" for any other
// error.
func Spread(err error) string {
	a, ok := Of(err)
	if !ok {
		return ""
	}
	for _, s := range spread {
		if a.State == s.state && strings.Contains(a.Message, s.text) {
			return s.instead
		}
	}
	return ""
}
