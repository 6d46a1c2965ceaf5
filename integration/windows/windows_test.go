// Package windows takes rows through every window: from plaintext to tokens, to
// bound tokens, to tokens under tenants' keys, and back, beside writers in Go
// and in Python. After each step it compares all rows with the acknowledged
// ones.
package windows

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// envRows is the number of rows, fewRows without.
const (
	envRows = "CREDENT_TEST_WINDOW_ROWS"
	fewRows = 2000
)

// share is how many of a column's secrets are stored in a given way.
type share int

const (
	none share = iota
	some       // and some aren't
	all
)

// shares are Verify's expected counts.
type shares struct{ encrypted, bound, tenantKeys share }

type rotation func(context.Context, *sql.DB, *keyring.Keyring, rotate.Config) (*rotate.Report, error)

// step is a row of the tables in docs/encrypting.md, docs/binding.md and
// docs/tenant-keys.md.
type step struct {
	name   string
	states states.Set
	// before is the step's SQL, which runs while all writers are in the
	// previous state.
	before string
	rotate rotation
	want   shares
}

const (
	off, accept, write, require = states.Off, states.Accept, states.Write, states.Require

	addChecks = `ALTER TABLE notes ADD CONSTRAINT notes_body_encrypted CHECK (body LIKE 'gAAAA%') NOT VALID,
		ADD CONSTRAINT notes_email_encrypted CHECK (email LIKE 'gAAAA%') NOT VALID,
		ADD CONSTRAINT notes_code_encrypted CHECK (code LIKE 'gAAAA%') NOT VALID`
	dropChecks = `ALTER TABLE notes DROP CONSTRAINT notes_body_encrypted, DROP CONSTRAINT notes_email_encrypted,
		DROP CONSTRAINT notes_code_encrypted`
)

// steps go from plaintext to tenants' keys and back.
var steps = []step{
	{"fill indexes", set(off, off, off), "", rotate.FillIndexes, shares{}},
	{"encryption off", set(off, off, off), "", nil, shares{}},
	{"encryption accept", set(accept, off, off), "", nil, shares{}},
	{"encryption write", set(write, off, off), "", nil, shares{some, none, none}},
	{"encrypt", set(write, off, off), "", rotate.Encrypt, shares{all, none, none}},
	{"encrypt, with the CHECKs", set(write, off, off), addChecks, rotate.Encrypt, shares{all, none, none}},
	{"encryption require", set(require, off, off), "", nil, shares{all, none, none}},
	{"binding accept", set(require, accept, off), "", nil, shares{all, none, none}},
	{"binding write", set(require, write, off), "", nil, shares{all, some, none}},
	{"rotate: bind", set(require, write, off), "", rotate.Run, shares{all, all, none}},
	{"binding require", set(require, require, off), "", nil, shares{all, all, none}},
	{"tenant-keys accept", set(require, require, accept), "", nil, shares{all, all, none}},
	{"tenant-keys write", set(require, require, write), "", nil, shares{all, all, some}},
	{"rotate: to tenants' keys", set(require, require, write), "", rotate.Run, shares{all, all, all}},
	{"tenant-keys require", set(require, require, require), "", nil, shares{all, all, all}},

	{"back: tenant-keys write", set(require, require, write), "", nil, shares{all, all, all}},
	{"back: tenant-keys accept", set(require, require, accept), "", nil, shares{all, all, some}},
	{"rotate: to the keyring", set(require, require, accept), "", rotate.Run, shares{all, all, none}},
	{"back: tenant-keys off", set(require, require, off), "", nil, shares{all, all, none}},
	{
		"back: binding write", set(require, write, off), "DELETE FROM credent_tenant_keys WHERE wrapped IS NOT NULL",
		nil,
		shares{all, all, none},
	},
	{"back: binding accept", set(require, accept, off), "", nil, shares{all, some, none}},
	{"rotate: unbind", set(require, accept, off), "", rotate.Run, shares{all, none, none}},
	{"back: binding off", set(require, off, off), "", nil, shares{all, none, none}},
	{"back: encryption write", set(write, off, off), "", nil, shares{all, none, none}},
	{"back: encryption accept", set(accept, off, off), dropChecks, nil, shares{some, none, none}},
	{"decrypt to plaintext", set(accept, off, off), "", rotate.DecryptToPlaintext, shares{}},
	{"back: encryption off", set(off, off, off), "", nil, shares{}},
}

func set(encryption, binding, tenantKeys states.State) states.Set {
	return states.Set{Encryption: encryption, Binding: binding, TenantKeys: tenantKeys}
}

// TestWindows takes rows through the steps. At each step every row can be read,
// no acknowledged write is lost, no lookup is wrong, and no duplicate of a
// unique value is accepted.
func TestWindows(t *testing.T) {
	t.Parallel()
	size := fewRows
	if text := os.Getenv(envRows); text != "" {
		var err error
		if size, err = strconv.Atoi(text); err != nil || size < 500 {
			t.Fatalf("%s must be a number of rows, at least 500", envRows)
		}
	}
	w := newWorld(t, size)
	w.seed()
	w.begin(steps[0].states)
	var table strings.Builder
	fmt.Fprintf(&table, "\n| %-26s | %7s | %10s | %7s | %7s | %5s | %10s | %4s | %7s |\n", "step", "rows",
		"operations", "lookups", "refused", "races", "unreadable", "lost", "seconds")
	defer func() { t.Log(table.String()) }()
	for i, s := range steps {
		start, before := time.Now(), w.totals()
		if s.before != "" {
			w.exec(s.before)
		}
		switch {
		case i == 1:
			w.beginGo(s.states)
		case s.rotate != nil:
			w.rotate(s)
		default:
			w.moveAll(s.states)
		}
		found := w.check(s, i == len(steps)-1)
		now := w.totals()
		line := fmt.Sprintf("| %-26s | %7d | %10d | %7d | %7d | %5d | %10d | %4d | %7.1f |\n", s.name, found.rows,
			now.operations-before.operations, now.lookups-before.lookups, now.refused-before.refused,
			now.races-before.races, found.unreadable, found.lost, time.Since(start).Seconds())
		table.WriteString(line)
		if size > fewRows {
			t.Log(line) // the test takes long
		}
		if i > 0 && (now.refused == before.refused || now.races == before.races ||
			now.operations-before.operations < len(w.movers)*15) {
			t.Errorf("%s: the writers did too little to prove anything", s.name)
		}
		if t.Failed() {
			t.Fatalf("%s failed", s.name)
		}
	}
}
