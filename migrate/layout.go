package migrate

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"ariga.io/atlas/sql/migrate"
)

// Layout says how the tables are laid out in a Postgres database. The files of
// the directory postgres are the same for all; a layout other than [Single] has
// its own files, which [Apply] runs among them, in the order of versions, and
// records in the table credent_layout. The stock command doesn't know them, and
// runs the others as usual.
type Layout string

// The layouts. docs/schema.md says what each costs and loses.
const (
	// Single has each table in one piece. It is the default, and SQLite's only
	// one.
	Single Layout = "single"
	// Partitioned has user_accounts and user_credentials in hash partitions by
	// user_id. It needs Postgres 15.
	Partitioned Layout = "partitions"
	// Citus spreads them, and tenants' keys, over the nodes of a cluster, by
	// user_id. A database may move to it from Single at any time, with rows:
	// docs/citus.md.
	Citus Layout = "citus"
)

// Errors of layouts, to be tested with errors.Is.
var (
	// ErrLayoutMismatch means that the requested layout isn't the database's.
	ErrLayoutMismatch = errors.New("the database has another layout")

	// ErrLayoutRefused means that the database can't have a layout: its tables
	// have rows, or its server is another database or too old.
	ErrLayoutRefused = errors.New("the database cannot have this layout")
)

// layoutTable records a database's layout and its files. The row without a
// version is the chosen layout. On Postgres, the table is in the same schema as
// the others.
const layoutTable = "credent_layout"

// layoutEmpty is the SQLSTATE with which a layout's file refuses non-empty
// tables: object_not_in_prerequisite_state.
const layoutEmpty = "55000"

var layoutDirs = map[Layout]func() (migrate.Dir, error){
	Partitioned: sync.OnceValues(func() (migrate.Dir, error) { return loadLayout(Partitioned) }),
	Citus:       sync.OnceValues(func() (migrate.Dir, error) { return loadLayout(Citus) }),
}

// Layouts returns all layouts.
func Layouts() []Layout { return []Layout{Single, Partitioned, Citus} }

// LayoutFiles returns the migration files of a layout; [Single] has none.
func LayoutFiles(l Layout) (fs.FS, error) {
	if _, ok := layoutDirs[l]; !ok {
		return nil, fmt.Errorf("migrate: %w: %s has no files of its own", ErrLayoutRefused, l)
	}
	return fs.Sub(files, "layouts/"+string(l))
}

func loadLayout(l Layout) (migrate.Dir, error) {
	fsys, err := fs.Sub(files, "layouts/"+string(l))
	if err != nil {
		return nil, err
	}
	return loadDir(fsys)
}

// check returns an error for an unknown layout. "" means the database's layout.
func (l Layout) check() error {
	if l == "" || slices.Contains(Layouts(), l) {
		return nil
	}
	var names []string
	for _, l := range Layouts() {
		names = append(names, string(l))
	}
	return fmt.Errorf("migrate: %w: there is no layout %q; there are %s", ErrLayoutRefused, string(l),
		strings.Join(names, " and "))
}

// layoutFile is a layout's file.
type layoutFile struct {
	migrate.File
	layout Layout
	hash   string
}

// files returns a layout's files.
func (l Layout) files() (all []layoutFile, err error) {
	load, ok := layoutDirs[l]
	if !ok {
		return nil, nil
	}
	dir, err := load()
	if err != nil {
		return nil, err
	}
	list, err := dir.Files()
	if err != nil {
		return nil, fmt.Errorf("migrate: read the files of layout %s: %w", l, err)
	}
	sums, err := dir.Checksum()
	if err != nil {
		return nil, fmt.Errorf("migrate: read the files of layout %s: %w", l, err)
	}
	for _, f := range list {
		hash, err := sums.SumByName(f.Name())
		if err != nil {
			return nil, fmt.Errorf("migrate: %s: %w", f.Name(), err)
		}
		all = append(all, layoutFile{f, l, hash})
	}
	return all, nil
}

// layouted is a database's layout.
type layouted struct {
	layout Layout
	chosen bool // recorded in the table
	done   []layoutRevision
	files  []layoutFile // the layout's files
}

// layoutRevision is an applied file of a layout.
type layoutRevision struct {
	version, description, hash string
	at                         time.Time
}

