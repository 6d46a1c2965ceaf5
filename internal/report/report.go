// Package report has what an auditor is told about a database: what was found,
// and what could not be looked at.
//
// A [Report] is the document of "credent report --json". It has no secret,
// token or database URL in it, and no tenant's name unless that is asked for.
// Package look fills it, and package page makes a page of it.
package report

import "time"

// Format is the version of the document. A field keeps its meaning in it.
const Format = 1

// Parts of a report, as findings and gaps name them.
const (
	PartInventory    = "inventory"
	PartKeys         = "keys"
	PartProtections  = "protections"
	PartVerification = "verification"
	PartMigrations   = "migrations"
	PartRowSecurity  = "row_security"
	PartAudit        = "audit"
	PartTenants      = "tenants"
)

// Report is what was found.
type Report struct {
	Format   int       `json:"format"`
	MadeAt   time.Time `json:"made_at"` // UTC
	Version  string    `json:"version"` // of the command
	Database Database  `json:"database"`

	Findings []Finding `json:"findings"`
	Gaps     []Gap     `json:"not_looked_at"`

	Tables        []Table        `json:"tables"`
	Keys          []Key          `json:"keys"`
	Protections   []Protection   `json:"protections"`
	Verifications []Verification `json:"verifications"`
	Migrations    Migrations     `json:"migrations"`
	RowSecurity   RowSecurity    `json:"row_security"`
	Audit         Audit          `json:"audit"`
	Tenants       Tenants        `json:"tenants"`
}

// Database says what kind of database it is. It doesn't say where.
type Database struct {
	Kind    string `json:"kind"` // "Postgres" or "SQLite"
	Version string `json:"version"`
	Layout  string `json:"layout"`            // "single", "partitions" or "citus"; "" if it isn't known
	Standby string `json:"standby,omitempty"` // how far a standby has replayed
}

// Finding is something that isn't as it should be.
type Finding struct {
	Part string `json:"part"`
	Text string `json:"text"`
}

// Gap is something that the report doesn't say, and why.
type Gap struct {
	Part string `json:"part"`
	What string `json:"what"`
	Why  string `json:"why"`
	// Avoidable says that another call of the command can look at it: with a
	// key, as another role, with more time.
	Avoidable bool `json:"avoidable"`
}

// Count is a number of rows or secrets.
type Count struct {
	N     int64 `json:"n"`
	Exact bool  `json:"exact"` // it was counted; otherwise estimated
	Known bool  `json:"known"` // otherwise N is 0 and says nothing
}

// Table is a table with encrypted columns.
type Table struct {
	Name    string   `json:"name"`
	Rows    Count    `json:"rows"`
	Sampled int64    `json:"sampled"` // rows that were looked at
	Whole   bool     `json:"whole"`   // these are all rows
	Columns []Column `json:"columns"`
}

// Column is an encrypted column.
type Column struct {
	Table     string `json:"table"`
	Column    string `json:"column"`
	Type      string `json:"type"` // Go type of the plaintext
	Index     string `json:"index"`
	Stored    Count  `json:"stored"`     // values that aren't NULL
	NotTokens Count  `json:"not_tokens"` // of these, that don't begin like a token
	// Sample says what the sampled secrets are under, as a verification does.
	Sample Sample `json:"sample"`
	Canary string `json:"canary"` // ID of the key that its canary is under; "" if it isn't known
}

// Sample is what was found in the sampled rows of a column.
type Sample struct {
	Secrets int64            `json:"secrets"` // that aren't NULL
	Opened  bool             `json:"opened"`  // there was a keyring to open them with
	Under   map[string]int64 `json:"under"`   // by key ID, or a word such as "tenant-key"
	Bound   int64            `json:"bound"`   // of these, bound to table, column and tenant
}

// Key is a key, by its public ID.
type Key struct {
	ID string `json:"id"`
	// Use is "primary", "earlier", "tenants" for the data keys of tenants, or
	// "unknown" for a key that a verification recorded and the keyring lacks.
	Use string `json:"use"`
	// Verified is the number of secrets under it at each column's last
	// verification, and Sampled the number in the samples.
	Verified int64 `json:"verified"`
	Sampled  int64 `json:"sampled"`
	// Oldest and Newest are the times in the tokens of the samples; nil if
	// there was none.
	Oldest *time.Time `json:"oldest"`
	Newest *time.Time `json:"newest"`
}

// Saw widens the time in which the key was used.
func (k *Key) Saw(at time.Time) {
	if k.Oldest == nil || at.Before(*k.Oldest) {
		k.Oldest = &at
	}
	if k.Newest == nil || at.After(*k.Newest) {
		k.Newest = &at
	}
}

