package dberror

import (
	"regexp"
	"strings"
)

// internalError is the SQLSTATE with which Citus passes on a node's error of a
// COPY.
const internalError = "XX000"

// onNode ends the context of an error that Citus passes on.
const onNode = "while executing command on "

// faults are Postgres' messages about a row or a session, with their SQLSTATE.
// A constraint's name is in quotes.
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
	// constraintName and tableName match names in Postgres' messages. They end
	// in a shard's number, except for check constraints.
	constraintName = regexp.MustCompile(` constraint "([^"]+)"`)
	tableName      = regexp.MustCompile(`(?:table|relation) "([^"]+)"`)
	shardNumber    = regexp.MustCompile(`_[0-9]{6,}$`)
)

// ofNode completes a Citus node's answer that the coordinator passed on. It has
// the table and the constraint only in the message, with a shard's number, and
// for a COPY the SQLSTATE is the coordinator's.
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

// named returns a name in a message, without the shard's number.
func named(pattern *regexp.Regexp, message string) string {
	found := pattern.FindStringSubmatch(message)
	if found == nil {
		return ""
	}
	return shardNumber.ReplaceAllString(found[1], "")
}

// spread has a Citus coordinator's errors for statements that need rows of
// several shards together, and what to do instead. Citus doesn't translate its
// messages.
var spread = []struct{ state, text, instead string }{
	{
		"0A000", "modifying the partition value of rows is not allowed",
		"a row keeps its user_id: create a new account with its credentials, and delete this one",
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

// Spread returns what to do instead of a statement that a database refuses
// because a Citus cluster distributes its rows, and "" for any other error.
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