// readLayout reads a database's layout. Without the table, it is Single.
func readLayout(ctx context.Context, conn *sql.Conn, d string) (of *layouted, err error) {
	of = &layouted{layout: Single}
	if isSQLite(d) {
		return of, nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("migrate: read the layout: %w", err)
		}
	}()
	if err := conn.QueryRowContext(ctx, "SELECT to_regclass($1::text) IS NOT NULL", layoutTable).
		Scan(&of.chosen); err != nil || !of.chosen {
		return of, err
	}
	rows, err := conn.QueryContext(ctx, "SELECT layout, version, description, hash, applied_at FROM "+layoutTable+` ORDER BY version COLLATE "C"`)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	of.chosen = false
	for rows.Next() {
		var rev layoutRevision
		if err := rows.Scan(&of.layout, &rev.version, &rev.description, &rev.hash, &rev.at); err != nil {
			return nil, err
		}
		if of.chosen = true; rev.version != "" {
			of.done = append(of.done, rev)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if err := of.layout.check(); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNewer, of.layout)
	}
	of.files, err = of.layout.files()
	return of, err
}

// isDone reports whether a file was applied.
func (of *layouted) isDone(version string) bool { return of.revision(version) != nil }

func (of *layouted) revision(version string) *layoutRevision {
	i := slices.IndexFunc(of.done, func(rev layoutRevision) bool { return rev.version == version })
	if i < 0 {
		return nil
	}
	return &of.done[i]
}

// newest returns the newest applied version, or "".
func (of *layouted) newest() string {
	if len(of.done) == 0 {
		return ""
	}
	return of.done[len(of.done)-1].version
}

// pending returns the files that were not applied.
func (of *layouted) pending() []layoutFile {
	return slices.DeleteFunc(slices.Clone(of.files), func(f layoutFile) bool { return of.isDone(f.Version()) })
}

// unknown returns the applied versions that this code doesn't know.
func (of *layouted) unknown() (versions []string) {
	for _, rev := range of.done {
		if !slices.ContainsFunc(of.files, func(f layoutFile) bool { return f.Version() == rev.version }) {
			versions = append(versions, rev.version)
		}
	}
	return versions
}

// addTo adds the layout and its files to a status.
func (of *layouted) addTo(s *Status) {
	s.Layout = of.layout
	for _, rev := range of.done {
		s.Applied = append(s.Applied, Revision{
			Version: rev.version, Description: rev.description, AppliedAt: rev.at.UTC(), Layout: of.layout,
		})
	}
	slices.SortStableFunc(s.Applied, func(a, b Revision) int { return cmp.Compare(a.Version, b.Version) })
	for _, f := range of.pending() {
		s.Pending = append(s.Pending, f.Name())
	}
	slices.Sort(s.Pending)
	s.Unknown = append(s.Unknown, of.unknown()...)
}

// findings returns the faults in the layout's files.
func (of *layouted) findings() (found []Finding) {
	for _, f := range of.files {
		switch rev := of.revision(f.Version()); {
		case rev == nil:
			found = append(found, Finding{Kind: FilePending, Object: f.Name()})
		case rev.hash != f.hash:
			found = append(found, Finding{Kind: FileEdited, Object: f.Name()})
		}
	}
	for _, version := range of.unknown() {
		found = append(found, Finding{Kind: FileNewer, Object: version})
	}
	return found
}

// replayed inserts the applied layout files into the history's files, ordered
// by version.
func (of *layouted) replayed(files []replayFile) []replayFile {
	for _, f := range of.files {
		if of.isDone(f.Version()) {
			files = append(files, replayFile{f, -1})
		}
	}
	slices.SortStableFunc(files, func(a, b replayFile) int { return strings.Compare(a.Version(), b.Version()) })
	return files
}

// choose creates the table and records the choice. Everybody may read the
// table, because a service reads the status with its own role.
func (of *layouted) choose(ctx context.Context, conn *sql.Conn) error {
	for _, stmt := range []string{
		`CREATE TABLE "` + layoutTable + `" ("layout" varchar(50) NOT NULL, "version" varchar(255) PRIMARY KEY, ` +
			`"description" varchar(255) NOT NULL, "hash" varchar(255) NOT NULL, "applied_at" timestamptz NOT NULL DEFAULT now())`,
		`COMMENT ON TABLE "` + layoutTable + `" IS 'How the tables lie in this database, and which files made it so. Of credent migrate apply.'`,
		`GRANT SELECT ON "` + layoutTable + `" TO PUBLIC`,
	} {
		if _, err := conn.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("migrate: remember the layout: %w", err)
		}
	}
	if err := of.record(ctx, conn, layoutRevision{}); err != nil {
		return err
	}
	of.chosen = true
	return nil
}

func (of *layouted) record(ctx context.Context, conn *sql.Conn, rev layoutRevision) error {
	_, err := conn.ExecContext(ctx, "INSERT INTO "+layoutTable+" (layout, version, description, hash) VALUES ($1, "+
		"$2, $3, $4)", string(of.layout), rev.version, rev.description, rev.hash)
	if err != nil {
		return fmt.Errorf("migrate: remember the layout: %w", err)
	}
	return nil
}