// Protection is the state of one protection of a column.
type Protection struct {
	Column     string     `json:"column"`
	Protection string     `json:"protection"` // "encryption", "binding" or "tenant-keys"
	State      string     `json:"state"`
	Set        bool       `json:"set"`        // in the database; otherwise it is the default
	ChangedAt  *time.Time `json:"changed_at"` // UTC
	// Follow is how many of the sampled secrets are stored the new way.
	Follow  int64 `json:"follow"`
	Sampled int64 `json:"sampled"`
}

// Verification is what "credent verify" recorded of a column, the oldest first.
type Verification struct {
	Column string `json:"column"`
	Runs   []Run  `json:"runs"`
}

// Run is one verification.
type Run struct {
	At      time.Time        `json:"at"` // UTC
	Secrets int64            `json:"secrets"`
	Failed  int64            `json:"failed"`
	Ready   bool             `json:"ready"`
	Primary string           `json:"primary"` // ID of the primary key then; "" if it wasn't recorded
	Under   map[string]int64 `json:"under"`
}

// Last returns the last run, and false if there is none.
func (v Verification) Last() (Run, bool) {
	if len(v.Runs) == 0 {
		return Run{}, false
	}
	return v.Runs[len(v.Runs)-1], true
}

// Migrations says how far the schema is, and what differs from it.
type Migrations struct {
	Current  string     `json:"current"`
	Applied  []Revision `json:"applied"`
	Pending  []string   `json:"pending"`
	Compared bool       `json:"compared"` // the tables were compared with the files
	Drift    []string   `json:"drift"`
}

// Revision is an applied migration.
type Revision struct {
	Version     string    `json:"version"`
	Description string    `json:"description"`
	AppliedAt   time.Time `json:"applied_at"` // UTC
	Baseline    bool      `json:"baseline"`   // marked as applied and not run
}

// RowSecurity says what each role sees.
type RowSecurity struct {
	Supported bool           `json:"supported"`
	Tables    []SecuredTable `json:"tables"`
	Roles     []Role         `json:"roles"`
	Policies  []RowPolicy    `json:"policies"`
	More      int            `json:"more_roles"` // that aren't listed
}

// SecuredTable is a table of users' rows.
type SecuredTable struct {
	Name    string `json:"name"`
	Owner   string `json:"owner"`
	Enabled bool   `json:"enabled"`
	Forced  bool   `json:"forced"` // it holds the owner too
}

// RowPolicy is a policy of a table.
type RowPolicy struct {
	Table      string `json:"table"`
	Name       string `json:"name"`
	Command    string `json:"command"` // "ALL", "SELECT", …
	Permissive bool   `json:"permissive"`
	Using      string `json:"using"`
	Check      string `json:"check"`
}

// Role is a role that may use a table or log in as one that may.
type Role struct {
	Name    string   `json:"name"`
	Kinds   []string `json:"kinds"`   // such as "superuser", "owner", "service", "login"
	Service bool     `json:"service"` // a member of credent_app, or that role
	Tried   bool     `json:"tried"`   // the report has acted as this role
	Access  []Access `json:"access"`  // one for each table
}

// How many of a table's rows a role sees.
const (
	SeesNothing  = "no row"
	SeesOwn      = "the user's rows"
	SeesAll      = "every row"
	SeesOthers   = "other users' rows too"
	SeesNoAccess = "not allowed"
	SeesUnknown  = "not tried"
)

// Access is what a role may do with a table, and sees of it.
type Access struct {
	Table      string   `json:"table"`
	Privileges []string `json:"privileges"`
	Held       bool     `json:"held"`  // row-level security holds the role
	Cause      string   `json:"cause"` // why it doesn't
	Alone      string   `json:"alone"` // what it sees without a user: one of the words above
	AsUser     string   `json:"as_user"`
}

// Audit says what the audit trail has.
type Audit struct {
	Present  bool       `json:"present"`  // there is one
	Verified bool       `json:"verified"` // its chains were verified, and nothing was found
	Writers  int64      `json:"writers"`  // each has a chain
	Entries  int64      `json:"entries"`
	Unlinked int64      `json:"unlinked"` // genuine, and in no chain: nobody would see the removal of one
	First    *time.Time `json:"first"`    // UTC; nil if there is no entry
	Last     *time.Time `json:"last"`
}

// Tenants counts the tenants with a data key, and the ones with a destroyed
// key.
type Tenants struct {
	Known     bool        `json:"known"`
	Keys      int64       `json:"keys"`
	Destroyed int64       `json:"destroyed"`
	Months    []Month     `json:"months"` // in which keys were destroyed
	Last      []Destroyed `json:"last"`   // the last ones, the newest first
	More      int64       `json:"more"`   // that aren't in Last
}

// Month is how many keys were destroyed in a month.
type Month struct {
	Month string `json:"month"` // "2026-11"
	N     int64  `json:"n"`
}

// Destroyed is one destruction.
type Destroyed struct {
	At     time.Time `json:"at"`               // UTC
	Tenant string    `json:"tenant,omitempty"` // if that was asked for
}
