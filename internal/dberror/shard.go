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
