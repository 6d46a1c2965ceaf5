// Package report defines the report on a database for an auditor: what was
// found, and what could not be examined.
//
// A [Report] is the document of "credent report --json". It contains no secret,
// token or database URL, and no tenant's name unless requested. Package look
// fills it, and package page renders it as a page.
package report

import "time"

// Format is the version of the document. A field's meaning doesn't change
// within a version.
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

// Report is the whole document.
type Report struct {
	Format   int       `json:"format"`
	MadeAt   time.Time `json:"made_at"` // UTC
	Version  string    `json:"version"` // version of the command
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

// Database describes the kind of database, but not where it is.
type Database struct {
	Kind    string `json:"kind"` // "Postgres" or "SQLite"
	Version string `json:"version"`
	Layout  string `json:"layout"`            // "single", "partitions" or "citus"; "" if unknown
	Standby string `json:"standby,omitempty"` // position up to which a standby has replayed
}

// Finding is something that should be corrected.
type Finding struct {
	Part string `json:"part"`
	Text string `json:"text"`
}

// Gap is something that could not be examined, and why.
type Gap struct {
	Part string `json:"part"`
	What string `json:"what"`
	Why  string `json:"why"`
	// Avoidable means that another call of the command can examine it: with a
	// key, as another role, or with more time.
	Avoidable bool `json:"avoidable"`
}

// Count is a number of rows or secrets.
type Count struct {
	N     int64 `json:"n"`
	Exact bool  `json:"exact"` // counted, not estimated
	Known bool  `json:"known"` // if false, N is 0 and has no meaning
}

// Table is a table with encrypted columns.
type Table struct {
	Name    string   `json:"name"`
	Rows    Count    `json:"rows"`
	Sampled int64    `json:"sampled"` // rows examined
	Whole   bool     `json:"whole"`   // these are all of the table's rows
	Columns []Column `json:"columns"`
}

// Column is an encrypted column.
type Column struct {
	Table     string `json:"table"`
	Column    string `json:"column"`
	Type      string `json:"type"` // the plaintext's Go type
	Index     string `json:"index"`
	Stored    Count  `json:"stored"`     // values that aren't NULL
	NotTokens Count  `json:"not_tokens"` // values that don't start like a token
	// Sample counts the sampled secrets by key, as a verification does.
	Sample Sample `json:"sample"`
	Canary string `json:"canary"` // ID of its canary's key; "" if unknown
}

// Sample is the result for a column's sampled rows.
type Sample struct {
	Secrets int64            `json:"secrets"` // secrets that aren't NULL
	Opened  bool             `json:"opened"`  // a keyring was available to open them
	Under   map[string]int64 `json:"under"`   // counts by key ID, or by a word such as "tenant-key"
	Bound   int64            `json:"bound"`   // secrets bound to table, column and tenant
}

// Key is a key, identified by its public ID.
type Key struct {
	ID string `json:"id"`
	// Use is "primary", "earlier", "tenants" for the tenants' data keys, or
	// "unknown" for a key that a verification recorded but the keyring lacks.
	Use string `json:"use"`
	// Verified is the number of secrets under the key in each column's last
	// verification, and Sampled the number in the samples.
	Verified int64 `json:"verified"`
	Sampled  int64 `json:"sampled"`
	// Oldest and Newest are the earliest and latest times of the sampled
	// tokens; nil if there are none.
	Oldest *time.Time `json:"oldest"`
	Newest *time.Time `json:"newest"`
}

// Saw extends the key's time range to include at.
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
	Set        bool       `json:"set"`        // stored in the database, not the default
	ChangedAt  *time.Time `json:"changed_at"` // UTC
	// Follow is the number of sampled secrets stored as the state requires.
	Follow  int64 `json:"follow"`
	Sampled int64 `json:"sampled"`
}

// Verification holds a column's runs of "credent verify", oldest first.
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
	Primary string           `json:"primary"` // ID of the primary key at the time; "" if not recorded
	Under   map[string]int64 `json:"under"`
}

// Last returns the last run, and false if there is none.
func (v Verification) Last() (Run, bool) {
	if len(v.Runs) == 0 {
		return Run{}, false
	}
	return v.Runs[len(v.Runs)-1], true
}

// Migrations describes the schema's version and its differences from the files.
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
	Baseline    bool      `json:"baseline"`   // marked as applied without being run
}

// RowSecurity describes what each role sees.
type RowSecurity struct {
	Supported bool           `json:"supported"`
	Tables    []SecuredTable `json:"tables"`
	Roles     []Role         `json:"roles"`
	Policies  []RowPolicy    `json:"policies"`
	More      int            `json:"more_roles"` // roles that aren't listed
}

// SecuredTable is a table with user-owned rows.
type SecuredTable struct {
	Name    string `json:"name"`
	Owner   string `json:"owner"`
	Enabled bool   `json:"enabled"`
	Forced  bool   `json:"forced"` // also applies to the owner
}

// RowPolicy is a row-level security policy.
type RowPolicy struct {
	Table      string `json:"table"`
	Name       string `json:"name"`
	Command    string `json:"command"` // "ALL", "SELECT", …
	Permissive bool   `json:"permissive"`
	Using      string `json:"using"`
	Check      string `json:"check"`
}

// Role is a role that may use a table, or log in as a role that may.
type Role struct {
	Name    string   `json:"name"`
	Kinds   []string `json:"kinds"`   // such as "superuser", "owner", "service", "login"
	Service bool     `json:"service"` // credent_app or one of its members
	Tried   bool     `json:"tried"`   // checked by acting as this role
	Access  []Access `json:"access"`  // one for each table
}

// Values for what a role sees of a table.
const (
	SeesNothing  = "no row"
	SeesOwn      = "the user's rows"
	SeesAll      = "every row"
	SeesOthers   = "other users' rows too"
	SeesNoAccess = "not allowed"
	SeesUnknown  = "not tried"
)

// Access describes what a role may do with a table, and what it sees of it.
type Access struct {
	Table      string   `json:"table"`
	Privileges []string `json:"privileges"`
	Held       bool     `json:"held"`  // subject to row-level security
	Cause      string   `json:"cause"` // why the role isn't subject to it
	Alone      string   `json:"alone"` // what it sees without a user: a value from above
	AsUser     string   `json:"as_user"`
}

// Audit describes the audit trail.
type Audit struct {
	Present  bool       `json:"present"`  // the table exists
	Verified bool       `json:"verified"` // the chains were verified without findings
	Writers  int64      `json:"writers"`  // one chain per writer
	Entries  int64      `json:"entries"`
	Unlinked int64      `json:"unlinked"` // valid but in no chain, so a removal would go unnoticed
	First    *time.Time `json:"first"`    // UTC; nil if there are no entries
	Last     *time.Time `json:"last"`
}

// Tenants counts the tenants with a data key and the destroyed keys.
type Tenants struct {
	Known     bool        `json:"known"`
	Keys      int64       `json:"keys"`
	Destroyed int64       `json:"destroyed"`
	Months    []Month     `json:"months"` // destructions per month
	Last      []Destroyed `json:"last"`   // the latest destructions, newest first
	More      int64       `json:"more"`   // destructions that aren't in Last
}

// Month is the number of keys destroyed in a month.
type Month struct {
	Month string `json:"month"` // "2026-11"
	N     int64  `json:"n"`
}

// Destroyed is the destruction of one key.
type Destroyed struct {
	At     time.Time `json:"at"`               // UTC
	Tenant string    `json:"tenant,omitempty"` // only if requested
}
